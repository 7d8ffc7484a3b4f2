package scheduler

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ecolink/ledger/drives"
)

// wantRoom asks for a GB more than should be free: that is refused, and tells what is.
func (b *box) wantRoom(when string, gb int64) {
	b.t.Helper()
	_, err := b.CreateDrive(background, driveRequest("probe", gb+1))
	wantProblem(b.t, err, Conflict, "size_gb")
	if want := fmt.Sprintf("has %d GB free of 1000,", gb); !strings.Contains(err.Error(), want) {
		b.t.Errorf("%s: %v; want %q", when, err, want)
	}
}

func TestADriveTakesItsRoomOnceAtEveryMomentOfItsMakingAndAcrossACrash(t *testing.T) {
	for what, ask := range map[string]func(b *box, d drives.Drive) error{
		"create": func(b *box, _ drives.Drive) error {
			return second(b.CreateDrive(background, driveRequest("more", 300)))
		},
		"clone": func(b *box, d drives.Drive) error {
			r := driveRequest("more", 0)
			r.CloneOf = &drives.Source{Drive: d.ID}
			return second(b.CreateDrive(background, r))
		},
		"grow": func(b *box, d drives.Drive) error {
			return second(b.GrowDrive(background, alice, drives.CloudDrive, d.ID, 600))
		},
	} {
		t.Run(what, func(t *testing.T) {
			storage(t, 1, func(t *testing.T, b *box) {
				d := b.makeDrive("data", 300)
				b.wantRoom("at first", 700)
				b.machine.SlowWith(func(op, _ string) (before, after time.Duration) {
					if op == what {
						return 2 * time.Minute, 2 * time.Minute
					}
					return 0, 0
				})
				if err := ask(b, d); err != nil {
					t.Fatal(err)
				}
				b.settle()
				b.wantRoom("promised", 400)
				b.pass(time.Minute)
				b.restart()
				b.wantRoom("promised, after a crash", 400)
				b.pass(3 * time.Minute)
				b.wantRoom("made, and not yet written down", 400)
				b.restart()
				b.wantRoom("made, after a crash", 400)
				b.pass(5 * time.Minute)
				if w, busy := b.readDrive(d.ID).Work(); busy {
					t.Fatalf("%+v is still to be done", w)
				}
				b.wantRoom("done", 400)
				if err := second(b.CreateDrive(background, driveRequest("rest", 400))); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// The machine is asked while one is being made: what it says is old when the records
// say that it is done.
func TestADriveThatIsDoneWhileTheMachineIsAskedIsNotForgotten(t *testing.T) {
	storage(t, 1, func(t *testing.T, b *box) {
		b.machine.SlowWith(func(op, _ string) (before, after time.Duration) {
			switch op {
			case "create":
				return time.Minute, 0
			case "space":
				return 0, 2 * time.Minute // it answers with what it saw before
			}
			return 0, 0
		})
		if err := second(b.CreateDrive(background, driveRequest("first", 600))); err != nil {
			t.Fatal(err)
		}
		b.wantRoom("then", 400)
	})
}

func TestManyWhoAskAtOnceAreNeverPromisedMoreThanThereIs(t *testing.T) {
	storage(t, 1, func(t *testing.T, b *box) {
		b.machine.SlowWith(func(op, _ string) (before, after time.Duration) {
			if op == "space" {
				return time.Second, time.Second
			}
			return time.Minute, time.Minute
		})
		var got atomic.Int64
		var asked sync.WaitGroup
		for n := range 10 {
			asked.Go(func() {
				if _, err := b.CreateDrive(background, driveRequest(fmt.Sprint("d", n), 300)); err == nil {
					got.Add(1)
				}
			})
		}
		asked.Wait()
		if got.Load() != 3 {
			t.Errorf("%d drives of 300 GB were promised in a pool of 1000", got.Load())
		}
	})
}
