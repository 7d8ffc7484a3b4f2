package logfile

import "time"

// The streams of a container.
const (
	Stdout = "stdout"
	Stderr = "stderr"
)

// MaxTextBytes is the longest text of one record; a longer line of output is
// split into several, all but the last of them partial.
const MaxTextBytes = 16 << 10

// Line is one record of a log.
type Line struct {
	// Time is when the writer took the text from the container, in UTC.
	Time time.Time
	// Stream is Stdout or Stderr.
	Stream string
	// Text is what the container printed, without the newline. It may hold any
	// byte but a newline and need not be UTF-8.
	Text string
	// Partial says that no newline followed: the line goes on in the next Line
	// of the same Stream, or the container's output ended here.
	Partial bool
}

// The layout has fixed columns, which lets the reader find a record's parts
// without searching. Both streams' names have six letters.
const (
	timeLayout  = "2006-01-02T15:04:05.000000000Z07:00" // always in UTC, so it ends in Z
	timeBytes   = len("2006-01-02T15:04:05.000000000Z")
	streamAt    = timeBytes + 1
	flagAt      = streamAt + len(Stdout) + 1
	textAt      = flagAt + 2
	maxRecord   = textAt + MaxTextBytes + 1
	flagFull    = 'F'
	flagPartial = 'P'
)

// appendStamp appends a record's time. Callers format it once for all records
// of one read.
func appendStamp(dst []byte, t time.Time) []byte {
	return t.UTC().AppendFormat(dst, timeLayout)
}

// appendRecord appends one record, newline included. text must hold no newline.
func appendRecord(dst, stamp []byte, stream string, text []byte, partial bool) []byte {
	dst = append(dst, stamp...)
	dst = append(dst, ' ')
	dst = append(dst, stream...)
	flag := byte(flagFull)
	if partial {
		flag = flagPartial
	}
	dst = append(dst, ' ', flag, ' ')
	dst = append(dst, text...)
	return append(dst, '\n')
}

// parse reads one record without its newline. It accepts exactly what
// appendRecord makes; anything else (a line torn by a power cut, a foreign
// line) gives false.
func parse(record []byte) (Line, bool) {
	if len(record) < textAt || len(record) >= maxRecord ||
		record[timeBytes] != ' ' || record[flagAt-1] != ' ' || record[textAt-1] != ' ' {
		return Line{}, false
	}
	// time.Parse also takes a comma before the fraction, and numeric zones.
	stamp := record[:timeBytes]
	if stamp[timeBytes-1] != 'Z' || stamp[len("2006-01-02T15:04:05")] != '.' {
		return Line{}, false
	}
	t, err := time.Parse(time.RFC3339Nano, string(stamp))
	if err != nil {
		return Line{}, false
	}
	line := Line{Time: t, Text: string(record[textAt:])}
	switch string(record[streamAt : flagAt-1]) {
	case Stdout:
		line.Stream = Stdout
	case Stderr:
		line.Stream = Stderr
	default:
		return Line{}, false
	}
	switch record[flagAt] {
	case flagFull:
	case flagPartial:
		line.Partial = true
	default:
		return Line{}, false
	}
	return line, true
}
