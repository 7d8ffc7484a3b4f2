package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"

	"github.com/creack/pty"

	"ecolink/packaging/sample"
	"ecolink/web/socket"
)

// The window of every terminal that is measured, wide enough that no line of
// keystrokes wraps.
const (
	windowCols = 200
	windowRows = 50
)

// terminals opens terminals with a fresh busybox shell in each.
type terminals interface {
	name() string
	place() terminalPlace
	open(ctx context.Context) (io.ReadWriteCloser, error)
}

// localShell is what the peers run: the program that is /bin/ash in the image.
func localShell() (name string, args []string) { return "/bin/busybox", []string{"sh"} }

// bulkProgram is coreutils' seq, here and in the image: busybox's writes each line
// by itself, so that it would be the machine's system calls that are measured.
const bulkProgram = "/usr/bin/seq"

// localProgram is a program of this machine, with the libraries that it needs, for
// an image.
func localProgram(program string) ([]sample.File, error) {
	out, err := exec.Command("ldd", program).Output()
	if err != nil {
		return nil, fmt.Errorf("find the libraries of %s: %w", program, err)
	}
	paths := []string{program}
	for _, word := range strings.Fields(string(out)) {
		if strings.HasPrefix(word, "/") {
			paths = append(paths, word)
		}
	}
	made := map[string]bool{"/": true}
	var files []sample.File
	for _, path := range paths {
		for at := 1; at < len(path); at++ {
			if dir := path[:at]; path[at] == '/' && !made[dir] {
				made[dir] = true
				files = append(files, sample.File{Path: dir[1:] + "/", Mode: 0o755})
			}
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		files = append(files, sample.File{Path: path[1:], Mode: 0o755, Content: content})
	}
	return files, nil
}

// rawPTY is a PTY that is read where it was opened: what there is to beat.
type rawPTY struct{}

func (rawPTY) name() string         { return "raw PTY" }
func (rawPTY) place() terminalPlace { return terminalPlace{} }

func (rawPTY) open(context.Context) (io.ReadWriteCloser, error) {
	name, args := localShell()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "TERM=xterm-256color", "PS1=# ")
	master, err := pty.StartWithSize(cmd, &pty.Winsize{Cols: windowCols, Rows: windowRows})
	if err != nil {
		return nil, fmt.Errorf("start %s on a PTY: %w", name, err)
	}
	return &rawShell{File: master, cmd: cmd}, nil
}

type rawShell struct {
	*os.File
	cmd *exec.Cmd
}

func (s *rawShell) Close() error {
	err := s.File.Close() // which hangs up on the shell
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait() // killed: that is no news
	return err
}

// ourTerminals are those of one instance, over the API's WebSocket.
type ourTerminals struct {
	*ecolink
	instance string
	opened   atomic.Int32
}

func (o *ourTerminals) place() terminalPlace {
	o.mu.Lock()
	defer o.mu.Unlock()
	return terminalPlace{URL: o.url, Path: fmt.Sprintf("/v1/gpu-instances/%d/terminal", o.numbers[o.instance]), Key: o.key}
}

func (o *ourTerminals) open(ctx context.Context) (io.ReadWriteCloser, error) {
	return o.attach(ctx, fmt.Sprintf("bench%d", o.opened.Add(1)), -1)
}

// attach opens the named session from a byte on.
func (o *ourTerminals) attach(ctx context.Context, session string, from int64, more ...socket.DialOption) (*socket.TerminalConn, error) {
	return o.place().attach(ctx, session, from, more...)
}

func (p terminalPlace) attach(ctx context.Context, session string, from int64, more ...socket.DialOption) (*socket.TerminalConn, error) {
	options := []socket.DialOption{socket.WithSession(session), socket.From(from), socket.WithWindow(windowCols, windowRows)}
	return socket.Dial(ctx, p.URL+p.Path, p.Key, append(options, more...)...)
}
