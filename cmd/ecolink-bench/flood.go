package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"sync/atomic"
	"syscall"
	"time"
)

// floodVariable marks the process that floods a terminal, and says which.
const floodVariable = "ECOLINK_BENCH_FLOOD"

// floodTime is how long a flood runs before anything is measured beside it.
const floodTime = 300 * time.Millisecond

// terminalPlace says where a contender's terminals are, for another process.
type terminalPlace struct {
	URL  string `json:",omitempty"` // none: a PTY of that process
	Path string `json:",omitempty"` // of EcoLink's API; none: shellinabox
	Key  string `json:",omitempty"`
}

// opener opens the place's terminals, the named session of EcoLink's.
func (p terminalPlace) opener(session string) opener {
	switch {
	case p.URL == "":
		return rawPTY{}.open
	case p.Path == "":
		return (&shellInABox{url: p.URL, http: &http.Client{}}).open
	}
	return func(ctx context.Context) (io.ReadWriteCloser, error) { return p.attach(ctx, session, -1) }
}

var floods atomic.Int32

// flood is another process that has a terminal of a contender print without end, and
// looks at all of it. Who floods is another person than who types: in one process the
// two would wait for each other in Go's scheduler, which is not what is measured.
type flood struct {
	cmd  *exec.Cmd
	ends io.Closer // its standard input
}

func startFlood(ctx context.Context, who terminals) (*flood, error) {
	said, err := json.Marshal(struct {
		Place terminalPlace
		Name  string
	}{who.place(), fmt.Sprintf("flood%d", floods.Add(1))})
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Env = append(os.Environ(), floodVariable+"="+string(said))
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	f := &flood{cmd, in}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		return nil, errors.Join(fmt.Errorf("the flood did not begin: %w", err), f.stop())
	}
	return f, nil
}

// stop interrupts what prints.
func (f *flood) stop() error { return errors.Join(f.ends.Close(), f.cmd.Wait()) }

// floodHere is that process.
func floodHere(said string) error {
	var told struct {
		Place terminalPlace
		Name  string
	}
	if err := json.Unmarshal([]byte(said), &told); err != nil {
		return err
	}
	s, err := openShell(context.Background(), told.Place.opener(told.Name))
	if err != nil {
		return err
	}
	defer s.Close()
	if _, err := io.WriteString(s, "yes\n"); err != nil {
		return err
	}
	looks := s.watch()
	time.Sleep(floodTime)
	if _, err := fmt.Println("it floods"); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, os.Stdin) // until the other closes it
	looks()
	return errors.Join(err, s.interrupt())
}
