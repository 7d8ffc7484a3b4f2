package scheduler

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"ecolink/ledger"
	"ecolink/ledger/drives"
	"ecolink/ledger/store"
)

func TestAFilesystemIsSharedAndHasItsOwnPath(t *testing.T) {
	storage(t, 2, func(t *testing.T, b *box) {
		fs := b.makeFilesystem("models", 10)
		for _, name := range []string{"a", "b"} {
			r := request(name, 1)
			r.Filesystems = []DriveMount{{Drive: fs.ID}}
			i, err := b.Launch(background, r)
			if err != nil {
				t.Fatal(err)
			}
			b.settle()
			if i = b.want(i.ID, Running); i.Filesystems[0].Path != "/shared" {
				t.Errorf("%+v", i.Filesystems)
			}
		}
		if v, _ := b.machine.At("shared-filesystem-1"); len(v.Users) != 2 {
			t.Errorf("%+v", v)
		}
	})
}

func TestAnInstanceThatWaitsHasItsDrives(t *testing.T) {
	storage(t, 1, func(t *testing.T, b *box) {
		b.launch("busy", 1)
		d := b.makeDrive("data", 10)
		i, err := b.launchWith("waits", d)
		if err != nil {
			t.Fatal(err)
		}
		b.want(i.ID, Pending)
		b.wantDrive(d.ID, drives.Attached)
		b.Terminate(background, alice, i.ID)
		b.wantDrive(d.ID, drives.Available)
	})
}

func TestAnInstanceThatCannotStartLetsItsDrivesGo(t *testing.T) {
	storage(t, 1, func(t *testing.T, b *box) {
		d := b.makeDrive("data", 10)
		b.machine.set(func() { b.machine.runErr = refusal("the volume is damaged") })
		i, err := b.launchWith("fails", d)
		if err != nil {
			t.Fatal(err)
		}
		b.want(i.ID, Failed)
		b.wantDrive(d.ID, drives.Available)
	})
}

// The faults of a launch with drives, each refused with its field; nothing is
// created, held or attached.
func TestLaunchesWithMountsThatCannotBeAreRefused(t *testing.T) {
	storage(t, 2, func(t *testing.T, b *box) {
		d, other, fs := b.makeDrive("data", 1), b.makeDrive("other", 1), b.makeFilesystem("models", 1)
		b.update(func(tx *store.Tx) error {
			_, err := ledger.Credit(tx, ledger.Entry{At: time.Now(), Account: bob, Amount: usd("10")})
			return err
		})
		r := driveRequest("theirs", 1)
		r.Account = bob
		theirs := b.make(r)
		at := func(paths ...string) (out []DriveMount) {
			for n, p := range paths {
				out = append(out, DriveMount{Drive: []DriveID{d.ID, other.ID}[n%2], Path: p})
			}
			return out
		}
		nine := make([]DriveMount, 9)
		for n := range nine {
			nine[n] = DriveMount{Drive: DriveID(100 + n), Path: fmt.Sprint("/d", n)}
		}
		for _, c := range []struct {
			what   string
			drives []DriveMount
			fs     []DriveMount
			field  string
		}{
			{"a relative path", at("data"), nil, "drives[0].path"},
			{"no path", at(""), nil, "drives[0].path"},
			{"the root", at("/"), nil, "drives[0].path"},
			{"/proc", at("/d", "/proc/1"), nil, "drives[1].path"},
			{"/sys", at("/sys"), nil, "drives[0].path"},
			{"/dev", at("/dev/shm"), nil, "drives[0].path"},
			{"a path that is not clean", at("/a/../proc"), nil, "drives[0].path"},
			{"a NUL", at("/a\x00"), nil, "drives[0].path"},
			{"more than 4096 bytes", at(strings.Repeat("/a", 2049)), nil, "drives[0].path"},
			{"the same path twice", at("/d", "/d"), nil, "drives[1].path"},
			{"a path in another", at("/d", "/d/e"), nil, "drives[1].path"},
			{"a path in a filesystem's default", at("/shared/x"), []DriveMount{{Drive: fs.ID}}, "shared_filesystems[0].path"},
			{"the same drive twice", at("/d", "/e", "/f"), nil, "drives[2].id"},
			{"nine", nine, nil, "drives"},
			{"nine together", nine[:4], nine[4:], "drives"},
			{"a drive that is not there", []DriveMount{{Drive: 99, Path: "/d"}}, nil, "drives[0].id"},
			{"another account's drive", []DriveMount{{Drive: theirs.ID, Path: "/d"}}, nil, "drives[0].id"},
			{"a filesystem as a drive", []DriveMount{{Drive: fs.ID, Path: "/d"}}, nil, "drives[0].id"},
			{"a drive as a filesystem", nil, []DriveMount{{Drive: d.ID, Path: "/d"}}, "shared_filesystems[0].id"},
		} {
			r := request("x", 1)
			r.Drives, r.Filesystems = c.drives, c.fs
			for call, err := range map[string]error{"launch": second(b.Launch(background, r)), "quote": second(b.Quote(background, r))} {
				var p *Problem
				if !errors.As(err, &p) || p.Kind != Unprocessable || p.Field != c.field {
					t.Errorf("%s with %s: %v (%+v), want field %s", call, c.what, err, p, c.field)
				}
			}
		}
		if list, _ := b.List(alice, 0, 10); len(list) != 0 {
			t.Errorf("%+v", list)
		}
		b.wantWallet(alice, "100", "0")
		b.wantDrive(d.ID, drives.Available)
	})
}
