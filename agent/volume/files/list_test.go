package files

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestFoldersAreListedFirstAndThenByName(t *testing.T) {
	w := newWorld(t)
	for _, p := range []string{"b.txt", "a.txt", "zoo/x", "bar/y", "Ü"} {
		w.put(p, "12345")
	}
	w.link("a.txt", "link")
	if got := w.names("/"); got != "bar zoo a.txt b.txt link Ü" {
		t.Errorf("listed: %s", got)
	}
	page, err := w.List(t.Context(), "", "", 2)
	must(t, err)
	if len(page.Entries) != 2 || page.Total != 6 || page.Next == "" {
		t.Fatalf("first page: %+v", page)
	}
	page, err = w.List(t.Context(), "", page.Next, 10)
	must(t, err)
	if len(page.Entries) != 4 || page.Entries[0].Name != "a.txt" || page.Next != "" {
		t.Errorf("second page: %+v", page)
	}
	if e := page.Entries[0]; e.Type != TypeFile || e.Size != 5 || e.Mode != 0o644 || e.ModTime.IsZero() || !e.Named {
		t.Errorf("a file: %+v", e)
	}
}

func TestWhatCanNotBeListedSaysWhy(t *testing.T) {
	w := newWorld(t)
	w.put("file", "x")
	for p, kind := range map[string]Kind{"file": Conflict, "none": NotFound, "file/x": Conflict, "..": Invalid, uploadFolder: NotFound} {
		_, err := w.List(t.Context(), p, "", 10)
		w.refused(err, kind)
	}
	for _, cursor := range []string{"!", "MA", "===", strings.Repeat("MD", 300)} {
		_, err := w.List(t.Context(), "", cursor, 10)
		w.refused(err, Invalid)
	}
}

func TestNamesThatAreNotTextAreListedAndCanNotBeNamed(t *testing.T) {
	w := newWorld(t)
	must(t, os.WriteFile(w.at+"/a\xff\xfe", nil, 0o644))
	must(t, os.WriteFile(w.at+"/new\nline<b>", nil, 0o644))
	page, err := w.List(t.Context(), "", "", 10)
	must(t, err)
	if e := page.Entries; len(e) != 2 || e[0].Named || e[0].Name != "a\uFFFD" || !e[1].Named {
		t.Errorf("%+v", e)
	}
}

func TestSpecialFilesAreListedAsSuch(t *testing.T) {
	w := newWorld(t)
	must(t, unix.Mkfifo(w.path("fifo"), 0o644))
	must(t, unix.Mknod(w.path("null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	page, err := w.List(t.Context(), "", "", 10)
	must(t, err)
	for _, e := range page.Entries {
		if e.Type != TypeOther {
			t.Errorf("%+v", e)
		}
		_, err := w.Open(e.Name)
		w.refused(err, Conflict)
	}
	if len(page.Entries) != 2 {
		t.Errorf("%+v", page)
	}
}

func TestFolderOfAHundredThousandEntriesIsListedInPagesWithLittleMemory(t *testing.T) {
	const entries = 100_000
	w := newWorldOf(t, 128<<20, entries+1000)
	must(t, os.Mkdir(w.path("many"), 0o755))
	for n := range entries {
		must(t, unix.Mknod(fmt.Sprintf("%s/%07d-of-a-data-set", w.path("many"), n*7919%entries), unix.S_IFREG|0o644, 0))
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	const limit, enough = MaxPage, 12
	cursor, seen, pages := "", 0, 0
	var peak uint64
	for {
		page, err := w.List(t.Context(), "many", cursor, limit)
		must(t, err)
		for n, e := range page.Entries {
			if want := fmt.Sprintf("%07d-of-a-data-set", seen+n); e.Name != want {
				t.Fatalf("entry %d is %s", seen+n, e.Name)
			}
		}
		seen += len(page.Entries)
		pages++
		if pages%4 == 0 {
			runtime.GC()
			runtime.ReadMemStats(&after)
			peak = max(peak, after.HeapAlloc)
		}
		if cursor = page.Next; cursor == "" || pages >= enough {
			break
		}
	}
	if seen != enough*limit {
		t.Errorf("%d entries in %d pages", seen, pages)
	}
	if grown := int64(peak) - int64(before.HeapAlloc); grown > 4<<20 {
		t.Errorf("listing keeps %d bytes", grown)
	}
	// The last page is found like any other.
	last, err := w.List(t.Context(), "many", encodeKey(fmt.Sprintf("1%07d-of-a-data-set", entries-3)), limit)
	must(t, err)
	if len(last.Entries) != 2 || last.Next != "" || last.Total != entries {
		t.Errorf("the end: %d entries of %d, %q", len(last.Entries), last.Total, last.Next)
	}
	must(t, w.Remove(t.Context(), "many", true))
	if got := w.names(""); got != "" {
		t.Errorf("left: %s", got)
	}
}

func TestListingEndsWithItsContext(t *testing.T) {
	w := newWorld(t)
	w.put("a", "")
	ctx, cancel := cancelled(t)
	cancel()
	if _, err := w.List(ctx, "", "", 1); err == nil {
		t.Error("it was listed all the same")
	}
}

func TestPagesGoOnWhenTheEntryOfTheCursorHasGone(t *testing.T) {
	w := newWorld(t)
	for _, n := range []string{"a", "b", "c", "d"} {
		w.put(n, "")
	}
	page, err := w.List(t.Context(), "", "", 2)
	must(t, err)
	must(t, os.Remove(w.path("b")))
	w.put("aa", "") // before the cursor: of a page that was shown
	page, err = w.List(t.Context(), "", page.Next, 2)
	must(t, err)
	var names []string
	for _, e := range page.Entries {
		names = append(names, e.Name)
	}
	if !slices.Equal(names, []string{"c", "d"}) {
		t.Errorf("%v", names)
	}
}
