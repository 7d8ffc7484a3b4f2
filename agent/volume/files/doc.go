// Package files works on the files of one volume, below an *os.Root: it lists
// folders, opens files to read, makes, moves and removes, writes a folder as a
// zip, and takes uploads that come in pieces.
//
// No path leads out. The user has root in containers that mount the same volume,
// and may put anything there at any moment: links to /etc/shadow, device nodes,
// FIFOs, a link in the place of a folder that is being read. So every path is
// resolved by os.Root, which follows links only inside the volume, and every walk
// goes from open folder to open folder by single names without following any
// link (folder.go). Only regular files are read.
//
// An upload's bytes are in a hidden folder of the volume itself until all are
// there (upload.go): they count against the volume's size, outlive EcoLink, go
// with the volume, and a half file never has the name of a whole one.
//
// Names in a volume are any bytes but NUL and "/". Paths here are UTF-8; an entry
// whose name is not is listed and archived, and can't be named otherwise.
//
// It mounts nothing and knows nothing of accounts or HTTP; web/files calls it with
// a root that the box has opened. A Volume may be used from many goroutines.
package files
