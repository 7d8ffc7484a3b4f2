package console

import (
	"bufio"
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"ecolink/agent"
	"ecolink/ledger"
	"ecolink/ledger/identity"
	"ecolink/ledger/store"
	"ecolink/scheduler"
)

func filled(change url.Values) url.Values {
	v := url.Values{"name": {"my-box"}, "gpu_type": {"h100"}, "gpu_count": {"1"}, "estimated_duration_hours": {"2"},
		"image": {"demo/box"}, "command": {`sh -c 'echo "a b"'`}, "env": {"A=1\r\n\r\nB = x=y "}}
	for k, x := range change {
		v[k] = x
	}
	return v
}

func TestLaunchFormLaunches(t *testing.T) {
	w := newWorld(t, 2).people()
	b := w.as("ana@example.org")
	b.submit("/instances/new", "/instances/new", filled(nil)).wantRedirect("/instances/1")
	i := w.until(1, scheduler.Running)
	if i.CreatedBy != w.ana.ID || len(i.Command) != 3 || i.Command[2] != `echo "a b"` || i.Env["A"] != "1" || i.Env["B"] != " x=y " || i.Paid != 2*time.Hour {
		t.Errorf("launched %+v", i)
	}
	if got := w.wallet(); got.Held != usd("3.20") || got.Available != usd("96.80") {
		t.Errorf("the wallet has %+v", got)
	}
	b.get("/instances/1").want(200, "my-box")
}

func TestFormSentTwiceLaunchesOnce(t *testing.T) {
	w := newWorld(t, 2).people()
	b := w.as("ana@example.org")
	form := hidden(t, b.get("/instances/new").body, "/instances/new")
	for k, v := range filled(nil) {
		form[k] = v
	}
	b.send("POST", "/instances/new", form, nil).wantRedirect("/instances/1")
	b.send("POST", "/instances/new", form, nil).wantRedirect("/instances/1")
	form.Set("name", "another")
	b.send("POST", "/instances/new", form, nil).wantRedirect("/instances/2")
}

func TestLaunchFormShowsErrorsAtTheirFieldAndKeepsWhatWasTyped(t *testing.T) {
	w := newWorld(t, 2).people()
	w.launch("taken", "demo/box", scheduler.Running)
	b := w.as("ana@example.org")
	for field, row := range map[string]struct {
		value, text string
		status      int
	}{
		"name":                     {"<Bad Name>", "A name is 1 to 63", 422},
		"gpu_type":                 {"b200", "There is no GPU of type", 422},
		"gpu_count":                {"9", "Ask for 1 to 2", 422},
		"estimated_duration_hours": {"0.5", "fractions such as 1.5 are fine", 422},
		"image":                    {"no/such:image", "the registry does not have it", 422},
		"command":                  {"echo 'open", "is left open", 422},
		"env":                      {"NOPE", "Line 1 is not of the form NAME=value", 422},
	} {
		a := b.submit("/instances/new", "/instances/new", filled(url.Values{field: {row.value}})).want(row.status, row.text, `id="`+field+`-error"`)
		if field != "name" {
			a.want(row.status, `value="my-box"`)
		} else {
			a.want(row.status, `value="&lt;Bad Name&gt;"`, `aria-invalid="true"`)
		}
		if field != "env" {
			a.want(row.status, "B = x=y ")
		}
	}
	b.submit("/instances/new", "/instances/new", filled(url.Values{"gpu_count": {"x"}})).want(422, "is a whole number")
	b.submit("/instances/new", "/instances/new", filled(url.Values{"name": {"taken"}})).want(409, "is called taken already")
	b.submit("/instances/new", "/instances/new", filled(url.Values{"estimated_duration_hours": {"500"}})).
		want(402, "This needs $800.00", `value="500"`)
	if got := w.wallet(); got.Held != usd("3.20") {
		t.Errorf("the wallet has %+v", got)
	}
}

