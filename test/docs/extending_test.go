// Package docs_test does the exercises of docs/extending.md, so that the page stays true.
package docs_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const root = "../.."

// exercise is a section of the page.
type exercise struct {
	// file is the new file: a block that begins with the comment "file: PATH".
	file source
	// register is the line that registers it: a diff block that begins with "+++ PATH".
	register source
	// session is what to run and to see: a console block of commands after "$ " and "> ", each with its output.
	session string
}

// source is the text of a block about a file.
type source struct{ path, text string }

// TestExtending: each exercise, done as the page says, gives the output that the page shows.
func TestExtending(t *testing.T) {
	// The result depends on the whole tree: go test runs this again when a folder that was read has changed.
	for _, folder := range []string{"cmd", "crds", "engine", "examples", "internal", "offline", "policies", "test"} {
		err := filepath.WalkDir(filepath.Join(root, folder), func(string, fs.DirEntry, error) error { return nil })
		if err != nil {
			t.Fatal(err)
		}
	}
	page, err := os.ReadFile(filepath.Join(root, "docs/extending.md"))
	if err != nil {
		t.Fatal(err)
	}
	sections := strings.Split(string(page), "\n## ")[1:]
	if len(sections) == 0 {
		t.Fatal("the page has no exercise")
	}
	for _, section := range sections {
		title, text, _ := strings.Cut(section, "\n")
		t.Run(title, func(t *testing.T) {
			e, err := parse(text)
			if err != nil {
				t.Fatal(err)
			}
			overlay, err := e.overlay(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			got, err := e.run(overlay)
			if err != nil {
				t.Fatal(err)
			}
			if got != e.session {
				t.Errorf("the page shows\n%s\nactual is\n%s", e.session, got)
			}
		})
	}
}

var (
	block      = regexp.MustCompile("(?ms)^```([a-z]+)\n(.*?)^```$")
	fileHeader = regexp.MustCompile(`^(?://|#) file: (\S+)\n+`)
	diffHeader = regexp.MustCompile(`^\+\+\+ (\S+)\n`)
)

// parse reads the blocks of an exercise: a file, one line that registers it, and a session. Other blocks are examples.
func parse(text string) (*exercise, error) {
	e := &exercise{}
	for _, b := range block.FindAllStringSubmatch(text, -1) {
		language, body := b[1], b[2]
		var s *source
		header := fileHeader
		switch {
		case language == "console":
			e.session += body
			continue
		case language == "diff":
			s, header = &e.register, diffHeader
		case fileHeader.MatchString(body):
			s = &e.file
		default:
			continue
		}
		found := header.FindStringSubmatch(body)
		if found == nil {
			return nil, fmt.Errorf("a diff does not begin with +++ and the path of a file:\n%s", body)
		}
		if s.path != "" {
			return nil, fmt.Errorf("%s and %s: an extension is one file and one line", s.path, found[1])
		}
		*s = source{found[1], body[len(found[0]):]}
	}
	if e.file.path == "" || e.register.path == "" || e.session == "" {
		return nil, fmt.Errorf("an exercise has a file, a diff and a console block")
	}
	return e, nil
}

// overlay writes the exercise into dir, and returns the overlay of the tree for the go command.
func (e *exercise) overlay(dir string) (string, error) {
	if _, err := os.Stat(filepath.Join(root, e.file.path)); err == nil {
		return "", fmt.Errorf("%s exists already", e.file.path)
	}
	before, err := os.ReadFile(filepath.Join(root, e.register.path))
	if err != nil {
		return "", err
	}
	after, err := registered(string(before), e.register.text)
	if err != nil {
		return "", fmt.Errorf("%s: %w", e.register.path, err)
	}
	replace := map[string]string{}
	for i, s := range []source{e.file, {e.register.path, after}} {
		target, err := filepath.Abs(filepath.Join(root, s.path))
		if err != nil {
			return "", err
		}
		replace[target] = filepath.Join(dir, fmt.Sprint(i))
		if err := os.WriteFile(replace[target], []byte(s.text), 0o600); err != nil {
			return "", err
		}
	}
	text, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	overlay := filepath.Join(dir, "overlay.json")
	return overlay, os.WriteFile(overlay, text, 0o600)
}

// registered adds the one line of a diff to a text, in which the other lines of the diff must be found once.
func registered(text, diff string) (string, error) {
	var before, after strings.Builder
	added := 0
	for line := range strings.Lines(diff) {
		switch line[0] {
		case ' ':
			before.WriteString(line[1:])
			after.WriteString(line[1:])
		case '+':
			after.WriteString(line[1:])
			added++
		default:
			return "", fmt.Errorf("registering adds, so that no line is to begin with %q", line[0])
		}
	}
	if added != 1 {
		return "", fmt.Errorf("registering adds %d lines, and not one", added)
	}
	if n := strings.Count(text, before.String()); n != 1 {
		return "", fmt.Errorf("there are %d places to register at, and not one:\n%s", n, &before)
	}
	return strings.Replace(text, before.String(), after.String(), 1), nil
}

// run runs the commands of the session over the overlaid tree, and returns the session with what they print.
func (e *exercise) run(overlay string) (string, error) {
	var session strings.Builder
	lines := strings.SplitAfter(e.session, "\n")
	for i := 0; i < len(lines); i++ {
		start, isCommand := strings.CutPrefix(lines[i], "$ ")
		if !isCommand {
			continue
		}
		script := start
		session.WriteString(lines[i])
		for ; i+1 < len(lines) && strings.HasPrefix(lines[i+1], ">"); i++ {
			script += strings.TrimPrefix(strings.TrimPrefix(lines[i+1], ">"), " ")
			session.WriteString(lines[i+1])
		}
		command := exec.Command("bash", "-c", script)
		command.Dir = root
		command.Env = append(os.Environ(), strings.TrimSpace("GOFLAGS="+os.Getenv("GOFLAGS")+" -overlay="+overlay))
		output, err := command.CombinedOutput()
		if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
			return "", err
		}
		session.Write(output)
	}
	return session.String(), nil
}
