package lease

import (
	"context"
	"errors"
	"time"

	"ecolink/ledger/store"
)

// fold takes records from the queue to the journal until the Spender closes.
func (s *Spender) fold() {
	retry, failures := minRetry, 0
	for {
		stopping := s.stopping() // before the look into the queue: what it has then is all
		records, now := s.queue.next()
		switch {
		case len(records) == 0 && stopping:
			return
		case len(records) == 0:
			select {
			case <-s.queue.wake:
			case <-s.stop:
			}
			continue
		case !now && !stopping:
			s.sleep(FoldDelay)
			records, _ = s.queue.next()
		}
		err := s.foldGroup(records)
		if err == nil {
			retry, failures = minRetry, 0
			continue
		}
		s.config.Log.Error("charges of API requests can't be written to the ledger yet", "waiting", len(records), "err", err)
		if failures++; stopping && failures >= closeRetries || errors.Is(err, ErrReplaced) && stopping {
			s.unsaved = err
			return
		}
		s.sleep(retry)
		if stopping { // the channel does not wait any more
			time.Sleep(retry)
		}
		retry = min(2*retry, maxRetry)
	}
}

func (s *Spender) stopping() bool {
	select {
	case <-s.stop:
		return true
	default:
		return false
	}
}

// sleep waits, or until the Spender closes.
func (s *Spender) sleep(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-s.stop:
	}
}

// foldGroup folds records, which are at the front of the queue.
func (s *Spender) foldGroup(records []record) error {
	var out []folding
	err := s.store.Update(context.Background(), func(tx *store.Tx) (err error) {
		out, err = foldRecords(tx, records, s.epoch, time.Now())
		if err != nil {
			return err
		}
		tx.OnCommit(func() {
			for n := range out {
				s.apply(&out[n])
			}
		})
		return nil
	})
	if err != nil {
		s.failed(records, err)
		return err
	}
	for _, f := range out {
		if f.stuck > 0 {
			s.config.Log.Error("API requests can't be charged, and are kept as stuck charges", "account", f.records[0].entry.Account, "requests", f.stuck, "amount", f.stuckAmount, "why", f.why)
		}
	}
	last := records[len(records)-1].number
	s.queue.folded(len(records))
	if err := s.log.folded(last); err != nil {
		s.config.Log.Warn("a part of the log of charges that is not needed any more could not be removed", "err", err)
	}
	return nil
}

// failed answers those who wait for records to be folded, which failed.
func (s *Spender) failed(records []record, err error) {
	late := s.queue.failed(len(records), err)
	for _, of := range byAccount(records) {
		l := of[0].from
		l.mu.Lock()
		if l.pending >= s.config.MaxBlock {
			l.refuse(late)
		}
		l.mu.Unlock()
	}
}
