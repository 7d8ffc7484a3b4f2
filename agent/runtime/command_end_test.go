package runtime

import (
	"strings"
	"testing"
	"time"
	"unicode"
)

func TestReportOfACommandsEndIsReadAndNonsenseIsNot(t *testing.T) {
	at := time.Date(2026, 5, 1, 12, 0, 0, 5, time.UTC)
	stamp := at.Format(time.RFC3339Nano)
	for text, want := range map[string]*CommandEnd{
		stamp + " 3 0 \n":                      {At: at, Code: 3},
		stamp + " 0 11 \n":                     {At: at, Signal: 11},
		stamp + " 0 0 x: not found in PATH":    {At: at, Error: "x: not found in PATH"},
		stamp + " 0 0 a\x1b[31mb\u202e\x00c\n": {At: at, Error: "a[31mbc"},
		"":                                     nil,
		stamp + " 256 0 ":                      nil,
		stamp + " -1 0 ":                       nil,
		stamp + " 0 65 ":                       nil,
		stamp + " 0 0":                         nil,
		"yesterday 0 0 ":                       nil,
	} {
		got := parseEnded([]byte(text))
		if (got == nil) != (want == nil) || got != nil && *got != *want {
			t.Errorf("%q: %+v, want %+v", text, got, want)
		}
	}
}

func FuzzReportOfACommandsEnd(f *testing.F) {
	f.Add([]byte("2026-05-01T12:00:00Z 3 0 why"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		e := parseEnded(raw)
		if e == nil {
			return
		}
		if len([]rune(e.Error)) > maxEndedError+1 || strings.ContainsFunc(e.Error, func(c rune) bool { return !unicode.IsPrint(c) }) {
			t.Fatalf("%q", e.Error)
		}
	})
}

func TestOOMKillsAreReadFromBothVersionsOfControlGroups(t *testing.T) {
	for text, want := range map[string]int64{
		"oom_kill_disable 0\nunder_oom 0\noom_kill 3\n":                3,
		"low 0\nhigh 0\nmax 27\noom 4\noom_kill 2\noom_group_kill 0\n": 2,
		"":                     0,
		"oom_kill_disable 0\n": 0,
		"oom_kill what\n":      0,
	} {
		if got := oomKillsIn(text); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
}
