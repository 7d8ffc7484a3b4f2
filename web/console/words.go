package console

import (
	"fmt"
	"strings"
)

// splitWords splits a command as a shell would, with single quotes, double quotes
// and backslashes, and without expanding anything.
func splitWords(s string) ([]string, error) {
	var words []string
	var word strings.Builder
	inWord := false
	var quote rune
	escaped := false
	for _, r := range s {
		switch {
		case escaped:
			// In double quotes a backslash escapes only what is special there (POSIX
			// Shell Command Language 2.2.3).
			if quote == '"' && !strings.ContainsRune("$`\"\\", r) {
				word.WriteRune('\\')
			}
			word.WriteRune(r)
			escaped = false
		case r == '\\' && quote != '\'':
			escaped, inWord = true, true
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(r)
		case r == '\'' || r == '"':
			quote, inWord = r, true
		case r == ' ' || r == '\t' || r == '\n' || r == '\r':
			if inWord {
				words = append(words, word.String())
				word.Reset()
				inWord = false
			}
		default:
			word.WriteRune(r)
			inWord = true
		}
	}
	if quote != 0 || escaped {
		return nil, fmt.Errorf("a quote or a backslash is left open: close it, or write sh -c '…'")
	}
	if inWord {
		words = append(words, word.String())
	}
	return words, nil
}

// parseEnv reads lines of NAME=value. Values are taken as they stand.
func parseEnv(s string) (map[string]string, error) {
	var env map[string]string
	for n, line := range strings.Split(strings.ReplaceAll(s, "\r\n", "\n"), "\n") {
		if strings.TrimSpace(line) == "" {
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		name = strings.TrimSpace(name)
		if !ok || name == "" {
			return nil, fmt.Errorf("line %d is not of the form NAME=value: give each variable a line of its own", n+1)
		}
		if env == nil {
			env = map[string]string{}
		}
		if _, twice := env[name]; twice {
			return nil, fmt.Errorf("%s is set twice: keep one of the lines", name)
		}
		env[name] = value
	}
	return env, nil
}
