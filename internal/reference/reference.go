// Package reference makes a reference of the policy languages out of the pages in docs, which tests keep true.
package reference

import (
	"regexp"
	"strings"

	"github.com/kcp-placement/placement/docs"
)

// Topic is a part of the reference.
type Topic struct {
	Name     string    `json:"name"`
	Title    string    `json:"title"`
	Sections []Section `json:"sections"`
}

// Section is a section of a page, in Markdown.
type Section struct {
	Title string `json:"title"`
	Text  string `json:"text"`
}

// Topics returns the reference.
func Topics() []Topic {
	return []Topic{
		{"cel", "Constraints of a WorkloadPlacement: variables, units, operators, functions, limits", sections(docs.CEL)},
		{"input", "What policies in Rego see of a workload, as `input`", sections(docs.Policies, "What policies see")},
		{"weights", "How much each factor counts: `data.placement.scoring.weights`", sections(docs.Policies, "Weights")},
		{"terms", "Which clusters are preferred or required: `data.placement.affinity.terms`", sections(docs.Policies, "Terms")},
		{"scheduling", "How many clusters, how spread and how divided: `data.placement.scheduling`", sections(docs.Policies, "Scheduling")},
		{"rego", "Modules, the policy library, functions, the sandbox and its limits, pitfalls",
			sections(docs.Policies, "Modules", "The language", "The sandbox", "Pitfalls")},
	}
}

// sections returns those sections of a page that have the titles, or all of them with what precedes the first.
func sections(page string, titles ...string) (found []Section) {
	wanted := map[string]bool{}
	for _, title := range titles {
		wanted[title] = true
	}
	code := false
	current := -1
	for line := range strings.Lines(page) {
		if strings.HasPrefix(line, "```") {
			code = !code
		}
		title, isTitle := "", false
		if !code {
			if title, isTitle = strings.CutPrefix(line, "# "); !isTitle {
				title, isTitle = strings.CutPrefix(line, "## ")
			}
		}
		switch {
		case isTitle && (len(titles) == 0 || wanted[strings.TrimSpace(title)]):
			found = append(found, Section{Title: strings.TrimSpace(title)})
			current = len(found) - 1
		case isTitle:
			current = -1
		case current >= 0:
			found[current].Text += line
		}
	}
	for i := range found {
		found[i].Text = strings.TrimSpace(found[i].Text)
	}
	return found
}

// Mentioning returns the sections with a word in their titles or, where no title has it, in their texts; case does not count.
func (t Topic) Mentioning(word string) Topic {
	in := func(text func(Section) string) (found []Section) {
		for _, s := range t.Sections {
			if strings.Contains(strings.ToLower(text(s)), strings.ToLower(word)) {
				found = append(found, s)
			}
		}
		return found
	}
	found := in(func(s Section) string { return s.Title })
	if len(found) == 0 {
		found = in(func(s Section) string { return s.Text })
	}
	t.Sections = found
	return t
}

var (
	link     = regexp.MustCompile(`\[([^\]]+)\]\([^)]+\)`)
	pipeCode = regexp.MustCompile(`<code>&#124;</code>`)
)

// Plain returns a line of Markdown outside code as plain text. Code spans lose their marks; what they contain stays as it is.
func Plain(line string) string {
	line = pipeCode.ReplaceAllString(line, "`|`")
	parts := strings.Split(strings.ReplaceAll(line, `\|`, "|"), "`")
	for i := range parts {
		if i%2 == 0 {
			parts[i] = strings.ReplaceAll(link.ReplaceAllString(parts[i], "$1"), "**", "")
		}
	}
	return strings.Join(parts, "")
}

var cell = regexp.MustCompile(`(?:[^|\\]|\\.)*`)

// Cells returns the cells of a row of a table, or none for the line below its header.
func Cells(row string) (cells []string) {
	row = strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(row), "|"), "|")
	if strings.Trim(row, "|-: ") == "" && strings.Contains(row, "-") {
		return nil
	}
	for row != "" {
		text := cell.FindString(row)
		cells = append(cells, Plain(strings.TrimSpace(text)))
		row = strings.TrimPrefix(row[len(text):], "|")
	}
	return cells
}
