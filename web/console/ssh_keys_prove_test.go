package console

import (
	"html"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"ecolink/ledger/identity"
	"ecolink/ledger/store"
)

// laptop is a person's own computer: a home with a key in it.
type laptop struct {
	t      *testing.T
	home   string
	public string
}

func newLaptop(t *testing.T, kind string) *laptop {
	t.Helper()
	l := &laptop{t: t, home: t.TempDir()}
	if err := os.Mkdir(filepath.Join(l.home, ".ssh"), 0o700); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(l.home, ".ssh", "id_"+kind)
	if out, err := exec.Command("ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "ana@laptop", "-f", file).CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen: %v: %s", err, out)
	}
	raw, err := os.ReadFile(file + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	l.public = string(raw)
	return l
}

// runs types a command into the laptop's shell, and gives all that it prints, as
// somebody would copy it.
func (l *laptop) runs(command string) string {
	l.t.Helper()
	cmd := exec.Command("sh", "-c", strings.ReplaceAll(command, "~", l.home))
	out, err := cmd.CombinedOutput()
	if err != nil {
		l.t.Fatalf("%s: %v: %s", command, err, out)
	}
	return string(out)
}

var proofCommand = regexp.MustCompile(`<code id="proof-command"[^>]*>([^<]*)</code>`)

// command is what the page tells to run.
func (a answer) command() string {
	a.t.Helper()
	found := proofCommand.FindStringSubmatch(a.body)
	if found == nil {
		a.t.Fatalf("the page has no command: %s", a.body)
	}
	return html.UnescapeString(found[1])
}

func TestAKeyThatAnotherHasCopiedIsProvedInTheConsole(t *testing.T) {
	w := newWorld(t, 1).people()
	l := newLaptop(t, "ecdsa")
	eve, ana := w.as("eve@example.org"), w.as("ana@example.org")
	eve.submit("/ssh-keys", "/ssh-keys", url.Values{"public_key": {l.public}, "name": {"copied"}}).want(303)
	eve.get("/ssh-keys").want(200, "not proved").without("in dispute")
	asked := ana.submit("/ssh-keys", "/ssh-keys", url.Values{"public_key": {l.public}, "name": {"my <laptop>"}}).
		want(409, "This key is in another profile already, without a proof", "ecolink:gpu.example.org:ana@example.org:SHA256:").without("copied", "<laptop>")
	eve.get("/ssh-keys").want(200, "in dispute")
	command := asked.command()
	if !strings.HasSuffix(command, "| ssh-keygen -Y sign -n ecolink-ssh-key -f ~/.ssh/id_ecdsa") {
		t.Errorf("it says to run %s", command)
	}
	signature := l.runs(command)
	form := url.Values{"public_key": {l.public}, "name": {"my laptop"}, "csrf": {ana.csrf("/gpus")}, "signature": {signature[:len(signature)/2]}}
	again := ana.send("POST", "/ssh-keys/prove", form, nil).want(422, "BEGIN SSH SIGNATURE", `aria-invalid="true"`)
	if again.command() != command {
		t.Error("a slip of the mouse costs another signature")
	}
	form.Set("signature", signature)
	ana.send("POST", "/ssh-keys/prove", form, nil).want(303)
	ana.get("/ssh-keys?note=proved").want(200, "my laptop", "proved to be yours<", "nobody can take it").without("Another user has proved")
	eve.get("/ssh-keys").want(200, "No keys yet", "Another user has proved", "copied").without("ana@")
	eve.submit("/ssh-keys", "/ssh-keys", url.Values{"public_key": {l.public}}).want(409, "its user has proved to have it").without("proof-command")
	ana.send("POST", "/ssh-keys/prove", form, nil).want(409, "You have the key").without("proof-command") // sent twice
}

func TestAPersonProvesTheirKeyInTheBrowser(t *testing.T) {
	w := newWorld(t, 1).people()
	l := newLaptop(t, "ed25519")
	w.as("eve@example.org").submit("/ssh-keys", "/ssh-keys", url.Values{"public_key": {l.public}}).want(303)
	page := w.tab(w.as("ana@example.org"))
	page.do("add a key that is taken", page.open("/ssh-keys"),
		chromedp.SetValue(chromedp.CSS("#public_key"), l.public), chromedp.Click(chromedp.CSS(`form[action="/ssh-keys"] button.primary`)),
		chromedp.WaitVisible(chromedp.CSS("#proof-command")), says("in another profile already, without a proof"))
	command, err := chromedp.Run(page.ctx, chromedp.Text(chromedp.CSS("#proof-command")))
	if err != nil {
		t.Fatal(err)
	}
	page.do("paste what the command printed",
		chromedp.SetValue(chromedp.CSS("#signature"), l.runs(command)), chromedp.Click(chromedp.CSS("#proof button.primary")),
		chromedp.WaitVisible(chromedp.CSS(".notice.good")), says("The key is proved to be yours"), says("ana@laptop"))
	w.update(func(tx *store.Tx) error {
		ana, err := identity.UserByEmail(tx, "ana@example.org")
		if err != nil {
			return err
		}
		all, err := identity.ListSSHKeys(tx, ana.ID)
		if err == nil && (len(all) != 1 || !all[0].IsProven() || time.Since(all[0].Proven) > time.Minute) {
			t.Errorf("she has %+v", all)
		}
		return err
	})

	// A key that nobody disputes is proved from the list.
	other := newLaptop(t, "ed25519")
	page.do("add another, which opens at once", chromedp.SetValue(chromedp.CSS("#public_key"), other.public),
		chromedp.Click(chromedp.CSS(`form[action="/ssh-keys"] button.primary`)), chromedp.WaitVisible(chromedp.CSS(`button[aria-label="Prove ana@laptop"]`)), says("opens your instances from now on"), says("not proved"),
		chromedp.Click(chromedp.CSS(`button[aria-label="Prove ana@laptop"]`)), chromedp.WaitVisible(chromedp.CSS("#proof-command")))
	if command, err = chromedp.Run(page.ctx, chromedp.Text(chromedp.CSS("#proof-command"))); err != nil {
		t.Fatal(err)
	}
	page.do("prove it", chromedp.SetValue(chromedp.CSS("#signature"), other.runs(command)), chromedp.Click(chromedp.CSS("#proof button.primary")),
		chromedp.WaitVisible(chromedp.CSS(".notice.good")), says("The key is proved to be yours"), until("!document.body.innerText.includes('not proved')"))
}
