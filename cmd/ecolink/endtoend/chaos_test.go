package endtoend

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"ecolink/web/socket"
)

// How long the chaos lasts and what it begins with; `make chaos` sets the first.
const (
	chaosVariable     = "ECOLINK_CHAOS"      // such as 10m
	chaosSeedVariable = "ECOLINK_CHAOS_SEED" // of an earlier run
	chaosTime         = time.Minute
)

// Bounds of the chaos.
const (
	chaosGPUs      = 4
	chaosDrives    = 3
	chaosPatience  = 15 * time.Second // for one request, terminal or command
	chaosFileBytes = 256 << 10
)

// chaos is a box to which everything happens, and what must be true of it in the end.
type chaos struct {
	*box
	rand   *rand.Rand
	counts map[string]int
	number int
	// files are those that were synced to a drive, by drive and name, with their
	// SHA-256 as it was when the sync had returned.
	files map[int64]map[string]string
	// screens are the bytes that were read from instances' terminals, from offset 0.
	screens map[int64]*bytes.Buffer
}

// Anything may happen at any moment, and what a user was told is true stays true:
// no synced byte is lost, no terminal forgets, no GPU, mount, loop device,
// namespace, cable or container is left, and the books agree.
func TestChaosLosesNothingAndLeavesNothing(t *testing.T) {
	lasts := chaosTime
	if s := os.Getenv(chaosVariable); s != "" {
		var err error
		if lasts, err = time.ParseDuration(s); err != nil {
			t.Fatalf("%s: %v", chaosVariable, err)
		}
	}
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv(chaosSeedVariable); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatalf("%s: %v", chaosSeedVariable, err)
		}
	}
	t.Logf("%s=%d repeats this run's choices", chaosSeedVariable, seed)
	c := &chaos{
		box: newStorageBox(t, chaosGPUs), rand: rand.New(rand.NewPCG(seed, 0)), counts: map[string]int{},
		files: map[int64]map[string]string{}, screens: map[int64]*bytes.Buffer{},
	}
	c.cli(append([]string{"admin", "topup", operator, "10000"}, c.place()...)...)
	for end := time.Now().Add(lasts); time.Now().Before(end) && !t.Failed(); {
		c.step()
	}
	c.settle()
	var words []string
	for _, what := range slices.Sorted(maps.Keys(c.counts)) {
		words = append(words, fmt.Sprintf("%d × %s", c.counts[what], what))
	}
	t.Logf("in %s: %s", lasts, strings.Join(words, ", "))
	for _, must := range []string{"launch", "EcoLink killed", "containerd killed", "file written and synced", "terminal used"} {
		if c.counts[must] == 0 && lasts >= chaosTime {
			t.Errorf("no %s: the chaos was none", must)
		}
	}
}

// step does one thing of a user's, during which something may be killed.
func (c *chaos) step() {
	actions := []struct {
		weight int
		do     func()
	}{
		{4, c.launchSome}, {3, c.terminateSome}, {1, c.extendSome}, {2, c.makeDrive}, {8, c.writeSome}, {4, c.readSome}, {5, c.typeSome}, {1, c.deleteSome},
	}
	total := 0
	for _, a := range actions {
		total += a.weight
	}
	n := c.rand.IntN(total)
	action := actions[0].do
	for _, a := range actions {
		if n < a.weight {
			action = a.do
			break
		}
		n -= a.weight
	}
	after := time.Duration(c.rand.Int64N(int64(700 * time.Millisecond)))
	server, daemon := c.rand.IntN(8) == 0, c.rand.IntN(10) == 0
	killed := make(chan struct{})
	go func() {
		defer close(killed)
		if !server && !daemon {
			return
		}
		time.Sleep(after)
		if daemon {
			c.tryKillContainerd()
		}
		if server {
			_ = c.serve.Process.Kill()
			_ = c.serve.Wait()
		}
	}()
	action()
	<-killed
	if server {
		c.counts["EcoLink killed"]++
		c.start()
	}
	if daemon {
		c.counts["containerd killed"]++
	}
}

// tryKillContainerd kills it if it is there: it may have died a moment ago.
func (c *chaos) tryKillContainerd() {
	raw, err := os.ReadFile(filepath.Join(c.dir, "run", "containerd", "containerd.pid"))
	if err != nil {
		return
	}
	if pid, err := strconv.Atoi(strings.TrimSpace(string(raw))); err == nil {
		line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)) // the number may be another's by now
		if err == nil && strings.Contains(string(line), c.dir) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

