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
		sent  string
		asked int64
		typed string
		err   string
	}{
		{"ATTACH 0\n", 0, "", ""},
		{"ATTACH -1\nls\n", FromOldest, "ls\n", ""},
		{"ATTACH -2\n\x00\n\n", FromNow, "\x00\n\n", ""},
		{"ATTACH 9223372036854775807\n", 1<<63 - 1, "", ""},
		{"ATTACH 9223372036854775808\n", 0, "", "the offset must be"},
		{"ATTACH -3\n", 0, "", "the offset must be"},
		{"ATTACH\n", 0, "", "the first line must be"},
		{"ATTACH \n", 0, "", "the offset must be"},
		{"ATTACH 1 \n", 0, "", "the offset must be"},
		{"attach 1\n", 0, "", "the first line must be"},
		{"\n", 0, "", "the first line must be"},
		{"ATTACH 1", 0, "", "unexpected EOF"},
		{"", 0, "", "unexpected EOF"},
		{"ATTACH " + strings.Repeat("0", lineBytes-9) + "1\n", 1, "", ""},
		{"ATTACH " + strings.Repeat("0", lineBytes-8) + "1\n", 0, "", "the first line is too long"},
	}
	for _, row := range rows {
		asked, typed, err := readAttach(strings.NewReader(row.sent))
		if row.err != "" {
			if err == nil || !strings.Contains(err.Error(), row.err) {
				t.Errorf("%.20q: got %v, want %s", row.sent, err, row.err)
			}
			continue
		}
		if err != nil || asked != row.asked || string(typed) != row.typed {
			t.Errorf("%.20q: got %d, %q, %v", row.sent, asked, typed, err)
		}
	}
}

// FuzzReadAttach holds that nothing is lost or added however the bytes come,
// and that what is accepted means what it says.
func FuzzReadAttach(f *testing.F) {
	for _, seed := range []string{"ATTACH 0\n", "ATTACH -1\nabc", "ATTACH -2\n", "ATTACH x\n", "ERR\n", "ATTACH 12"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, sent []byte) {
		whole := bytes.NewReader(sent)
		asked, typed, err := readAttach(whole)
		rest, _ := io.ReadAll(whole)
		slow := bytes.NewReader(sent)
		slowAsked, slowTyped, slowErr := readAttach(iotest.OneByteReader(slow))
		slowRest, _ := io.ReadAll(slow)
		if fmt.Sprint(err) != fmt.Sprint(slowErr) || asked != slowAsked {
			t.Fatalf("at once: %d, %v; byte by byte: %d, %v", asked, err, slowAsked, slowErr)
		}
		if err != nil {
			return
		}
		line, after, found := bytes.Cut(sent, []byte("\n"))
		if !found || len(line) >= lineBytes || asked < FromNow || !bytes.HasPrefix(line, []byte("ATTACH ")) {
			t.Fatalf("accepted %q as %d", line, asked)
		}
		if !bytes.Equal(append(bytes.Clone(typed), rest...), after) || !bytes.Equal(append(bytes.Clone(slowTyped), slowRest...), after) {
			t.Fatalf("typed %q and %q, want %q", typed, rest, after)
		}
		if len(typed) > lineBytes {
			t.Fatalf("%d bytes typed", len(typed))
		}
	})
}

// FuzzReadAnswer is FuzzReadAttach for the client's side.
func FuzzReadAnswer(f *testing.F) {
	for _, seed := range []string{"OK 0\n", "OK 17\nabc", "ERR no\n", "OK -1\n", "OK\n", ""} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, sent []byte) {
		whole := bytes.NewReader(sent)
		start, output, err := readAnswer(whole)
		rest, _ := io.ReadAll(whole)
		slowStart, _, slowErr := readAnswer(iotest.OneByteReader(bytes.NewReader(sent)))
		if fmt.Sprint(err) != fmt.Sprint(slowErr) || start != slowStart {
			t.Fatalf("at once: %d, %v; byte by byte: %d, %v", start, err, slowStart, slowErr)
		}
		if err != nil {
			return
		}
		line, after, _ := bytes.Cut(sent, []byte("\n"))
		if start < 0 || !bytes.HasPrefix(line, []byte("OK ")) {
			t.Fatalf("accepted %q as %d", line, start)
		}
		if !bytes.Equal(append(bytes.Clone(output), rest...), after) {
			t.Fatalf("output %q and %q, want %q", output, rest, after)
		}
	})
}

func TestArgsComeBackThroughTheShimAsTheyWere(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := Config{
			Dir:             "/" + rapid.String().Draw(t, "dir"),
			Stdin:           "/" + rapid.String().Draw(t, "stdin"),
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
		"no stdin":         {"stdin", "-", "stdin must be an absolute path"},
		"no scrollback":    {"scrollback_bytes", "-", "scrollback_bytes must be"},
		"small scrollback": {"scrollback_bytes", "4095", "scrollback_bytes must be"},
		"big scrollback":   {"scrollback_bytes", "67108865", "scrollback_bytes must be"},
		"no number":        {"scrollback_bytes", "1e6", "scrollback_bytes:"},
		"unknown":          {"color", "red", `unknown argument "color"`},
	}
	for name, row := range rows {
		args := Config{Dir: "/d", Stdin: "/i", ScrollbackBytes: minScrollbackBytes}.Args()
		args[row.key] = row.value
		if row.value == "-" {
			delete(args, row.key)
		}
		if _, err := ParseConfig(args); err == nil || !strings.Contains(err.Error(), row.err) {
			t.Errorf("%s: got %v, want %s", name, err, row.err)
		}
	}
}
