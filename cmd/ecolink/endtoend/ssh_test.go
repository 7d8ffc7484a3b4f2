package endtoend

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// sshTime bounds one run of a program.
const sshTime = time.Minute

// sshDoor is where a box answers SSH, and a person's key to it.
type sshDoor struct {
	*box
	Host    string `json:"host"`
	Port    int    `json:"port"`
	HostKey string `json:"host_key"`
	key     string // file of the private half
	public  string
}

// newSSHBox is a box whose instances need no room on the disk.
func newSSHBox(t testing.TB, gpus int) *box {
	t.Helper()
	return newBoxWith(t, gpus, func(b *box) { b.flags = append(b.flags, "--scratch-per-gpu", "none", "--warm-scratch", "0") })
}

// person makes a key for the box, which does not know it yet.
func (b *box) person(name string) *sshDoor {
	b.t.Helper()
	d := &sshDoor{box: b, key: filepath.Join(b.t.TempDir(), name)}
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", d.key).CombinedOutput(); err != nil {
		b.t.Fatalf("ssh-keygen: %v: %s", err, out)
	}
	raw, err := os.ReadFile(d.key + ".pub")
	if err != nil {
		b.t.Fatal(err)
	}
	d.public = strings.TrimSpace(string(raw))
	d.find()
	return d
}

// find asks where the box answers SSH: after a restart it is another port here.
func (d *sshDoor) find() {
	d.t.Helper()
	if f := d.api(http.MethodGet, "/v1/ssh", nil, d); f != nil {
		d.t.Fatalf("%+v", f)
	}
	if d.Host != "127.0.0.1" || d.Port == 0 {
		d.t.Fatalf("SSH is at %s:%d", d.Host, d.Port)
	}
	known := fmt.Sprintf("[%s]:%d %s\n", d.Host, d.Port, d.HostKey)
	if err := os.WriteFile(d.key+".known", []byte(known), 0o600); err != nil {
		d.t.Fatal(err)
	}
}

// options are those of ssh, scp and sftp: this key, this host key, no questions.
func (d *sshDoor) options() []string {
	return []string{
		"-F", os.DevNull, "-i", d.key, "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes",
		"-o", "StrictHostKeyChecking=yes", "-o", "UserKnownHostsFile=" + d.key + ".known", "-o", "Port=" + strconv.Itoa(d.Port),
	}
}

func (d *sshDoor) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program, append(d.options(), args...)...)
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// result is what came of a program.
type result struct {
	out, errs string
	code      int
}

func (d *sshDoor) try(in io.Reader, program string, args ...string) (r result) {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), sshTime)
	defer cancel()
	cmd := d.command(ctx, program, args...)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) || ctx.Err() != nil {
		d.t.Fatalf("%s %s: %v: %s", program, strings.Join(args, " "), errors.Join(ctx.Err(), err), errs.String())
	}
	return result{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
}

// must is try of what must succeed.
func (d *sshDoor) must(in io.Reader, program string, args ...string) string {
	d.t.Helper()
	r := d.try(in, program, args...)
	if r.code != 0 {
		d.t.Fatalf("%s %s: exit %d: %s%s\nthe server's log:\n%s", program, strings.Join(args, " "), r.code, r.out, r.errs, d.log())
	}
	return r.out
}

// at is the instance as ssh names it.
func (d *sshDoor) at(user string) string { return user + "@" + d.Host }

// enter launches an instance that the person's key opens.
func (d *sshDoor) enter(name string) instance {
	d.t.Helper()
	request := d.request(name)
	request["ssh_public_key"] = d.public
	var i instance
	if f := d.api(http.MethodPost, "/v1/gpu-instances", request, &i); f != nil {
		d.t.Fatalf("%+v", f)
	}
	return d.await(i.ID, "running")
}

func hashOf(raw []byte) string {
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:])
}

func randomBytes(n int) []byte {
	out := make([]byte, n)
	rand.NewChaCha8([32]byte{1}).Read(out)
	return out
}

