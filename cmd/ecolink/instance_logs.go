package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"
)

// logLine is a record of an instance's output. A line that is long, or not ended
// yet, comes in several, of which only the last one is not partial.
type logLine struct {
	Time    time.Time `json:"time"`
	Stream  string    `json:"stream"`
	Text    string    `json:"text"`
	Partial bool      `json:"partial"`
}

func logsCommand() *cobra.Command {
	var follow bool
	var tail int
	cmd := &cobra.Command{
		Use:   "logs INSTANCE",
		Short: "Print what an instance has printed",
		Long: `Print what an instance has printed: its standard output to standard output and
its standard error to standard error. With -o json it is one object a line.`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeInstance,
	}
	printed := printing(cmd)
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what it prints from now on")
	cmd.Flags().IntVar(&tail, "tail", 0, "only the last lines; 0 means all that are kept")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		p, err := printed()
		if err != nil {
			return err
		}
		c, i, err := onInstance(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		write := joinTo(cmd.OutOrStdout(), cmd.ErrOrStderr())
		if p.json {
			write = func(l record[logLine]) error { return p.line(l) }
		}
		if follow {
			return c.followLogs(cmd.Context(), i.V, tail, write)
		}
		return c.printLogs(cmd.Context(), logsPath(i.V, tail, false), write)
	}
	return cmd
}

// printLogs writes the lines as they come: a log can be long.
func (c *client) printLogs(ctx context.Context, path string, write func(record[logLine]) error) error {
	get := request{method: http.MethodGet, path: path}
	resp, err := c.send(ctx, get)
	if errors.As(err, new(*lostError)) && pause(ctx, retryPause) == nil {
		resp, err = c.send(ctx, get)
	}
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	in := json.NewDecoder(resp.Body)
	for range 3 { // the tokens {, "data" and [
		if _, err := in.Token(); err != nil {
			return c.broken(ctx, err)
		}
	}
	for in.More() {
		var l record[logLine]
		if err := in.Decode(&l); err != nil {
			return c.broken(ctx, err)
		}
		if err := write(l); err != nil {
			return err
		}
	}
	if _, err := in.Token(); err != nil { // the ]: without it the rest is missing
		return c.broken(ctx, err)
	}
	return nil
}

func logsPath(i instance, tail int, follow bool) string {
	q := url.Values{}
	if tail > 0 {
		q.Set("tail", strconv.Itoa(tail))
	}
	if follow {
		q.Set("follow", "true")
	}
	return i.path() + "/logs?" + q.Encode()
}

// joinTo writes lines to the stream that they came from, such that each gets
// exactly the bytes that the container wrote there: a partial line gets no
// newline, and the next of the same stream goes on where it stopped.
func joinTo(stdout, stderr io.Writer) func(record[logLine]) error {
	return func(l record[logLine]) error {
		to, text := stdout, l.V.Text
		if l.V.Stream == "stderr" {
			to = stderr
		}
		if !l.V.Partial {
			text += "\n"
		}
		_, err := io.WriteString(to, text)
		return err
	}
}

// followLogs goes on until the instance is over. After a lost connection it reads
// all that is kept again and leaves out what it has written.
func (c *client) followLogs(ctx context.Context, i instance, tail int, write func(record[logLine]) error) error {
	var seen bookmark
	var off outage
	for {
		broke := c.readLogs(ctx, logsPath(i, tail, true), &seen, &off, write)
		if broke == nil {
			now, err := c.instance(ctx, i.ID)
			if err == nil && now.V.over() {
				return nil // the stream ended because there is no more
			}
			broke = err
		}
		if broke != nil && !transient(broke) {
			return broke
		}
		if err := off.wait(ctx); err != nil {
			return fmt.Errorf("follow the output of %v: %w", i, errors.Join(err, broke))
		}
		if seen.any {
			tail = 0
		}
		seen.again()
	}
}

func (c *client) readLogs(ctx context.Context, path string, seen *bookmark, off *outage, write func(record[logLine]) error) error {
	for data, err := range c.events(ctx, path) {
		var l record[logLine]
		if err == nil {
			err = json.Unmarshal(data, &l)
		}
		if err != nil {
			return err
		}
		if !seen.isNew(l.V.Time) {
			continue
		}
		off.over()
		if err := write(l); err != nil {
			return err
		}
	}
	return nil
}

// bookmark is a place in a log: lines come in the order of their times, several
// of which may be the same.
type bookmark struct {
	any  bool
	time time.Time // of the last line
	same int       // how many lines of that time there were
	skip int       // how many of them are still to come again
}

// again begins at the log's beginning.
func (b *bookmark) again() { b.skip = b.same }

// isNew tells whether a line lies behind the bookmark, and moves that.
func (b *bookmark) isNew(t time.Time) bool {
	switch {
	case b.any && t.Before(b.time):
		return false
	case b.any && t.Equal(b.time) && b.skip > 0:
		b.skip--
		return false
	case b.any && t.Equal(b.time):
		b.same++
	default:
		b.any, b.time, b.same = true, t, 1
	}
	b.skip = 0
	return true
}
