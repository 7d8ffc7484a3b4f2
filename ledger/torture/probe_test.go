package torture

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"
	"time"

	"ecolink/ledger"
	"ecolink/ledger/identity"
	"ecolink/ledger/store"
)

// A damaged database is opened in a process of its own: one that crashes or hangs
// must not take the test with it.

// finding is what a process saw in a database.
type finding struct {
	Before  string `json:"before"` // what there is, when Verify agreed
	After   string `json:"after"`  // and after a charge and a hold, read from the reopened file
	Stage   string `json:"stage"`  // where it ended
	Error   string `json:"error"`
	Clear   bool   `json:"clear"`   // the error says that the database is damaged
	Crashed bool   `json:"crashed"` // it panicked, crashed or hung
	// Circle: it did so because a page leads back to one above it.
	Circle bool `json:"circle"`
}

// Stages of looking at a database.
const (
	openStage   = "open"
	readStage   = "read"
	verifyStage = "verify"
	writeStage  = "write"
	againStage  = "again" // all of it once more
)

// probe is the process's main function: a path on each line of its input, a
// finding on each line of file 3.
func probe() int {
	debug.SetMaxStack(64 << 20)
	out := json.NewEncoder(os.NewFile(3, "findings"))
	for paths := bufio.NewScanner(os.Stdin); paths.Scan(); {
		if out.Encode(look(paths.Text())) != nil {
			return 1
		}
	}
	return 0
}

func look(path string) (f finding) {
	defer func() {
		if p := recover(); p != nil {
			f.Crashed, f.Error = true, fmt.Sprintf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	err := f.look(path)
	if err != nil {
		var disagreement *ledger.Disagreement
		f.Error, f.Clear = err.Error(), errors.Is(err, store.ErrDamaged) || errors.As(err, &disagreement)
	}
	return f
}

func (f *finding) look(path string) (err error) {
	f.Stage = openStage
	s, err := store.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if f.Before, err = f.contents(s); err != nil {
		return err
	}
	f.Stage = writeStage
	err = s.Update(context.Background(), func(tx *store.Tx) error {
		e := ledger.Entry{At: time.Now(), Account: 1, Amount: 7, RequestID: "probe", Key: fmt.Sprintf("%016x", time.Now().UnixNano())}
		if _, err := ledger.Charge(tx, ledger.APIUsage, e); err != nil {
			return err
		}
		e.Key += "-hold"
		_, err := ledger.PlaceHold(tx, e, ledger.HoldTerms{})
		return err
	})
	if err != nil {
		return err
	}
	again := finding{}
	if _, err := again.contents(s); err != nil {
		f.Stage = againStage
		return err
	}
	f.Stage = againStage
	return s.View(func(tx *store.Tx) error {
		f.After, err = print(tx)
		return err
	})
}

// contents reads and verifies everything.
func (f *finding) contents(s *store.Store) (seen string, err error) {
	f.Stage = readStage
	err = s.View(func(tx *store.Tx) error {
		if seen, err = print(tx); err != nil {
			return err
		}
		f.Stage = verifyStage
		if _, err := ledger.VerifySince(tx); err != nil {
			return err
		}
		_, err = ledger.Verify(tx)
		return err
	})
	return seen, err
}

// print is what accounts see of their money: all wallets, open holds, and the
// newest rows of their statements.
func print(tx *store.Tx) (string, error) {
	newest, err := ledger.Newest(tx)
	if err != nil {
		return "", err
	}
	out := fmt.Sprintf("%d rows", newest)
	for a := range identity.AccountID(numAccounts + 1) {
		w, err := ledger.WalletOf(tx, a)
		if err != nil {
			return "", err
		}
		out += fmt.Sprintf("\n%d: %+v", a, w)
		holds, err := ledger.OpenHolds(tx, a)
		if err != nil {
			return "", err
		}
		for _, h := range holds {
			out += fmt.Sprintf(" %d:%s", h.ID, h.Rest())
		}
		rows := 0
		for t, err := range ledger.Statement(tx, a, 0) {
			if err != nil {
				return "", err
			}
			out += fmt.Sprintf(" %d:%s", t.Seq, t.Amount)
			if rows++; rows == 5 {
				break
			}
		}
	}
	return out, nil
}

// prober runs the process, and starts it anew when it was lost.
type prober struct {
	t     *testing.T
	cmd   *exec.Cmd
	in    *os.File
	found *json.Decoder
	out   *os.File
	says  bytes.Buffer // on its standard error
}

// hangs is how long a look at a database may take.
const hangs = 10 * time.Second

func (p *prober) start() {
	stdin, in, err := os.Pipe()
	if err != nil {
		p.t.Fatal(err)
	}
	out, stdout, err := os.Pipe()
	if err != nil {
		p.t.Fatal(err)
	}
	p.cmd = self(probePart)
	p.says.Reset()
	p.cmd.Stderr = &p.says
	p.cmd.Stdin, p.cmd.ExtraFiles = stdin, []*os.File{stdout}
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	stdin.Close()
	stdout.Close()
	p.in, p.out, p.found = in, out, json.NewDecoder(out)
}

func (p *prober) stop() {
	if p.cmd != nil {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
		p.in.Close()
		p.out.Close()
		p.cmd = nil
	}
}

func (p *prober) look(path string) (f finding) {
	if p.cmd == nil {
		p.start()
	}
	fmt.Fprintln(p.in, path)
	_ = p.out.SetReadDeadline(time.Now().Add(hangs))
	if err := p.found.Decode(&f); err != nil {
		_ = p.cmd.Process.Signal(syscall.SIGQUIT) // one that hangs says where
		time.Sleep(100 * time.Millisecond)
		p.stop()
		says := p.says.String()
		f = finding{Crashed: true, Error: fmt.Sprintf("the process crashed or hung: %v: %.600s", err, says)}
		f.Circle = strings.Contains(says, "bbolt.(*Cursor)")
	}
	return f
}
