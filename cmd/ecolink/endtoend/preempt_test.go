package endtoend

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// A spot instance gives its GPU to a standard one, and goes on with its files, its
// drive and its paid time when that ends. EcoLink is killed meanwhile.
func TestPreemptedInstanceGoesOnWithItsFilesAndPaysNothingMeanwhile(t *testing.T) {
	b := newStorageBoxWith(t, 1, func(b *box) { b.flags = append(b.flags, "--preempt-after", "0s") })
	var d drive
	if f := b.api(http.MethodPost, "/v1/drives", map[string]any{"name": "data", "size_gb": 1}, &d); f != nil {
		t.Fatalf("%+v", f)
	}
	path := fmt.Sprintf("/v1/drives/%d", d.ID)
	b.awaitDrive(path, "available", in("available"))
	spot := b.launchWith("spot", map[string]any{
		"priority_class": "spot",
		"drives":         []any{map[string]any{"id": d.ID, "path": "/data"}},
		// It says whether it was asked to end.
		"command": []string{"/bin/sh", "-c", "trap 'echo asked > /root/asked; exit 0' TERM; echo started >> /root/starts; while :; do sleep 0.1; done"},
	})
	b.eventually("its command has started", func() bool { return strings.Contains(b.exec("spot", "cat /root/starts || true"), "started") })
	b.exec("spot", "echo precious > /root/file; echo weights > /data/file; sync")
	gpu := b.get(spot.ID).GPUs

	standard := b.launch("standard")
	b.await(spot.ID, "preempted")
	standard = b.await(standard.ID, "running")
	if len(gpu) != 1 || fmt.Sprint(standard.GPUs) != fmt.Sprint(gpu) {
		t.Errorf("the standard instance has %v, and not %v", standard.GPUs, gpu)
	}
	halted := b.get(spot.ID)
	if len(halted.GPUs) != 0 || !halted.RunningSince.IsZero() || halted.RanSeconds <= 0 {
		t.Errorf("preempted: %+v", halted)
	}
	if !strings.Contains(halted.Reason, "waits for 1 × h100") || len(halted.Notices) == 0 || !strings.HasPrefix(halted.Notices[0], "Preempted on") {
		t.Errorf("its user is told %q and %q", halted.Reason, halted.Notices)
	}
	if got := b.driveAt(path); got.State != "attached" {
		t.Errorf("its drive is %s", got.State)
	}
	b.kill()
	b.start()
	time.Sleep(3 * time.Second) // a gap that a bill would show
	if now := b.await(spot.ID, "preempted"); now.RanSeconds != halted.RanSeconds {
		t.Errorf("it ran %v s when it was preempted, and %v s later", halted.RanSeconds, now.RanSeconds)
	}
	b.terminate(standard.ID)
	back := b.await(spot.ID, "running")
	b.eventually("its command has started again", func() bool { return b.exec("spot", "cat /root/starts") == "started\nstarted\n" })
	if got := b.exec("spot", "cat /root/file /data/file /root/asked"); got != "precious\nweights\nasked\n" {
		t.Errorf("its files have %q", got)
	}
	if fmt.Sprint(back.GPUs) != fmt.Sprint(gpu) || back.Preemptions != 1 {
		t.Errorf("back: %+v", back)
	}
	if len(back.Notices) == 0 || !strings.HasPrefix(back.Notices[0], "It was preempted on") {
		t.Errorf("its user is told %q", back.Notices)
	}
	b.exec("spot", "echo more >> /data/file && sync")
	b.terminate(spot.ID)
	b.awaitDrive(path, "available", in("available"))
	if over := b.get(spot.ID); over.RanSeconds > halted.RanSeconds+1+time.Since(back.RunningSince).Seconds() { // whole seconds are told
		t.Errorf("the gap was counted as running: %v s in all, %v s before it", over.RanSeconds, halted.RanSeconds)
	}
}
