package api

import (
	"context"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"testing"
)

// What a stream has sent it need not keep, however much that was.
func TestIdleStreamHoldsLittleMemory(t *testing.T) {
	const streams, instances, most = 10, 10, 256 << 10
	b := newBox(t)
	for n := range instances {
		body := launchBody(fmt.Sprintf("n%d", n), 1)
		body["command"] = []string{strings.Repeat("x", 30<<10)}
		b.call(b.alice, "POST", "/v1/gpu-instances", body).want(201)
	}
	for n := range 2 { // the others wait
		b.reach(b.alice, fmt.Sprintf("/v1/gpu-instances/%d", n+1), "running")
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	before := heap()
	for range streams {
		resp, err := http.DefaultClient.Do(b.request(ctx, b.alice, "GET", "/v1/gpu-instances?limit=200&watch=true", nil))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		read := 0
		for buf := make([]byte, 64<<10); read < instances*30<<10; {
			n, err := resp.Body.Read(buf)
			if err != nil {
				t.Fatal(err)
			}
			read += n
		}
	}
	if each := (heap() - before) / streams; each > most {
		t.Errorf("a stream holds %d KiB", each>>10)
	}
}

func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
