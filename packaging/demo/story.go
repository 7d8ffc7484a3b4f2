package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/creack/pty"
)

// name of the instance that the demonstration launches.
const name = "trainer"

// story is what a person does with EcoLink, each step checked.
func (w *world) story(ctx context.Context) error {
	for _, step := range []struct {
		what string
		do   func(context.Context) error
	}{
		{"The operator sets a price and tops the account up", w.fund},
		{"The GPUs of this box", w.listGPUs},
		{"Launching a GPU instance for two hours", w.launch},
		{"Working in its terminal", w.terminal},
		{"Extending it by three hours", w.extend},
		{"Terminating it: what was not used comes back", w.terminate},
		{"The account's statement", w.statement},
	} {
		heading(step.what)
		if err := step.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
	}
	return nil
}

func (w *world) fund(ctx context.Context) error {
	out, err := w.run(ctx, "gpus", "-o", "json")
	if err != nil {
		return err
	}
	var gpus struct {
		Data []struct {
			Type string `json:"type"`
		} `json:"data"`
	}
	if err := json.Unmarshal([]byte(out), &gpus); err != nil {
		return err
	}
	if len(gpus.Data) == 0 {
		return errors.New("this box has a driver and no usable GPU; see `nvidia-smi`")
	}
	w.gpuType = gpus.Data[0].Type
	if _, err := w.show(ctx, append([]string{"admin", "rate", w.gpuType, "1.60"}, w.place()...)...); err != nil {
		return err
	}
	_, err = w.show(ctx, append([]string{"admin", "topup", email, "25.00", "--note", "welcome"}, w.place()...)...)
	return err
}

func (w *world) listGPUs(ctx context.Context) error {
	out, err := w.show(ctx, "gpus")
	return expect(out, err, w.gpuType, "1.60")
}

func (w *world) launch(ctx context.Context) error {
	if _, err := w.show(ctx, "instance", "launch", "--name", name, "--gpu-type", w.gpuType, "--image", w.image, "--hours", "2"); err != nil {
		return err
	}
	out, err := w.show(ctx, "instance", "ls")
	if err := expect(out, err, name, "running"); err != nil {
		return err
	}
	out, err = w.show(ctx, "billing")
	return expect(out, err, "21.80", "3.20") // 2 h × $1.60 of $25.00 are held
}

// terminal types into the terminal as a person does, and reads the screen.
func (w *world) terminal(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	fmt.Println("$ ecolink instance terminal", name)
	cmd := w.command(ctx, "instance", "terminal", name)
	screen, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 30, Cols: 120})
	if err != nil {
		return err
	}
	defer screen.Close()
	s := newScreen(screen)
	for _, line := range []struct{ typed, want string }{
		{"", "# "}, // the prompt
		{"id", "uid=0(root) gid=0"},
		{"cat /run/ecolink/gpus.txt || ls /dev/nvidia*", "GPU"},
		{"df -h /", "Filesystem"},
		{"echo $((6*7)) is the answer", "42 is the answer"},
	} {
		if line.typed != "" {
			if _, err := io.WriteString(screen, line.typed+"\r"); err != nil {
				return err
			}
		}
		if err := s.await(ctx, line.want); err != nil {
			return err
		}
	}
	if _, err := io.WriteString(screen, "exit\r"); err != nil {
		return err
	}
	err = cmd.Wait()
	fmt.Println(s.rest())
	return err
}

func (w *world) extend(ctx context.Context) error {
	out, err := w.show(ctx, "instance", "extend", name, "--hours", "3")
	if err := expect(out, err, "4.80"); err != nil {
		return err
	}
	out, err = w.show(ctx, "billing")
	return expect(out, err, "17.00", "8.00")
}

func (w *world) terminate(ctx context.Context) error {
	if _, err := w.show(ctx, "instance", "terminate", name); err != nil {
		return err
	}
	out, err := w.show(ctx, "billing")
	return expect(out, err, "24.9") // some seconds of a $1.60 hour were used
}

func (w *world) statement(ctx context.Context) error {
	out, err := w.show(ctx, "billing", "transactions")
	if err := expect(out, err, "topup", "hold", "gpu_usage", "refund"); err != nil {
		return err
	}
	out, err = w.show(ctx, append([]string{"ledger", "verify"}, w.place()...)...)
	return expect(out, err, "the books agree")
}

// terminateAll ends whatever a failed step, or a visitor of the console, left
// running, and waits until it is gone.
func (w *world) terminateAll(ctx context.Context) error {
	for {
		out, err := w.run(ctx, "instance", "ls", "--all", "-o", "json")
		if err != nil {
			return err
		}
		var list []struct {
			ID    int64    `json:"id"`
			State string   `json:"state"`
			GPUs  []string `json:"gpus"`
		}
		if err := json.Unmarshal([]byte(out), &list); err != nil {
			return err
		}
		busy := false
		for _, i := range list {
			over := i.State == "terminated" || i.State == "failed"
			if over && len(i.GPUs) == 0 {
				continue
			}
			busy = true
			if !over && i.State != "terminating" {
				if _, err := w.run(ctx, "instance", "terminate", fmt.Sprint(i.ID)); err != nil {
					return err
				}
			}
		}
		if !busy {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// expect checks that a command went well and printed what it should.
func expect(out string, err error, words ...string) error {
	if err != nil {
		return err
	}
	for _, word := range words {
		if !strings.Contains(out, word) {
			return fmt.Errorf("%q is not in what was printed", word)
		}
	}
	return nil
}
