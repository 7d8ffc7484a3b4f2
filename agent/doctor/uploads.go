package doctor

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"ecolink/agent/volume/files"
)

// uploadsTimeout bounds the looking through one volume's uploads, whose folder may
// have whatever its users made there.
const uploadsTimeout = 10 * time.Second

// uploads finds those that nobody goes on with, in volumes that are mounted. One
// that is not mounted is looked at when somebody has it mounted again.
func (l *look) uploads() error {
	seen := map[string]bool{}
	for _, m := range l.mounts {
		rest, ok := strings.CutPrefix(m.Mountpoint, filepath.Join(l.RunDir, "volumes")+"/")
		parts := strings.Split(rest, "/")
		if !ok || len(parts) != 2 || seen[parts[0]] || !slices.Contains(l.known.Volumes, parts[0]) {
			continue
		}
		seen[parts[0]] = true
		var a files.Abandoned
		err := inMounted(m.Mountpoint, func(ctx context.Context, v files.Volume) (err error) {
			a, err = v.Abandoned(ctx, time.Now())
			return err
		})
		if err != nil {
			continue // unmounted meanwhile, or not a folder: nothing that could be mended
		}
		if a.Uploads+a.Parts > 0 {
			l.found = append(l.found, Finding{Kind: Uploads, Name: parts[0], Where: []string{files.UploadsIn(m.Mountpoint)},
				Why:    abandoned(a),
				Repair: "remove them; finished files stay"})
		}
	}
	return nil
}

// abandoned says what nobody goes on with: one of the two may be none.
func abandoned(a files.Abandoned) string {
	var what []string
	if a.Uploads > 0 {
		what = append(what, either(a.Uploads, "1 upload that stands still", "%d uploads that stand still")+" should have been swept away")
	}
	if a.Parts > 0 {
		what = append(what, either(a.Parts, "1 .part file belongs to no upload", "%d .part files belong to no upload"))
	}
	takes := either(a.Uploads+a.Parts, "it takes", "they take")
	return fmt.Sprintf("%s; %s %d MB", strings.Join(what, ", and "), takes, a.Bytes/1e6)
}

// either chooses the words for one or for n of something.
func either(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return strings.ReplaceAll(many, "%d", strconv.Itoa(n))
}

// inMounted works in a volume that is mounted somewhere.
func inMounted(path string, do func(context.Context, files.Volume) error) error {
	root, err := os.OpenRoot(path)
	if err != nil {
		return err
	}
	defer root.Close()
	ctx, cancel := context.WithTimeout(context.Background(), uploadsTimeout)
	defer cancel()
	return do(ctx, files.In(root))
}

// RemoveUploads removes what a finding of the kind Uploads has found.
func RemoveUploads(p Places, known Known, f Finding) error {
	found, err := Look(p, known)
	if err != nil {
		return err
	}
	for _, g := range found {
		if !f.same(g) {
			continue
		}
		return inMounted(filepath.Dir(g.Where[0]), func(ctx context.Context, v files.Volume) error { return v.RemoveAbandoned(ctx, time.Now()) })
	}
	return nil // it has gone meanwhile
}
