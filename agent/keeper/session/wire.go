package session

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// The kinds of frames. A frame is its kind, the length of what follows as three
// bytes, the highest first, and as much more.
const (
	frameOutput = 'o' // from the host: output
	frameWindow = 'w' // either way: two 16 bit numbers, columns and rows
	frameInput  = 'i' // from the client: what was typed; it is typed undivided
	frameLeave  = 'l' // from the client: it goes for good
	frameTouch  = 't' // from the client: it typed, without the host
	frameTaken  = 'k' // from the host: a 32 bit number, of input frames taken so far
	// Nothing, with a TCP socket and a side channel from the client; and nothing, from
	// the host, when all that follows goes there. See forward.go.
	frameForward = 'f'
)

const frameHead = 4

// putHead writes a frame's head into the first bytes of p.
func putHead(p []byte, kind byte, length int) {
	binary.BigEndian.PutUint32(p, uint32(length))
	p[0] = kind
}

// readHead reads a frame's head. Both sides' frames are outputBytes at most.
func readHead(r io.Reader) (kind byte, length int, err error) {
	var head [frameHead]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, 0, err
	}
	kind, head[0] = head[0], 0
	length = int(binary.BigEndian.Uint32(head[:]))
	if length > outputBytes {
		return 0, 0, fmt.Errorf("a frame of %d bytes is too long", length)
	}
	return kind, length, nil
}

// windowFrame is a whole frame.
func windowFrame(w Window) []byte {
	p := make([]byte, frameHead, frameHead+4)
	putHead(p, frameWindow, 4)
	p = binary.BigEndian.AppendUint16(p, w.Cols)
	return binary.BigEndian.AppendUint16(p, w.Rows)
}

// takenFrame is a whole frame.
func takenFrame(n uint32) []byte {
	p := make([]byte, frameHead, frameHead+4)
	putHead(p, frameTaken, 4)
	return binary.BigEndian.AppendUint32(p, n)
}

func parseWindow(p []byte) Window {
	return Window{Cols: binary.BigEndian.Uint16(p), Rows: binary.BigEndian.Uint16(p[2:])}
}

// request is what a client's first line asks for.
type request struct {
	verb   string
	offset int64
	window Window
	pid    int
}

// readRequest reads a client's first line, and what came right after it.
func readRequest(conn io.Reader) (q request, rest []byte, err error) {
	line, rest, err := readLine(conn)
	if err != nil {
		return q, nil, err
	}
	var extra string
	q.verb, _, _ = strings.Cut(line, " ")
	switch q.verb {
	case "ATTACH":
		n, _ := fmt.Sscanf(line, "ATTACH %d %d %d%s", &q.offset, &q.window.Cols, &q.window.Rows, &extra)
		if n != 3 {
			return q, nil, errors.New("the first line must be ATTACH <offset> <cols> <rows>")
		}
		if q.offset < FromScreen {
			return q, nil, errors.New("the offset must be a byte number, -1, -2 or -3")
		}
	case "ADOPT":
		if n, _ := fmt.Sscanf(line, "ADOPT %d %d %d%s", &q.pid, &q.window.Cols, &q.window.Rows, &extra); n != 3 || q.pid <= 0 {
			return q, nil, errors.New("the first line must be ADOPT <pid> <cols> <rows>")
		}
	case "STATUS":
	default:
		return q, nil, errors.New("the first line must be ATTACH <offset> <cols> <rows>, ADOPT <pid> <cols> <rows> or STATUS")
	}
	return q, rest, nil
}

// notBegun is the host's refusal of viewers before its shell has begun. Who starts a
// shell lets it begin before anybody attaches, or was killed and never will.
const notBegun = "nobody has let its shell begin"

// errRefused is the host's ERR.
var errRefused = errors.New("the terminal's host refuses")

// readAnswer reads the host's first line without its OK, and what came right
// after it.
func readAnswer(conn io.Reader) (answer string, rest []byte, err error) {
	line, rest, err := readLine(conn)
	if err != nil {
		return "", nil, err
	}
	if line == "ERR "+notBegun {
		return "", nil, fmt.Errorf("%w: %s", ErrEnded, notBegun)
	}
	if reason, refused := strings.CutPrefix(line, "ERR "); refused {
		return "", nil, fmt.Errorf("%w: %s", errRefused, reason)
	}
	answer, ok := strings.CutPrefix(line, "OK ")
	if !ok {
		return "", nil, fmt.Errorf("the terminal's host answers %q", line)
	}
	return answer, rest, nil
}

// readStart reads the host's answer to ATTACH.
func readStart(conn io.Reader) (start int64, prologue int, rest []byte, err error) {
	answer, rest, err := readAnswer(conn)
	if err != nil {
		return 0, 0, nil, err
	}
	var extra string
	n, _ := fmt.Sscanf(answer, "%d %d%s", &start, &prologue, &extra)
	if n != 2 || start < 0 || prologue < 0 || prologue > maxPrologueBytes {
		return 0, 0, nil, fmt.Errorf("the terminal's host answers %q", answer)
	}
	return start, prologue, rest, nil
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
	_, _ = fmt.Fprintf(conn, "ERR %s\n", strings.ReplaceAll(reason.Error(), "\n", " ")) // it may be gone: nobody left to tell
	_ = conn.Close()
}
