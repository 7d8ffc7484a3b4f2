package scheduler

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"time"

	"ecolink/ledger/identity"
	"ecolink/ledger/store"
)

const maxPort = 1<<16 - 1

// Services reaches what listens inside a workload.
type Services interface {
	// Dial connects to an address as a program inside the workload would; the host
	// localhost is any of its own.
	Dial(ctx context.Context, id, network, address string) (net.Conn, error)
}

// ServiceRequest changes how an instance's service is reached. What is nil stays.
type ServiceRequest struct {
	Account  identity.AccountID
	Instance InstanceID
	Actor    identity.Actor
	From     string // the address that asks, for the audit log
	Port     *int   // 0 for no service
	Open     *bool  // to everybody, and not only to members of the account
}

// checkService refuses a service that can't be.
func checkService(port int, open bool) error {
	if port < 0 || port > maxPort {
		return &Problem{Kind: Unprocessable, Field: "service_port", Message: fmt.Sprintf("a service port is 1 to %d, and 0 for no service", maxPort)}
	}
	if open && port == 0 {
		return &Problem{Kind: Unprocessable, Field: "service_port", Message: "only a service can be public: name the port that it listens on"}
	}
	return nil
}

// SetService gives an instance's service another port, opens it to everybody or
// closes it again. It holds from the next request on.
func (s *Scheduler) SetService(ctx context.Context, r ServiceRequest) (i Instance, err error) {
	err = s.store.Update(ctx, func(tx *store.Tx) (err error) {
		if i, err = owned(tx, r.Account, r.Instance); err != nil {
			return err
		}
		if i.State.Final() || i.State == Terminating {
			return &Problem{Kind: Conflict, Message: fmt.Sprintf("instance %d is %s: it has no service any more", i.ID, i.State)}
		}
		if r.Port != nil {
			i.ServicePort = *r.Port
			if r.Open == nil && i.ServicePort == 0 {
				i.ServiceOpen = false
			}
		}
		if r.Open != nil {
			i.ServiceOpen = *r.Open
		}
		if err := checkService(i.ServicePort, i.ServiceOpen); err != nil {
			return err
		}
		e := identity.Event{
			Actor: r.Actor, Account: i.Account, Action: "instance.service.close", Resource: i.Resource(), From: r.From, At: time.Now(),
			Detail: fmt.Sprintf("port %d", i.ServicePort),
		}
		if i.ServiceOpen {
			e.Action = "instance.service.open"
		}
		if err := identity.Record(tx, e); err != nil {
			return err
		}
		return put(tx, i)
	})
	return i, err
}

// Published reads any account's instance, for who may not know whose it is: the
// proxy, which then decides by the instance whom it lets through.
func (s *Scheduler) Published(id InstanceID) (i Instance, err error) {
	err = s.store.View(func(tx *store.Tx) (err error) { i, err = get(tx, id); return err })
	return i, err
}

// DialPort connects to a port of the instance. The caller has checked that whoever
// asks may.
func (s *Scheduler) DialPort(ctx context.Context, id InstanceID, port int) (net.Conn, error) {
	return s.machine.Dial(ctx, Instance{ID: id}.Workload(), "tcp", net.JoinHostPort("localhost", strconv.Itoa(port)))
}

// Answers tells whether something listens on a port of a running instance.
func (s *Scheduler) Answers(ctx context.Context, i Instance, port int) bool {
	if i.State != Running {
		return false
	}
	conn, err := s.DialPort(ctx, i.ID, port)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}
