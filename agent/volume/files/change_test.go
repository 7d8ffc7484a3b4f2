package files

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestFoldersAreMadeWithThoseAboveThem(t *testing.T) {
	w := newWorld(t)
	old := unix.Umask(0o077)
	defer unix.Umask(old)
	must(t, w.Mkdir("/a/b/c"))
	for _, p := range []string{"a", "a/b", "a/b/c"} {
		st, err := os.Stat(w.path(p))
		must(t, err)
		if owner := st.Sys().(*syscall.Stat_t).Uid; st.Mode().Perm() != 0o755 || owner != 0 {
			t.Errorf("%s has mode %s and is of user %d", p, st.Mode(), owner)
		}
	}
	w.refused(w.Mkdir("a/b"), Exists)
	w.put("file", "")
	w.refused(w.Mkdir("file/x"), Conflict)
	w.refused(w.Mkdir("/"), Invalid)
}

func TestMovesReplaceNothingUnlessAsked(t *testing.T) {
	w := newWorld(t)
	w.put("a", "A")
	w.put("b", "B")
	w.put("dir/x", "X")
	w.refused(w.Move("a", "b", false), Exists)
	w.refused(w.Move("a", "dir", true), Conflict)
	w.refused(w.Move("dir", "dir/inner", false), Conflict)
	w.refused(w.Move("none", "c", false), NotFound)
	w.refused(w.Move("none", "none", false), NotFound)
	w.refused(w.Move("a", "none/c", false), NotFound)
	w.refused(w.Move("a", "../c", false), Invalid)
	w.refused(w.Move("a", "/", false), Invalid)
	must(t, w.Move("a", "a", false))
	must(t, w.Move("a", "b", true))
	must(t, w.Move("b", "dir/b", false))
	must(t, w.Move("dir", "renamed", false))
	if w.names("/") != "renamed" || w.read("renamed/b") != "A" {
		t.Errorf("left: %s", w.names("/"))
	}
}

func TestAFolderThatIsNotEmptyIsRemovedOnlyWhenAsked(t *testing.T) {
	w := newWorld(t)
	w.put("dir/a/b/c", "x")
	w.put("file", "x")
	w.refused(w.Remove(t.Context(), "dir", false), Conflict)
	w.refused(w.Remove(t.Context(), "none", true), NotFound)
	w.refused(w.Remove(t.Context(), "/", true), Invalid)
	w.refused(w.Remove(t.Context(), uploadFolder, true), NotFound)
	must(t, w.Remove(t.Context(), "dir", true))
	must(t, w.Remove(t.Context(), "file", false))
	if got := w.names("/"); got != "" {
		t.Errorf("left: %s", got)
	}
}

func TestRemovingEndsWithItsContextAndCanGoOn(t *testing.T) {
	w := newWorld(t)
	for n := range 50 {
		w.put(fmt.Sprintf("dir/%d", n), "")
	}
	ctx, cancel := cancelled(t)
	cancel()
	if err := w.Remove(ctx, "dir", true); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	must(t, w.Remove(t.Context(), "dir", true))
}

func TestFoldersWithoutAnEndAreRefused(t *testing.T) {
	w := newWorld(t)
	must(t, os.Mkdir(w.path("deep"), 0o755))
	at, err := w.folder("deep")
	must(t, err)
	for range MaxDepth + 5 {
		must(t, at.mkdir("d"))
		next, err := at.sub("d")
		must(t, err)
		at.Close()
		at = next
	}
	at.Close()
	err = w.Remove(t.Context(), "deep", true)
	w.refused(err, Conflict)
	a, err := w.Archive("deep")
	must(t, err)
	defer a.Close()
	w.refused(a.WriteTo(t.Context(), writerFunc(func(p []byte) (int, error) { return len(p), nil })), Conflict)
	must(t, os.RemoveAll(w.path("deep")))
}

func TestMessagesNameWhatIsWrongAndStayShort(t *testing.T) {
	w := newWorld(t)
	long := strings.Repeat("n/", 1000) + "end"
	_, err := w.Open(long)
	var e *Error
	if !errors.As(err, &e) || e.Field != "path" || !strings.Contains(e.Message, "end") || len(e.Message) > 300 {
		t.Errorf("%v", err)
	}
	err = w.Move("none", "x", false)
	if !errors.As(err, &e) || e.Field != "from" {
		t.Errorf("%v", err)
	}
}
