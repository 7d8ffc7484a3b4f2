package main

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// layers says what each top folder may import of the others. The road goes one
// way: cmd → web → scheduler → agent → nvml, with the ledger beside it.
var layers = map[string][]string{
	"cmd":       {"web", "scheduler", "agent", "ledger", "nvml", "packaging"},
	"web":       {"scheduler", "agent", "ledger", "nvml"},
	"scheduler": {"agent", "ledger"},
	"agent":     {"nvml"},
	"ledger":    {},
	"nvml":      {},
	"packaging": {},
}

// keepers are packages that alone may import a module, so that a move to another
// is a change in one place.
var keepers = map[string][]string{
	"github.com/coder/websocket": {"ecolink/web/socket"},
	"go.etcd.io/bbolt":           {"ecolink/ledger/store", "ecolink/cmd/ecolink-bench"}, // a peer to measure beside
}

func TestNobodyImportsAgainstTheGrain(t *testing.T) {
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", "ecolink/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	dec := json.NewDecoder(strings.NewReader(string(out)))
	seen := 0
	for {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		seen++
		from := folder(p.ImportPath)
		allowed, known := layers[from]
		if !known {
			t.Errorf("%s is in a top folder that ARCHITECTURE does not know", p.ImportPath)
		}
		for _, imported := range p.Imports {
			to := folder(imported)
			if to != "" && to != from && !slices.Contains(allowed, to) {
				t.Errorf("%s imports %s", p.ImportPath, imported)
			}
			for module, who := range keepers {
				if (imported == module || strings.HasPrefix(imported, module+"/")) && !slices.Contains(who, p.ImportPath) {
					t.Errorf("%s imports %s, which only %v may", p.ImportPath, imported, who)
				}
			}
		}
		if pure := "ecolink/scheduler/placement"; strings.HasPrefix(p.ImportPath+"/", pure+"/") {
			for _, imported := range p.Imports {
				if strings.HasPrefix(imported, pure+"/") {
					continue
				}
				if strings.Contains(strings.SplitN(imported, "/", 2)[0], ".") || folder(imported) != "" {
					t.Errorf("placement is pure, and imports %s", imported)
				}
			}
		}
	}
	if seen < 10 {
		t.Fatalf("go list gave %d packages", seen)
	}
}

// folder is the top folder of one of our packages; "" for anybody else's.
func folder(path string) string {
	rest, ours := strings.CutPrefix(path, "ecolink/")
	if !ours {
		return ""
	}
	top, _, _ := strings.Cut(rest, "/")
	return top
}
