package doctor

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ecolink/agent/volume/files"
)

func TestUploadsThatNobodyGoesOnWithAreFoundAndRemoved(t *testing.T) {
	p := newPlaces(t)
	p.make(t, "data/volumes/cloud-drive-5/image", "data/volumes/cloud-drive-6/image")
	known := Known{Volumes: []string{"cloud-drive-5", "cloud-drive-6"}, Workloads: []string{"instance-1"}, Running: true}
	for _, id := range known.Volumes {
		at := filepath.Join(p.RunDir, "volumes", id, "instance-1")
		if err := os.MkdirAll(at, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount("none", at, "tmpfs", 0, "size=4m"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Unmount(at, unix.MNT_DETACH) })
	}
	at := filepath.Join(p.RunDir, "volumes", "cloud-drive-5", "instance-1")
	root, err := os.OpenRoot(at)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	v := files.In(root)
	expired, err := v.NewUpload("expired", 1<<20, false, time.Time{}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	begun, err := v.NewUpload("begun", 1<<20, false, time.Time{}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if found := p.look(t, known); len(found) > 0 {
		t.Fatalf("while they are fresh: %+v", found)
	}
	old := time.Now().Add(-files.UploadAge - 3*time.Hour)
	part := filepath.Join(files.UploadsIn(at), strings.Repeat("b", 26)+".part")
	if err := os.WriteFile(part, []byte("nobody's"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, when := range map[string]time.Time{part: time.Now().Add(-2 * time.Hour), filepath.Join(files.UploadsIn(at), expired.ID+".part"): old} {
		if err := os.Chtimes(name, when, when); err != nil {
			t.Fatal(err)
		}
	}
	found := p.look(t, known)
	if len(found) != 1 || found[0].Kind != Uploads || found[0].Name != "cloud-drive-5" || found[0].LosesFiles || found[0].Repair == "" {
		t.Fatalf("%+v", found)
	}
	if want := "1 upload that stands still should have been swept away, and 1 .part file belongs to no upload; they take 1 MB"; found[0].Why != want {
		t.Errorf("it says %q", found[0].Why)
	}
	if err := RemoveUploads(p, known, found[0]); err != nil {
		t.Fatal(err)
	}
	if found := p.look(t, known); len(found) > 0 {
		t.Errorf("afterwards: %+v", found)
	}
	if _, err := v.Upload(expired.ID); err == nil {
		t.Error("the expired upload is there")
	}
	if _, err := v.Upload(begun.ID); err != nil {
		t.Errorf("the upload that is under way: %v", err)
	}
	if err := RemoveUploads(p, known, found[0]); err != nil {
		t.Errorf("again: %v", err)
	}
}
