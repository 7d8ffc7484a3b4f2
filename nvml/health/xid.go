package health

import "fmt"

// XIDSource is where the codes, their names and NVIDIA's immediate actions come
// from: the catalogue for Ampere and later in NVIDIA's "XID Errors"
// documentation. The words and the classes are ours.
const XIDSource = "https://docs.nvidia.com/deploy/xid-errors/analyzing-xid-catalog.html"

// UnknownXID is the code that NVML reports for an Xid that it cannot tell.
const UnknownXID = 999

// Class says whose trouble an Xid is.
type Class string

// The classes, from NVIDIA's immediate action: restart the program or ignore, and
// then look at the program → Application; the same, and then ask NVIDIA → Degraded;
// reset the GPU or more → Fatal. Where ours differs, the table says so.
const (
	Notice      Class = "notice"      // nothing is wrong
	Application Class = "application" // the user's program; the GPU is fine
	Degraded    Class = "degraded"    // the GPU works and shows wear or trouble
	Fatal       Class = "fatal"       // the GPU must not get new work before a reset and a test
	// Unknown is a code that the table lacks. It is shown and watched, not cordoned:
	// new drivers bring codes that any user's program can raise, and one user must
	// not be able to take the GPUs from all others. Hardware that fails shows itself
	// in the facts as well (ECC, remapping, recovery action, lost), which cordon.
	Unknown Class = "unknown"
)

// rule is how a finding of this class is treated; ok is false where there is
// nothing to find about the GPU.
func (c Class) rule() (r rule, ok bool) {
	switch c {
	case Fatal:
		return rule{Cordon, 0}, true
	case Degraded, Unknown:
		return rule{Watch, wearQuiet}, true
	}
	return rule{}, false
}

// XID is what a code means.
type XID struct {
	Code  uint64 `json:"code"`
	Name  string `json:"name"` // NVIDIA's, such as NVLINK_ERROR; empty when unknown
	Class Class  `json:"class"`
	// Action is NVIDIA's immediate action, such as RESET_GPU. Empty: none is given.
	Action  string `json:"action"`
	Meaning string `json:"meaning"` // a sentence for people
	Do      string `json:"do"`      // the next step, for people
}

// LookupXID says what a code means; the answer's class is Unknown for a code that
// the table lacks.
func LookupXID(code uint64) XID {
	for _, row := range xidRows() {
		if row.first <= code && code <= row.last {
			return row.xid(code)
		}
	}
	return XID{
		Code: code, Class: Unknown,
		Meaning: "The driver reported an error that EcoLink has no description of.",
		Do:      fmt.Sprintf("Look for Xid %d in dmesg and at %s; cordon the GPU if it comes again.", code, XIDSource),
	}
}

// XIDs lists all codes that have a description, rising.
func XIDs() []XID {
	var out []XID
	for _, row := range xidRows() {
		for code := row.first; code <= row.last; code++ {
			out = append(out, row.xid(code))
		}
	}
	return out
}

// FromXID is the finding that an Xid on a GPU is. ok is false where it says
// nothing bad of the GPU: then it is for the user of the instance alone.
func FromXID(uuid string, code uint64) (f Finding, ok bool) {
	x := LookupXID(code)
	r, ok := x.Class.rule()
	if !ok {
		return Finding{}, false
	}
	return Finding{
		UUID: uuid, Kind: KindXID, Severity: r.severity, Quiet: r.quiet,
		Key:         fmt.Sprintf("xid-%d", code),
		Explanation: fmt.Sprintf("Xid %d: %s", code, x.Meaning),
		Do:          x.Do,
	}, true
}

// xidRow describes one code, or several that differ only in which of several
// equal engines it was.
type xidRow struct {
	first, last uint64
	name        string
	class       Class
	action      string
	meaning, do string
}

func (r xidRow) xid(code uint64) XID {
	return XID{Code: code, Name: r.name, Class: r.class, Action: r.action, Meaning: r.meaning, Do: r.do}
}
