// Package sample makes small container images on the spot and serves them from a
// registry on loopback, so that the demonstration, the tests and the benchmarks
// need no registry on the Internet.
//
// It is no part of the product: nothing that `ecolink serve` runs imports it.
package sample
