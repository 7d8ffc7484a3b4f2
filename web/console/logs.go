package console

import (
	"context"
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
	"time"

	"ecolink/agent"
)

// logLine is a line of output as the page shows it.
type logLine struct {
	Time    string `json:"time"`
	Stream  string `json:"stream"`
	Text    string `json:"text"`
	Partial bool   `json:"partial,omitempty"`
}

// escapes are a terminal's control sequences (ECMA-48): colours and the like, of
// no use in a page.
var escapes = regexp.MustCompile(`\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])`)

func lineOf(l agent.LogLine) logLine {
	text := escapes.ReplaceAllString(strings.ToValidUTF8(l.Text, "�"), "")
	if at := strings.LastIndexByte(strings.TrimRight(text, "\r"), '\r'); at >= 0 {
		text = text[at+1:] // a progress bar that overwrites itself
	}
	text = strings.Map(func(r rune) rune {
		if r < ' ' && r != '\t' {
			return -1
		}
		return r
	}, text)
	return logLine{Time: stamp(l.Time), Stream: l.Stream, Text: text, Partial: l.Partial}
}

// Lines are gathered for a moment, so that a talkative container costs the
// browser few events.
const (
	gatherLines = 200
	gatherTime  = 50 * time.Millisecond
)

// logs streams an instance's output: what is kept of it, then what follows.
func (c *console) logs(w http.ResponseWriter, r *http.Request, v *visit) error {
	i, err := c.ownInstance(r, v)
	if err != nil {
		return err
	}
	ctx, stop := c.bounded(r.Context(), v)
	defer stop()
	lines, err := c.Scheduler.Logs(ctx, v.account.ID, i.ID, logLines, !i.State.Final())
	if err != nil {
		return err
	}
	stream := newEvents(w)
	if stream.send("begin", nil) != nil {
		return nil
	}
	incoming, done := make(chan logLine), make(chan struct{})
	reading, cancel := context.WithCancel(ctx)
	go func() {
		defer close(done)
		defer close(incoming)
		for l, err := range lines {
			if err != nil {
				if reading.Err() == nil {
					c.Log.WarnContext(ctx, "an instance's output can't be read", "instance", i.ID, "err", err)
				}
				return
			}
			select {
			case incoming <- lineOf(l):
			case <-reading.Done():
				return
			}
		}
	}()
	sendLines(reading, stream, incoming)
	cancel()
	stop() // the lines end with this context
	<-done
	return nil
}

// sendLines sends lines as they come, until they end or the client has gone.
func sendLines(ctx context.Context, stream *events, incoming <-chan logLine) {
	tick := time.NewTicker(refreshEvery)
	defer tick.Stop()
	for {
		var batch []logLine
		var late <-chan time.Time
		for late == nil || len(batch) < gatherLines {
			select {
			case l, ok := <-incoming:
				if !ok {
					_ = sendBatch(stream, batch)
					_ = stream.send("end", nil)
					return
				}
				if batch = append(batch, l); late == nil {
					late = time.After(gatherTime)
				}
				continue
			case <-late:
			case <-ctx.Done():
				return
			case <-tick.C:
				if stream.send("", nil) != nil {
					return
				}
				continue
			}
			break
		}
		if sendBatch(stream, batch) != nil {
			return
		}
	}
}

func sendBatch(stream *events, batch []logLine) error {
	if len(batch) == 0 {
		return nil
	}
	raw, err := json.Marshal(batch)
	if err != nil {
		return err
	}
	return stream.send("lines", raw)
}
