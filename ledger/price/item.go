package price

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Item names what has a price: its kind, which one, and for a model what is
// counted, with slashes between.
//
//	gpu/h100                                     an hour of one GPU of a type
//	mig/h100/1g.10gb                             an hour of one MIG slice
//	storage/drive                                a GB for a month
//	storage/shared-filesystem
//	model/meta-llama/Llama-3.1-8B/input-tokens   a million of them
//
// ParseItem makes one from what somebody wrote; GPU, MIG and Model from names that
// are known.
type Item string

// The kinds of storage.
const (
	Drive            Item = "storage/drive"
	SharedFilesystem Item = "storage/shared-filesystem"
)

// GPU is a whole GPU of a type, such as h100.
func GPU(gpuType string) Item { return Item(gpuPrefix + gpuType) }

// MIG is a slice of a GPU type, such as 1g.10gb of an h100.
func MIG(gpuType, profile string) Item { return Item(migPrefix + gpuType + "/" + profile) }

// Model is what is counted of a platform model's requests.
func Model(name string, u ModelUnit) Item { return Item(modelPrefix + name + "/" + string(u)) }

// ModelUnit is what is counted of a model's requests.
type ModelUnit string

// What is counted of models.
const (
	InputTokens  ModelUnit = "input-tokens"
	OutputTokens ModelUnit = "output-tokens"
	Image        ModelUnit = "image"
	AudioSecond  ModelUnit = "audio-second"
	VideoSecond  ModelUnit = "video-second"
)

const (
	gpuPrefix     = "gpu/"
	migPrefix     = "mig/"
	storagePrefix = "storage/"
	modelPrefix   = "model/"
)

// measure is what one amount of a price buys.
type measure struct {
	words string // for people
	of    dimension
	size  int64 // how many things, or nanoseconds
	free  bool  // whether 0.00 is a price: a GPU for nothing would be a slip
}

type dimension int

const (
	things dimension = iota
	timeUsed
	storageKept // whose size is the month's own
)

var (
	gpuHour   = measure{"per GPU-hour", timeUsed, int64(time.Hour), false}
	sliceHour = measure{"per slice-hour", timeUsed, int64(time.Hour), false}
	gbMonth   = measure{"per GB-month", storageKept, 0, true}
)

var storageItems = map[Item]measure{Drive: gbMonth, SharedFilesystem: gbMonth}

var modelUnits = map[ModelUnit]measure{
	InputTokens:  {"per million tokens", things, 1_000_000, true},
	OutputTokens: {"per million tokens", things, 1_000_000, true},
	Image:        {"per image", things, 1, true},
	AudioSecond:  {"per second of audio", timeUsed, int64(time.Second), true},
	VideoSecond:  {"per second of video", timeUsed, int64(time.Second), true},
}

var (
	gpuTypePattern = regexp.MustCompile(`^[a-z0-9-]+$`)
	// As NVIDIA writes them: 1g.10gb, 1g.10gb+me, 1g.24gb+me.all, 1g.24gb-me.
	profilePattern = regexp.MustCompile(`^[1-9][0-9]?g\.[1-9][0-9]{0,3}gb([+-][a-z]{1,8}(\.[a-z]{1,8})?){0,2}$`)
	modelPattern   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:-]*(/[A-Za-z0-9][A-Za-z0-9._:-]*)*$`)
)

// ParseItem reads an item. A price under a misspelt one would be in force nowhere,
// and say nothing: what is no item is refused, and told what there is.
func ParseItem(s string) (Item, error) {
	if _, err := Item(s).measure(); err != nil {
		return "", err
	}
	return Item(s), nil
}

// Unit says what the price is for, in words for people: "per GPU-hour". It is
// empty for what ParseItem refuses.
func (i Item) Unit() string {
	m, err := i.measure()
	if err != nil {
		return ""
	}
	return m.words
}

// measure is the one place that knows what an item is.
func (i Item) measure() (measure, error) {
	kind, rest, _ := strings.Cut(string(i), "/")
	switch kind + "/" {
	case gpuPrefix:
		return gpuHour, checkGPUType(rest)
	case migPrefix:
		gpuType, profile, _ := strings.Cut(rest, "/")
		if !profilePattern.MatchString(profile) {
			return measure{}, fail(ErrInvalid, "item", "%s is no MIG profile of NVIDIA's: write a slice like mig/h100/1g.10gb", quote(profile))
		}
		return sliceHour, checkGPUType(gpuType)
	case storagePrefix:
		m, ok := storageItems[i]
		if !ok {
			return m, fail(ErrInvalid, "item", "%s is no kind of storage: write %s", quote(rest), oneOf(storageItems))
		}
		return m, nil
	case modelPrefix:
		return modelMeasure(rest)
	}
	return measure{}, fail(ErrInvalid, "item", "%s names nothing that has a price: write gpu/TYPE, mig/TYPE/PROFILE, %s, or model/NAME/UNIT with the unit %s",
		quote(string(i)), strings.Join(sorted(storageItems), ", "), oneOf(modelUnits))
}

func checkGPUType(s string) error {
	if len(s) > maxGPUTypeBytes || !gpuTypePattern.MatchString(s) {
		return fail(ErrInvalid, "item", "%s is no GPU type: one is lower-case letters, digits and hyphens, such as h100; `ecolink gpus` lists those of this box", quote(s))
	}
	return nil
}

// modelMeasure reads NAME/UNIT. Names have slashes of their own; the unit is last.
func modelMeasure(s string) (measure, error) {
	cut := max(0, strings.LastIndexByte(s, '/'))
	name, unit := s[:cut], strings.TrimPrefix(s[cut:], "/")
	m, ok := modelUnits[ModelUnit(unit)]
	if !ok {
		return m, fail(ErrInvalid, "item", "%s is nothing that is counted of models: end the item with %s", quote(unit), oneOf(modelUnits))
	}
	if len(name) > maxModelBytes || !modelPattern.MatchString(name) {
		return m, fail(ErrInvalid, "item", "%s is no name of a model: one has at most %d letters, digits, dots, colons, hyphens, underscores and slashes, such as meta-llama/Llama-3.1-8B", quote(name), maxModelBytes)
	}
	return m, nil
}

// quote shows what somebody wrote, however long.
func quote(s string) string {
	const enough = 80
	if len(s) > enough {
		s = s[:enough] + "…"
	}
	return fmt.Sprintf("%q", s)
}

func sorted[K ~string, V any](m map[K]V) (names []string) {
	for _, k := range slices.Sorted(maps.Keys(m)) {
		names = append(names, string(k))
	}
	return names
}

func oneOf[K ~string, V any](m map[K]V) string {
	names := sorted(m)
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " or " + names[last]
}
