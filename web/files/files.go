package files

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/tus/tusd/v2/pkg/handler"

	"ecolink/agent"
	"ecolink/agent/volume/files"
	"ecolink/ledger/identity"
	"ecolink/ledger/store"
	"ecolink/scheduler"
)

// Volumes opens an account's drives and shared filesystems: scheduler.Scheduler.
type Volumes interface {
	OpenVolume(ctx context.Context, account identity.AccountID, id scheduler.DriveID) (*agent.OpenVolume, error)
}

// Server serves the files of volumes. It is safe for concurrent use.
type Server struct {
	volumes  Volumes
	store    *store.Store
	log      *slog.Logger
	tus      *handler.UnroutedHandler
	finished *finished
	archives archives
	recheck  time.Duration

	mu     sync.Mutex                // held while marks are looked at and changed
	marked map[scheduler.DriveID]int // uploads begun since there is a mark; 0 for none that is known of
}

// New makes a server. Run sweeps for it.
func New(volumes Volumes, st *store.Store, log *slog.Logger) (*Server, error) {
	s := &Server{
		volumes: volumes, store: st, log: log, finished: newFinished(),
		archives: archives{of: map[identity.AccountID]int{}}, marked: map[scheduler.DriveID]int{}, recheck: recheckEvery,
	}
	var err error
	if s.tus, err = newProtocol(s); err != nil {
		return nil, fmt.Errorf("the tus protocol: %w", err)
	}
	return s, nil
}

// With opens a volume and calls do with it.
func (s *Server) With(ctx context.Context, account identity.AccountID, id scheduler.DriveID, do func(files.Volume) error) error {
	open, err := s.volumes.OpenVolume(ctx, account, id)
	if err != nil {
		return err
	}
	defer s.close(open, id)
	return do(files.In(open.Root))
}

// guard gives a context that ends when a volume may not be opened any more, with
// what says so as its cause: a transfer that takes hours keeps nobody from deleting
// a drive.
func (s *Server) guard(ctx context.Context, account identity.AccountID, id scheduler.DriveID) (guarded context.Context, stop func()) {
	guarded, cancel := context.WithCancelCause(ctx)
	var watching sync.WaitGroup
	watching.Go(func() {
		tick := time.NewTicker(s.recheck)
		defer tick.Stop()
		for {
			select {
			case <-guarded.Done():
				return
			case <-tick.C:
			}
			err := s.With(guarded, account, id, func(files.Volume) error { return nil })
			if errors.As(err, new(*scheduler.Problem)) {
				cancel(err)
			}
		}
	})
	return guarded, func() { cancel(nil); watching.Wait() }
}

func (s *Server) close(open *agent.OpenVolume, id scheduler.DriveID) {
	if err := open.Close(); err != nil {
		s.log.Error("the files of a volume could not be closed", "drive", id, "err", err)
	}
}
