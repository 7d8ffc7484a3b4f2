// Package schedulertest has workloads in memory for the tests of what is built on
// the scheduler: they behave towards it as containers do, in no time.
//
// Each test adds to them what it is about (images, terminals, logs). It is no part
// of the product, and the real machine has its own tests in package agent.
package schedulertest
