package console

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/a-h/templ"

	"ecolink/agent"
	"ecolink/ledger"
	"ecolink/ledger/identity"
	"ecolink/ledger/store"
	"ecolink/scheduler"
	"ecolink/web"
)

// instanceView is everything about one instance.
type instanceView struct {
	frame
	scheduler.Instance
	Launcher   string // the e-mail of whoever launched it
	HourlyCost ledger.MicroUSD
	Cost       ledger.MicroUSD // so far, or in the end
	Held       ledger.Hold
	Left       time.Duration
	Waits      string
	Progress   *agent.PullProgress
	GPUNames   []gpuName
	EnvNames   []string // the values may be secrets
	Mounts     []mountLine
	Steps      []step
	SSHCommand string // that enters it, while it runs
	Service    serviceView
	Log        []logLine
	Note       string // what a form has just done
}

// gpuName is one of the instance's GPUs.
type gpuName struct {
	UUID, Name string
	Index      int
}

// step is a state on the way, as the timeline shows it.
type step struct {
	Name  string
	At    time.Time // zero: not reached
	Class string    // done, now, failed or ""
}

// notes are what a page says after a form was sent, by the address's ?note=.
var notes = map[string]string{
	"extended":   "The instance has more time now.",
	"service":    "The service is as you set it, from now on.",
	"terminated": "The instance is ending. What was not used of its hold is back in your balance.",
}

func instanceID(r *http.Request) (scheduler.InstanceID, error) {
	n, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err != nil || n < 1 {
		return 0, web.Fail(http.StatusNotFound, "not_found", "", "there is no such instance: choose one from the list of instances")
	}
	return scheduler.InstanceID(n), nil
}

// ownInstance reads the instance that the address names. One of another account
// does not exist.
func (c *console) ownInstance(r *http.Request, v *visit) (scheduler.Instance, error) {
	id, err := instanceID(r)
	if err != nil {
		return scheduler.Instance{}, err
	}
	return c.Scheduler.Get(v.account.ID, id)
}

func (c *console) instance(w http.ResponseWriter, r *http.Request, v *visit) error {
	i, err := c.lookAt(r, v)
	if err != nil {
		return err
	}
	i.frame = c.frame(r, v, i.Name)
	i.Note = notes[r.URL.Query().Get("note")]
	if i.Log, err = c.readLog(r.Context(), v, i.ID); err != nil {
		return err
	}
	return show(w, r, http.StatusOK, instancePage(i))
}

func (c *console) instanceEvents(w http.ResponseWriter, r *http.Request, v *visit) error {
	return c.follow(w, r, v, func() (templ.Component, bool, error) {
		i, err := c.lookAt(r, v)
		return instanceLive(i), i.State == scheduler.Terminated || i.State == scheduler.Failed && len(i.GPUs) == 0, err
	})
}

func (c *console) lookAt(r *http.Request, v *visit) (i instanceView, err error) {
	if i.Instance, err = c.ownInstance(r, v); err != nil {
		return i, err
	}
	row, err := c.rowOf(i.Instance)
	if err != nil {
		return i, err
	}
	i.HourlyCost, i.Left, i.Waits = row.HourlyCost, row.Left, row.Waits
	if p, ok := c.Scheduler.Progress(i.ID); ok && i.State == scheduler.Pulling {
		i.Progress = &p
	}
	err = c.Store.View(func(tx *store.Tx) (err error) {
		if i.Held, err = holdOf(tx, i.Instance); err != nil {
			return err
		}
		u, err := identity.UserByID(tx, i.CreatedBy)
		i.Launcher = u.Email
		return err
	})
	if err != nil {
		return i, err
	}
	if i.Held.Settled != nil {
		i.Cost = cmp.Or(i.Charged, i.Held.Charged())
	} else if i.Cost, err = ledger.Cost(i.Rate, i.GPUCount, min(i.RanBy(time.Now()), i.Paid)); err != nil {
		return i, err
	}
	for _, uuid := range i.GPUs {
		g, _ := c.Inventory.GPU(uuid)
		i.GPUNames = append(i.GPUNames, gpuName{UUID: uuid, Name: g.Name, Index: g.Index})
	}
	i.EnvNames = slices.Sorted(maps.Keys(i.Env))
	i.Mounts = c.mountsOf(v, i.Instance)
	i.Steps = timeline(i.Instance)
	if c.SSH.On() && i.State == scheduler.Running {
		i.SSHCommand = c.SSH.Command(i.Name)
	}
	i.Service = c.lookAtService(r.Context(), i.Instance)
	return i, nil
}

