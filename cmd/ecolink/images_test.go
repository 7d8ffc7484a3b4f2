package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestABoxWithoutImagesSaysSoAndHowToGetOne(t *testing.T) {
	none := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"data":[]}`) })
	server := httptest.NewServer(none)
	t.Cleanup(server.Close)
	t.Setenv("ECOLINK_URL", server.URL)
	t.Setenv("ECOLINK_API_KEY", "key")
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"images"}, "the operator has brought no image to this box"},
		{[]string{"image", "ls", "--run-dir", serveAdmin(t, none)}, "no images are on this box"},
	} {
		var out strings.Builder
		root := rootCommand()
		root.SetArgs(c.args)
		root.SetOut(&out)
		must(t, root.ExecuteContext(t.Context()))
		if got := out.String(); !strings.HasPrefix(got, c.want) || !strings.Contains(got, "`ecolink image import FILE`") {
			t.Errorf("%v: %q", c.args, got)
		}
	}
}