var errCutOff = errors.New("cut off")

// try makes a request whose server may die meanwhile. A refusal is an error too.
func (c *chaos) try(method, path string, in, out any) error {
	ctx, cancel := context.WithTimeout(context.Background(), chaosPatience)
	defer cancel()
	raw, err := json.Marshal(in)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, method, c.url+path, bytes.NewReader(raw))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+c.key)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return errCutOff
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return errCutOff
	}
	if resp.StatusCode >= 400 {
		return fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, answer)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(answer, out)
}

// note counts what came of an action.
func (c *chaos) note(what string, err error) bool {
	switch {
	case err == nil:
		c.counts[what]++
	case errors.Is(err, errCutOff):
		c.counts[what+" cut off"]++
	default:
		c.counts[what+" refused"]++
		c.t.Log(err)
	}
	return err == nil
}

func (c *chaos) instances(state string) (out []instance) {
	all, _ := everything[instance](c, "/v1/gpu-instances")
	for _, i := range all {
		if state == "" || i.State == state {
			out = append(out, i)
		}
	}
	return out
}

func (c *chaos) drives() []drive {
	all, _ := everything[drive](c, "/v1/drives")
	return there(all)
}

// there are the drives that the machine has, or is to have.
func there(all []drive) (out []drive) {
	for _, d := range all {
		if d.State != "deleted" && d.State != "failed" {
			out = append(out, d)
		}
	}
	return out
}

// everything reads all pages of a list; ok is false when the box did not answer.
func everything[T any](c *chaos, path string) (all []T, ok bool) {
	for cursor := ""; ; {
		var l struct {
			Data       []T
			NextCursor *string `json:"next_cursor"`
		}
		if c.try(http.MethodGet, path+"?limit=100&cursor="+cursor, nil, &l) != nil {
			return nil, false
		}
		all = append(all, l.Data...)
		if l.NextCursor == nil {
			return all, true
		}
		cursor = *l.NextCursor
	}
}

// running picks an instance that runs.
func (c *chaos) running() (instance, bool) {
	all := c.instances("running")
	if len(all) == 0 {
		return instance{}, false
	}
	return all[c.rand.IntN(len(all))], true
}

func (c *chaos) launchSome() {
	c.number++
	r := c.request(fmt.Sprintf("chaos-%d", c.number))
	var free []drive
	for _, d := range c.drives() {
		if d.State == "available" {
			free = append(free, d)
		}
	}
	if len(free) > 0 && c.rand.IntN(4) > 0 {
		d := free[c.rand.IntN(len(free))]
		r["drives"] = []any{map[string]any{"id": d.ID, "path": "/data"}}
	}
	if c.rand.IntN(3) == 0 {
		r["command"] = []string{"sh", "-c", "while :; do echo working; sleep 0.1; done"}
	}
	c.note("launch", c.try(http.MethodPost, "/v1/gpu-instances", r, nil))
}

func (c *chaos) terminateSome() {
	if i, ok := c.running(); ok {
		c.note("termination", c.try(http.MethodPost, fmt.Sprintf("/v1/gpu-instances/%d/terminate", i.ID), struct{}{}, nil))
	}
}

func (c *chaos) extendSome() {
	if i, ok := c.running(); ok {
		c.note("extension", c.try(http.MethodPost, fmt.Sprintf("/v1/gpu-instances/%d/extend", i.ID), map[string]any{"hours": 1}, nil))
	}
}

func (c *chaos) makeDrive() {
	if len(c.drives()) >= chaosDrives {
		return
	}
	c.number++
	c.note("drive made", c.try(http.MethodPost, "/v1/drives", map[string]any{"name": fmt.Sprintf("drive-%d", c.number), "size_gb": 1}, nil))
}

// deleteSome deletes a drive in which nothing was written yet.
func (c *chaos) deleteSome() {
	for _, d := range c.drives() {
		if d.State == "available" && len(c.files[d.ID]) == 0 {
			c.note("drive deleted", c.try(http.MethodDelete, fmt.Sprintf("/v1/drives/%d", d.ID), nil, nil))
			return
		}
	}
}

