package health

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestXIDsAreDescribedOnceEachInOrder(t *testing.T) {
	last := uint64(0)
	for _, x := range XIDs() {
		if x.Code <= last {
			t.Errorf("Xid %d comes after %d", x.Code, last)
		}
		last = x.Code
		if x.Name == "" || !strings.HasSuffix(x.Meaning, ".") || !strings.HasSuffix(x.Do, ".") {
			t.Errorf("Xid %d is half described: %+v", x.Code, x)
		}
		if got := LookupXID(x.Code); got != x {
			t.Errorf("Xid %d is looked up as %+v", x.Code, got)
		}
	}
}

// The comment of xidRows names every exception; a row that is changed without
// that shows here.
func TestClassFollowsNVIDIAsActionButForTheNamedExceptions(t *testing.T) {
	exceptions := []uint64{43, 45, 54, 94, 154, 159, 163, 164, 165, 166, 167, 168, 169, 170, 171, 172}
	for code := uint64(144); code <= 150; code++ {
		exceptions = append(exceptions, code)
	}
	for _, x := range XIDs() {
		if slices.Contains(exceptions, x.Code) {
			continue
		}
		var allowed []Class
		switch x.Action {
		case "RESTART_APP", "IGNORE":
			allowed = []Class{Application, Degraded, Notice}
		case "RESET_GPU", "RESTART_BM", "RESTART_VM", "WORKFLOW_XID_48", "WORKFLOW_NVLINK_ERR":
			allowed = []Class{Fatal}
		case "UPDATE_SWFW", "CONTACT_SUPPORT":
			allowed = []Class{Degraded}
		case "":
			allowed = []Class{Notice}
		}
		if !slices.Contains(allowed, x.Class) {
			t.Errorf("Xid %d: action %q, class %s", x.Code, x.Action, x.Class)
		}
	}
}

func TestKnownXIDsCordonWatchOrLeaveTheGPUAlone(t *testing.T) {
	for severity, codes := range map[Severity][]uint64{
		"":     {13, 31, 43, 45, 69, 106, 137},
		Watch:  {8, 39, 63, 68, 92, 93, 121, 157},
		Cordon: {46, 48, 61, 62, 64, 74, 79, 94, 95, 109, 110, 119, 120, 136, 140, 143, 149, 154, 158, 171, 172},
	} {
		for _, code := range codes {
			f, ok := FromXID("GPU-1", code)
			if ok != (severity != "") || f.Severity != severity {
				t.Errorf("Xid %d: %+v, %v", code, f, ok)
			}
			if ok && (f.lasting() != (severity == Cordon) || f.UUID != "GPU-1" || f.Kind != KindXID) {
				t.Errorf("Xid %d: %+v", code, f)
			}
		}
	}
}

func TestUnknownXIDIsShownAndWatchedWithItsCode(t *testing.T) {
	known := map[uint64]bool{}
	for _, x := range XIDs() {
		known[x.Code] = true
	}
	rapid.Check(t, func(t *rapid.T) {
		code := rapid.Uint64().Filter(func(c uint64) bool { return !known[c] }).Draw(t, "code")
		f, ok := FromXID("GPU-1", code)
		if !ok || f.Severity != Watch || f.lasting() || LookupXID(code).Class != Unknown {
			t.Fatalf("%+v, %v", f, ok)
		}
		if other, _ := FromXID("GPU-1", code+1); other.Key == f.Key {
			t.Fatalf("Xid %d and the next have the key %q", code, f.Key)
		}
	})
	if f, ok := FromXID("GPU-1", UnknownXID); !ok || f.Severity != Watch || !strings.Contains(f.Explanation, "Xid 999") {
		t.Errorf("%+v", f)
	}
}