func TestSSHRunsCommandsCopiesFilesAndForwardsPorts(t *testing.T) {
	b := newSSHBox(t, 1)
	ana := b.person("ana")
	i := ana.enter("trainer")
	on := func(t *testing.T) *sshDoor {
		d := *ana
		shared := *b
		shared.t = t
		d.box = &shared
		return &d
	}
	t.Run("a command's output, errors and exit code", func(t *testing.T) {
		d := on(t)
		r := d.try(nil, "ssh", d.at("trainer"), "echo out; echo errs >&2; pwd; id -u; echo $HOME; exit 7")
		if r.code != 7 || r.out != "out\n/root\n0\n/root\n" || r.errs != "errs\n" {
			t.Errorf("%+v", r)
		}
		if r := d.try(nil, "ssh", d.at(fmt.Sprint(i.ID)), "kill -9 $$"); r.code != 137 {
			t.Errorf("killed: %+v", r)
		}
		if out := d.must(nil, "ssh", d.at("root"), "hostname"); out != "trainer\n" {
			t.Errorf("as root: %q", out)
		}
		if out := d.must(strings.NewReader("echo from a script\nexit 0\n"), "ssh", "-T", d.at("trainer")); out != "from a script\n" {
			t.Errorf("a script: %q", out)
		}
	})
	t.Run("ten megabytes both ways", func(t *testing.T) {
		d := on(t)
		sent := randomBytes(10 << 20)
		if out := d.must(bytes.NewReader(sent), "ssh", d.at("trainer"), "cat"); hashOf([]byte(out)) != hashOf(sent) {
			t.Errorf("%d bytes came back of %d", len(out), len(sent))
		}
		if out := d.must(bytes.NewReader(sent), "ssh", d.at("trainer"), "sha256sum"); !strings.HasPrefix(out, hashOf(sent)) {
			t.Errorf("the container read other bytes: %s", out)
		}
	})
	t.Run("what a client may set and what not", func(t *testing.T) {
		d := on(t)
		out := d.must(nil, "ssh", "-o", "SetEnv=LC_MESSAGES=de_DE.UTF-8 LD_PRELOAD=/x", d.at("trainer"), "echo $LC_MESSAGES,$LD_PRELOAD")
		if out != "de_DE.UTF-8,\n" {
			t.Errorf("%q", out)
		}
	})
	t.Run("ssh by way of the CLI", func(t *testing.T) {
		d := on(t)
		t.Setenv("HOME", t.TempDir())
		t.Setenv("XDG_CONFIG_HOME", t.TempDir())
		if out := d.cli("instance", "ssh", "trainer", "--", "-F", os.DevNull, "-i", d.key, "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "hostname"); out != "trainer\n" {
			t.Errorf("%q", out)
		}
	})
	t.Run("scp and sftp", func(t *testing.T) { on(t).copyFiles() })
	t.Run("ports forwarded to the instance", func(t *testing.T) { on(t).forwardToInstance() })
	t.Run("ports forwarded from the instance", func(t *testing.T) { on(t).forwardFromInstance() })
	t.Run("fifty connections at once", func(t *testing.T) { on(t).many(50) })
	t.Run("a client that reads nothing", func(t *testing.T) { on(t).stall() })
	t.Run("wrong names and keys", func(t *testing.T) { on(t).strangers() })
}

