package price

import (
	"errors"
	"strings"
	"testing"
)

func TestItemsAreReadAndSayWhatTheyArePricedBy(t *testing.T) {
	for in, unit := range map[string]string{
		"gpu/h100":                                     "per GPU-hour",
		"gpu/rtx-6000-ada":                             "per GPU-hour",
		"mig/h100/1g.10gb":                             "per slice-hour",
		"mig/a30/1g.6gb+me":                            "per slice-hour",
		"mig/b200/1g.24gb+me.all":                      "per slice-hour",
		"mig/b200/1g.24gb-me":                          "per slice-hour",
		"storage/drive":                                "per GB-month",
		"storage/shared-filesystem":                    "per GB-month",
		"model/meta-llama/Llama-3.1-8B/input-tokens":   "per million tokens",
		"model/gpt-oss:120b/output-tokens":             "per million tokens",
		"model/black-forest-labs/FLUX.1-dev/image":     "per image",
		"model/openai/whisper_v3/audio-second":         "per second of audio",
		"model/a/image/video-second":                   "per second of video",
		"model/" + strings.Repeat("m", 160) + "/image": "per image",
	} {
		i, err := ParseItem(in)
		if err != nil || string(i) != in || i.Unit() != unit {
			t.Errorf("%s: %s, %q, %v", in, i, i.Unit(), err)
		}
	}
}

func TestWhatIsNoItemIsToldWhatThereIs(t *testing.T) {
	for in, says := range map[string]string{
		"":                               "gpu/TYPE, mig/TYPE/PROFILE, storage/drive, storage/shared-filesystem, or model/NAME/UNIT",
		"h100":                           "gpu/TYPE",
		"cpu/epyc":                       "audio-second, image, input-tokens, output-tokens or video-second",
		"GPU/h100":                       "gpu/TYPE",
		"gpu":                            "`ecolink gpus` lists",
		"gpu/":                           "`ecolink gpus` lists",
		"gpu/H100":                       "lower-case",
		"gpu/h100/80gb":                  "lower-case",
		"gpu/h100\n":                     "lower-case",
		"gpu/" + strings.Repeat("h", 65): "lower-case",
		"mig/h100":                       "mig/h100/1g.10gb",
		"mig/h100/1g":                    "mig/h100/1g.10gb",
		"mig/h100/1g.10gb/x":             "mig/h100/1g.10gb",
		"mig//1g.10gb":                   "no GPU type",
		"storage":                        "storage/drive or storage/shared-filesystem",
		"storage/tape":                   "storage/drive or storage/shared-filesystem",
		"storage/drive/":                 "storage/drive or storage/shared-filesystem",
		"model":                          "audio-second, image, input-tokens, output-tokens or video-second",
		"model/image":                    "no name of a model",
		"model//image":                   "no name of a model",
		"model/llama":                    `"llama" is nothing that is counted`,
		"model/llama/tokens":             `"tokens" is nothing that is counted`,
		"model/llama/":                   "counted of models",
		"model/../image":                 "no name of a model",
		"model/a//b/image":               "no name of a model",
		"model/a b/image":                "no name of a model",
		"model/a\x00b/image":             "no name of a model",
		"model/é/image":                  "no name of a model",
		"model/" + strings.Repeat("m", 161) + "/image": "160",
	} {
		i, err := ParseItem(in)
		var e *Error
		if !errors.As(err, &e) || !errors.Is(err, ErrInvalid) || e.Field != "item" || !strings.Contains(e.Message, says) || len(e.Message) > 500 {
			t.Errorf("%q: %q, %v, want %q", in, i, err, says)
		}
		if u := Item(in).Unit(); err != nil && u != "" {
			t.Errorf("%q is priced %s", in, u)
		}
	}
}

// An item's bytes must be above those that its keys are made with.
func FuzzParseItem(f *testing.F) {
	for _, s := range []string{"gpu/h100", "mig/h100/1g.10gb+me", "storage/drive", "model/a/b:c.d/input-tokens", "model/", "gpu/\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		i, err := ParseItem(s)
		if (err == nil) != (i.Unit() != "") {
			t.Fatalf("%q: %v, but priced %q", s, err, i.Unit())
		}
		if err != nil {
			return
		}
		if string(i) != s || len(s) > 190 || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }) {
			t.Fatalf("%q was taken for an item", s)
		}
		kind, rest, _ := strings.Cut(s, "/")
		if kind == "model" {
			cut := strings.LastIndex(rest, "/")
			if Model(rest[:cut], ModelUnit(rest[cut+1:])) != i {
				t.Fatalf("%q is not what its parts make", s)
			}
		}
	})
}
