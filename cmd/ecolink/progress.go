package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"ecolink/agent"
	"ecolink/scheduler"
)

// progress tells how far an image is.
type progress struct {
	Layers     int   `json:"layers"`
	LayersDone int   `json:"layers_done"`
	Bytes      int64 `json:"bytes"`
	TotalBytes int64 `json:"total_bytes"`
	// LayerList has every layer, lowest first.
	LayerList []layerState `json:"layer_list"`
}

type layerState struct {
	State agent.LayerState `json:"state"`
}

// percent is -1 while the size is not known.
func (p progress) percent() int {
	if p.TotalBytes <= 0 {
		return -1
	}
	return int(100 * min(max(p.Bytes, 0), p.TotalBytes) / p.TotalBytes)
}

func (p progress) words() string {
	if p.TotalBytes <= 0 {
		return fmt.Sprintf("%d of %s", p.LayersDone, count(p.Layers, "layer"))
	}
	words := fmt.Sprintf("%d%%, %s of %s, %d of %s", p.percent(), byteSize(p.Bytes), byteSize(p.TotalBytes), p.LayersDone, count(p.Layers, "layer"))
	return words + p.doing()
}

// doing says what happens with the layers, where that is more than a download.
func (p progress) doing() string {
	unpacking := ""
	for _, l := range p.LayerList {
		switch l.State {
		case agent.LayerDownloading:
			return ""
		case agent.LayerUnpacking:
			unpacking = ", unpacking"
		}
	}
	return unpacking
}

// bar draws the progress in at most width columns.
func (p progress) bar(width int) string {
	const fewest, most = 10, 40
	words := p.words()
	room := min(width-len(words)-3, most) // brackets and a space
	if room < fewest || p.percent() < 0 {
		return words[:min(len(words), max(0, width))]
	}
	done := room * p.percent() / 100
	full := strings.Repeat("=", done)
	if done < room {
		full += ">"
	}
	return fmt.Sprintf("[%-*s] %s", room, full, words)
}

// screen shows how an instance comes to run: on a terminal as one line that
// changes, elsewhere as a line for each thing worth telling.
type screen struct {
	w        io.Writer
	width    func() int // 0 where w is no terminal
	last     string     // the line that was written last
	lastStep int        // the tenth of the pull that was told last
}

func newScreen(w io.Writer) *screen {
	s := &screen{w: w, width: func() int { return 0 }}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		s.width = func() int {
			if cols, _, err := term.GetSize(int(f.Fd())); err == nil && cols > 0 {
				return cols
			}
			return 80
		}
	}
	return s
}

func (s *screen) show(i instance) {
	if width := s.width(); width > 0 {
		s.redraw(i, width)
		return
	}
	line := i.Name + ": " + string(i.State)
	if i.Reason != "" {
		line += ", " + printable(i.Reason)
	}
	if i.Problem != "" {
		line += ", " + printable(i.Problem)
	}
	if i.Progress != nil && i.State == scheduler.Pulling && i.Progress.percent()/10 > s.lastStep {
		s.lastStep = i.Progress.percent() / 10
		line += " " + i.Progress.words()
	} else if line == s.last {
		return
	} else {
		s.last = line
	}
	fmt.Fprintln(s.w, line)
}

// redraw writes over the line before. It leaves the last column free: there the
// cursor would go on to the next line.
func (s *screen) redraw(i instance, width int) {
	width--
	line := i.Name + ": " + string(i.State) + " "
	switch {
	case i.Progress != nil && i.State == scheduler.Pulling:
		line += i.Progress.bar(width - len(line))
	case i.Problem != "":
		line += printable(i.Problem)
	default:
		line += printable(i.Reason)
	}
	if cut := []rune(line); len(cut) > width {
		line = string(cut[:max(0, width)])
	}
	if line != s.last {
		s.last = line
		fmt.Fprintf(s.w, "\r\x1b[K%s", line)
	}
}

// done leaves the cursor where the next line begins.
func (s *screen) done() {
	if s.last != "" && s.width() > 0 {
		fmt.Fprint(s.w, "\r\x1b[K")
		s.last = ""
	}
}
