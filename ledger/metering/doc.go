// Package metering is the billing that goes on by itself: 24-hour cycles of what
// holds money while it runs, storage by the day, and how long the money lasts.
//
// A Cycle is the renewing hold of an inference instance: it follows the GPUs that
// really ran, and at each 24-hour boundary settles what they cost, refunds the
// rest and holds the next 24 hours, as far as the balance reaches. A Volume is a
// drive or a shared filesystem: one charge for each day in UTC, at that day's
// price. What can't be paid since all money is held for something else, and is not
// lost since there is money, is a Debt. Forecast says what is spent per hour and how long that can go on.
//
// It never runs by itself and never starts, stops or mounts anything: it writes
// what is owed and says what came of it, in the transaction that it is given,
// and the caller acts on that. It keeps no prices: a cycle notes the rate that it
// was started at, and storage asks ledger/price.
//
// The scheduler's billing worker asks DueCycles and DueVolumes what to do, and
// calls Advance and BillStorage; whoever owns an inference instance, drive or
// shared filesystem calls the rest, in the transaction that changes its own
// record. All of it is safe to repeat: a record says how far it has been billed,
// and is written with the rows that billed it. So the rows carry no idempotency
// keys.
//
// Each function takes now, which is the time of the rows that it writes. The
// box's clock may go back a little: nothing is counted twice for it.
package metering