// holdOf reads an instance's hold. The ledger forgets one that has ended when it
// archives its rows; the instance knows how it ended.
func holdOf(tx *store.Tx, i scheduler.Instance) (ledger.Hold, error) {
	h, err := ledger.GetHold(tx, i.Hold)
	if errors.Is(err, ledger.ErrNoHold) {
		end := ledger.Settlement{Refunded: i.Refunded}
		return ledger.Hold{ID: i.Hold, Account: i.Account, Amount: i.Charged + i.Refunded, Used: i.Charged, Settled: &end}, nil
	}
	return h, err
}

// timeline lays the history out along the way that an instance goes.
func timeline(i scheduler.Instance) []step {
	reached := map[scheduler.State]time.Time{}
	for _, ch := range i.History {
		reached[ch.State] = ch.At
	}
	way := []scheduler.State{scheduler.Pending, scheduler.Pulling, scheduler.Starting, scheduler.Running, scheduler.Terminated}
	switch i.State {
	case scheduler.Preempted:
		way = slices.Insert(way, 4, scheduler.Preempted)
	case scheduler.Terminating:
		way[4] = scheduler.Terminating
	case scheduler.Failed:
		way = slices.DeleteFunc(way, func(s scheduler.State) bool { return reached[s].IsZero() })
		way = append(way, scheduler.Failed)
	}
	var out []step
	for _, s := range way {
		st := step{Name: string(s), At: reached[s]}
		switch {
		case s == i.State && s == scheduler.Failed:
			st.Class = "failed"
		case s == i.State && s == scheduler.Terminated:
			st.Class = "done"
		case s == i.State:
			st.Class = "now"
		case !st.At.IsZero() && s != scheduler.Terminated:
			st.Class = "done"
		}
		if i.State == scheduler.Starting && s == scheduler.Running {
			st.At, st.Class = time.Time{}, "" // it ran before the box was restarted
		}
		out = append(out, st)
	}
	return out
}

// confirmView is a question about an instance, on a page of its own or in a dialog.
type confirmView struct {
	frame
	scheduler.Instance
	Hours   string
	Problem string
	Nonce   string
	Cost    *extendCost
}

// extendCost is what more hours would cost.
type extendCost struct {
	Cost, Available, After ledger.MicroUSD
	Problem                string
	Deadline               time.Time // with them; zero while the clock stands
}

func (c *console) terminateForm(w http.ResponseWriter, r *http.Request, v *visit) error {
	i, err := c.ownInstance(r, v)
	if err != nil {
		return err
	}
	q := confirmView{frame: c.frame(r, v, "Terminate "+i.Name), Instance: i}
	if isPart(r) {
		return show(w, r, http.StatusOK, terminateQuestion(q))
	}
	return show(w, r, http.StatusOK, terminatePage(q))
}

func (c *console) terminate(w http.ResponseWriter, r *http.Request, v *visit) error {
	id, err := instanceID(r)
	if err != nil {
		return err
	}
	if _, err := c.Scheduler.Terminate(r.Context(), v.account.ID, id); err != nil {
		return err
	}
	http.Redirect(w, r, fmt.Sprintf("/instances/%d?note=terminated", id), http.StatusSeeOther)
	return nil
}

func (c *console) extendForm(w http.ResponseWriter, r *http.Request, v *visit) error {
	i, err := c.ownInstance(r, v)
	if err != nil {
		return err
	}
	if i.State.Final() || i.State == scheduler.Terminating {
		return &scheduler.Problem{Kind: scheduler.Conflict, Message: fmt.Sprintf("%s is %s and can't be extended: launch a new one", i.Name, i.State)}
	}
	q := confirmView{Instance: i, Hours: "1", Nonce: newNonce()}
	return c.showExtend(w, r, v, http.StatusOK, q)
}

func (c *console) showExtend(w http.ResponseWriter, r *http.Request, v *visit, status int, q confirmView) error {
	q.frame = c.frame(r, v, "Extend "+q.Name)
	cost := extension(q.Instance, v.wallet, q.Hours)
	q.Cost = &cost
	if isPart(r) {
		return show(w, r, status, extendQuestion(q))
	}
	return show(w, r, status, extendPage(q))
}

func (c *console) extendQuote(w http.ResponseWriter, r *http.Request, v *visit) error {
	i, err := c.ownInstance(r, v)
	if err != nil {
		return err
	}
	return show(w, r, http.StatusOK, extendCostPart(extension(i, v.wallet, r.URL.Query().Get("hours"))))
}

