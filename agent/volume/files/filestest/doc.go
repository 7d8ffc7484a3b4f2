// Package filestest gives tests a volume as a drive is one: ext4 in a file, on a
// loop device. Only tests import it.
package filestest
