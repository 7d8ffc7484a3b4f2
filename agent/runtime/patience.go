package runtime

import (
	"context"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
)

// A containerd that died is back in half a second or so. Calls wait for it that
// long, so that nobody is told of it; one that stays away fails them.
const (
	restartPatience = 3 * time.Second
	restartLook     = 50 * time.Millisecond
)

// patient waits for the connection before a call, and makes a call that only
// reads again when containerd died under it.
func patient(ctx context.Context, method string, request, reply any, conn *grpc.ClientConn, call grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	if err := connected(ctx, conn); err != nil {
		return err
	}
	err := call(ctx, method, request, reply, conn, opts...)
	for end := time.Now().Add(restartPatience); away(err) && reads(method) && time.Now().Before(end); {
		select { // the connection does not know yet that it is broken
		case <-time.After(restartLook):
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := connected(ctx, conn); err != nil {
			return err
		}
		err = call(ctx, method, request, reply, conn, opts...)
	}
	if away(err) {
		return &awayError{err}
	}
	return err
}

// away tells whether it is the connection that failed.
func away(err error) bool { return err != nil && errdefs.IsUnavailable(errgrpc.ToNative(err)) }

// awayError says that containerd can't be reached.
type awayError struct{ error }

func (e *awayError) Unwrap() error { return e.error }

// Unavailable is true: it is nobody's request that is wrong.
func (e *awayError) Unavailable() bool { return true }

// connected waits until the connection is up, at most for restartPatience: then
// the call itself says what is wrong.
func connected(ctx context.Context, conn *grpc.ClientConn) error {
	for end := time.Now().Add(restartPatience); time.Now().Before(end); {
		state := conn.GetState()
		if state == connectivity.Ready || state == connectivity.Shutdown {
			return nil
		}
		conn.Connect()
		conn.ResetConnectBackoff() // which may have become long
		look, cancel := context.WithTimeout(ctx, restartLook)
		conn.WaitForStateChange(look, state)
		cancel()
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

// reads tells whether a method of containerd's changes nothing.
func reads(method string) bool {
	switch method[strings.LastIndexByte(method, '/')+1:] {
	case "Get", "List", "Stat", "Info", "Mounts", "Version":
		return true
	}
	return false
}
