// Package spelling finds what a misspelt name is likely to mean.
package spelling

import (
	"fmt"
	"strings"

	"github.com/agnivade/levenshtein"
)

// Nearest returns the name that a misspelt one is likely to mean: one that differs in a prefix such as "nvidia.com/" only, or in
// few characters; "" where none is near.
func Nearest(misspelt string, names []string) (near string) {
	for _, name := range names {
		if misspelt != "" && strings.HasSuffix(name, "/"+misspelt) {
			return name
		}
	}
	least := min(max(2, len(misspelt)/3), len(misspelt)-1) + 1
	for _, name := range names {
		if d := levenshtein.ComputeDistance(strings.ToLower(misspelt), strings.ToLower(name)); d < least {
			near, least = name, d
		}
	}
	return near
}

// DidYouMean is the end of a message about a misspelt name: ", did you mean x?", or "" where no name is near.
func DidYouMean(misspelt string, names []string) string {
	near := Nearest(misspelt, names)
	if near == "" {
		return ""
	}
	return fmt.Sprintf(", did you mean %s?", near)
}
