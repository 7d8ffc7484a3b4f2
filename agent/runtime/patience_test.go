package runtime

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"testing"
	"time"

	version "github.com/containerd/containerd/api/services/version/v1"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/emptypb"
)

type versionServer struct {
	version.UnimplementedVersionServer
}

func (versionServer) Version(context.Context, *emptypb.Empty) (*version.VersionResponse, error) {
	return &version.VersionResponse{Version: "1.6.20"}, nil
}

func TestCallsWaitForAContainerdThatComesBackAndFailWhenItStaysAway(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "sock")
	serve := func() *grpc.Server {
		l, err := net.Listen("unix", socket)
		if err != nil {
			t.Error(err)
			return nil
		}
		s := grpc.NewServer()
		version.RegisterVersionServer(s, versionServer{})
		go s.Serve(l)
		return s
	}
	server := serve()
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithChainUnaryInterceptor(patient))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ask := func() error {
		_, err := version.NewVersionClient(conn).Version(t.Context(), &emptypb.Empty{})
		return err
	}
	if err := ask(); err != nil {
		t.Fatal(err)
	}
	server.Stop()
	back := make(chan *grpc.Server, 1)
	go func() {
		time.Sleep(700 * time.Millisecond)
		back <- serve()
	}()
	if err := ask(); err != nil {
		t.Fatalf("while it restarts: %v", err)
	}
	(<-back).Stop()
	began := time.Now()
	err = ask()
	var away interface{ Unavailable() bool }
	if !errors.As(err, &away) || !errdefs.IsUnavailable(errgrpc.ToNative(err)) {
		t.Errorf("when it stays away: %v", err)
	}
	if took := time.Since(began); took < restartPatience || took > 4*restartPatience {
		t.Errorf("it took %s to say so", took)
	}
}
