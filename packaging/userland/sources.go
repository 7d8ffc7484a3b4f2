package userland

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// sources are the machine's own apt sources of its own release: mirrors that it
// is known to reach, with keys that it trusts. What others added, for their
// programs, is left out.
type sources struct {
	codename string
	lines    []string // of the one-line format
	stanzas  []string // of deb822
}

func readSources(etc string) (s sources, err error) {
	release, err := os.ReadFile(filepath.Join(etc, "os-release"))
	if err != nil {
		return s, err
	}
	for line := range strings.Lines(string(release)) {
		if value, ok := strings.CutPrefix(line, "VERSION_CODENAME="); ok {
			s.codename = strings.Trim(strings.TrimSpace(value), `"`)
		}
	}
	if s.codename == "" {
		return s, errors.New("this system names no release of Debian or Ubuntu in /etc/os-release: an image is made from that on such a system")
	}
	extra, err := filepath.Glob(filepath.Join(etc, "apt/sources.list.d/*"))
	if err != nil {
		return s, err
	}
	for _, file := range append([]string{filepath.Join(etc, "apt/sources.list")}, extra...) {
		text, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return s, err
		}
		switch filepath.Ext(file) {
		case ".list":
			s.readLines(string(text))
		case ".sources":
			s.readStanzas(string(text))
		}
	}
	if len(s.lines)+len(s.stanzas) == 0 {
		return s, fmt.Errorf("apt has no source for %s in /etc/apt", s.codename)
	}
	return s, nil
}

// readLines takes lines such as "deb [signed-by=…] http://… bookworm main".
func (s *sources) readLines(text string) {
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) == 0 || words[0] != "deb" {
			continue
		}
		words = words[1:]
		if len(words) > 0 && strings.HasPrefix(words[0], "[") {
			end := slices.IndexFunc(words, func(w string) bool { return strings.HasSuffix(w, "]") })
			words = words[end+1:]
		}
		if len(words) >= 2 && s.ours(words[1]) {
			s.lines = append(s.lines, strings.TrimSpace(line))
		}
	}
}

// readStanzas takes deb822 paragraphs.
func (s *sources) readStanzas(text string) {
	var stanza []string
	flush := func() {
		keep, off := false, false
		for _, line := range stanza {
			name, value, _ := strings.Cut(line, ":")
			switch strings.ToLower(name) {
			case "suites":
				suites := strings.Fields(value)
				keep = len(suites) > 0 && !slices.ContainsFunc(suites, func(w string) bool { return !s.ours(w) })
			case "enabled":
				off = strings.EqualFold(strings.TrimSpace(value), "no")
			}
		}
		if keep && !off {
			s.stanzas = append(s.stanzas, strings.Join(stanza, "\n"))
		}
		stanza = nil
	}
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		switch {
		case strings.TrimSpace(line) == "":
			flush()
		case !strings.HasPrefix(line, "#"):
			stanza = append(stanza, line)
		}
	}
	flush()
}

// ours tells whether a suite is the release, its updates or its security.
func (s *sources) ours(suite string) bool {
	return suite == s.codename || strings.HasPrefix(suite, s.codename+"-")
}

// write puts the sources into files that mmdebstrap takes for mirrors.
func (s sources) write(dir string) (files []string, err error) {
	for name, text := range map[string]string{
		"own.list":    strings.Join(s.lines, "\n"),
		"own.sources": strings.Join(s.stanzas, "\n\n"),
	} {
		if text == "" {
			continue
		}
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text+"\n"), 0o644); err != nil {
			return nil, err
		}
		files = append(files, path)
	}
	return files, nil
}
