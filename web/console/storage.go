package console

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/a-h/templ"

	"ecolink/ledger"
	"ecolink/ledger/drives"
	"ecolink/ledger/price"
	"ecolink/ledger/store"
	"ecolink/scheduler"
	"ecolink/web"
)

// maxDriveRows is how many drives, and how many filesystems, a page lists: as many
// as an account may have.
const maxDriveRows = 1000

// driveRow is a drive or shared filesystem as a list shows it.
type driveRow struct {
	drives.Drive
	Users  []driveUser
	Month  ledger.MicroUSD // what keeping it for this calendar month costs
	Priced bool
}

// driveUser is who has a drive attached.
type driveUser struct{ Name, Link string }

// storageView is all of the account's storage, newest first.
type storageView struct {
	frame
	Drives, Filesystems []driveRow
	Note                string // what a form has just done
}

func (c *console) storage(w http.ResponseWriter, r *http.Request, v *visit) error {
	l, err := c.listStorage(v)
	if err != nil {
		return err
	}
	l.frame, l.Note = c.frame(r, v, "Storage"), driveNotes[r.URL.Query().Get("note")]
	return show(w, r, http.StatusOK, storagePage(l))
}

func (c *console) storageEvents(w http.ResponseWriter, r *http.Request, v *visit) error {
	return c.follow(w, r, v, func() (templ.Component, bool, error) {
		l, err := c.listStorage(v)
		return storageLists(l), false, err
	})
}

func (c *console) listStorage(v *visit) (l storageView, err error) {
	for _, kind := range []struct {
		of   drives.Kind
		into *[]driveRow
	}{{drives.CloudDrive, &l.Drives}, {drives.SharedFilesystem, &l.Filesystems}} {
		all, err := c.Scheduler.Drives(v.account.ID, kind.of, 0, maxDriveRows)
		if err != nil {
			return l, err
		}
		if *kind.into, err = c.driveRows(v, all); err != nil {
			return l, err
		}
	}
	return l, nil
}

