package network

import (
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"ecolink/agent/userns"
)

// ownerOf is the inode of the user namespace that a network namespace belongs to.
func ownerOf(t *testing.T, path string) uint64 {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fd, err := unix.IoctlRetInt(int(f.Fd()), unix.NS_GET_USERNS)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		t.Fatal(err)
	}
	return st.Ino
}

func inode(t *testing.T, path string) uint64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Ino
}

func TestEachNetworkBelongsToAUserNamespaceWithIdsOfItsOwn(t *testing.T) {
	cfg := newConfig(t)
	n := open(t, cfg)
	seen := map[userns.Range]bool{}
	for _, owner := range []string{"instance-1", "instance-2", "instance-3"} {
		ns := acquire(t, n, owner)
		if !ns.User.Valid() || seen[ns.User.Range] {
			t.Errorf("%s has the ids from %d on", owner, ns.User.First)
		}
		seen[ns.User.Range] = true
		if ownerOf(t, ns.Path) != inode(t, ns.User.Path) {
			t.Errorf("the network of %s belongs to another user namespace", owner)
		}
		if ownerOf(t, ns.Path) == inode(t, "/proc/self/ns/user") {
			t.Errorf("the network of %s belongs to the host's", owner)
		}
	}
	before, _ := n.Lookup("instance-1")
	crash(n)
	n = open(t, cfg)
	if after := acquire(t, n, "instance-1"); after != before {
		t.Errorf("before %+v, after %+v", before, after)
	}
	if err := n.Release(t.Context(), "instance-1"); err != nil {
		t.Fatal(err)
	}
	if before.User.Alive() || len(n.ranges) != 2 {
		t.Errorf("%d ranges are taken", len(n.ranges))
	}
	for k := range userns.MaxRanges {
		n.ranges[userns.RangeAt(k)] = "another"
	}
	if ns, err := n.Acquire(t.Context(), "instance-4"); !errors.Is(err, ErrExhausted) {
		t.Errorf("got %+v, %v", ns, err)
	}
}

func TestOwnersKeepTheirNetworkWhenUserNamespacesAreSwitchedUntilTheyAskAnew(t *testing.T) {
	cfg := newConfig(t)
	cfg.Warm = 1
	for _, on := range []bool{true, false, true} {
		cfg.UserNamespaces = !on
		n := open(t, cfg)
		before := acquire(t, n, "instance-1")
		eventually(t, "a full pool", func() bool { return len(n.warm) == 1 })
		crash(n)
		cfg.UserNamespaces = on
		n = open(t, cfg)
		if now, ok := n.Lookup("instance-1"); !ok || now != before {
			t.Errorf("before %+v, now %+v", before, now)
		}
		for _, owner := range []string{"instance-1", "instance-2"} {
			if ns := acquire(t, n, owner); ns.User.Valid() != on {
				t.Errorf("on is %v, and %s gets %+v", on, owner, ns)
			}
		}
		closeEmpty(t, n)
	}
}

func TestUserNamespacesWithoutARecordAreSweptAndLostOnesReplaced(t *testing.T) {
	cfg := newConfig(t)
	n := open(t, cfg)
	lost := acquire(t, n, "instance-1")
	stray := n.userFiles("ns-stray")
	stray.Range = userns.RangeAt(5)
	if err := stray.Create(n.path("ns-stray")); err != nil {
		t.Fatal(err)
	}
	crash(n)
	n = open(t, cfg)
	if stray.Alive() || namespaceAlive(n.path("ns-stray")) {
		t.Error("the stray one is still there")
	}
	if err := userns.LetGo(lost.User.Layer); err != nil {
		t.Fatal(err)
	}
	if ns := acquire(t, n, "instance-1"); !ns.User.Alive() || ns.Path == lost.Path {
		t.Errorf("got %+v", ns)
	}
}
