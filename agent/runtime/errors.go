package runtime

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	remoteserrors "github.com/containerd/containerd/v2/core/remotes/errors"
	"github.com/containerd/errdefs"
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

// registryError says what a registry's or containerd's answer to a pull means.
func registryError(err error) error {
	var status remoteserrors.ErrUnexpectedStatus
	var request *url.Error
	switch {
	case err == nil:
		return nil
	case errors.Is(err, docker.ErrInvalidAuthorization):
		return refuse("the registry asks for a log-in or does not have the image: check its name", err)
	case errors.As(err, &status) && (status.StatusCode == http.StatusUnauthorized || status.StatusCode == http.StatusForbidden):
		return refuse("the registry refuses access to the image: check its name", err)
	case errors.As(err, &status) && status.StatusCode >= 400 && status.StatusCode < 500 &&
		status.StatusCode != http.StatusTooManyRequests && status.StatusCode != http.StatusRequestTimeout:
		return refuse("the registry does not accept the name: "+status.Status, err)
	case errdefs.IsNotFound(err):
		return refuse("the registry has no such image for this machine: check its name, tag and architecture", err)
	case errdefs.IsInvalidArgument(err):
		return refuse("this is not the name of an image", err)
	case errors.As(err, &request) && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("its registry can't be reached: %w", request.Err)
	default:
		return err
	}
}
