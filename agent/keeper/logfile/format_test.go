package logfile

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"ecolink/agent/keeper/shim"
)

func TestARecordLooksLikeTheKubernetesLog(t *testing.T) {
	at := time.Date(2026, 1, 2, 15, 4, 5, 120, time.FixedZone("", 3600))
	got := string(appendRecord(nil, appendStamp(nil, at), Stderr, []byte("text of the line"), true))
	if want := "2026-01-02T14:04:05.000000120Z stderr P text of the line\n"; got != want {
		t.Fatalf("got %q, want %q", got, want)
	}
}

func TestWhatIsWrittenIsParsedAsItWas(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := Line{
			Time: time.Unix(rapid.Int64Range(-62167219200, 253402300799).Draw(t, "seconds"), // the years 0 to 9999
				rapid.Int64Range(0, 999_999_999).Draw(t, "nanoseconds")).UTC(),
			Stream:  rapid.SampledFrom([]string{Stdout, Stderr}).Draw(t, "stream"),
			Text:    strings.ReplaceAll(string(rapid.SliceOf(rapid.Byte()).Draw(t, "text")), "\n", "_"),
			Partial: rapid.Bool().Draw(t, "partial"),
		}
		record := appendRecord(nil, appendStamp(nil, want.Time), want.Stream, []byte(want.Text), want.Partial)
		got, ok := parse(bytes.TrimSuffix(record, []byte("\n")))
		if !ok || got != want {
			t.Fatalf("got %+v, %v; want %+v", got, ok, want)
		}
	})
}

func TestTheLongestTextIsParsedAndNoLonger(t *testing.T) {
	for extra := range 2 {
		record := bytes.TrimSuffix(record(0, strings.Repeat("x", MaxTextBytes+extra)), []byte("\n"))
		if _, ok := parse(record); ok != (extra == 0) {
			t.Errorf("%d bytes more than the longest: %v", extra, ok)
		}
	}
}

// FuzzParse holds that parse accepts exactly what appendRecord makes.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"2026-01-02T15:04:05.123456789Z stdout F text", "2026-01-02T15:04:05.123456789Z stderr P ",
		"2026-01-02T15:04:05,123456789Z stdout F text", "2026-01-02T15:04:05.12345+00:00 stdout F text",
		"2026-13-02T15:04:05.123456789Z stdout F text", "2026-02-30T15:04:05.123456789Z stdout F text",
		"2026-01-02T15:04:60.123456789Z stdout F text", "2026-01-02T24:04:05.123456789Z stdout F text",
		"0000-01-01T00:00:00.000000000Z stdout F \x00", "2026-01-02T1:04:05.1234567890Z stdout F text",
		"2026-01-02T15:04:05.123456789Z stdlog F text", "2026-01-02T15:04:05.123456789Z stdout X text",
		"2026-01-02T15:04:05.123456789Z\tstdout F text", "",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, record []byte) {
		if bytes.IndexByte(record, '\n') >= 0 {
			return // readers cut there
		}
		line, ok := parse(record)
		if !ok {
			return
		}
		again := appendRecord(nil, appendStamp(nil, line.Time), line.Stream, []byte(line.Text), line.Partial)
		if string(again) != string(record)+"\n" || len(line.Text) > MaxTextBytes {
			t.Fatalf("accepted %q, which would be written as %q", record, again)
		}
	})
}

func TestArgsComeBackThroughTheShimAsTheyWere(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := Config{
			Dir:      "/" + rapid.String().Draw(t, "dir"),
			MaxBytes: rapid.Int64Min(minMaxBytes).Draw(t, "max_bytes"),
			Files:    rapid.IntRange(1, maxFiles).Draw(t, "files"),
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
		"no role":        {"role", "-", "role must be log"},
		"another role":   {"role", "session", "role must be log"},
		"no dir":         {"dir", "-", "dir must be an absolute path"},
		"relative dir":   {"dir", "x", "dir must be an absolute path"},
		"no max_bytes":   {"max_bytes", "-", "max_bytes must be"},
		"small files":    {"max_bytes", "4095", "max_bytes must be"},
		"no number":      {"max_bytes", "10M", "max_bytes:"},
		"no files":       {"files", "-", "files must be 1 at least"},
		"too many files": {"files", "101", "files must be 100 at most"},
		"half a file":    {"files", "1.5", "files:"},
		"unknown":        {"color", "red", `unknown argument "color"`},
	}
	for name, row := range rows {
		args := Config{Dir: "/d", MaxBytes: minMaxBytes, Files: 1}.Args()
		args[row.key] = row.value
		if row.value == "-" {
			delete(args, row.key)
		}
		if _, err := ParseConfig(args); err == nil || !strings.Contains(err.Error(), row.err) {
			t.Errorf("%s: got %v, want %s", name, err, row.err)
		}
	}
}
