package runtime

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	remoteserrors "github.com/containerd/containerd/v2/core/remotes/errors"
	"github.com/containerd/errdefs"

	"ecolink/agent/runtime/registry"
)

// permanentError is one that trying again can't mend.
type permanentError struct {
	message string
	err     error
}

func (e *permanentError) Error() string   { return e.message }
func (e *permanentError) Unwrap() error   { return e.err }
func (e *permanentError) Permanent() bool { return true }

// refuse makes an error that trying again can't mend, in words for the user.
func refuse(message string, err error) error { return &permanentError{message, err} }

// plainError says in words for the user what may pass by itself.
type plainError struct {
	message string
	err     error
}

func (e *plainError) Error() string { return e.message }
func (e *plainError) Unwrap() error { return e.err }

// registryError says what a registry's or containerd's answer to a pull means. It
// tells no more of a host than that it does not answer as a registry: which of its
// ports are open is nobody's business.
func registryError(err error, i Image) error {
	if err == nil || isPermanent(err) || errors.Is(err, context.Canceled) {
		return err
	}
	var busy *registry.BusyError
	var forbidden *registry.ForbiddenError
	var status remoteserrors.ErrUnexpectedStatus
	switch {
	case errors.As(err, &forbidden):
		return refuse(unreachable(i)+": check the name", err)
	case errors.As(err, &busy):
		return &plainError{busy.Error(), err}
	case errors.Is(err, registry.ErrStalled):
		return &plainError{"its registry has stopped sending in the middle: it will be asked for the rest", err}
	case errors.Is(err, registry.ErrTooLong):
		return refuse("its registry sends a manifest or token that is far too long", err)
	case errors.Is(err, docker.ErrInvalidAuthorization):
		return refuse(noAccess(i), err)
	case errors.As(err, &status):
		return statusError(status, i)
	case errdefs.IsNotFound(err) && i.Digest != "": // it was there when the name was resolved
		return refuse("the registry has no such image any more: push it again, or launch what the name means now", err)
	case errdefs.IsNotFound(err):
		return refuse("the registry has no such image: check its name and tag", err)
	case errdefs.IsInvalidArgument(err):
		return refuse("this is not the name of an image, or its registry has it in a form that can't be read", err)
	}
	return transferError(err, i)
}

// statusError says what a registry's status means.
func statusError(status remoteserrors.ErrUnexpectedStatus, i Image) error {
	switch code := status.StatusCode; {
	case code == http.StatusUnauthorized || code == http.StatusForbidden:
		return refuse(noAccess(i), status)
	case code == http.StatusTooManyRequests:
		return &plainError{"its registry takes no more requests for now (429): it will be asked again", status}
	case code == http.StatusRequestTimeout:
		return &plainError{"its registry was too slow: it will be asked again", status}
	case code == http.StatusRequestedRangeNotSatisfiable: // the rest of a layer
		return refuse(partOnly, status)
	case code >= 500:
		return &plainError{fmt.Sprintf("its registry does not work at the moment (%d): it will be asked again", code), status}
	default:
		return refuse("the registry does not accept the name: "+status.Status, status)
	}
}

// partOnly is said of a layer that ends before its size.
const partOnly = "the registry has only a part of a layer: push the image again"

// noAccess says why a registry gives nothing.
func noAccess(i Image) string {
	if i.Login != nil {
		return "the registry refuses access to the image with the account's log-in: check the image's name, or store the right log-in"
	}
	return "the registry refuses access to the image: it needs a log-in (`ecolink registry login`), or there is no image of that name"
}

// unreachable is all that is told of a host that does not answer.
func unreachable(i Image) string {
	domain, err := Domain(i.Name)
	if err != nil {
		domain = "its registry"
	}
	return domain + " does not answer as a registry"
}

// discreet says the same of everything on this machine that is no registry which
// asks for a log-in: that a port is closed, speaks no HTTP, or has somebody else's
// pages. Users name the ports, and the services behind them are the host's.
func discreet(err error, i Image) error {
	var status remoteserrors.ErrUnexpectedStatus
	var busy *registry.BusyError
	switch {
	case errors.Is(err, docker.ErrInvalidAuthorization), errors.As(err, &busy), errors.Is(err, registry.ErrTooLong):
		return err
	case errors.As(err, &status) && (status.StatusCode == http.StatusUnauthorized || status.StatusCode == http.StatusForbidden || status.StatusCode == http.StatusTooManyRequests):
		return err
	}
	message := "the registry has no such image, or " + unreachable(i) + ": check the name"
	if isPermanent(err) {
		return refuse(message, err)
	}
	return &plainError{message, err}
}

// transferError says what is behind errors that have no type by the time that they
// come here: containerd's own, over its socket.
func transferError(err error, i Image) error {
	var request *url.Error
	var unknown *net.DNSError
	text := err.Error()
	switch {
	case strings.Contains(text, "no space left on device"):
		return &plainError{"the box's disk is full: ask the operator for room", err}
	case errors.As(err, &unknown) && unknown.IsNotFound:
		// It may be the box that is cut off, and an image that is here may do.
		return &plainError{fmt.Sprintf("there is no host %s: check the name; if it is right, this box may have no network", printableType(unknown.Name)), err}
	case errors.As(err, &unknown):
		return &plainError{fmt.Sprintf("the host %s can't be looked up: this box may have no network, or its name server does not answer", printableType(unknown.Name)), err}
	case errors.As(err, &request) && !errors.Is(err, context.DeadlineExceeded):
		return &plainError{unreachable(i), err}
	case errors.Is(err, context.DeadlineExceeded):
		return &plainError{"its registry does not answer in time", err}
	case errdefs.IsUnavailable(err), strings.Contains(text, "error reading from server: EOF"):
		return err // containerd's
	case strings.Contains(text, "failed to extract layer"), strings.Contains(text, "wrong diff id"):
		return refuse("a layer of the image can't be unpacked: "+lastWords(text)+": build and push it again", err)
	}
	return err
}

// lastWords is the end of an error that was wrapped many times.
func lastWords(text string) string {
	text = strings.TrimSuffix(text, ": unknown")
	if parts := strings.Split(text, ": "); len(parts) > 2 {
		text = strings.Join(parts[len(parts)-2:], ": ")
	}
	return printableType(text)
}
