// Package endtoend tests the ecolink program as a whole: the real server on real
// containers, through its API, its terminal and its console in a real browser.
// Only the GPUs are simulated. There is nothing in it but tests.
package endtoend
