package scheduler

import "testing"

// What a start command printed is gone with its instance, which does not go on either.
func TestTheWordsForAnInstanceThatIsOverSendNobodyToItsOutput(t *testing.T) {
	for want, e := range map[string]CommandEnd{
		"The start command ended with exit code 1.":                                  {Code: 1},
		"The start command ended with exit code 127: a program in it was not found.": {Code: 127},
		"The start command ended, with success.":                                     {},
		"The start command could not start: /foo: no such file or directory.":        {Error: "/foo: no such file or directory"},
		"The start command was ended by SIGHUP.":                                     {Signal: 1},
	} {
		for _, state := range []State{Terminating, Terminated, Failed} {
			i := Instance{State: state, CommandEnd: &e}
			if got := i.Notices(); len(got) != 1 || got[0] != want {
				t.Errorf("%s: %q, want %q", state, got, want)
			}
		}
	}
}
