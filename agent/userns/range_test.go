package userns

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRangesDoNotOverlapAndStayBelowNegativeNumbers(t *testing.T) {
	before := Range{}
	for n := range MaxRanges + 1 {
		r := RangeAt(n)
		if !r.Valid() || r.First < before.First+IDs || int64(r.First)+IDs > 1<<31 {
			t.Fatalf("range %d begins at %d, after one at %d", n, r.First, before.First)
		}
		before = r
	}
	if before != TrialRange() {
		t.Errorf("the trial has %d, the last is %d", TrialRange().First, before.First)
	}
	for _, first := range []uint32{0, 1, 100000, firstID + 1, firstID - IDs, endID} {
		if (Range{First: first}).Valid() {
			t.Errorf("%d begins a range", first)
		}
	}
}

func TestIdsThatSomebodyElseHasBeenGivenAreNotTaken(t *testing.T) {
	for text, free := range map[string]bool{
		"":                                     true,
		"ana:100000:65536\nben:165536:65536\n": true,
		"# a comment\nbroken\nx:y:z\n\n":       true,
		"ana:1073741824:1\n":                   false,
		"ana:1073676288:65536\n":               true,
		"ana:1073676288:65537\n":               false,
		"all:65536:4294836224\n":               false,
		"ana:1610612735:65536\n":               false,
		"ana:1610612736:65536\n":               true,
	} {
		path := filepath.Join(t.TempDir(), "subuid")
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		err := checkFree(path)
		if (err == nil) != free {
			t.Errorf("%q: %v", text, err)
		}
		if err != nil && !strings.Contains(err.Error(), path) {
			t.Errorf("%q: %v does not say where", text, err)
		}
	}
	if err := checkFree(filepath.Join(t.TempDir(), "none")); err != nil {
		t.Error(err)
	}
}
