package lease

import (
	"time"

	"ecolink/ledger"
)

// Bounds of what can be lost, see doc.go.
const (
	// FoldDelay is how long records gather before they are folded into the journal.
	FoldDelay = 2 * time.Millisecond
	// MaxBacklog is how many records may wait to be folded before new requests wait.
	MaxBacklog = 16384
	// MaxLag is how long one may wait before new requests do.
	MaxLag = 2 * time.Second
)

// What a lease is by default.
const (
	DefaultBlock    = ledger.Dollar / 2
	DefaultMinBlock = ledger.Dollar / 100
	DefaultMaxBlock = 5 * ledger.Dollar
	// DefaultIdle is how long a lease may lie unused before it is given back.
	DefaultIdle = time.Minute
)

const (
	// maxAmount bounds an estimate and a charge, so that sums can't overflow.
	maxAmount = 1_000_000 * ledger.Dollar
	// maxGroup is how many records are folded in one transaction.
	maxGroup = 2048
	// maxReturns is how many leases are given back in one transaction.
	maxReturns = 256
	// trimEvery is how often leases are looked at that may have too much.
	trimEvery = time.Second
	// maxStuck is how many charges that could not be made are kept with all that
	// they say. Of those beyond it only the sum is kept.
	maxStuck = 4096
	// aheadShare: no more than this part of what is available is drawn ahead.
	aheadShare = 8
	// A block that was used up faster than growBelow is doubled, slower than
	// shrinkAbove it is halved.
	growBelow   = 2 * time.Second
	shrinkAbove = 30 * time.Second
	// dryRetry is how long after it found nothing a draw ahead is tried again.
	dryRetry = 100 * time.Millisecond
	// holdLife is when a lease's hold should have ended. It is given back before.
	holdLife = 24 * time.Hour
	// holdMargin is how long before.
	holdMargin = time.Hour
	// A fold that failed is tried again after minRetry, then twice that, up to
	// maxRetry; closeRetries times when the Spender closes.
	minRetry     = 50 * time.Millisecond
	maxRetry     = 2 * time.Second
	closeRetries = 3

	// segmentBytes is when a new segment of the log begins.
	segmentBytes = 8 << 20
	// maxSegmentBytes is the most that is read as one: a group may go beyond.
	maxSegmentBytes = 64 << 20
	// maxAside is how many segments are kept that were moved aside.
	maxAside = 64
	// Limits of a record's texts, as the journal's, in bytes.
	maxWordBytes        = 255
	maxDescriptionBytes = 1000
	// maxBodyBytes is more than a record with the longest texts takes.
	maxBodyBytes = 4096
)
