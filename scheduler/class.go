package scheduler

import (
	"errors"
	"fmt"

	"ecolink/ledger/identity"
	"ecolink/ledger/store"
	"ecolink/scheduler/placement"
)

// Class is an instance's priority class.
type Class string

// The priority classes, the lowest first.
const (
	// Spot instances have GPUs as long as nobody of a higher class needs them.
	Spot Class = "spot"
	// Standard is what one gets without saying.
	Standard Class = "standard"
	// Platform is for what the operator runs for everybody.
	Platform Class = "platform"
)

// ParseClass reads a class that a person chose; "" is Standard.
func ParseClass(name string) (Class, error) {
	switch c := Class(name); c {
	case "":
		return Standard, nil
	case Spot, Standard, Platform:
		return c, nil
	}
	return "", &Problem{Kind: Unprocessable, Field: "priority_class", Message: fmt.Sprintf("%q is no priority class: choose standard or spot", name)}
}

// mayChoose refuses Platform to all but operators.
func (c Class) mayChoose(tx *store.Tx, id identity.UserID) error {
	if c != Platform {
		return nil
	}
	u, err := identity.UserByID(tx, id)
	if err == nil && !u.Operator || errors.Is(err, identity.ErrNotFound) {
		return &Problem{Kind: Unprocessable, Field: "priority_class", Message: "platform is for the operator's own: choose standard or spot"}
	}
	return err
}

// Priority is the instance's class.
func (i Instance) Priority() Class {
	if i.Class == "" {
		return Standard
	}
	return i.Class
}

func (c Class) rank() placement.Class {
	switch c {
	case Spot:
		return placement.Spot
	case Platform:
		return placement.Platform
	default:
		return placement.Standard
	}
}
