package main

import (
	"strings"
	"testing"
)

func TestGoalsAreMetInTheirDirection(t *testing.T) {
	for _, c := range []struct {
		name                string
		direction           better
		ours, theirs, ratio float64
		goal                float64
		met                 bool
	}{
		{"less, and it is", less, 1, 2, 0.5, 0.5, true},
		{"less, and it is not", less, 3, 2, 1.5, 1, false},
		{"more, and it is", more, 6, 2, 3, 3, true},
		{"more, and it is not", more, 5, 2, 2.5, 3, false},
		{"without a goal", more, 1, 2, 0.5, 0, true},
		{"less than a peer that did nothing", less, 1, 0, 0, 1, false},
		{"more than a peer that did nothing", more, 1, 0, 0, 1, false},
	} {
		var rep report
		rep.beside(c.name, "/s", c.ours, c.direction, "peer", c.theirs, c.goal)
		if got := rep.rows[0]; got.Ratio != c.ratio || got.Met != c.met {
			t.Errorf("%s: ratio %v, met %v", c.name, got.Ratio, got.Met)
		}
		if rep.missed() == c.met {
			t.Errorf("%s: missed is %v", c.name, rep.missed())
		}
	}
}

func TestTableShowsDirectionsLimitsAndMissingPeers(t *testing.T) {
	var rep report
	rep.figure("alone", "/s", 12345.6)
	rep.beside("rate", "/s", 900, more, "peer", 300, 3)
	rep.limit("opening", "s", 0.5, 2)
	var out strings.Builder
	if err := rep.table(&out); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"FIGURE OURS PEER THEIRS RATIO GOAL MET",
		"alone 12346 /s - - - - -",
		"rate 900.0 /s peer 300.0 /s 3.00 >= 3.00 yes",
		"opening 0.500 s goal 2.000 s 0.25 <= 1.00 yes",
	}
	for n, line := range strings.Split(strings.TrimSpace(out.String()), "\n") {
		if got := strings.Join(strings.Fields(line), " "); got != want[n] {
			t.Errorf("line %d is %q, want %q", n, got, want[n])
		}
	}
}

func TestJSONHasOneObjectForEachRow(t *testing.T) {
	var rep report
	rep.limit("opening", "s", 0.5, 2)
	var out strings.Builder
	if err := rep.json(&out); err != nil {
		t.Fatal(err)
	}
	want := `{"name":"opening","value":0.5,"unit":"s","peer":"goal","peer_value":2,"ratio":0.25,"goal":1,"met":true}` + "\n"
	if out.String() != want {
		t.Errorf("got %s", out.String())
	}
}
