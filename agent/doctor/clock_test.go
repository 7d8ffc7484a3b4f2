package doctor

import (
	"testing"

	"golang.org/x/sys/unix"
)

func TestClockThatNothingSynchronisesIsToldAndIsMinor(t *testing.T) {
	for _, c := range []struct {
		state  int
		status int32
		wrong  bool
	}{
		{0, unix.STA_PLL, false},
		{1, unix.STA_PLL | unix.STA_INS, false}, // a leap second comes
		{timeError, unix.STA_UNSYNC, true},
		{timeError, unix.STA_PLL, true},
		{0, unix.STA_UNSYNC, true},
	} {
		found := synchronisation(c.state, c.status)
		if (len(found) == 1) != c.wrong || c.wrong && (found[0].Kind != Clock || !found[0].Minor || found[0].Advice == "") {
			t.Errorf("%+v: %+v", c, found)
		}
	}
}

func TestTheKernelIsAskedAboutTheClock(t *testing.T) {
	var now unix.Timex
	state, unknown := unix.Adjtimex(&now) // which a sandbox may forbid: then the doctor says nothing
	found, err := Look(newPlaces(t), Known{})
	if err != nil {
		t.Fatal(err)
	}
	wrong := unknown == nil && (state == timeError || now.Status&unix.STA_UNSYNC != 0)
	if told := find(found, Clock, "synchronisation") != nil; told != wrong {
		t.Errorf("told: %v, and the kernel says %d, %#x, %v", told, state, now.Status, unknown)
	}
}