// attached picks a running instance that has a drive.
func (c *chaos) attached() (i instance, driveID int64, ok bool) {
	byID := map[int64]instance{}
	for _, i := range c.instances("running") {
		byID[i.ID] = i
	}
	all := c.drives()
	c.rand.Shuffle(len(all), func(n, m int) { all[n], all[m] = all[m], all[n] })
	for _, d := range all {
		for _, a := range d.Attachments {
			if i, runs := byID[a.InstanceID]; runs {
				return i, d.ID, true
			}
		}
	}
	return instance{}, 0, false
}

// command runs a script in an instance, which may be cut off.
func (c *chaos) command(i instance, script string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), chaosPatience)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, "instance", "exec", fmt.Sprint(i.ID), "--", "sh", "-c", script)
	cmd.Env = append(os.Environ(), "ECOLINK_URL="+c.url, "ECOLINK_API_KEY="+c.key)
	out, err := cmd.Output()
	if err != nil {
		return "", errCutOff
	}
	return string(out), nil
}

// writeSome writes a file to a drive, syncs it, and notes its checksum once the
// sync has returned.
func (c *chaos) writeSome() {
	i, d, ok := c.attached()
	if !ok {
		return
	}
	c.number++
	name := fmt.Sprintf("file-%d", c.number)
	out, err := c.command(i, fmt.Sprintf("head -c %d /dev/urandom >/tmp/f && dd if=/tmp/f of=/data/%s bs=64k conv=fsync 2>/dev/null && sha256sum </tmp/f", 1+c.rand.IntN(chaosFileBytes), name))
	if !c.note("file written and synced", err) {
		return
	}
	if c.files[d] == nil {
		c.files[d] = map[string]string{}
	}
	c.files[d][name] = strings.Fields(out)[0]
}

// readSome compares a drive that an instance has with what was synced to it.
func (c *chaos) readSome() {
	if i, d, ok := c.attached(); ok {
		c.note("drive compared", c.compare(i, d))
	}
}

// compare fails the test when a synced file is not as it was.
func (c *chaos) compare(i instance, d int64) error {
	if len(c.files[d]) == 0 {
		return nil
	}
	out, err := c.command(i, "cd /data && sha256sum file-*; true")
	if err != nil {
		return err
	}
	has := map[string]string{}
	for line := range strings.Lines(out) {
		if sum, name, ok := strings.Cut(strings.TrimSpace(line), "  "); ok {
			has[name] = sum
		}
	}
	for name, sum := range c.files[d] {
		if has[name] != sum {
			c.t.Errorf("drive %d: %s was synced with %s and has %q", d, name, sum, has[name])
		}
	}
	return nil
}

// typeSome types into an instance's terminal, and compares what it shows with what
// it has shown before.
func (c *chaos) typeSome() {
	i, ok := c.running()
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), chaosPatience)
	defer cancel()
	term, err := socket.Dial(ctx, fmt.Sprintf("%s/v1/gpu-instances/%d/terminal", c.url, i.ID), c.key, socket.From(-1), socket.WithWindow(200, 30))
	if err != nil {
		c.note("terminal used", errCutOff)
		return
	}
	defer term.Close()
	context.AfterFunc(ctx, func() { term.Close() })
	c.number++
	want := fmt.Sprintf("answer-%d=%d", c.number, c.number*3)
	if _, err := fmt.Fprintf(term, "echo answer-%d=$((%d*3))\n", c.number, c.number); err != nil {
		c.note("terminal used", errCutOff)
		return
	}
	seen, buf := bytes.Buffer{}, make([]byte, 4096)
	for err == nil && !bytes.Contains(seen.Bytes(), []byte(want)) {
		var n int
		n, err = term.Read(buf)
		seen.Write(buf[:n])
	}
	if c.screens[i.ID] == nil {
		c.screens[i.ID] = &bytes.Buffer{}
	}
	before := c.screens[i.ID]
	switch both := min(before.Len(), seen.Len()); {
	case term.Start() != 0:
		c.t.Errorf("instance %d: its terminal begins at byte %d", i.ID, term.Start())
	case !bytes.Equal(before.Bytes()[:both], seen.Bytes()[:both]):
		c.t.Errorf("instance %d: its terminal had shown %q and now shows %q", i.ID, before, &seen)
	case seen.Len() > before.Len():
		before.Write(seen.Bytes()[before.Len():])
	}
	if err != nil {
		err = errCutOff
	}
	c.note("terminal used", err)
}
