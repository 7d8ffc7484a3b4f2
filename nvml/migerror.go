package nvml

import (
	"errors"
	"fmt"

	gonvml "github.com/NVIDIA/go-nvml/pkg/nvml"
)

// MIGErrorKind says what kept a slice from being made, destroyed or read.
type MIGErrorKind string

const (
	MIGUnknownGPU     MIGErrorKind = "unknown GPU"
	MIGUnknownProfile MIGErrorKind = "unknown profile" // this GPU does not offer it; Profiles lists what it offers
	MIGBadPlacement   MIGErrorKind = "bad placement"   // the profile cannot be there on this GPU, free or not
	MIGNoRoom         MIGErrorKind = "no room"         // other slices have what it needs
	MIGInUse          MIGErrorKind = "in use"          // a process or a slice uses it
	MIGNotPermitted   MIGErrorKind = "not permitted"
	MIGModeOff        MIGErrorKind = "MIG mode off"
	MIGNotSupported   MIGErrorKind = "not supported" // by this GPU or this driver
	MIGGone           MIGErrorKind = "gone"          // the slice is not there, or another is in its place
	MIGNoAnswer       MIGErrorKind = "no answer"     // the driver hangs; what was asked may still happen
	MIGFailed         MIGErrorKind = "failed"        // anything else
)

// MIGError is what every method of Partitioner fails with.
type MIGError struct {
	Kind     MIGErrorKind
	GPU      string   // UUID
	Doing    string   // such as "create MIG slice 3g.40gb"
	Detail   string   // for people: what is the matter, and what to do next
	Profiles []string // names that the GPU offers, with MIGUnknownProfile
	Err      error    // NVML's answer, if it gave one
}

func (e *MIGError) Error() string {
	text := fmt.Sprintf("%s on %s: %s", e.Doing, e.GPU, e.Detail)
	if e.Err != nil {
		text += fmt.Sprintf(" (NVML: %v)", e.Err)
	}
	return text
}

func (e *MIGError) Unwrap() error { return e.Err }

// MIGErrorKindOf is the kind of the MIGError in err's chain, or empty.
func MIGErrorKindOf(err error) MIGErrorKind {
	var e *MIGError
	if errors.As(err, &e) {
		return e.Kind
	}
	return ""
}

// migFault explains a code that is not SUCCESS. what says what was asked.
func migFault(what string, code gonvml.Return) *MIGError {
	e := &MIGError{Kind: MIGFailed, Err: code}
	switch code {
	case gonvml.ERROR_NO_PERMISSION:
		e.Kind = MIGNotPermitted
		e.Detail = what + " is not permitted: run EcoLink as root; in a container it needs the driver's mig/config capability too"
	case gonvml.ERROR_IN_USE:
		e.Kind = MIGInUse
		e.Detail = what + " is refused while it is in use: stop what uses it and try again (nvidia-smi lists processes; a monitor such as DCGM can hold it too)"
	case gonvml.ERROR_INSUFFICIENT_RESOURCES:
		e.Kind = MIGNoRoom
		e.Detail = what + " finds no room: other slices have what it needs"
	case gonvml.ERROR_NOT_SUPPORTED:
		e.Kind = MIGNotSupported
		e.Detail = what + " is not supported by this GPU or its driver"
	default:
		e.Detail = what + " failed: look at dmesg for Xid errors and at nvidia-smi"
	}
	return e
}
