package placement

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestRequestThatDoesNotFitHoldsBackOnlyItsOwnType(t *testing.T) {
	free := []GPU{{UUID: "a", Index: 0, Type: "h100"}, {UUID: "b", Index: 1, Type: "a100"}}
	got := Place(free, []Request{{1, "h100", 2}, {2, "h100", 1}, {3, "a100", 1}})
	if fmt.Sprint(got) != "[{3 [b]}]" {
		t.Fatalf("got %v", got)
	}
}

func TestLinkedGPUsArePreferredOverLowerIndexes(t *testing.T) {
	free := []GPU{
		{UUID: "a", Index: 0, Type: "h100", Peers: []int{2}},
		{UUID: "b", Index: 1, Type: "h100"},
		{UUID: "c", Index: 2, Type: "h100", Peers: []int{0}},
	}
	got := Place(free, []Request{{1, "h100", 2}})
	if fmt.Sprint(got) != "[{1 [a c]}]" {
		t.Fatalf("got %v", got)
	}
}

// Whatever is free and asked for: nobody shares, everybody gets what they asked
// for or nothing, and nobody overtakes within a type.
func TestPlacementIsExclusiveExactAndInOrder(t *testing.T) {
	types := []string{"h100", "a100"}
	rapid.Check(t, func(t *rapid.T) {
		var free []GPU
		for i := range rapid.IntRange(0, 8).Draw(t, "gpus") {
			free = append(free, GPU{UUID: fmt.Sprint("gpu", i), Index: i, Type: rapid.SampledFrom(types).Draw(t, "type")})
		}
		var queue []Request
		for i := range rapid.IntRange(0, 8).Draw(t, "requests") {
			queue = append(queue, Request{int64(i), rapid.SampledFrom(types).Draw(t, "want"), rapid.IntRange(-1, 4).Draw(t, "count")})
		}
		before := slices.Clone(free)
		placed := map[int64][]string{}
		used := map[string]bool{}
		for _, a := range Place(free, queue) {
			placed[a.ID] = a.UUIDs
			for _, u := range a.UUIDs {
				if used[u] {
					t.Fatalf("%s is shared", u)
				}
				used[u] = true
				i := slices.IndexFunc(before, func(g GPU) bool { return g.UUID == u })
				if i < 0 || before[i].Type != queue[a.ID].Type {
					t.Fatalf("%s is not a free %s", u, queue[a.ID].Type)
				}
			}
			if len(a.UUIDs) != queue[a.ID].Count {
				t.Fatalf("%d got %v", a.ID, a.UUIDs)
			}
		}
		waits := map[string]bool{}
		for _, r := range queue {
			if placed[r.ID] == nil {
				waits[r.Type] = true
			} else if waits[r.Type] {
				t.Fatalf("request %d overtook another", r.ID)
			}
		}
	})
}
