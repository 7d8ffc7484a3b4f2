package files

import (
	"io/fs"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestPathsAreRelativeToTheVolumeHoweverTheyAreWritten(t *testing.T) {
	for in, want := range map[string]string{
		"": ".", "/": ".", ".": ".", "./": ".", "a": "a", "/a": "a", "//a///b/": "a/b", "a/./b": "a/b", "...": "...", "a b/ü": "a b/ü", `a\b`: `a\b`,
	} {
		if got, err := Clean("path", in); err != nil || got != want {
			t.Errorf("%q is %q, %v, want %q", in, got, err, want)
		}
	}
}

func TestPathsThatCanNotBeAreRefused(t *testing.T) {
	for _, in := range []string{
		"..", "/..", "a/..", "../a", "a/../b", "a/../../etc/shadow", "x/..//", "a\x00b", "\xff", strings.Repeat("n", 256), strings.Repeat("a/", 2049),
		uploadFolder, "/" + uploadFolder + "/x.part", ".//" + uploadFolder,
	} {
		if got, err := Clean("path", in); err == nil {
			t.Errorf("%q became %q", in, got)
		}
	}
	if _, err := Clean("path", "a/"+uploadFolder); err != nil {
		t.Errorf("deeper it is a name like any other: %v", err)
	}
}

func FuzzClean(f *testing.F) {
	for _, s := range []string{"", "/", "a/b", "..", "a/../b", "./..", "\x00", "\xff", "//", ".ecolink-uploads/x", "a/.", "…", "a\\..\\b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := Clean("path", s)
		if err != nil {
			return
		}
		if !fs.ValidPath(got) || !utf8.ValidString(got) || strings.HasPrefix(got, uploadFolder+"/") || got == uploadFolder || len(got) > MaxPathBytes {
			t.Fatalf("%q became %q", s, got)
		}
		if again, err := Clean("path", got); err != nil || again != got {
			t.Fatalf("%q became %q, and that %q, %v", s, got, again, err)
		}
	})
}
