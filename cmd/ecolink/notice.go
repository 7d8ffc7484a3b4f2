package main

import (
	"fmt"
	"io"
)

// notice shows EcoLink's own words on a screen that belongs to somebody else's
// shell, and disturbs it as little as can be.
type notice struct {
	w     io.Writer
	shown bool
}

// Control sequences of DEC terminals, which all of today's know.
const (
	saveCursor    = "\x1b7"
	restoreCursor = "\x1b8"
	clearLine     = "\x1b[2K"
	cursorUp      = "\x1b[A"
	cursorDown    = "\x1b[B"
	inverse       = "\x1b[7m"
	normal        = "\x1b[0m"
)

// show puts a status into the line below the cursor, which stays where it is. The
// line feed makes room where the cursor is at the bottom.
func (n *notice) show(text string) {
	if n.shown {
		return
	}
	n.shown = true
	fmt.Fprint(n.w, "\n"+cursorUp+saveCursor+cursorDown+"\r"+clearLine+inverse+"[ecolink: "+text+"]"+normal+restoreCursor)
}

// clear takes the status away.
func (n *notice) clear() {
	if !n.shown {
		return
	}
	n.shown = false
	fmt.Fprint(n.w, saveCursor+cursorDown+"\r"+clearLine+restoreCursor)
}

// say writes a line that stays.
func (n *notice) say(text string) {
	fmt.Fprint(n.w, "\r\n"+inverse+"[ecolink: "+text+"]"+normal+"\r\n")
}
