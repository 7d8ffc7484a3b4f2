package placement

// GPU is one whole GPU as placement sees it.
type GPU struct {
	UUID  string
	Index int
	Type  string
	Peers []int // indexes of GPUs with a direct NVLink
}

// Request asks for Count GPUs of a type.
type Request struct {
	ID    int64
	Type  string
	Count int
}

// Assignment gives a request its GPUs.
type Assignment struct {
	ID    int64
	UUIDs []string
}

// Place goes through the queue in its order and assigns free GPUs. A request
// that does not fit keeps everything behind it that wants the same type waiting:
// first come, first served, so that a large request is not starved by small ones.
// No GPU is assigned twice.
func Place(free []GPU, queue []Request) []Assignment {
	left := append([]GPU(nil), free...)
	blocked := map[string]bool{}
	var out []Assignment
	for _, r := range queue {
		if blocked[r.Type] {
			continue
		}
		chosen := choose(left, r)
		if chosen == nil {
			blocked[r.Type] = true
			continue
		}
		uuids := make([]string, 0, r.Count)
		taken := map[string]bool{}
		for _, g := range chosen {
			uuids = append(uuids, g.UUID)
			taken[g.UUID] = true
		}
		kept := left[:0]
		for _, g := range left {
			if !taken[g.UUID] {
				kept = append(kept, g)
			}
		}
		left = kept
		out = append(out, Assignment{ID: r.ID, UUIDs: uuids})
	}
	return out
}

// choose picks GPUs of the type, those with the most NVLinks to the ones already
// picked first, then the lowest index. It gives nil when there are too few.
func choose(free []GPU, r Request) []GPU {
	var candidates []GPU
	for _, g := range free {
		if g.Type == r.Type {
			candidates = append(candidates, g)
		}
	}
	if r.Count <= 0 || len(candidates) < r.Count {
		return nil
	}
	picked := make([]GPU, 0, r.Count)
	for len(picked) < r.Count {
		best, bestLinks := 0, -1
		for i, g := range candidates {
			links := linksTo(g, picked)
			if links > bestLinks || links == bestLinks && g.Index < candidates[best].Index {
				best, bestLinks = i, links
			}
		}
		picked = append(picked, candidates[best])
		candidates = append(candidates[:best], candidates[best+1:]...)
	}
	return picked
}

func linksTo(g GPU, others []GPU) int {
	n := 0
	for _, o := range others {
		for _, p := range g.Peers {
			if p == o.Index {
				n++
			}
		}
	}
	return n
}
