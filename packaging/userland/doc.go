// Package userland makes container images with a real Debian or Ubuntu inside:
// full-screen programs, Python, Jupyter. Tests run what people run, and not only
// busybox.
//
// An image is made once on a machine, by mmdebstrap from the apt sources that the
// machine has itself, and kept in the user's cache folder: it takes a minute or
// two. It is the release of the machine, so that its sources fit.
//
// It is no part of the product: nothing that `ecolink serve` runs imports it.
package userland
