package session

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"

	"ecolink/agent/keeper/shim"
)

func TestTheFirstLineIsUnderstoodOrRefused(t *testing.T) {
	rows := []struct {
		sent string
		want request
		rest string
		err  string
	}{
		{"ATTACH 0 80 24\n", request{"ATTACH", 0, Window{80, 24}, 0}, "", ""},
		{"ATTACH -1 0 0\ni\x00\x00\x00", request{"ATTACH", FromOldest, Window{}, 0}, "i\x00\x00\x00", ""},
		{"ATTACH -3 1 1\n\x00\n\n", request{"ATTACH", FromScreen, Window{1, 1}, 0}, "\x00\n\n", ""},
		{"ATTACH 9223372036854775807 65535 65535\n", request{"ATTACH", 1<<63 - 1, Window{65535, 65535}, 0}, "", ""},
		{"ADOPT 17 80 24\n", request{"ADOPT", 0, Window{80, 24}, 17}, "", ""},
		{"STATUS\n", request{verb: "STATUS"}, "", ""},
		{"ATTACH 9223372036854775808 80 24\n", request{}, "", "the first line must be"},
		{"ATTACH 0 65536 24\n", request{}, "", "the first line must be"},
		{"ATTACH -4 80 24\n", request{}, "", "the offset must be"},
		{"ATTACH\n", request{}, "", "the first line must be"},
		{"ATTACH 1\n", request{}, "", "the first line must be"},
		{"ATTACH 1 80 24 7\n", request{}, "", "the first line must be"},
		{"attach 1 80 24\n", request{}, "", "the first line must be"},
		{"ADOPT 0 80 24\n", request{}, "", "the first line must be"},
		{"ADOPT -1 80 24\n", request{}, "", "the first line must be"},
		{"\n", request{}, "", "the first line must be"},
		{"ATTACH 1 80 24", request{}, "", "unexpected EOF"},
		{"", request{}, "", "unexpected EOF"},
		{"ATTACH " + strings.Repeat("0", lineBytes), request{}, "", "the first line is too long"},
	}
	for _, row := range rows {
		got, rest, err := readRequest(strings.NewReader(row.sent))
		if row.err != "" {
			if err == nil || !strings.Contains(err.Error(), row.err) {
				t.Errorf("%.20q: got %v, want %s", row.sent, err, row.err)
			}
			continue
		}
		if err != nil || got != row.want || string(rest) != row.rest {
			t.Errorf("%.20q: got %+v, %q, %v", row.sent, got, rest, err)
		}
	}
}

// FuzzReadRequest holds that nothing is lost or added however the bytes come.
func FuzzReadRequest(f *testing.F) {
	for _, seed := range []string{"ATTACH 0 80 24\n", "ATTACH -1 0 0\nabc", "ADOPT 1 1 1\n", "STATUS\n", "ATTACH x\n", "ERR\n", "ATTACH 12"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, sent []byte) {
		whole := bytes.NewReader(sent)
		got, rest, err := readRequest(whole)
		left, _ := io.ReadAll(whole)
		slow := bytes.NewReader(sent)
		slowGot, slowRest, slowErr := readRequest(iotest.OneByteReader(slow))
		slowLeft, _ := io.ReadAll(slow)
		if fmt.Sprint(err) != fmt.Sprint(slowErr) || got != slowGot {
			t.Fatalf("at once: %+v, %v; byte by byte: %+v, %v", got, err, slowGot, slowErr)
		}
		if err != nil {
			return
		}
		line, after, found := bytes.Cut(sent, []byte("\n"))
		if !found || len(line) >= lineBytes || got.offset < FromScreen {
			t.Fatalf("accepted %q as %+v", line, got)
		}
		if !bytes.Equal(append(bytes.Clone(rest), left...), after) || !bytes.Equal(append(bytes.Clone(slowRest), slowLeft...), after) {
			t.Fatalf("after the line %q and %q, want %q", rest, left, after)
		}
	})
}

// FuzzReadStart is FuzzReadRequest for the client's side.
func FuzzReadStart(f *testing.F) {
	for _, seed := range []string{"OK 0 0\n", "OK 17 3\nabc", "ERR no\n", "OK -1 0\n", "OK\n", ""} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, sent []byte) {
		whole := bytes.NewReader(sent)
		start, prologue, rest, err := readStart(whole)
		left, _ := io.ReadAll(whole)
		slowStart, slowPrologue, _, slowErr := readStart(iotest.OneByteReader(bytes.NewReader(sent)))
		if fmt.Sprint(err) != fmt.Sprint(slowErr) || start != slowStart || prologue != slowPrologue {
			t.Fatalf("at once: %d, %v; byte by byte: %d, %v", start, err, slowStart, slowErr)
		}
		if err != nil {
			return
		}
		line, after, _ := bytes.Cut(sent, []byte("\n"))
		if start < 0 || prologue < 0 || prologue > maxPrologueBytes || !bytes.HasPrefix(line, []byte("OK ")) {
			t.Fatalf("accepted %q as %d", line, start)
		}
		if !bytes.Equal(append(bytes.Clone(rest), left...), after) {
			t.Fatalf("after the line %q and %q, want %q", rest, left, after)
		}
	})
}

func TestArgsComeBackThroughTheShimAsTheyWere(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := Config{
			Dir:             "/" + rapid.String().Draw(t, "dir"),
			IdleSeconds:     rapid.IntRange(0, 1<<31-1).Draw(t, "idle"),
			ScrollbackBytes: rapid.IntRange(minScrollbackBytes, maxScrollbackBytes).Draw(t, "scrollback"),
		}
		var args []string
		for key, value := range want.Args() {
			args = append(args, key, value)
		}
		pairs, err := shim.ParseArgs(args)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := ParseConfig(pairs); err != nil || got != want {
			t.Fatalf("got %+v, %v; want %+v", got, err, want)
		}
	})
}

func TestWrongArgsAreRefusedByName(t *testing.T) {
	rows := map[string]struct {
		key, value string // "-" removes
		err        string
	}{
		"no role":          {"role", "-", "role must be session"},
		"another role":     {"role", "log", "role must be session"},
		"no dir":           {"dir", "-", "dir must be an absolute path"},
		"relative dir":     {"dir", "x", "dir must be an absolute path"},
		"no scrollback":    {"scrollback_bytes", "-", "scrollback_bytes must be"},
		"small scrollback": {"scrollback_bytes", "4095", "scrollback_bytes must be"},
		"big scrollback":   {"scrollback_bytes", "67108865", "scrollback_bytes must be"},
		"no number":        {"scrollback_bytes", "1e6", "scrollback_bytes:"},
		"negative idle":    {"idle_seconds", "-1", "idle_seconds must not be negative"},
		"no idle number":   {"idle_seconds", "soon", "idle_seconds:"},
		"unknown":          {"color", "red", `unknown argument "color"`},
	}
	for name, row := range rows {
		args := Config{Dir: "/d", ScrollbackBytes: minScrollbackBytes}.Args()
		args[row.key] = row.value
		if row.value == "-" {
			delete(args, row.key)
		}
		if _, err := ParseConfig(args); err == nil || !strings.Contains(err.Error(), row.err) {
			t.Errorf("%s: got %v, want %s", name, err, row.err)
		}
	}
}
