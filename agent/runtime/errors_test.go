package runtime

import (
	"net"
	"net/url"
	"strings"
	"testing"
)

func TestARegistryThatCantBeLookedUpMayMeanThatTheBoxHasNoNetwork(t *testing.T) {
	for says, cause := range map[string]*net.DNSError{
		"there is no host ghcr.example: check the name": {Name: "ghcr.example", Err: "no such host", IsNotFound: true},
		"the host ghcr.example can't be looked up":      {Name: "ghcr.example", Err: "server misbehaving", IsTemporary: true},
	} {
		asked := &url.Error{Op: "Head", URL: "https://ghcr.example/v2/", Err: &net.OpError{Op: "dial", Net: "tcp", Err: cause}}
		got := transferError(asked, Image{Name: "ghcr.example/a/b:1"}).Error()
		if !strings.HasPrefix(got, says) || !strings.Contains(got, "this box may have no network") {
			t.Error(got)
		}
	}
}
