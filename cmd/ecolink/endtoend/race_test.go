//go:build race

package endtoend

// The server is built with the race detector when the tests are.
func init() { buildFlags = append(buildFlags, "-race") }
