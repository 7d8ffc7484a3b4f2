package scheduler

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
	"time"

	"ecolink/agent"
	"ecolink/ledger"
	"ecolink/ledger/identity"
	"ecolink/ledger/price"
	"ecolink/ledger/store"
	"ecolink/scheduler/placement"
)

// Limits of a launch request.
const (
	minHours       = 1
	maxHours       = 24 * 366
	maxEnv         = 128
	maxEnvBytes    = 32 << 10
	maxCommand     = 128
	maxCommandByte = 32 << 10
	maxImageBytes  = 512
)

// LaunchRequest is what a person asks for.
type LaunchRequest struct {
	Account  identity.AccountID
	User     identity.UserID
	Name     string
	GPUType  string
	GPUCount int
	Class    Class `json:",omitempty"` // "" is Standard; see ParseClass
	Image    string
	Hours    float64 // estimated_duration_hours
	Command  []string
	Env      map[string]string
	// Drives and Filesystems are mounted into the container, maxMounts of them
	// together. A filesystem without a path has its own default.
	Drives      []DriveMount `json:",omitempty"`
	Filesystems []DriveMount `json:",omitempty"`
	// SSHKey lets whoever holds one of its private halves into this instance: public
	// keys as authorized_keys has them, one a line. A guest who has the key in their
	// profile needs the instance's number: see EnterBySSH.
	SSHKey string `json:",omitempty"`
	// ServicePort is what a service in it listens on, 0 for none; open to everybody,
	// or to the account's members only.
	ServicePort int  `json:",omitempty"`
	ServiceOpen bool `json:",omitempty"`
	RequestID   string
	Key         string // idempotency key, optional
	// ImageDigest is what Image means now: Launch finds it out.
	ImageDigest string `json:"-"`
	// APIKey and Tag are whom the money counts for. They are nothing that the user
	// chose here, and so not in the fingerprint.
	APIKey identity.KeyID `json:"-"`
	Tag    string         `json:"-"`
}

// Quote says what a launch would cost and whether it would start at once.
type Quote struct {
	Rate      ledger.MicroUSD // per GPU-hour
	Hold      ledger.MicroUSD // what leaves the available balance
	Wallet    ledger.Wallet   // before the launch
	Capped    error           // *ledger.CapError, if the API key's cap does not allow it
	Image     error           // why the image can't be had: Launch refuses with it
	Paid      time.Duration
	FreeGPUs  int // of the type, now
	TotalGPUs int
	// Resources are what the instance would have of the machine.
	Resources agent.Resources
	Waiting   int // requests for the type that would go first
	// Waits says that it would wait in the queue, Preempts that others would give it
	// their GPUs, which takes some seconds.
	Waits, Preempts bool
}

// Covered tells whether the balance pays for it, and the API key's cap allows it.
func (q Quote) Covered() bool { return q.refusal() == nil }

// refusal is why the money is not there.
func (q Quote) refusal() error {
	if q.Wallet.Available < q.Hold {
		return &ledger.InsufficientError{Needed: q.Hold, Available: q.Wallet.Available}
	}
	return q.Capped
}

var namePattern = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// Quote works a launch out without doing anything. What it costs does not hang on
// the image, so it is told although that can't be had, too.
func (s *Scheduler) Quote(ctx context.Context, r LaunchRequest) (q Quote, err error) {
	paid, err := s.check(r)
	if err != nil {
		return Quote{}, err
	}
	err = s.store.View(func(tx *store.Tx) (err error) {
		if err := nameIsFree(tx, r); err != nil {
			return err
		}
		if _, _, err := mountable(tx, r); err != nil {
			return err
		}
		q, err = s.quote(tx, r, paid)
		return err
	})
	if err != nil {
		return Quote{}, err
	}
	_, q.Image = s.resolve(ctx, r.Account, r.Image)
	return q, nil
}

