package e2e

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

// page is a page of the documentation that has people type commands, block by block, and shows what some blocks print. With
// UPDATE_PAGES=1 what is seen is written into the page.
type page struct {
	path, text string
	// blocks are the positions of the commands and, where the page shows it, of what they print.
	blocks [][]int
}

var (
	typed = regexp.MustCompile("(?ms)^```sh\n(.*?)^```\n(?:\n```text\n(.*?)^```$)?")
	// varies is what differs from one time to another, beside the last column of kubectl get: its age. kubectl wait may log that its
	// watch has ended when it is done.
	varies = regexp.MustCompile(`(?m) +[0-9smh]+$|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ|^I\d{4} .* reflector\.go:.*"Warning: watch ended with error".*\n`)
)

func readPage(t *testing.T, path string) *page {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	p := &page{path: path, text: string(text), blocks: typed.FindAllStringSubmatchIndex(string(text), -1)}
	if len(p.blocks) == 0 {
		t.Fatalf("%s has no commands", path)
	}
	return p
}

// mark ends the output of a block.
func (p *page) mark(block int) string { return fmt.Sprintf("<end of block %d of %s>", block+1, p.path) }

// script is what people type.
func (p *page) script() string {
	script := ""
	for i, at := range p.blocks {
		script += fmt.Sprintf("%s\necho '%s'\n", p.text[at[2]:at[3]], p.mark(i))
	}
	return script
}

// compare compares what the script has printed with what the page shows, and returns what was printed after it.
func (p *page) compare(t *testing.T, out string) string {
	t.Helper()
	updated, end := "", 0
	for i, at := range p.blocks {
		var printed string
		printed, out, _ = strings.Cut(out, p.mark(i)+"\n")
		if at[4] < 0 {
			continue
		}
		shown := p.text[at[4]:at[5]]
		if varies.ReplaceAllString(shown, "") == varies.ReplaceAllString(printed, "") {
			printed = shown
		} else if os.Getenv("UPDATE_PAGES") == "" {
			t.Errorf("%s shows\n%s\nit is\n%s", p.path, shown, printed)
		}
		updated += p.text[end:at[4]] + printed
		end = at[5]
	}
	if os.Getenv("UPDATE_PAGES") != "" {
		if err := os.WriteFile(p.path, []byte(updated+p.text[end:]), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return out
}