// copyFiles copies files and folders in both directions.
func (d *sshDoor) copyFiles() {
	t := d.t
	here := t.TempDir()
	for name, size := range map[string]int{"tree/a": 3 << 20, "tree/sub/b": 17, "tree/sub/empty": 0} {
		path := filepath.Join(here, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, randomBytes(size), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	d.must(nil, "scp", "-q", "-r", "-p", filepath.Join(here, "tree"), d.at("trainer")+":copied")
	if out := d.must(nil, "ssh", d.at("trainer"), "cd copied && sha256sum a && stat -c %a a && ls sub"); !strings.HasPrefix(out, hashOf(randomBytes(3<<20))) || !strings.HasSuffix(out, "640\nb\nempty\n") {
		t.Errorf("in the container: %s", out)
	}
	d.must(nil, "scp", "-q", "-r", d.at("trainer")+":copied", filepath.Join(here, "back"))
	if out, err := exec.Command("diff", "-r", filepath.Join(here, "tree"), filepath.Join(here, "back")).CombinedOutput(); err != nil {
		t.Errorf("what came back differs: %v: %s", err, out)
	}
	batch := "mkdir /tmp/s\ncd /tmp/s\nput " + filepath.Join(here, "tree/a") + " one\nrename one two\nln -s two three\nchmod 600 two\nls -l\ndf\nget three " + filepath.Join(here, "got") + "\nrm two\n"
	out := d.must(strings.NewReader(batch), "sftp", "-b", "-", d.at("trainer"))
	got, err := os.ReadFile(filepath.Join(here, "got"))
	if err != nil || hashOf(got) != hashOf(randomBytes(3<<20)) || !strings.Contains(out, "-rw-------") {
		t.Errorf("sftp: %v, %d bytes, %s", err, len(got), out)
	}
	if r := d.try(nil, "scp", "-q", filepath.Join(here, "tree/a"), d.at("trainer")+":/proc/nowhere"); r.code == 0 {
		t.Errorf("a copy into nowhere: %+v", r)
	}
}

// forward starts an ssh that only forwards, and ends it with the test.
func (d *sshDoor) forward(args ...string) {
	ctx, cancel := context.WithCancel(context.Background())
	cmd := d.command(ctx, "ssh", append(append([]string{"-N", "-o", "ExitOnForwardFailure=yes"}, args...), d.at("trainer"))...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	if err := cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() {
		cancel()
		_ = cmd.Wait()
		if d.t.Failed() {
			d.t.Logf("ssh %v: %s", args, errs.String())
		}
	})
}

func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func (d *sshDoor) forwardToInstance() {
	t := d.t
	d.must(nil, "ssh", d.at("trainer"), "httpd -p 8001 -h /etc && mkdir -p /www && echo hello from inside > /www/index.html && dd if=/dev/zero of=/www/big bs=1M count=8 2>/dev/null && httpd -p 127.0.0.1:8000 -h /www")
	byLoopback, byName, hostPort, bad, byHosts, nowhere := freePort(t), freePort(t), freePort(t), freePort(t), freePort(t), freePort(t)
	d.forward("-L", fmt.Sprintf("%d:127.0.0.1:8000", byLoopback), "-L", fmt.Sprintf("%d:localhost:8000", byName),
		"-L", fmt.Sprintf("%d:%s", hostPort, strings.TrimPrefix(d.url, "http://")), "-L", fmt.Sprintf("%d:127.0.0.1:1", bad),
		"-L", fmt.Sprintf("%d:trainer:8001", byHosts), "-L", fmt.Sprintf("%d:no-such-name.invalid:80", nowhere))
	for _, port := range []int{byLoopback, byName} {
		var body []byte
		d.eventually("the forwarded server answers", func() bool {
			resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/index.html", port))
			if err != nil {
				return false
			}
			defer resp.Body.Close()
			body, err = io.ReadAll(resp.Body)
			return err == nil
		})
		if string(body) != "hello from inside\n" {
			t.Errorf("got %q", body)
		}
	}
	// A name that only the container's own /etc/hosts has.
	resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/hostname", byHosts))
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "trainer\n" {
		t.Errorf("by its own name: %q, %v", body, err)
	}
	resp.Body.Close()
	resp, err = http.Get(fmt.Sprintf("http://127.0.0.1:%d/big", byLoopback))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if n, err := io.Copy(io.Discard, resp.Body); err != nil || n != 8<<20 {
		t.Errorf("%d bytes through the tunnel, %v", n, err)
	}
	// The host's own loopback is not the container's.
	for _, port := range []int{hostPort, bad, nowhere} {
		if resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/healthz", port)); err == nil {
			resp.Body.Close()
			t.Errorf("what only the host has answers through the tunnel: %s", resp.Status)
		}
	}
}

func (d *sshDoor) forwardFromInstance() {
	t := d.t
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello from outside") })}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	d.forward("-R", fmt.Sprintf("9000:%s", l.Addr()))
	var out string
	d.eventually("the container reaches the client's server", func() bool {
		r := d.try(nil, "ssh", d.at("trainer"), "wget -qO- http://127.0.0.1:9000/")
		out = r.out
		return r.code == 0
	})
	if out != "hello from outside" {
		t.Errorf("got %q", out)
	}
	// It is in the container and nowhere else.
	if conn, err := net.DialTimeout("tcp", "127.0.0.1:9000", time.Second); err == nil {
		conn.Close()
		t.Error("the host listens too")
	}
}

func (d *sshDoor) many(n int) {
	type answer struct {
		n   int
		out string
		err error
	}
	ctx, cancel := context.WithTimeout(context.Background(), sshTime)
	defer cancel()
	answers := make(chan answer)
	loggingIn := make(chan struct{}, 16) // more from one address than a box bears are refused
	for k := range n {
		go func() {
			loggingIn <- struct{}{}
			time.AfterFunc(time.Second, func() { <-loggingIn })
			out, err := d.command(ctx, "ssh", d.at("trainer"), fmt.Sprintf("sleep 5; echo %d", k)).CombinedOutput()
			answers <- answer{k, string(out), err}
		}()
	}
	for range n {
		if a := <-answers; a.err != nil || a.out != fmt.Sprintf("%d\n", a.n) {
			d.t.Errorf("connection %d: %q, %v", a.n, a.out, a.err)
		}
	}
}

// stall has a client that reads nothing of an endless output: it holds up neither
// others nor the server, whose memory does not grow.
func (d *sshDoor) stall() {
	t := d.t
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	cmd := d.command(ctx, "ssh", d.at("trainer"), "yes")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd.Stdout = w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	before := d.memory()
	for range 5 {
		if out := d.must(nil, "ssh", d.at("trainer"), "echo quick"); out != "quick\n" {
			t.Errorf("beside it: %q", out)
		}
	}
	if after := d.memory(); after > before+64<<20 {
		t.Errorf("the server grew from %d to %d bytes", before, after)
	}
	cancel()
	_ = cmd.Wait()
	d.eventually("the command is gone with its connection", func() bool {
		return d.try(nil, "ssh", d.at("trainer"), "pidof yes").code != 0
	})
}

// memory is the server's, resident.
func (d *sshDoor) memory() int64 {
	d.t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", d.serve.Process.Pid))
	if err != nil {
		d.t.Fatal(err)
	}
	pages, err := strconv.ParseInt(strings.Fields(string(raw))[1], 10, 64)
	if err != nil {
		d.t.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}

func (d *sshDoor) strangers() {
	t := d.t
	if r := d.try(nil, "ssh", d.at("nobody"), "true"); r.code != 255 || !strings.Contains(r.errs, `this key opens no instance called "nobody"`) {
		t.Errorf("a name that is not there: %+v", r)
	}
	if r := d.try(nil, "ssh", d.at("No_Such"), "true"); r.code != 255 || !strings.Contains(r.errs, "lower-case letters") {
		t.Errorf("a name that can't be: %+v", r)
	}
	eve := d.person("eve")
	for _, name := range []string{"trainer", "nobody", "1"} {
		if r := eve.try(nil, "ssh", eve.at(name), "true"); r.code != 255 || strings.Contains(r.errs, "instance") || !strings.Contains(r.errs, "Permission denied (publickey)") {
			t.Errorf("a strange key at %s: %+v", name, r)
		}
	}
}