// Launch places the hold and writes the instance in one transaction; when its
// GPUs are free they are assigned in the same one. Nothing is created on any
// error. With an idempotency key the second call gives what the first made, also
// when the request could not be met any more: its registry may be down by then.
func (s *Scheduler) Launch(ctx context.Context, r LaunchRequest) (i Instance, err error) {
	if math.IsNaN(r.Hours) || math.IsInf(r.Hours, 0) { // has no JSON, and so no fingerprint
		_, err := ParseHours(r.Hours, "estimated_duration_hours")
		return Instance{}, err
	}
	var again bool
	err = s.store.View(func(tx *store.Tx) (err error) { i, again, err = s.launchedBefore(tx, r); return err })
	if err != nil || again {
		return i, err
	}
	paid, err := s.check(r)
	if err != nil {
		return Instance{}, err
	}
	// Last and outside the transaction, since only this can take time.
	if r.ImageDigest, err = s.resolve(ctx, r.Account, r.Image); err != nil {
		return Instance{}, err
	}
	err = s.store.Update(ctx, func(tx *store.Tx) (err error) {
		i, err = s.launch(tx, r, paid)
		return err
	})
	return i, err
}

func (s *Scheduler) launch(tx *store.Tx, r LaunchRequest, paid time.Duration) (Instance, error) {
	if prior, ok, err := s.launchedBefore(tx, r); err != nil || ok {
		return prior, err
	}
	if err := nameIsFree(tx, r); err != nil {
		return Instance{}, err
	}
	ds, fs, err := mountable(tx, r)
	if err != nil {
		return Instance{}, err
	}
	q, err := s.quote(tx, r, paid)
	if err != nil {
		return Instance{}, err
	}
	if err := q.refusal(); err != nil { // before the first write
		return Instance{}, err
	}
	n, err := tx.NextID(instances.Name())
	if err != nil {
		return Instance{}, err
	}
	now := time.Now().UTC()
	i := Instance{
		ID: InstanceID(n), Account: r.Account, CreatedBy: r.User, CreatedAt: now,
		Name: r.Name, GPUType: r.GPUType, GPUCount: r.GPUCount, Class: r.Class, Image: r.Image, ImageDigest: r.ImageDigest,
		Command: r.Command, Env: r.Env, Rate: q.Rate, Paid: paid, Resources: q.Resources, State: Pending, APIKey: r.APIKey, Tag: r.Tag,
		History: []Change{{State: Pending, At: now, Reason: "launched"}},
		Drives:  ds, Filesystems: fs,
		ServicePort: r.ServicePort, ServiceOpen: r.ServiceOpen,
	}
	if IsJupyter(i.Image) {
		i.JupyterToken = newJupyterToken()
	}
	terms, err := i.holdTerms(now)
	if err != nil {
		return Instance{}, err
	}
	hold, err := ledger.PlaceHold(tx, ledger.Entry{
		At: now, Account: r.Account, Amount: q.Hold, Resource: i.Resource(), RequestID: r.RequestID, APIKey: r.APIKey, Tag: r.Tag,
		Description: fmt.Sprintf("%s: %d × %s for %s", r.Name, r.GPUCount, r.GPUType, spell(paid)),
	}, terms)
	if err != nil {
		return Instance{}, err
	}
	i.Hold = hold.ID
	if err := setSSHKey(&i, r.SSHKey); err != nil {
		return Instance{}, err
	}
	if err := put(tx, i); err != nil {
		return Instance{}, err
	}
	if err := i.indexForSSH(tx); err != nil {
		return Instance{}, err
	}
	if err := i.attach(tx, now); err != nil {
		return Instance{}, err
	}
	if err := instancesByOwner.Put(tx, store.Pair{A: int64(i.Account), B: n}, struct{}{}); err != nil {
		return Instance{}, err
	}
	if r.Key != "" {
		rec := launchRecord{ID: i.ID, Fingerprint: r.fingerprint()}
		if err := launchesByRequest.Put(tx, r.idempotencyKey(), rec); err != nil {
			return Instance{}, err
		}
	}
	if err := s.place(tx, now); err != nil {
		return Instance{}, err
	}
	return get(tx, i.ID)
}

func (s *Scheduler) launchedBefore(tx *store.Tx, r LaunchRequest) (Instance, bool, error) {
	if r.Key == "" {
		return Instance{}, false, nil
	}
	rec, ok, err := launchesByRequest.Get(tx, r.idempotencyKey())
	if err != nil || !ok {
		return Instance{}, false, err
	}
	if rec.Fingerprint != r.fingerprint() {
		return Instance{}, false, ledger.ErrKeyReused
	}
	i, err := get(tx, rec.ID)
	return i, true, err
}

