package volume

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func openScratch(t *testing.T, cfg ScratchConfig) *Scratch {
	t.Helper()
	s, err := OpenScratch(t.Context(), cfg, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newScratchConfig(t *testing.T, warm int) ScratchConfig {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("needs root")
		}
		t.Skip("needs root")
	}
	dir := t.TempDir()
	cfg := ScratchConfig{Config: Config{Dir: filepath.Join(dir, "images"), RunDir: filepath.Join(dir, "run")}, WarmBytes: 64 << 20, Warm: warm}
	t.Cleanup(func() {
		s := openScratch(t, cfg)
		owners, err := s.Owners()
		if err != nil {
			t.Error(err)
		}
		for _, o := range owners {
			if err := s.Release(context.Background(), o); err != nil {
				t.Error(err)
			}
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if mounts, err := s.pool.mounts(); err != nil || len(mounts) > 0 {
			t.Errorf("left mounted: %v, %v", mounts, err)
		}
	})
	return cfg
}

// ready waits until so many scratches lie ready.
func (s *Scratch) ready(t *testing.T, n int) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); len(s.warm) < n; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d are ready", len(s.warm), n)
		}
	}
}

func TestPreparedScratchIsTakenAtOnceAndAnotherIsPrepared(t *testing.T) {
	cfg := newScratchConfig(t, 1)
	s := openScratch(t, cfg)
	defer s.Close()
	s.ready(t, 1)
	path, err := s.Acquire(t.Context(), "instance-1", cfg.WarmBytes)
	if err != nil {
		t.Fatal(err)
	}
	if path != filepath.Join(cfg.RunDir, "instance-1", scratchUser) {
		t.Errorf("it is at %s", path)
	}
	if err := os.WriteFile(filepath.Join(path, "file"), []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.ready(t, 1)
	again, err := s.Acquire(t.Context(), "instance-1", cfg.WarmBytes)
	if err != nil || again != path {
		t.Fatalf("%s, %v", again, err)
	}
	if err := s.Release(t.Context(), "instance-1"); err != nil {
		t.Fatal(err)
	}
	if err := s.Release(t.Context(), "instance-1"); err != nil {
		t.Fatal(err)
	}
	if owners, err := s.Owners(); err != nil || len(owners) > 0 {
		t.Errorf("%v, %v", owners, err)
	}
}

func TestScratchesThatCannotBePreparedAreRefused(t *testing.T) {
	for _, warm := range []int{-1, MaxWarm + 1} {
		if s, err := OpenScratch(t.Context(), ScratchConfig{Warm: warm}, slog.New(slog.DiscardHandler)); err == nil {
			t.Errorf("%d: %v", warm, s)
		}
	}
}

func TestScratchOfSeveralGPUsIsGrownToItsSize(t *testing.T) {
	cfg := newScratchConfig(t, 1)
	s := openScratch(t, cfg)
	defer s.Close()
	s.ready(t, 1)
	path, err := s.Acquire(t.Context(), "instance-1", 3*cfg.WarmBytes)
	if err != nil {
		t.Fatal(err)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		t.Fatal(err)
	}
	if size := int64(st.Blocks) * st.Bsize; size < 2*cfg.WarmBytes {
		t.Errorf("it has %d bytes", size)
	}
}

func TestScratchThatIsFullSaysSoInsideAndTheHostKeepsItsDisk(t *testing.T) {
	cfg := newScratchConfig(t, 0)
	s := openScratch(t, cfg)
	defer s.Close()
	path, err := s.Acquire(t.Context(), "instance-1", 64<<20)
	if err != nil {
		t.Fatal(err)
	}
	err = os.WriteFile(filepath.Join(path, "much"), make([]byte, 80<<20), 0o600)
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("got %v", err)
	}
	if st, err := os.Stat(filepath.Join(cfg.Dir, "instance-1", "image")); err != nil || st.Size() != 64<<20 {
		t.Errorf("%v, %v", st, err)
	}
}

func TestScratchIsFoundAgainAfterAKillAndAfterAReboot(t *testing.T) {
	cfg := newScratchConfig(t, 2)
	s := openScratch(t, cfg)
	s.ready(t, 2)
	path, err := s.Acquire(t.Context(), "instance-1", cfg.WarmBytes)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(path, "file"), []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	// Killed: nothing is given back but the lock. It left what was prepared, and
	// here also one that was taken and not yet mounted where it should be.
	s.stop()
	s.loop.Wait()
	torn := <-s.warm
	if err := os.Rename(s.pool.dir(torn), s.pool.dir("instance-2")); err != nil {
		t.Fatal(err)
	}
	s.pool.Close()

	s = openScratch(t, cfg)
	for owner, bytes := range map[string]int64{"instance-1": cfg.WarmBytes, "instance-2": 3 * cfg.WarmBytes} {
		at, err := s.Acquire(t.Context(), owner, bytes)
		if err != nil {
			t.Fatal(err)
		}
		var st unix.Statfs_t
		if err := unix.Statfs(at, &st); err != nil || int64(st.Blocks)*st.Bsize < bytes*2/3 {
			t.Errorf("%s has %d bytes, %v", owner, int64(st.Blocks)*st.Bsize, err)
		}
	}
	want := func() {
		t.Helper()
		if got, err := os.ReadFile(filepath.Join(path, "file")); err != nil || string(got) != "precious" {
			t.Fatalf("%q, %v", got, err)
		}
	}
	want()
	if owners, err := s.Owners(); err != nil || len(owners) != 2 {
		t.Errorf("%v, %v", owners, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	// A reboot takes the mounts and the folder of mount points.
	for _, owner := range []string{"instance-1", "instance-2"} {
		if err := unix.Unmount(filepath.Join(cfg.RunDir, owner, scratchUser), 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.RemoveAll(cfg.RunDir); err != nil {
		t.Fatal(err)
	}
	s = openScratch(t, cfg)
	defer s.Close()
	if _, err := s.Acquire(t.Context(), "instance-1", cfg.WarmBytes); err != nil {
		t.Fatal(err)
	}
	want()
}