func TestQuoteTellsCostAndWaiting(t *testing.T) {
	w := newWorld(t, 2).people()
	b := w.as("ana@example.org")
	q := func(change url.Values) answer { return b.part("/instances/quote?" + filled(change).Encode()) }
	q(url.Values{"gpu_count": {"2"}, "estimated_duration_hours": {"1,5"}}).
		want(200, "$3.20 / h", "1 h 30 min", "$4.80", "$100.00", "$95.20", "2 of 2 free: it starts at once").without("<html")
	q(url.Values{"estimated_duration_hours": {"100"}}).want(200, "does not cover this", "$60.00 short")
	q(url.Values{"image": {"no/such:image"}}).want(200, "the registry does not have it", "$1.60 / h", "Held now", "$3.20").without("it starts at once")
	w.console.imageTime = 50 * time.Millisecond
	q(url.Values{"image": {"slow/registry:1"}}).want(200, "has not answered yet", "$1.60 / h", "$3.20").without("it starts at once")
	q(url.Values{"gpu_count": {""}}).want(200, "whole number")
	w.launch("one", "demo/box", scheduler.Running)
	w.launch("two", "demo/box", scheduler.Running)
	w.launch("three", "demo/box", scheduler.Pending)
	q(nil).want(200, "It will wait: 0 of 2 free, 1 ahead in the queue.")
	if got := w.wallet(); got.Held != usd("9.60") {
		t.Errorf("quoting held money: %+v", got)
	}
}

func TestTerminateAsksAndRefunds(t *testing.T) {
	w := newWorld(t, 1).people()
	w.launch("box", "demo/box", scheduler.Running)
	b := w.as("ana@example.org")
	b.part("/instances/1/terminate").want(200, "Files in the instance are lost", "drive").without("<html")
	b.submit("/instances/1/terminate", "/instances/1/terminate", nil).wantRedirect("/instances/1?note=terminated")
	b.get("/instances/1?note=terminated").want(200, "is back in your balance")
	b.get("/instances/1?note=<x>").want(200).without("<x>")
	w.until(1, scheduler.Terminated)
	if got := w.wallet(); got.Held != 0 || got.Available < usd("99.99") {
		t.Errorf("the wallet has %+v", got)
	}
	b.get("/instances/1/terminate").want(200, "It is terminated already")
	b.submit("/instances/1/terminate", "/instances/1/terminate", nil).wantRedirect("/instances/1?note=terminated")
	b.get("/instances/1/terminal").want(409, "a terminal opens while it is running")
}

// Its hold is forgotten when the ledger has archived its rows.
func TestOldInstanceStillTellsWhatItCost(t *testing.T) {
	w := newWorld(t, 1).people()
	w.launch("box", "demo/box", scheduler.Running)
	b := w.as("ana@example.org")
	b.submit("/instances/1/terminate", "/instances/1/terminate", nil)
	w.until(1, scheduler.Terminated)
	i, err := w.sched.Get(1, 1)
	if err != nil {
		t.Fatal(err)
	}
	if i.Refunded == 0 || i.Charged+i.Refunded != usd("3.20") {
		t.Errorf("%s charged and %s refunded", i.Charged, i.Refunded)
	}
	shown := money(i.Charged) + " was charged and " + money(i.Refunded) + " refunded"
	b.get("/instances/1").want(200, shown)
	err = w.store.Update(t.Context(), func(tx *store.Tx) error {
		return store.NewIntCollection[ledger.HoldID, ledger.Hold](ledger.HoldsBucket).Delete(tx, i.Hold)
	})
	if err != nil {
		t.Fatal(err)
	}
	b.get("/instances/1").want(200, shown, "Cost")
	var refused *scheduler.Problem
	if _, err := w.sched.Extend(t.Context(), scheduler.ExtendRequest{Account: 1, Instance: 1, Hours: 1}); !errors.As(err, &refused) || refused.Kind != scheduler.Conflict {
		t.Errorf("extended: %v", err)
	}
}

func TestExtendQuotesAndPays(t *testing.T) {
	w := newWorld(t, 1).people()
	w.launch("box", "demo/box", scheduler.Running)
	b := w.as("ana@example.org")
	b.part("/instances/1/extend").want(200, "Held for it", "$1.60").without("<html")
	b.part("/instances/1/extend/quote?hours=3").want(200, "$4.80", "$96.80", "$92.00")
	b.part("/instances/1/extend/quote?hours=1000").want(200, "is missing")
	b.part("/instances/1/extend/quote?hours=x").want(200, "Hours are a number")
	form := hidden(t, b.get("/instances/1/extend").body, "/instances/1/extend")
	form.Set("hours", "3")
	b.send("POST", "/instances/1/extend", form, nil).wantRedirect("/instances/1?note=extended")
	b.send("POST", "/instances/1/extend", form, nil).wantRedirect("/instances/1?note=extended") // a second press
	if i := w.until(1, scheduler.Running); i.Paid != 5*time.Hour {
		t.Errorf("paid for %s", i.Paid)
	}
	if got := w.wallet(); got.Held != usd("8") {
		t.Errorf("the wallet has %+v", got)
	}
	for hours, row := range map[string]struct {
		status int
		text   string
	}{"1000": {402, "add credit"}, "0.5": {422, "Ask for 1 to"}, "x": {422, "Hours are a number"}} {
		b.submit("/instances/1/extend", "/instances/1/extend", url.Values{"hours": {hours}}).want(row.status, row.text, `value="`+hours+`"`)
	}
}