func (r LaunchRequest) idempotencyKey() string { return fmt.Sprintf("%d/%s", r.Account, r.Key) }

// fingerprint is over all that the user chose.
func (r LaunchRequest) fingerprint() string {
	r.Key, r.RequestID, r.User = "", "", 0
	if r.Class == Standard { // is what not to choose means
		r.Class = ""
	}
	raw, err := json.Marshal(r)
	if err != nil {
		panic(err) // check has refused the one thing that JSON can't say: a NaN
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:])
}

// quote works out price and capacity. It writes nothing.
func (s *Scheduler) quote(tx *store.Tx, r LaunchRequest, paid time.Duration) (q Quote, err error) {
	p, ok, err := price.At(tx, price.GPU(r.GPUType), time.Now())
	if err != nil {
		return q, err
	}
	if !ok {
		return q, &Problem{Kind: Unprocessable, Field: "gpu_type",
			Message: fmt.Sprintf("%s has no price yet; the operator sets one with `ecolink admin rate %s 1.60`", r.GPUType, r.GPUType)}
	}
	if err := r.Class.mayChoose(tx, r.User); err != nil {
		return q, err
	}
	q.Rate, q.Paid = p.Amount, paid
	q.Resources = times(s.perGPU, r.GPUCount)
	if q.Hold, err = ledger.Cost(p.Amount, r.GPUCount, paid); err != nil {
		return q, &Problem{Kind: Unprocessable, Field: "estimated_duration_hours", Message: "the price is out of range: ask for fewer hours or GPUs", Err: err}
	}
	if q.Wallet, err = ledger.WalletOf(tx, r.Account); err != nil {
		return q, err
	}
	if q.Capped, err = capped(tx, r.APIKey, q.Hold, time.Now()); err != nil {
		return q, err
	}
	live, err := everyLive(tx)
	if err != nil {
		return q, err
	}
	s.forecast(&q, r, live)
	return q, nil
}

// forecast tells how the launch would fare in the queue as it is now.
func (s *Scheduler) forecast(q *Quote, r LaunchRequest, live []Instance) {
	for _, g := range s.gpus {
		if g.Type == r.GPUType {
			q.TotalGPUs++
		}
	}
	now := time.Now()
	ask := s.question(live, now)
	for _, g := range ask.Free {
		if g.Type == r.GPUType {
			q.FreeGPUs++
		}
	}
	types := map[int64]string{}
	for _, w := range ask.Queue {
		types[w.ID] = w.Type
	}
	const mine = math.MaxInt64 // the newest
	class := Instance{Class: r.Class}.Priority().rank()
	ask.Queue = append(ask.Queue, placement.Request{ID: mine, Type: r.GPUType, Count: r.GPUCount, Class: class, Account: int64(r.Account), Needs: q.Paid})
	plan := placement.Place(ask)
	ahead := 0
	for _, w := range plan.Waits {
		switch {
		case w.ID == mine:
			if q.Waits = w.StartsIn != 0; q.Waits {
				q.Waiting = ahead
			}
		case types[w.ID] == r.GPUType:
			ahead++
		}
	}
	q.Preempts = slices.ContainsFunc(plan.Preempt, func(p placement.Preemption) bool { return p.For == mine })
}

// check refuses what can never be launched, whatever its image.
func (s *Scheduler) check(r LaunchRequest) (time.Duration, error) {
	if !namePattern.MatchString(r.Name) {
		return 0, &Problem{Kind: Unprocessable, Field: "name",
			Message: "a name is 1 to 63 lower-case letters, digits and hyphens, and begins and ends with a letter or digit"}
	}
	if err := s.checkGPUs(r); err != nil {
		return 0, err
	}
	paid, err := ParseHours(r.Hours, "estimated_duration_hours")
	if err != nil {
		return 0, err
	}
	if err := checkService(r.ServicePort, r.ServiceOpen); err != nil {
		return 0, err
	}
	if err := checkMounts(r); err != nil {
		return 0, err
	}
	if err := checkProcess(r); err != nil {
		return 0, err
	}
	if _, err := checkSSHKey(r.SSHKey); err != nil {
		return 0, err
	}
	return paid, nil
}

