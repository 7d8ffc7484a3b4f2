package session

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// readAttach reads a client's first line, and what it typed right after it.
func readAttach(conn io.Reader) (asked int64, typed []byte, err error) {
	line, typed, err := readLine(conn)
	if err != nil {
		return 0, nil, err
	}
	number, ok := strings.CutPrefix(line, "ATTACH ")
	if !ok {
		return 0, nil, errors.New("the first line must be ATTACH <offset>")
	}
	asked, err = strconv.ParseInt(number, 10, 64)
	if err != nil || asked < FromNow {
		return 0, nil, errors.New("the offset must be a byte number, -1 or -2")
	}
	return asked, typed, nil
}

// errRefused is the host's ERR.
var errRefused = errors.New("the terminal's host refuses")

// readAnswer reads the host's first line, and the output right after it.
func readAnswer(conn io.Reader) (start int64, output []byte, err error) {
	line, output, err := readLine(conn)
	if err != nil {
		return 0, nil, err
	}
	if reason, refused := strings.CutPrefix(line, "ERR "); refused {
		return 0, nil, fmt.Errorf("%w: %s", errRefused, reason)
	}
	number, ok := strings.CutPrefix(line, "OK ")
	if ok {
		start, err = strconv.ParseInt(number, 10, 64)
	}
	if !ok || err != nil || start < 0 {
		return 0, nil, fmt.Errorf("the terminal's host answers %q", line)
	}
	return start, output, nil
}

// readLine returns the first line without its newline, lineBytes at most, and
// what came with it.
func readLine(conn io.Reader) (line string, rest []byte, err error) {
	buf := make([]byte, 0, lineBytes)
	for len(buf) < cap(buf) {
		n, err := conn.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if before, after, found := bytes.Cut(buf, []byte{'\n'}); found {
			return string(before), after, nil
		}
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return "", nil, err
		}
	}
	return "", nil, errors.New("the first line is too long")
}

// refuse tells a client why it gets nothing, and hangs up.
func refuse(conn *net.UnixConn, reason error) {
	_ = conn.SetWriteDeadline(time.Now().Add(handshakeTimeout))
	_, _ = fmt.Fprintf(conn, "ERR %s\n", reason) // it may be gone: nobody left to tell
	_ = conn.Close()
}
