package console

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"ecolink/agent"
	"ecolink/ledger"
	"ecolink/ledger/price"
	"ecolink/ledger/store"
	"ecolink/scheduler"
	"ecolink/web"
)

// launchFields are the form's fields, named as the API's.
var launchFields = []string{"name", "gpu_type", "gpu_count", "image", "estimated_duration_hours", "priority_class", "command", "env", "service_port", "service_public", "ssh_public_key"}

// gpuChoice is a GPU type that one can ask for.
type gpuChoice struct {
	Type        string
	Name        string // of the product
	MemoryBytes int64
	Free, Total int
	Rate        ledger.MicroUSD // per GPU-hour; 0: it has no price yet
}

// launchView is the launch form with what was typed into it.
type launchView struct {
	frame
	Choices  []gpuChoice
	Storage  []storageChoice
	Values   map[string]string // by field
	Problems problems
	Nonce    string
	MaxCount int
	Images   []agent.StoredImage // that the operator has brought here
}

// fewImages are shown without being asked for.
const fewImages = 6

// shortDigest is enough of a digest to tell it apart: sha256:9834876dcfb0.
func shortDigest(digest string) string {
	kind, hex, _ := strings.Cut(digest, ":")
	return kind + ":" + hex[:min(len(hex), 12)]
}

// quoteView is what a launch would cost.
type quoteView struct {
	Problem string // why nothing is known of it
	Missing string // why the image can't be had: what it would cost is known
	scheduler.Quote
	Hours      string
	Count      int
	GPUType    string
	HourlyCost ledger.MicroUSD
	After      ledger.MicroUSD // available after the hold
}

func (c *console) launchForm(w http.ResponseWriter, r *http.Request, v *visit) error {
	values := map[string]string{
		"name": suggestName(), "gpu_count": "1", "estimated_duration_hours": "2", "image": "docker.io/library/ubuntu:24.04",
	}
	for _, f := range launchFields { // a link may fill in some
		if s := r.URL.Query().Get(f); s != "" {
			values[f] = s
		}
	}
	return c.showLaunch(w, r, v, http.StatusOK, launchView{Values: values, Nonce: newNonce()})
}

func (c *console) showLaunch(w http.ResponseWriter, r *http.Request, v *visit, status int, l launchView) error {
	l.frame = c.frame(r, v, "Launch an instance")
	var err error
	if l.Choices, err = c.gpuChoices(); err != nil {
		return err
	}
	if l.Storage, err = c.storageChoices(v, r.Form); err != nil {
		return err
	}
	if l.Images, err = c.Scheduler.ImportedImages(r.Context()); err != nil {
		c.Log.WarnContext(r.Context(), "the images on this box can't be listed", "err", err) // others can be launched
	}
	for _, choice := range l.Choices {
		l.MaxCount = max(l.MaxCount, choice.Total)
		if l.Values["gpu_type"] == "" && choice.Rate > 0 {
			l.Values["gpu_type"] = choice.Type
		}
	}
	return show(w, r, status, launchPage(l))
}

// gpuChoices counts the box's GPUs by type, in the order of their index.
func (c *console) gpuChoices() ([]gpuChoice, error) {
	gpus, err := c.Scheduler.GPUs()
	if err != nil {
		return nil, err
	}
	var rates map[string]ledger.MicroUSD
	if err := c.Store.View(func(tx *store.Tx) (err error) { rates, err = price.GPURates(tx, time.Now()); return err }); err != nil {
		return nil, err
	}
	var out []gpuChoice
	at := map[string]int{}
	for _, g := range gpus {
		n, known := at[g.Type]
		if !known {
			n = len(out)
			at[g.Type] = n
			choice := gpuChoice{Type: g.Type, Rate: rates[g.Type]}
			if hw, ok := c.Inventory.GPU(g.UUID); ok {
				choice.Name, choice.MemoryBytes = hw.Name, int64(hw.MemoryBytes)
			}
			out = append(out, choice)
		}
		out[n].Total++
		if g.Instance == 0 {
			out[n].Free++
		}
	}
	return out, nil
}

func (c *console) launch(w http.ResponseWriter, r *http.Request, v *visit) error {
	l := launchView{Values: map[string]string{}, Nonce: r.PostFormValue("nonce")}
	values := make([]string, len(launchFields))
	for n, f := range launchFields {
		values[n] = r.PostFormValue(f)
		l.Values[f] = values[n]
	}
	var made scheduler.Instance
	req, err := readLaunch(r.PostForm)
	if err == nil {
		err = c.readMounts(v, r.PostForm, &req)
	}
	if err == nil {
		values = append(values, fmt.Sprint(req.Drives, req.Filesystems))
		req.Account, req.User = v.account.ID, v.user.ID
		req.RequestID, req.Key = web.RequestID(r.Context()), idempotencyKey(l.Nonce, values...)
		made, err = c.Scheduler.Launch(r.Context(), req)
	}
	if err != nil {
		f := web.Explain(r.Context(), c.Log, err)
		if f.Status >= 500 && f.Status != http.StatusServiceUnavailable {
			return f
		}
		l.Problems = problemsOf(mountProblem(f), append(launchFields, "drives")...)
		return c.showLaunch(w, r, v, f.Status, l)
	}
	http.Redirect(w, r, fmt.Sprintf("/instances/%d", made.ID), http.StatusSeeOther)
	return nil
}