func imageProblem(image string, err error) error {
	if away := (interface{ Unavailable() bool })(nil); errors.As(err, &away) && away.Unavailable() {
		return &Problem{Kind: Unavailable, Message: "the box's containers can't be reached for the moment: try again shortly", Err: err}
	}
	return &Problem{Kind: Unprocessable, Field: "image", Message: fmt.Sprintf("image %s: %v", image, err), Err: err}
}

func (s *Scheduler) checkGPUs(r LaunchRequest) error {
	total := map[string]int{}
	for _, g := range s.gpus {
		total[g.Type]++
	}
	if total[r.GPUType] == 0 {
		have := "this box has no GPUs"
		if len(total) > 0 {
			have = "this box has " + strings.Join(sortedKeys(total), ", ")
		}
		return &Problem{Kind: Unprocessable, Field: "gpu_type", Message: fmt.Sprintf("there is no GPU of type %q: %s", r.GPUType, have)}
	}
	if r.GPUCount < 1 || r.GPUCount > total[r.GPUType] {
		return &Problem{Kind: Unprocessable, Field: "gpu_count",
			Message: fmt.Sprintf("ask for 1 to %d: this box has %d × %s", total[r.GPUType], total[r.GPUType], r.GPUType)}
	}
	return nil
}

func checkProcess(r LaunchRequest) error {
	size := 0
	for _, arg := range r.Command {
		size += len(arg)
		if strings.ContainsRune(arg, 0) {
			return &Problem{Kind: Unprocessable, Field: "command", Message: "a command can't contain a NUL character"}
		}
	}
	if len(r.Command) > maxCommand || size > maxCommandByte {
		return &Problem{Kind: Unprocessable, Field: "command", Message: fmt.Sprintf("a command has at most %d words and %d bytes: put the rest in a script", maxCommand, maxCommandByte)}
	}
	size = 0
	for k, v := range r.Env {
		size += len(k) + len(v)
		if k == "" || strings.ContainsAny(k, "=\x00") || strings.ContainsRune(v, 0) {
			return &Problem{Kind: Unprocessable, Field: "env", Message: fmt.Sprintf("%q is not a name for an environment variable", k)}
		}
	}
	if len(r.Env) > maxEnv || size > maxEnvBytes {
		return &Problem{Kind: Unprocessable, Field: "env", Message: fmt.Sprintf("at most %d variables and %d bytes", maxEnv, maxEnvBytes)}
	}
	return nil
}

// ParseHours turns a number of hours from a request into a duration, to the second.
func ParseHours(h float64, field string) (time.Duration, error) {
	if math.IsNaN(h) || h < minHours || h > maxHours {
		return 0, &Problem{Kind: Unprocessable, Field: field, Message: fmt.Sprintf("ask for %d to %d hours; fractions such as 1.5 are fine", minHours, maxHours)}
	}
	return time.Duration(math.Round(h*3600)) * time.Second, nil
}

// spell writes a length of time as people do: "2 h", "30 min 12 s".
func spell(d time.Duration) string {
	d = d.Round(time.Second)
	var words []string
	for _, unit := range []struct {
		name string
		size time.Duration
	}{{"h", time.Hour}, {"min", time.Minute}, {"s", time.Second}} {
		if n := d / unit.size; n > 0 {
			words = append(words, fmt.Sprintf("%d %s", n, unit.name))
			d -= n * unit.size
		}
	}
	if len(words) == 0 {
		return "less than a second"
	}
	return strings.Join(words, " ")
}

func nameIsFree(tx *store.Tx, r LaunchRequest) error {
	live, err := everyLive(tx)
	if err != nil {
		return err
	}
	for _, i := range live {
		if i.Account == r.Account && i.Name == r.Name && !i.State.Final() {
			return &Problem{Kind: Conflict, Field: "name",
				Message: fmt.Sprintf("instance %d is called %s already: choose another name or terminate that one", i.ID, r.Name)}
		}
	}
	return nil
}
