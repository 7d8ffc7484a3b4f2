package main

import "testing"

func TestOnlyATerminalsAnswersAreTakenOut(t *testing.T) {
	for _, answer := range []string{
		"\x1b[?1;2c", "\x1b[>0;276;0c", "\x1b[24;80R", "\x1b[0n", "\x1b[?2026;2$y",
		"\x1b]11;rgb:1e1e/1e1e/1e1e\x1b\\", "\x1b]10;rgb:ffff/ffff/ffff\x07", "\x1b]4;1;rgb:0/0/0\x07", "\x1bP>|xterm(390)\x1b\\", "\x1bP1+r544e=78\x1b\\",
	} {
		if got := withoutAnswers([]byte("l" + answer + "s\r")); string(got) != "ls\r" {
			t.Errorf("%q leaves %q", answer, got)
		}
	}
	for _, keys := range []string{
		"ls -l\r", "\x1b[A", "\x1b[1;5C", "\x1b[3~", "\x1bOR", "\x1b[R", "\x1b", "\x1bx", "\x1b[200~pasted $y 1c\x1b[201~", "\x1b[<0;10;20M", "c", "é",
	} {
		if got := withoutAnswers([]byte(keys)); string(got) != keys {
			t.Errorf("%q became %q", keys, got)
		}
	}
}
