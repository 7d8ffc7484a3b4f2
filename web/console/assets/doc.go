// Package assets has the browser's part of the console, built by npm from src
// and embedded: styles, scripts, and the libraries that they use.
//
// It serves them under names that carry their hash, to be kept for ever. It
// knows nothing of pages; the console asks it for addresses. A binary that was
// compiled before the assets were built has none, says so when asked, and its
// pages must do without.
package assets
