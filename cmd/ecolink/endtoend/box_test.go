package endtoend

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"ecolink/packaging/sample"
	"ecolink/web/socket"
)

// attach opens the instance's main terminal from an offset on.
func (b *box) attach(id, from int64) *socket.TerminalConn {
	b.t.Helper()
	address := fmt.Sprintf("%s/v1/gpu-instances/%d/terminal", b.url, id)
	term, err := socket.Dial(context.Background(), address, b.key, socket.From(from), socket.WithWindow(100, 30))
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { term.Close() })
	return term
}

// type types a line and reads until the answer is there.
func typeLine(t testing.TB, term io.ReadWriter, line, want string) string {
	t.Helper()
	if _, err := io.WriteString(term, line+"\n"); err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	found := make(chan error, 1)
	go func() {
		buf := make([]byte, 4096)
		for !strings.Contains(got.String(), want) {
			n, err := term.Read(buf)
			got.Write(buf[:n])
			if err != nil {
				found <- err
				return
			}
		}
		found <- nil
	}()
	select {
	case err := <-found:
		if err != nil {
			t.Fatalf("%v after %q", err, got.String())
		}
	case <-time.After(30 * time.Second):
		t.Fatalf("no %q", want)
	}
	return got.String()
}

func TestKilledServerFindsContainerAndShellAgainAndBillsTheRealTime(t *testing.T) {
	b := newBox(t, 1)
	i := b.await(b.launch("trainer").ID, "running")
	term := b.attach(i.ID, -1)
	seen := typeLine(t, term, "here=kept; echo answer=$((6*7))", "answer=42\r\n")
	offset := term.Start() + int64(len(seen))
	before := typeLine(t, term, "cat /proc/1/stat | cut -d' ' -f22; echo pid=$$,", "pid=")

	b.kill()
	time.Sleep(2 * time.Second) // the container goes on, unseen
	b.start()

	after := b.await(i.ID, "running")
	if !after.RunningSince.Equal(i.RunningSince) || fmt.Sprint(after.GPUs) != fmt.Sprint(i.GPUs) {
		t.Errorf("it was %+v and is %+v", i, after)
	}
	again := b.attach(i.ID, offset)
	if again.Start() != offset {
		t.Errorf("the terminal goes on at byte %d, not %d", again.Start(), offset)
	}
	got := typeLine(t, again, "cat /proc/1/stat | cut -d' ' -f22; echo $here,pid=$$,", "kept,pid=")
	if !strings.HasPrefix(got, before[:strings.Index(before, "pid=")]) {
		t.Errorf("what was printed while nobody watched is %q, and the first viewer saw %q", got, before)
	}
	stopped := time.Now()
	if f := b.api(http.MethodPost, fmt.Sprintf("/v1/gpu-instances/%d/terminate", i.ID), nil, nil); f != nil {
		t.Fatalf("%+v", f)
	}
	over := b.await(i.ID, "terminated")
	real := stopped.Sub(i.RunningSince).Seconds()
	if math.Abs(over.RanSeconds-real) > 1 {
		t.Errorf("it ran for %.1f s and is billed for %.1f s", real, over.RanSeconds)
	}
	available, held := b.balance()
	spent := 100 - number(t, available)
	if want := 0.001 * over.RanSeconds; math.Abs(spent-want) > 0.001 || held != "0.00" {
		t.Errorf("$%f is spent for %.1f s at $3.60 an hour, $%s is held", spent, over.RanSeconds, held)
	}
}

