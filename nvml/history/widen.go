package history

import "os"

// widen gives the file room for more figures, as when a newer driver tells more:
// it is written anew beside itself, and takes its place when it is whole. The
// lock is held.
func (r *ring) widen(to layout) error {
	file, err := newFile(r.path, to, func(file *os.File) error { return r.copyTo(file, to) })
	if err != nil {
		return err
	}
	_ = r.file.Close() // it was read only, and is gone from the folder
	r.file, r.layout = file, to
	return nil
}

// copyTo writes the records that are whole, and nothing where there is none.
func (r *ring) copyTo(file *os.File, to layout) error {
	var failed error
	put := func(base, place, size int64, encode func([]byte)) {
		if failed == nil {
			raw := make([]byte, size)
			encode(raw)
			_, failed = file.WriteAt(raw, base+place*size)
		}
	}
	err := r.eachSecond(0, FineSeconds, func(s *second) {
		put(headerBytes, finePlace(s.time), to.fineBytes(), func(raw []byte) { to.encodeSecond(raw, s) })
	})
	if err != nil {
		return err
	}
	err = r.eachMinute(0, CoarseMinutes, func(m *minute) {
		put(to.coarseAt(), coarsePlace(m.time), to.coarseBytes(), func(raw []byte) { to.encodeMinute(raw, m) })
	})
	if err != nil {
		return err
	}
	return failed
}
