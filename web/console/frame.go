package console

import (
	"net/http"
	"strings"

	"ecolink/ledger"
	"ecolink/ledger/identity"
	"ecolink/web/console/assets"
)

// frame is what surrounds every page.
type frame struct {
	Title     string
	Path      string // of the request
	SignedIn  bool
	Email     string
	Account   identity.Account
	Accounts  []identity.Account
	Wallet    ledger.Wallet
	CSRF      string
	Simulated string // which machine the GPUs imitate; "" when they are real
	NoGPUs    string // why there are none
	Assets    assets.Set
}

// frame makes the frame of a page; v is nil when nobody is signed in.
func (c *console) frame(r *http.Request, v *visit, title string) frame {
	f := frame{Title: title, Path: r.URL.Path, Assets: c.assets}
	if c.Inventory.Simulated {
		f.Simulated = c.Inventory.SimulatedAs
	}
	if len(c.Inventory.GPUs) == 0 {
		f.NoGPUs = c.Inventory.Note
	}
	if v != nil {
		f.SignedIn, f.Email, f.CSRF, f.Wallet = true, v.user.Email, v.session.CSRFToken(), v.wallet
		f.Account, f.Accounts = v.account, v.accounts
	}
	return f
}

// in tells whether the page belongs to a section of the menu, and to none within it.
func (f frame) in(section string) bool {
	longest := ""
	for _, s := range sections {
		if (f.Path == s.Path || strings.HasPrefix(f.Path, s.Path+"/")) && len(s.Path) > len(longest) {
			longest = s.Path
		}
	}
	return longest == section
}

// section is an entry of the menu.
type section struct{ Path, Name, Icon string }

var sections = []section{
	{"/instances", "Instances", "instances"},
	{"/storage", "Storage", "storage"},
	{"/gpus", "GPUs", "gpus"},
	{"/billing", "Billing", "billing"},
	{"/keys", "API keys", "keys"},
	{"/keys/registries", "Registries", "box"},
	{"/ssh-keys", "SSH keys", "prompt"},
}
