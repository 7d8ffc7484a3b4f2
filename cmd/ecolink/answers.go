package main

import (
	"regexp"
	"time"
)

// replayTime is how long after attaching a shell's kept output is being shown
// again, and with it the questions that programs asked the terminal back then.
const replayTime = time.Second

// answers are what a terminal says when asked what it is, where its cursor stands
// and which colours it has (ECMA-48 and xterm's control sequences): device
// attributes, status and cursor reports, mode reports, colours, DCS strings.
var answers = regexp.MustCompile(`\x1b\[[?>=]?[0-9;]+[cnR]|\x1b\[\??[0-9;]+\$y|\x1b\](?:4|1[0-9]);[^\x07\x1b]*(?:\x07|\x1b\\)|\x1bP[^\x1b]*\x1b\\`)

// withoutAnswers takes a terminal's answers out of what is typed. Nobody waits for
// those to a replayed question any more, and the shell would take them for words.
func withoutAnswers(typed []byte) []byte { return answers.ReplaceAllLiteral(typed, nil) }
