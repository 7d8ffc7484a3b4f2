package shim

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestArgumentsBecomePairsInAnyOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.MapOf(rapid.String(), rapid.String()).Draw(t, "pairs")
		var args []string
		for key, value := range want { // Go's order is as random as the shim's
			args = append(args, key, value)
		}
		got, err := ParseArgs(args)
		if err != nil || !maps.Equal(got, want) {
			t.Fatalf("%q became %v, %v", args, got, err)
		}
	})
}

func TestArgumentsThatAreNoPairsAreRefused(t *testing.T) {
	rows := []struct {
		args []string
		err  string
	}{
		{[]string{"role"}, "arguments must come in pairs, got 1"},
		{[]string{"role", "log", "dir"}, "arguments must come in pairs, got 3"},
		{[]string{"role", "log", "role", "log"}, `argument "role" is given twice`},
		{[]string{"", "a", "", "b"}, `argument "" is given twice`},
	}
	for _, row := range rows {
		if got, err := ParseArgs(row.args); got != nil || fmt.Sprint(err) != row.err {
			t.Errorf("%q: got %v, %v", row.args, got, err)
		}
	}
}

// FuzzParseArgs holds that every argument is found where it was.
func FuzzParseArgs(f *testing.F) {
	f.Add("role\x00log\x00dir\x00/x")
	f.Add("role")
	f.Add("a\x00b\x00a\x00b")
	f.Fuzz(func(t *testing.T, joined string) {
		args := strings.Split(joined, "\x00")
		pairs, err := ParseArgs(args)
		if err != nil {
			return
		}
		if len(pairs)*2 != len(args) {
			t.Fatalf("%q became %v", args, pairs)
		}
		for i := 0; i < len(args); i += 2 {
			if pairs[args[i]] != args[i+1] {
				t.Fatalf("%q became %v", args, pairs)
			}
		}
	})
}