// extension shows what Extend would hold.
func extension(i scheduler.Instance, wallet ledger.Wallet, hours string) (x extendCost) {
	more, err := parseHours(hours)
	if err == nil {
		x.Cost, err = ledger.Cost(i.Rate, i.GPUCount, more)
	}
	if err == nil {
		x.After, err = wallet.Available.Sub(x.Cost)
	}
	x.Available = wallet.Available
	if err != nil {
		x.Problem = err.Error()
	} else if d := i.Deadline(); !d.IsZero() {
		x.Deadline = d.Add(more)
	}
	return x
}

func parseHours(s string) (time.Duration, error) {
	h, err := readHours(s)
	if err != nil {
		return 0, err
	}
	return scheduler.ParseHours(h, "hours")
}

func (c *console) extend(w http.ResponseWriter, r *http.Request, v *visit) error {
	i, err := c.ownInstance(r, v)
	if err != nil {
		return err
	}
	q := confirmView{Instance: i, Hours: r.PostFormValue("hours"), Nonce: r.PostFormValue("nonce")}
	hours, err := readHours(q.Hours)
	if err != nil {
		err = unprocessable("hours", err.Error())
	} else {
		_, err = c.Scheduler.Extend(r.Context(), scheduler.ExtendRequest{
			Account: v.account.ID, Instance: i.ID, Hours: hours, RequestID: web.RequestID(r.Context()),
			Key: idempotencyKey(q.Nonce, "extend", r.PathValue("id"), q.Hours),
		})
	}
	if err != nil {
		f := web.Explain(r.Context(), c.Log, err)
		if f.Status >= 500 {
			return f
		}
		q.Problem = f.Message
		return c.showExtend(w, r, v, f.Status, q)
	}
	http.Redirect(w, r, fmt.Sprintf("/instances/%d?note=extended", i.ID), http.StatusSeeOther)
	return nil
}

// figures are a quote's sums for showing: the cost of an hour, and what is
// available after the hold.
func figures(q scheduler.Quote, gpus int) (hourly, after ledger.MicroUSD, err error) {
	if hourly, err = ledger.Cost(q.Rate, gpus, time.Hour); err != nil {
		return 0, 0, err
	}
	after, err = q.Wallet.Available.Sub(q.Hold)
	return hourly, after, err
}

// readLog reads the end of an instance's output, for the page as it is without
// scripts.
func (c *console) readLog(ctx context.Context, v *visit, id scheduler.InstanceID) (out []logLine, err error) {
	lines, err := c.Scheduler.Logs(ctx, v.account.ID, id, logLines, false)
	if err != nil {
		return nil, err
	}
	for l, err := range lines {
		if err != nil { // a page without its log is better than none
			c.Log.WarnContext(ctx, "an instance's output can't be read", "instance", id, "err", err)
			break
		}
		out = append(out, lineOf(l))
	}
	return out, nil
}

// endingLine tells how an instance ended and what became of its money.
func endingLine(i instanceView) string {
	s := "It ended because " + ending(i.TerminationReason) + "."
	if i.State == scheduler.Terminating {
		s = "It is ending because " + ending(i.TerminationReason) + "."
	}
	if i.State == scheduler.Failed {
		s = "It failed because " + ending(i.TerminationReason) + "."
	}
	if end := i.Held.Settled; end != nil {
		s += fmt.Sprintf(" %s was charged and %s refunded.", money(i.Cost), money(end.Refunded))
	}
	return s
}

func gpuWords(i instanceView) string {
	words := gpuIndexes(i)
	if i.Priority() == scheduler.Spot {
		words = strings.TrimSuffix("spot, "+words, ", ")
	}
	return words
}

// gpuIndexes names the GPUs that it has by their numbers.
func gpuIndexes(i instanceView) string {
	if len(i.GPUNames) == 0 {
		return ""
	}
	s := "GPU"
	for n, g := range i.GPUNames {
		if n > 0 {
			s += ","
		}
		s += fmt.Sprintf(" %d", g.Index)
	}
	return s
}

func ran(i scheduler.Instance) string {
	d := min(i.RanBy(time.Now()), i.Paid)
	if d == 0 {
		return "not yet"
	}
	return span(d)
}

// againURL leads to a launch form that is filled in as this instance was, but for
// its environment, whose values a link must not carry.
func againURL(i scheduler.Instance) string {
	q := url.Values{
		"gpu_type": {i.GPUType}, "gpu_count": {strconv.Itoa(i.GPUCount)}, "image": {i.Image},
		"estimated_duration_hours": {strconv.FormatFloat(i.Paid.Hours(), 'f', -1, 64)},
	}
	if i.ServicePort != 0 {
		q.Set("service_port", strconv.Itoa(i.ServicePort))
	}
	return "/instances/new?" + q.Encode()
}
