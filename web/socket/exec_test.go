package socket

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"ecolink/agent"
	"ecolink/ledger/identity"
	"ecolink/scheduler"
)

// program is what Exec runs.
type program func(ctx context.Context, argv []string, std agent.Stdio) (int, error)

func (p program) Exec(ctx context.Context, _ identity.AccountID, _ scheduler.InstanceID, argv []string, std agent.Stdio) (int, error) {
	return p(ctx, argv, std)
}

func newExec(p program) http.Handler { return Exec(p, slog.New(slog.DiscardHandler)) }

func TestExecCarriesBothOutputsAndTheExitCode(t *testing.T) {
	srv := serve(t, newExec(func(_ context.Context, argv []string, std agent.Stdio) (int, error) {
		in, err := io.ReadAll(std.Stdin)
		if err != nil {
			return 0, err
		}
		io.WriteString(std.Stdout, strings.Join(argv, "|"))
		std.Stderr.Write(bytes.ToUpper(in))
		return 3, nil
	}))
	c := connect(t, srv, "/i/7?arg=cat&arg=a+b", ExecProtocol)
	send(t, c, websocket.MessageBinary, "\x00one ")
	send(t, c, websocket.MessageBinary, "\x00two")
	send(t, c, websocket.MessageBinary, "\x00")
	wantBytes(t, c, "\x01cat|a b")
	wantBytes(t, c, "\x02ONE TWO")
	wantText(t, c, `{"exit":3}`)
	wantClose(t, c, websocket.StatusNormalClosure)
}

func TestExecSplitsLongOutput(t *testing.T) {
	long := strings.Repeat("0123456789", 20<<10)
	srv := serve(t, newExec(func(_ context.Context, _ []string, std agent.Stdio) (int, error) {
		_, err := io.WriteString(std.Stdout, long)
		return 0, err
	}))
	c := connect(t, srv, "/i/7?arg=x", ExecProtocol)
	var got strings.Builder
	for got.Len() < len(long) {
		_, p := receive(t, c)
		if len(p) > 1+outputBytes || p[0] != 1 {
			t.Fatalf("a piece of %d bytes that begins with %d", len(p), p[0])
		}
		got.WriteString(p[1:])
	}
	if got.String() != long {
		t.Error("the output is not what was written")
	}
	wantText(t, c, `{"exit":0}`)
}

func TestExecTellsWhyACommandCouldNotRun(t *testing.T) {
	srv := serve(t, newExec(func(context.Context, []string, agent.Stdio) (int, error) {
		return 0, &scheduler.Problem{Kind: scheduler.Conflict, Message: "instance 7 is pulling: a command runs while it is running"}
	}))
	c := connect(t, srv, "/i/7?arg=x", ExecProtocol)
	if _, p := receive(t, c); !strings.HasPrefix(p, `{"error":{"code":"conflict","message":"instance 7 is pulling`) {
		t.Errorf("got %s", p)
	}
	wantClose(t, c, websocket.StatusNormalClosure)
}

func TestExecEndsWithItsClient(t *testing.T) {
	ended := make(chan error, 1)
	srv := serve(t, newExec(func(ctx context.Context, _ []string, _ agent.Stdio) (int, error) {
		<-ctx.Done()
		ended <- ctx.Err()
		return 0, ctx.Err()
	}))
	c := connect(t, srv, "/i/7?arg=sleep", ExecProtocol)
	_ = c.CloseNow()
	select {
	case <-ended:
	case <-time.After(patience):
		t.Error("the command goes on")
	}
}

func TestExecOutlivesACommandThatDoesNotReadItsInput(t *testing.T) {
	srv := serve(t, quick(newExec(func(context.Context, []string, agent.Stdio) (int, error) {
		time.Sleep(100 * time.Millisecond)
		return 0, nil
	}), pulse{every: 10 * time.Millisecond, within: 20 * time.Millisecond}))
	c := connect(t, srv, "/i/7?arg=true", ExecProtocol)
	send(t, c, websocket.MessageBinary, "\x00nobody reads this")
	wantText(t, c, `{"exit":0}`)
}

