package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ecolink/agent/doctor"
	"ecolink/ledger/identity"
	"ecolink/ledger/store"
	"ecolink/web/admin"
)

// patient is a box with findings, some of which can't be put right.
type patient struct {
	findings []doctor.Finding
	stubborn map[string]error // by name
	tried    []string
}

func (p *patient) Examine(context.Context) ([]doctor.Finding, error) {
	return slices.Clone(p.findings), nil
}

func (p *patient) Mend(_ context.Context, f doctor.Finding) error {
	p.tried = append(p.tried, f.Name)
	if err := p.stubborn[f.Name]; err != nil {
		return err
	}
	p.findings = slices.DeleteFunc(p.findings, func(g doctor.Finding) bool { return g.Name == f.Name })
	return nil
}

// runDoctor runs the command against the box's socket.
func runDoctor(t *testing.T, p *patient, args ...string) (string, error) {
	t.Helper()
	st, err := store.Open(filepath.Join(t.TempDir(), "ecolink.db"))
	must(t, err)
	t.Cleanup(func() { st.Close() })
	runDir := serveAdmin(t, admin.Handler(st, identity.NewHasher(1), version, slog.New(slog.DiscardHandler), admin.WithDoctor(p)))
	cmd := doctorCommand()
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetArgs(append([]string{"--config", "/dev/null", "--run-dir", runDir, "--data-dir", t.TempDir()}, args...))
	err = cmd.ExecuteContext(t.Context())
	return out.String(), err
}

func newPatient() *patient {
	p := &patient{stubborn: map[string]error{
		"instance-1": errors.New("it does not end"),
		"instance-3": errors.New("its namespace is busy"),
	}}
	for _, name := range []string{"instance-1", "instance-2", "instance-3", "instance-4"} {
		p.findings = append(p.findings, doctor.Finding{Kind: doctor.Workload, Name: name, Where: []string{}, Why: "nobody has it", Repair: "end it"})
	}
	return p
}

func TestRepairGoesOnPastARepairThatFails(t *testing.T) {
	p := newPatient()
	out, err := runDoctor(t, p, "--repair")
	var code exitCode
	if !errors.As(err, &code) || code != 1 {
		t.Errorf("got %v", err)
	}
	if want := []string{"instance-1", "instance-2", "instance-3", "instance-4"}; !slices.Equal(p.tried, want) {
		t.Errorf("it tried %v", p.tried)
	}
	for _, line := range []string{
		"mended: workload instance-2: end it\n", "mended: workload instance-4: end it\n",
		"not mended: workload instance-1: ", "not mended: workload instance-3: ",
		"\nworkload instance-1: nobody has it\n", "\nworkload instance-3: nobody has it\n",
	} {
		if !strings.Contains(out, line) {
			t.Errorf("%q is missing in\n%s", line, out)
		}
	}
}

func TestRepairsThatFailAreToldToProgramsAsWell(t *testing.T) {
	out, err := runDoctor(t, newPatient(), "--repair", "-o", "json")
	var code exitCode
	if !errors.As(err, &code) || code != 1 {
		t.Errorf("got %v", err)
	}
	var x struct {
		Findings, Mended []struct{ Name string }
		Failed           []struct{ Name, Error string }
	}
	if err := json.Unmarshal([]byte(out), &x); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if len(x.Findings) != 2 || len(x.Mended) != 2 || len(x.Failed) != 2 || x.Failed[0].Name != "instance-1" || x.Failed[0].Error == "" {
		t.Errorf("%s", out)
	}
}

func TestNothingIsMendedWithoutBeingAsked(t *testing.T) {
	p := newPatient()
	out, err := runDoctor(t, p)
	var code exitCode
	if !errors.As(err, &code) || code != 1 || len(p.tried) > 0 || strings.Contains(out, "mended") {
		t.Errorf("tried %v, %v: %s", p.tried, err, out)
	}
}
