package doctor

import "golang.org/x/sys/unix"

// timeError is TIME_ERROR of linux/timex.h: the clock is not synchronised.
const timeError = 5

// synchronised asks the kernel whether something keeps the clock right.
func synchronised() []Finding {
	var t unix.Timex
	state, err := unix.Adjtimex(&t) // with no modes it only reads
	if err != nil {
		return nil // a sandbox forbids it: nothing is known
	}
	return synchronisation(state, t.Status)
}

func synchronisation(state int, status int32) []Finding {
	if state != timeError && status&unix.STA_UNSYNC == 0 {
		return nil
	}
	return []Finding{{Kind: Clock, Name: "synchronisation", Where: []string{}, Minor: true,
		Why:    "the kernel says that nothing synchronises the clock",
		Advice: "run a time service (systemd-timesyncd or chrony): when the clock goes wrong, time is billed wrong and the ledger refuses to move money; where a hypervisor keeps the clock, this is as it should be"}}
}