// quote answers the form's script with what a launch would cost, as a part.
func (c *console) quote(w http.ResponseWriter, r *http.Request, v *visit) error {
	q := quoteView{Hours: r.URL.Query().Get("estimated_duration_hours")}
	slow := false
	req, err := readLaunch(r.URL.Query())
	if err == nil {
		err = c.readMounts(v, r.URL.Query(), &req)
	}
	if err == nil {
		req.Account, req.User = v.account.ID, v.user.ID
		q.Count, q.GPUType = req.GPUCount, req.GPUType
		q.Quote, slow, err = c.quoteSoon(r.Context(), req)
	}
	if err == nil {
		q.HourlyCost, q.After, err = figures(q.Quote, q.Count)
	}
	if err != nil {
		q.Problem = web.Explain(r.Context(), c.Log, err).Message
	} else if slow {
		q.Missing = "the image's registry has not answered yet: the launch asks it again, and waits longer"
	} else if q.Image != nil {
		q.Missing = web.Explain(r.Context(), c.Log, q.Image).Message
	}
	return show(w, r, http.StatusOK, quotePart(q))
}

// quoteImageTime is how long the price waits for the image's registry.
const quoteImageTime = 3 * time.Second

// quoteSoon tells what a launch would cost although its image's registry may be
// slow: the price does not depend on that.
func (c *console) quoteSoon(ctx context.Context, req scheduler.LaunchRequest) (q scheduler.Quote, slow bool, err error) {
	soon, cancel := context.WithTimeout(ctx, c.imageTime)
	defer cancel()
	q, err = c.Scheduler.Quote(soon, req)
	return q, q.Image != nil && soon.Err() != nil && ctx.Err() == nil, err
}

// readLaunch reads the form's fields. What is in them is the scheduler's to judge.
func readLaunch(form url.Values) (req scheduler.LaunchRequest, err error) {
	get := func(name string) string { return strings.TrimSpace(form.Get(name)) }
	req = scheduler.LaunchRequest{Name: get("name"), GPUType: get("gpu_type"), Image: get("image")}
	if req.GPUType == "" {
		return req, unprocessable("gpu_type", "choose a GPU type")
	}
	if req.GPUCount, err = strconv.Atoi(get("gpu_count")); err != nil {
		return req, unprocessable("gpu_count", "the number of GPUs is a whole number, such as 1")
	}
	if req.Hours, err = readHours(get("estimated_duration_hours")); err != nil {
		return req, unprocessable("estimated_duration_hours", err.Error())
	}
	if req.Class, err = scheduler.ParseClass(get("priority_class")); err != nil {
		return req, err
	}
	req.SSHKey = strings.TrimSpace(form.Get("ssh_public_key"))
	if req.Command, err = splitWords(form.Get("command")); err != nil {
		return req, unprocessable("command", err.Error())
	}
	if req.Env, err = parseEnv(form.Get("env")); err != nil {
		return req, unprocessable("env", err.Error())
	}
	if req.ServicePort, err = readPort(form.Get("service_port")); err != nil {
		return req, err
	}
	req.ServiceOpen = form.Get("service_public") != ""
	return req, nil
}

// readHours takes a decimal comma too: half of the world types it.
func readHours(s string) (float64, error) {
	h, err := strconv.ParseFloat(strings.Replace(s, ",", ".", 1), 64)
	if err != nil || math.IsInf(h, 0) || math.IsNaN(h) {
		return 0, fmt.Errorf("hours are a number, such as 2 or 1.5")
	}
	return h, nil
}

func unprocessable(field, message string) *web.Failure {
	return web.Fail(http.StatusUnprocessableEntity, "unprocessable", field, message)
}

// suggestName makes up a name; 40,000 of them make a clash unlikely, and a clash
// is shown at its field.
func suggestName() string {
	first := []string{"amber", "bold", "brisk", "calm", "clear", "coral", "deep", "early", "fair", "fleet", "gentle", "golden", "keen", "light", "lunar", "mellow", "nimble", "quiet", "rapid", "solar"}
	second := []string{"aspen", "badger", "brook", "cedar", "condor", "crane", "dune", "falcon", "fjord", "heron", "ibis", "lark", "maple", "otter", "pine", "raven", "reef", "swift", "tern", "willow"}
	return fmt.Sprintf("%s-%s-%d", first[rand.IntN(len(first))], second[rand.IntN(len(second))], rand.IntN(100))
}
