package usage

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"unicode/utf8"

	"ecolink/ledger"
)

// Sum is what was spent and for how much of what.
type Sum struct {
	Amount       ledger.MicroUSD `json:"amount"`
	Calls        int64           `json:"calls"` // charges: rows of the journal
	InputTokens  int64           `json:"input_tokens"`
	OutputTokens int64           `json:"output_tokens"`
	Images       int64           `json:"images"`
	AudioMillis  int64           `json:"audio_ms"`
	VideoMillis  int64           `json:"video_ms"`
	GPUSeconds   int64           `json:"gpu_seconds"`
}

// Tokens are those of input and output together.
func (s Sum) Tokens() int64 { return s.InputTokens + s.OutputTokens }

// Plus is both together. The books' own totals bound the amounts, so they can't
// overflow.
func (s Sum) Plus(o Sum) Sum {
	into, from := s.numbers(), o.numbers()
	for n := range into {
		*into[n] += *from[n]
	}
	s.Amount += o.Amount
	return s
}

// minus is what is left of s without o.
func (s Sum) minus(o Sum) Sum {
	into, from := s.numbers(), o.numbers()
	for n := range into {
		*into[n] -= *from[n]
	}
	s.Amount -= o.Amount
	return s
}

// numbers are the counts in the order on disk, which only grows at its end.
func (s *Sum) numbers() [7]*int64 {
	return [...]*int64{&s.Calls, &s.InputTokens, &s.OutputTokens, &s.Images, &s.AudioMillis, &s.VideoMillis, &s.GPUSeconds}
}

// sumOf is what a row adds.
func sumOf(t ledger.Transfer) Sum {
	s := Sum{
		Amount: t.Spent(), Calls: 1, InputTokens: t.Usage.InputTokens, OutputTokens: t.Usage.OutputTokens,
		Images: t.Usage.Images, AudioMillis: t.Usage.AudioMillis, VideoMillis: t.Usage.VideoMillis,
	}
	if t.Type != ledger.StorageBilling { // whose seconds are not of GPUs
		s.GPUSeconds = t.Usage.Seconds
	}
	return s
}

// dimension is one way to break spending down; its number is the place on disk.
type dimension int

const (
	byProduct dimension = iota
	byModel
	byKey
	byTag
	byResource
	numDimensions
)

// namesOf are what a row counts under in each dimension, cut; "" is nothing.
func namesOf(t ledger.Transfer) [numDimensions]string {
	names := [numDimensions]string{byProduct: string(t.Type), byModel: cut(t.Usage.Model), byTag: cut(t.Tag), byResource: cut(t.Resource)}
	if t.APIKey != 0 {
		names[byKey] = strconv.FormatInt(int64(t.APIKey), 10)
	}
	return names
}

// cut shortens a long name, and shows that it did.
func cut(name string) string {
	const more = "…"
	if len(name) <= maxNameBytes {
		return name
	}
	end := maxNameBytes - len(more)
	for end > 0 && !utf8.RuneStart(name[end]) {
		end--
	}
	return name[:end] + more
}

// tally is one account's spending in one hour, day or month.
type tally struct {
	total Sum
	parts [numDimensions]part
}

// part is a tally's spending by the names of one dimension.
type part struct {
	named  map[string]Sum
	others Sum // of names that were too many
}

// add counts a row that spends. A tally depends on the order of rows only in
// which names have gone to the others.
func (t *tally) add(row ledger.Transfer, step Step) {
	s := sumOf(row)
	t.total = t.total.Plus(s)
	for d, name := range namesOf(row) {
		if name != "" {
			t.parts[d].add(name, s, step.kept(dimension(d)))
		}
	}
}

func (p *part) add(name string, s Sum, kept int) {
	was, known := p.named[name]
	if !known && len(p.named) >= kept+kept/4 {
		p.shrink(kept)
	}
	if p.named == nil {
		p.named = map[string]Sum{}
	}
	p.named[name] = was.Plus(s)
}

// shrink keeps the dearest names and adds the rest to the others.
func (p *part) shrink(kept int) {
	sorted := p.sorted()
	for _, share := range sorted[min(kept, len(sorted)):] {
		p.others = p.others.Plus(share.Sum)
		delete(p.named, share.Name)
	}
}

// sorted lists the names, the dearest first.
func (p *part) sorted() []Share {
	out := make([]Share, 0, len(p.named))
	for _, name := range slices.Collect(maps.Keys(p.named)) {
		out = append(out, Share{Name: name, Sum: p.named[name]})
	}
	slices.SortFunc(out, func(x, y Share) int {
		return cmp.Or(cmp.Compare(y.Amount, x.Amount), cmp.Compare(y.Calls, x.Calls), cmp.Compare(x.Name, y.Name))
	})
	return out
}

func (t *tally) names() (n int) {
	for d := range t.parts {
		n += len(t.parts[d].named)
	}
	return n
}
