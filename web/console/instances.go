package console

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/a-h/templ"

	"ecolink/ledger"
	"ecolink/scheduler"
)

// instanceRow is an instance as the list shows it.
type instanceRow struct {
	scheduler.Instance
	HourlyCost ledger.MicroUSD
	Left       time.Duration // until the deadline; 0 while there is none
	Waits      string
	Percent    int // of the image's bytes, while it is pulled
}

// remark is the one thing to know beside the state: why it failed, or what went wrong
// inside. Its page says the rest.
func (row instanceRow) remark() string {
	switch notices := row.Notices(); {
	case row.Problem != "" && row.State.Final():
		return row.Problem
	case (row.State == scheduler.Running || row.State == scheduler.Preempted) && len(notices) > 0:
		words, _, _ := strings.Cut(notices[0], ". ")
		return strings.TrimSuffix(words, ".")
	}
	return ""
}

// instancesView is the list of the account's instances, newest first.
type instancesView struct {
	frame
	Rows   []instanceRow
	Before scheduler.InstanceID // 0 on the first page
	Older  scheduler.InstanceID // where the next page begins; 0: there is none
}

func (c *console) instances(w http.ResponseWriter, r *http.Request, v *visit) error {
	l, err := c.listInstances(r, v)
	if err != nil {
		return err
	}
	l.frame = c.frame(r, v, "Instances")
	return show(w, r, http.StatusOK, instancesPage(l))
}

func (c *console) instancesEvents(w http.ResponseWriter, r *http.Request, v *visit) error {
	return c.follow(w, r, v, func() (templ.Component, bool, error) {
		l, err := c.listInstances(r, v)
		return instanceList(l), false, err
	})
}

func (c *console) listInstances(r *http.Request, v *visit) (l instancesView, err error) {
	if n, err := strconv.ParseInt(r.URL.Query().Get("before"), 10, 64); err == nil && n > 0 {
		l.Before = scheduler.InstanceID(n)
	}
	list, err := c.Scheduler.List(v.account.ID, l.Before, pageRows+1)
	if err != nil {
		return l, err
	}
	if len(list) > pageRows {
		list = list[:pageRows]
		l.Older = list[pageRows-1].ID
	}
	for _, i := range list {
		row, err := c.rowOf(i)
		if err != nil {
			return l, err
		}
		l.Rows = append(l.Rows, row)
	}
	return l, nil
}

func (c *console) rowOf(i scheduler.Instance) (row instanceRow, err error) {
	row.Instance = i
	if row.HourlyCost, err = ledger.Cost(i.Rate, i.GPUCount, time.Hour); err != nil {
		return row, err
	}
	if d := i.Deadline(); !d.IsZero() {
		row.Left = time.Until(d)
	}
	if p, ok := c.Scheduler.Progress(i.ID); ok && i.State == scheduler.Pulling && p.TotalBytes > 0 {
		row.Percent = int(100 * p.Bytes / p.TotalBytes)
	}
	row.Waits, err = c.Scheduler.Waiting(i)
	return row, err
}

// ends tells whether the row's instance can be terminated.
func (row instanceRow) ends() bool { return canEnd(row.State) }

// canEnd tells whether terminating still means something.
func canEnd(s scheduler.State) bool { return !s.Final() && s != scheduler.Terminating }