func number(t testing.TB, s string) float64 {
	t.Helper()
	n, err := strconv.ParseFloat(s, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestTwoInstancesNeverShareAGPUAndTheThirdWaitsForOneToEnd(t *testing.T) {
	b := newBox(t, 2)
	first, second := b.launch("a"), b.launch("b")
	first, second = b.await(first.ID, "running"), b.await(second.ID, "running")
	visible := func(name string) string {
		return strings.TrimSpace(b.cli("instance", "exec", name, "--", "sh", "-c", "echo $NVIDIA_VISIBLE_DEVICES"))
	}
	one, two := visible("a"), visible("b")
	if one == two || one != first.GPUs[0] || two != second.GPUs[0] {
		t.Fatalf("a sees %s and has %v, b sees %s and has %v", one, first.GPUs, two, second.GPUs)
	}
	third := b.get(b.launch("c").ID)
	if third.State != "pending" || third.Reason != "waits for 1 × h100, of which 0 free now; first in the queue, in about 1 h if nobody extends or goes first" {
		t.Fatalf("%+v", third)
	}
	b.cli("instance", "terminate", "a")
	third = b.await(third.ID, "running")
	if got := visible("c"); got != one || third.GPUs[0] != one {
		t.Errorf("c sees %s, which should be %s", got, one)
	}
}

func TestContainersReachEachOtherOnlyWithinReasonAndTheWorldByTheirGateway(t *testing.T) {
	b := newBox(t, 2)
	first, second := b.launch("a"), b.launch("b")
	b.await(first.ID, "running")
	b.await(second.ID, "running")
	address := strings.TrimSpace(b.cli("instance", "exec", "b", "--", "sh", "-c", "ip -4 -o addr show eth0 | awk '{print $4}' | cut -d/ -f1"))
	if out := b.cli("instance", "exec", "a", "--", "sh", "-c", "ping -c1 -W1 "+address+" >/dev/null && echo reached || echo apart"); out != "apart\n" {
		t.Errorf("a and b, %s: %s", address, out)
	}
	if out := b.cli("instance", "exec", "a", "--", "sh", "-c", "ping -c1 -W2 $(ip route | awk '/default/{print $3}') >/dev/null && echo reached"); out != "reached\n" {
		t.Errorf("a and its gateway: %s", out)
	}
}

func TestBadLaunchesAreRefusedWithTheFieldAndNothingIsCreated(t *testing.T) {
	b := newBox(t, 1)
	with := func(field string, value any) map[string]any {
		r := b.request("x")
		r[field] = value
		return r
	}
	for _, bad := range []struct {
		what    string
		body    map[string]any
		status  int
		param   string
		message string
	}{
		{"unknown image", with("image", b.registry.Name("demo/missing:1")), 422, "image", "no such image"},
		{"unreachable registry", with("image", "127.0.0.1:1/a/b:1"), 422, "image", "127.0.0.1:1 does not answer as a registry"},
		{"image name", with("image", "Not An Image"), 422, "image", ""},
		{"no GPUs", with("gpu_count", 0), 422, "gpu_count", ""},
		{"negative GPUs", with("gpu_count", -1), 422, "gpu_count", ""},
		{"more GPUs than exist", with("gpu_count", 2), 422, "gpu_count", "1 to 1"},
		{"no hours", with("estimated_duration_hours", 0), 422, "estimated_duration_hours", ""},
		{"too little money", with("estimated_duration_hours", 1000), 402, "", "add credit"},
		{"unknown field", with("colour", "blue"), 422, "colour", ""},
	} {
		f := b.api(http.MethodPost, "/v1/gpu-instances", bad.body, nil)
		if f == nil || f.Status != bad.status || f.Param != bad.param || !strings.Contains(f.Message, bad.message) {
			t.Errorf("%s: %+v", bad.what, f)
		}
	}
	if list := b.list(); len(list) != 0 {
		t.Errorf("%+v", list)
	}
	if available, held := b.balance(); available != "100.00" || held != "0.00" {
		t.Errorf("%s, %s", available, held)
	}
}

func TestTerminalOfAnImageWithoutAShellIsRefusedWithTheReason(t *testing.T) {
	b := newBox(t, 1)
	bare, err := sample.Bare()
	if err != nil {
		t.Fatal(err)
	}
	request := b.request("bare")
	if request["image"], err = b.registry.Push("demo/bare:1", bare); err != nil {
		t.Fatal(err)
	}
	var i instance
	if f := b.api(http.MethodPost, "/v1/gpu-instances", request, &i); f != nil {
		t.Fatalf("%+v", f)
	}
	b.await(i.ID, "running")
	_, err = socket.Dial(context.Background(), fmt.Sprintf("%s/v1/gpu-instances/%d/terminal", b.url, i.ID), b.key)
	if err == nil || !strings.Contains(err.Error(), "no shell") {
		t.Fatalf("got %v", err)
	}
}
