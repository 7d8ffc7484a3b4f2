package agent

import (
	"slices"
	"strings"
	"testing"
)

func TestNamesAreFoundInAFileLikeEtcHosts(t *testing.T) {
	const file = "# own\n127.0.0.1\tlocalhost\n10.117.0.9 trainer trainer.local # me\nnot-an-address trainer\n::1 Trainer\n10.0.0.1\n"
	for name, want := range map[string][]string{
		"trainer": {"10.117.0.9", "::1"}, "TRAINER.": {"10.117.0.9", "::1"}, "trainer.local": {"10.117.0.9"}, "me": nil, "10.0.0.1": nil,
	} {
		if got := inHosts(strings.NewReader(file), name); !slices.Equal(got, want) {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
}