func TestDeadlineWarnsAtThirtyMinutesAndIsCriticalAtTen(t *testing.T) {
	for left, want := range map[time.Duration]string{
		31 * time.Minute: "calm", 30 * time.Minute: "warning", 20 * time.Minute: "warning",
		10 * time.Minute: "critical", 5 * time.Minute: "critical", time.Minute: "critical", 0: "critical",
	} {
		i := instanceView{Left: left}
		i.RunningSince, i.Paid = time.Now(), left
		var page strings.Builder
		if err := instanceNotices(i).Render(t.Context(), &page); err != nil {
			t.Fatal(err)
		}
		shown := !strings.Contains(page.String(), " hidden")
		if !strings.Contains(page.String(), `data-level="`+want+`"`) || shown != (want != "calm") {
			t.Errorf("with %s left: %s", left, page.String())
		}
	}
}

// eventStream reads server-sent events.
type eventStream struct {
	t     *testing.T
	lines *bufio.Scanner
}

func (b *browser) stream(path string) *eventStream {
	b.w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	b.w.t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, "GET", b.w.srv.URL+path, nil)
	if err != nil {
		b.w.t.Fatal(err)
	}
	req.Header.Set("Accept", "text/event-stream")
	for k, v := range b.cookies {
		req.AddCookie(&http.Cookie{Name: k, Value: v})
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		b.w.t.Fatal(err)
	}
	b.w.t.Cleanup(func() { resp.Body.Close() })
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" {
		b.w.t.Fatalf("%s answered %s", path, resp.Status)
	}
	s := bufio.NewScanner(resp.Body)
	s.Buffer(nil, 1<<20)
	return &eventStream{b.w.t, s}
}

// until reads events up to one of the name whose data has the text.
func (e *eventStream) until(name, text string) string {
	e.t.Helper()
	var event, data string
	for e.lines.Scan() {
		line := e.lines.Text()
		switch {
		case strings.HasPrefix(line, "event: "):
			event = line[len("event: "):]
		case strings.HasPrefix(line, "data:"):
			data += strings.TrimPrefix(line[len("data:"):], " ") + "\n"
		case line == "":
			if event == name && strings.Contains(data, text) {
				return data
			}
			event, data = "", ""
		}
	}
	e.t.Fatalf("no event %s with %q: %v", name, text, e.lines.Err())
	return ""
}

func TestPagesFollowWhatHappens(t *testing.T) {
	w := newWorld(t, 1).people()
	b := w.as("ana@example.org")
	list := b.stream("/instances/events")
	list.until("content", "No instances yet")
	w.machine.set(func() { w.machine.hold = true; w.machine.pulling.TotalBytes, w.machine.pulling.Bytes = 200, 84 })
	w.launch("box", "demo/box", scheduler.Pulling)
	list.until("content", "42 % pulled")
	one := b.stream("/instances/1/events")
	one.until("content", "of 200 B")
	w.machine.set(func() { w.machine.hold = false })
	list.until("content", `class="badge running"`)
	one.until("content", "/instances/1/terminal")
	if _, err := w.sched.Terminate(t.Context(), w.acme.ID, 1); err != nil {
		t.Fatal(err)
	}
	one.until("content", `class="badge terminated"`)
	one.until("end", "")
}

func TestLogsAreFollowed(t *testing.T) {
	w := newWorld(t, 1).people()
	w.launch("box", "demo/box", scheduler.Running)
	w.machine.print("instance-1", "stdout", "\x1b[32mgreen\x1b[0m <b>")
	b := w.as("ana@example.org")
	b.get("/instances/1").want(200, "green &lt;b&gt;").without("\x1b")
	logs := b.stream("/instances/1/logs")
	logs.until("begin", "")
	logs.until("lines", "green \\u003cb\\u003e")
	w.machine.print("instance-1", "stderr", "10%\r50%\r100%")
	if data := logs.until("lines", "100%"); strings.Contains(data, "50%") || !strings.Contains(data, "stderr") {
		t.Errorf("got %s", data)
	}
	w.update(func(tx *store.Tx) error { return identity.DeleteAllSessions(tx, w.ana.ID) })
	for logs.lines.Scan() { // the stream ends with the session
	}
	if err := logs.lines.Err(); err != nil {
		t.Error(err)
	}
}