// driveRows adds to drives what their records do not have.
func (c *console) driveRows(v *visit, all []drives.Drive) ([]driveRow, error) {
	rows := make([]driveRow, len(all))
	err := c.Store.View(func(tx *store.Tx) error {
		for n, d := range all {
			rows[n] = driveRow{Drive: d}
			p, ok, err := price.At(tx, itemOf(d.Kind), time.Now())
			if err != nil {
				return err
			}
			if rows[n].Priced = ok; !ok {
				continue
			}
			if rows[n].Month, err = costOfMonth(p, d.BilledGB(), time.Now()); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for n := range rows {
		for _, a := range rows[n].Attachments {
			rows[n].Users = append(rows[n].Users, c.driveUser(v, a.User))
		}
	}
	return rows, nil
}

// driveUser names whoever has a drive attached: "gpu-instance/7" is that instance.
func (c *console) driveUser(v *visit, user string) driveUser {
	what, digits, _ := strings.Cut(user, "/")
	n, err := strconv.ParseInt(digits, 10, 64)
	if what != "gpu-instance" || err != nil {
		return driveUser{Name: user}
	}
	i, err := c.Scheduler.Get(v.account.ID, scheduler.InstanceID(n))
	if err != nil {
		return driveUser{Name: user}
	}
	return driveUser{Name: i.Name, Link: fmt.Sprintf("/instances/%d", i.ID)}
}

func itemOf(k drives.Kind) price.Item {
	if k == drives.SharedFilesystem {
		return price.SharedFilesystem
	}
	return price.Drive
}

// costOfMonth is what storage costs for the whole of the calendar month.
func costOfMonth(p price.Price, gb int64, now time.Time) (ledger.MicroUSD, error) {
	first := time.Date(now.UTC().Year(), now.UTC().Month(), 1, 0, 0, 0, 0, time.UTC)
	return p.CostOfStorage(gb, first, first.AddDate(0, 1, 0))
}

func monthly(row driveRow) string {
	switch {
	case row.State == drives.Failed || row.State == drives.Deleting:
		return "–"
	case !row.Priced:
		return "no price"
	}
	return money(row.Month)
}

// opens tells whether a drive's files can be looked at.
func opens(s drives.State) bool { return s == drives.Available || s == drives.Attached }

// storageFields are the form's fields, named as the API's.
var storageFields = []string{"kind", "name", "size_gb", "mount_path"}

// newStorageView is the form for a drive or filesystem with what was typed into it.
type newStorageView struct {
	frame
	Values   map[string]string // by field
	Problems problems
	Nonce    string
}

// storageQuote is what a size costs.
type storageQuote struct {
	Problem    string
	Rate       ledger.MicroUSD // per GB and month
	Day, Month ledger.MicroUSD
	Available  ledger.MicroUSD
}

func (c *console) newStorageForm(w http.ResponseWriter, r *http.Request, v *visit) error {
	n := newStorageView{frame: c.frame(r, v, "New storage"), Values: map[string]string{"size_gb": "100"}, Nonce: newNonce()}
	return show(w, r, http.StatusOK, newStoragePage(n))
}

func (c *console) createStorage(w http.ResponseWriter, r *http.Request, v *visit) error {
	n := newStorageView{Values: map[string]string{}, Nonce: r.PostFormValue("nonce")}
	values := make([]string, len(storageFields))
	for at, f := range storageFields {
		values[at] = r.PostFormValue(f)
		n.Values[f] = values[at]
	}
	var made drives.Drive
	req, err := readStorage(r.PostForm)
	if err == nil {
		req.Account, req.User, req.Key = v.account.ID, v.user.ID, idempotencyKey(n.Nonce, values...)
		made, err = c.Scheduler.CreateDrive(r.Context(), req)
	}
	if err != nil {
		f := web.Explain(r.Context(), c.Log, err)
		if f.Status >= 500 && f.Status != http.StatusServiceUnavailable {
			return f
		}
		n.frame, n.Problems = c.frame(r, v, "New storage"), problemsOf(f, storageFields...)
		return show(w, r, f.Status, newStoragePage(n))
	}
	http.Redirect(w, r, drivePath(made), http.StatusSeeOther)
	return nil
}

// readStorage reads the form's fields. What is in them is the scheduler's to judge.
func readStorage(form url.Values) (req scheduler.DriveRequest, err error) {
	get := func(name string) string { return strings.TrimSpace(form.Get(name)) }
	req = scheduler.DriveRequest{Kind: drives.Kind(get("kind")), Name: get("name")}
	if req.Kind == drives.SharedFilesystem {
		req.MountPath = get("mount_path")
	}
	req.GB, err = readGB(get("size_gb"))
	return req, err
}

func readGB(text string) (int64, error) {
	gb, err := strconv.ParseInt(text, 10, 64)
	if err != nil || gb < 1 {
		return 0, unprocessable("size_gb", "the size is a whole number of GB, 1 at least, such as 100")
	}
	return gb, nil
}

// storageQuote answers the form's script with what the size costs, as a part.
func (c *console) storageQuote(w http.ResponseWriter, r *http.Request, v *visit) error {
	q := storageQuote{Available: v.wallet.Available}
	req, err := readStorage(r.URL.Query())
	if err == nil {
		err = c.priceStorage(&q, req)
	}
	if err != nil {
		q.Problem = web.Explain(r.Context(), c.Log, err).Message
	}
	return show(w, r, http.StatusOK, storageQuotePart(q))
}

func (c *console) priceStorage(q *storageQuote, req scheduler.DriveRequest) error {
	now := time.Now().UTC()
	return c.Store.View(func(tx *store.Tx) error {
		p, ok, err := price.At(tx, itemOf(req.Kind), now)
		if err != nil {
			return err
		}
		if !ok {
			return unprocessable("kind", "this storage has no price yet: the operator sets one")
		}
		q.Rate = p.Amount
		if q.Month, err = costOfMonth(p, req.GB, now); err != nil {
			return err
		}
		q.Day, err = p.CostOfStorage(req.GB, now, now.Add(24*time.Hour))
		return err
	})
}
