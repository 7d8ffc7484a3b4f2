package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"

	"github.com/pkg/sftp"
)

func main() {
	// The Go runtime sizes itself by the machine's CPUs, and a GPU server has
	// hundreds. Two keep the network and the disk busy.
	runtime.GOMAXPROCS(2)
	if err := serve(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "ecolink-sftp:", err)
		os.Exit(1)
	}
}

// stream is both pipes as one.
type stream struct {
	io.Reader
	io.WriteCloser
}

// serve answers until its input ends. Relative paths begin in the folder that it was
// started in: the library's own option for that would make the targets of links
// absolute.
func serve(in io.Reader, out io.WriteCloser) error {
	server, err := sftp.NewServer(stream{in, out}, sftp.WithAllocator())
	if err != nil {
		return err
	}
	if err := server.Serve(); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return server.Close()
}
