package torture

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"testing"
	"time"
)

// process is a working process, seen from outside.
type process struct {
	t     *testing.T
	cmd   *exec.Cmd
	lines chan line // closed when it has ended
	heard []line
}

func startWork(t *testing.T, j job) *process {
	t.Helper()
	raw, err := json.Marshal(j)
	if err != nil {
		t.Fatal(err)
	}
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := self(workPart)
	cmd.Env = append(cmd.Env, jobEnv+"="+string(raw))
	cmd.ExtraFiles, cmd.Stderr = []*os.File{in}, os.Stderr
	err = cmd.Start()
	in.Close()
	if err != nil {
		out.Close()
		t.Fatal(err)
	}
	p := &process{t: t, cmd: cmd, lines: make(chan line, 1024)}
	go func() {
		defer out.Close()
		defer close(p.lines)
		for text := bufio.NewScanner(out); text.Scan(); {
			var l line
			if json.Unmarshal(text.Bytes(), &l) == nil { // the last one may be cut short
				p.lines <- l
			}
		}
	}()
	return p
}

// listen collects what the process says for a while, or until it has said
// something of the given kind; false: it ended, or was silent for too long.
func (p *process) listen(during time.Duration, until event) bool {
	end := time.NewTimer(during)
	defer end.Stop()
	for {
		select {
		case l, ok := <-p.lines:
			if !ok {
				return false
			}
			if p.heard = append(p.heard, l); l.Event == until {
				return true
			}
		case <-end.C:
			return until == ""
		}
	}
}

// kill ends the process with SIGKILL and gives all that it said.
func (p *process) kill() []line {
	_ = p.cmd.Process.Kill()
	for l := range p.lines {
		p.heard = append(p.heard, l)
	}
	_ = p.cmd.Wait()
	return p.heard
}

// failures are the errors of the store that the process met.
func failures(lines []line) (out []line) {
	for _, l := range lines {
		if l.Event == failed {
			out = append(out, l)
		}
	}
	return out
}
