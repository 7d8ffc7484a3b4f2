package api

import (
	"context"
	"iter"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"ecolink/agent"
	"ecolink/ledger/identity"
	"ecolink/scheduler"
	"ecolink/web"
)

// logLine is a line of a container's output.
type logLine struct {
	Time    time.Time `json:"time"`
	Stream  string    `json:"stream" enum:"stdout,stderr"`
	Text    string    `json:"text" doc:"Without the newline. Bytes that are not UTF-8 are replaced."`
	Partial bool      `json:"partial" doc:"The line was very long and goes on in the next one."`
}

func logLineOf(l agent.LogLine) logLine {
	return logLine{Time: l.Time.UTC(), Stream: l.Stream, Text: l.Text, Partial: l.Partial}
}

type logList struct {
	Data []logLine `json:"data" nullable:"false"`
}

type logsInput struct {
	ByID
	Tail   int  `query:"tail" minimum:"0" doc:"Only the last so many lines; 0 or left out: all that is kept."`
	Follow bool `query:"follow" doc:"Stream the lines, each as event \"log\", and go on with new ones until the instance is over."`
}

func (a *api) addLogs() {
	register(a, huma.Operation{
		OperationID: "get-gpu-instance-logs", Method: http.MethodGet, Path: "/v1/gpu-instances/{id}/logs", Tags: []string{tagInstances},
		Errors: []int{404}, Summary: "Read what an instance's container wrote",
		Description: "Output is kept while the instance lives, the newest of it when there is much.",
		Responses:   map[string]*huma.Response{"200": orEvents(respond[logList](a, "The lines, or with follow=true the stream."))},
	}, a.logs)
}

func (a *api) logs(ctx context.Context, in *logsInput) (*stream, error) {
	account := web.CallerOf(ctx).Account
	ctx, cancel := context.WithCancel(ctx)
	lines, err := a.Scheduler.Logs(ctx, account, in.ID, in.Tail, in.Follow)
	if err != nil {
		cancel()
		return nil, err
	}
	return &stream{func(hc huma.Context) {
		defer cancel()
		if in.Follow {
			f := follower{api: a, account: account, id: in.ID, lines: lines, cancel: cancel}
			f.run(ctx, hc)
			return
		}
		a.showLogs(ctx, hc, lines)
	}}, nil
}

// showLogs writes the lines as they come, so that a long log is never in memory
// as a whole.
func (a *api) showLogs(ctx context.Context, hc huma.Context, lines iter.Seq2[agent.LogLine, error]) {
	_, w := humago.Unwrap(hc)
	next, stop := iter.Pull2(lines)
	defer stop()
	line, err, more := next()
	if more && err != nil {
		web.WriteFailure(w, web.Explain(ctx, a.Log, err))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	separator := `{"data":[`
	for ; more; line, err, more = next() {
		if err == nil {
			_, err = w.Write([]byte(separator))
		}
		if err == nil {
			err = huma.DefaultJSONFormat.Marshal(w, logLineOf(line))
		}
		if err != nil {
			web.Explain(ctx, a.Log, err)
			panic(http.ErrAbortHandler) // half an answer must not look like a whole one
		}
		separator = ","
	}
	if separator != "," {
		w.Write([]byte(separator))
	}
	w.Write([]byte("]}\n"))
}

// follower streams an instance's log until the instance is over or the client has
// left.
type follower struct {
	*api
	account identity.AccountID
	id      scheduler.InstanceID
	lines   iter.Seq2[agent.LogLine, error]
	cancel  context.CancelFunc // ends lines
	failed  error              // what lines ended with; read it once they have
}

func (f *follower) run(ctx context.Context, hc huma.Context) {
	changed, stop := f.Scheduler.Subscribe()
	defer stop()
	s := openEvents(hc)
	arrived := f.read(ctx)
	defer func() { // the reader ends before the request does
		f.cancel()
		for range arrived {
		}
	}()
	alive := time.NewTicker(keepAlive)
	defer alive.Stop()
	silence := time.NewTimer(lastWords)
	defer silence.Stop()
	over := f.over()
	for {
		select {
		case line, ok := <-arrived:
			if !ok {
				if f.failed != nil && ctx.Err() == nil {
					web.Explain(ctx, f.Log, f.failed) // too late for an answer
				}
				return
			}
			f.add(s, line, arrived)
			silence.Reset(lastWords)
		case <-changed:
			if !over && f.over() {
				over = true
				silence.Reset(lastWords)
			}
			continue
		case <-silence.C:
			if over {
				return
			}
			continue
		case <-alive.C:
			s.comment()
		case <-ctx.Done():
			return
		}
		if s.flush() != nil {
			return
		}
	}
}

// read yields the lines in a channel, closed when they have ended.
func (f *follower) read(ctx context.Context) <-chan agent.LogLine {
	arrived := make(chan agent.LogLine, maxLogBatch)
	go func() {
		defer close(arrived)
		for line, err := range f.lines {
			if err != nil {
				f.failed = err
				return
			}
			select {
			case arrived <- line:
			case <-ctx.Done():
				return
			}
		}
	}()
	return arrived
}

// add puts a line, and those that have arrived behind it, into one write.
func (f *follower) add(s *events, line agent.LogLine, arrived <-chan agent.LogLine) {
	for n := 1; ; n++ {
		s.event("log", logLineOf(line))
		if n == maxLogBatch {
			return
		}
		var ok bool
		select {
		case line, ok = <-arrived:
			if !ok {
				return // the next receive tells it again
			}
		default:
			return
		}
	}
}

// over tells whether the instance has ended for good. One that can't be read is
// not: the log goes on.
func (f *follower) over() bool {
	i, err := f.Scheduler.Get(f.account, f.id)
	return err == nil && i.State.Final()
}