func TestExecWaitsForAClientThatReadsSlowly(t *testing.T) {
	long := strings.Repeat("0123456789", 2<<20) // more than the sockets' buffers hold
	srv := serve(t, quick(newExec(func(_ context.Context, _ []string, std agent.Stdio) (int, error) {
		_, err := io.WriteString(std.Stdout, long)
		return 0, err
	}), pulse{every: 10 * time.Millisecond, within: 20 * time.Millisecond}))
	c := connect(t, srv, "/i/7?arg=x", ExecProtocol)
	_, first := receive(t, c)          // a pager shows the first page
	time.Sleep(300 * time.Millisecond) // ten pulses go by
	total := len(first) - 1
	for total < len(long) {
		_, p := receive(t, c)
		total += len(p) - 1
	}
	wantText(t, c, `{"exit":0}`)
}

// The library gives up a ping after 5 seconds that waits behind output.
func TestExecWaitsForAPagerForLongerThanAPingCanWait(t *testing.T) {
	long := strings.Repeat("0123456789", 2<<20)
	srv := serve(t, quick(newExec(func(_ context.Context, _ []string, std agent.Stdio) (int, error) {
		_, err := io.WriteString(std.Stdout, long)
		return 0, err
	}), pulse{every: 500 * time.Millisecond, within: 10 * time.Second}))
	c := connect(t, srv, "/i/7?arg=x", ExecProtocol)
	_, first := receive(t, c)
	time.Sleep(6 * time.Second)
	total := len(first) - 1
	for total < len(long) {
		_, p := receive(t, c)
		total += len(p) - 1
	}
	wantText(t, c, `{"exit":0}`)
}

// Who answers a ping of a connection that is closed resets it, and what is still on its
// way is lost. The library waits 5 seconds for the client to have read it.
func TestExecWaitsForAClientThatReadsTheEndLate(t *testing.T) {
	text := strings.Repeat("0123456789", 200_000) // the server's buffer holds it, the client's does not
	over := make(chan struct{})
	srv := serve(t, quick(newExec(func(_ context.Context, _ []string, std agent.Stdio) (int, error) {
		defer close(over)
		_, first := io.WriteString(std.Stdout, "first")
		time.Sleep(200 * time.Millisecond) // a ping goes out before the rest
		_, err := io.WriteString(std.Stdout, text)
		return 7, errors.Join(first, err)
	}), pulse{every: 50 * time.Millisecond, within: time.Minute}))
	c := connect(t, srv, "/i/7?arg=x", ExecProtocol)
	receive(t, c)
	select {
	case <-over:
	case <-time.After(patience):
		t.Fatal("the buffers do not hold so much")
	}
	time.Sleep(6 * time.Second)
	for total := 0; total < len(text); {
		_, p := receive(t, c)
		total += len(p) - 1
	}
	wantText(t, c, `{"exit":7}`)
	wantClose(t, c, websocket.StatusNormalClosure)
}

func TestExecRefusesWhatItCantRunBeforeTheUpgrade(t *testing.T) {
	srv := serve(t, newExec(nil))
	if status, f := refused(t, srv, "/i/7", nil); status != http.StatusUnprocessableEntity || f.Param == nil || *f.Param != "arg" {
		t.Errorf("%d %+v", status, f)
	}
	if status, _ := refused(t, srv, "/i/7?arg=x", func(r *http.Request) { r.Header.Set("Origin", "https://evil.example") }); status != http.StatusForbidden {
		t.Errorf("a foreign origin: %d", status)
	}
}

func TestExecRefusesNonsense(t *testing.T) {
	srv := serve(t, newExec(func(ctx context.Context, _ []string, _ agent.Stdio) (int, error) {
		<-ctx.Done()
		return 0, ctx.Err()
	}))
	for _, bad := range []string{"", "\x05x"} {
		c := connect(t, srv, "/i/7?arg=x", ExecProtocol)
		send(t, c, websocket.MessageBinary, bad)
		wantClose(t, c, websocket.StatusPolicyViolation)
	}
}