func TestCommandsAreSplitAsAShellWould(t *testing.T) {
	for in, want := range map[string]string{
		``: ``, `  a  b `: `a|b`, `'a b' "c d"`: `a b|c d`, `a\ b`: `a b`, `""`: ``, `a"b"'c'`: `abc`,
		`"a\"b\n"`: `a"b\n`, `'a\'`: `a\`, "x\ny\tz": "x|y|z",
	} {
		got, err := splitWords(in)
		if err != nil || strings.Join(got, "|") != want {
			t.Errorf("%q gives %q, %v; want %q", in, got, err, want)
		}
	}
	if got, _ := splitWords(`""`); len(got) != 1 {
		t.Errorf("an empty word is lost: %q", got)
	}
	for _, bad := range []string{`'`, `"a`, `a\`} {
		if _, err := splitWords(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestSpansAndSizesAreForPeople(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0 s", 59 * time.Second: "59 s", 90 * time.Second: "1 min 30 s", 7 * time.Minute: "7 min", 2 * time.Hour: "2 h",
		2*time.Hour - time.Second: "1 h 59 min", 25 * time.Hour: "1 d 1 h", 48 * time.Hour: "2 d",
	} {
		if got := span(d); got != want {
			t.Errorf("%s is %q, want %q", d, got, want)
		}
	}
	for n, want := range map[int64]string{0: "0 B", 80 << 30: "80 GiB", 3 << 29: "1.5 GiB", 1023: "1023 B"} {
		if got := size(n); got != want {
			t.Errorf("%d is %q, want %q", n, got, want)
		}
	}
	for n, want := range map[int64]string{0: "0 B", 999: "999 B", 1000: "1 kB", 2_900_000_000: "2.9 GB", 200e9: "200 GB", 1500e9: "1.5 TB"} {
		if got := storageSize(n); got != want {
			t.Errorf("%d of storage is %q, want %q", n, got, want)
		}
	}
}

func TestExtendFormIsNotOfferedForAnInstanceThatIsOver(t *testing.T) {
	w := newWorld(t, 1).people()
	w.launch("box", "demo/box", scheduler.Running)
	b := w.as("ana@example.org")
	b.submit("/instances/1/terminate", "/instances/1/terminate", nil).wantRedirect("/instances/1?note=terminated")
	w.until(1, scheduler.Terminated)
	b.get("/instances/1/extend").want(409, "can&#39;t be extended")
}

func TestTheLaunchPageListsWhatTheOperatorImported(t *testing.T) {
	w := newWorld(t, 1).people()
	b := w.as("ana@example.org")
	b.get("/instances/new").want(200).without("on this box, brought")
	w.machine.KeepImages(
		agent.StoredImage{Names: []string{"team/trainer:3"}, Digest: "sha256:9834876dcfb05cb167a5", Bytes: 5 << 20, Imported: true, ImportedNames: []string{"team/trainer:3"}},
		agent.StoredImage{Names: []string{"somebody/private:1"}, Digest: "sha256:1111"},
	)
	b.get("/instances/new").want(200, "1 image on this box", `<option value="team/trainer:3">`, "sha256:9834876dcfb0, 5", `title="sha256:9834876dcfb05cb167a5"`).without("somebody/private")
}

func TestTheListSaysWhyAStartCommandDidNotStart(t *testing.T) {
	row := instanceRow{Instance: scheduler.Instance{State: scheduler.Running, CommandEnd: &scheduler.CommandEnd{Error: "/foo: no such file or directory"}}}
	if got := row.remark(); got != "The start command could not start: /foo: no such file or directory" {
		t.Errorf("%q", got)
	}
	row = instanceRow{Instance: scheduler.Instance{State: scheduler.Failed, Problem: "the registry does not have it"}}
	if got := row.remark(); got != "the registry does not have it" {
		t.Errorf("%q", got)
	}
	if got := (instanceRow{Instance: scheduler.Instance{State: scheduler.Running}}).remark(); got != "" {
		t.Errorf("%q of an instance that is well", got)
	}
}
