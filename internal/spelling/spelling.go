// Package spelling finds what a misspelt name is likely to mean.
package spelling

import (
	"fmt"
	"slices"
	"strings"
	"unicode"

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
	least := len(misspelt)
	for _, name := range names {
		wrong, right := withoutPrefix(misspelt, name)
		few := min(max(2, len(wrong)/3), len(wrong)-1)
		if d := levenshtein.ComputeDistance(strings.ToLower(wrong), strings.ToLower(right)); d <= few && d < least {
			near, least = name, d
		}
	}
	return near
}

// withoutPrefix returns two names without the prefix before a slash that both have: it makes no names alike.
func withoutPrefix(a, b string) (string, string) {
	if i := strings.LastIndexByte(a, '/') + 1; i > 0 && i < len(a) && strings.HasPrefix(b, a[:i]) {
		return a[i:], b[i:]
	}
	return a, b
}

// DidYouMean is the end of a message about a misspelt name: ", did you mean x?", or "" where no name is near.
func DidYouMean(misspelt string, names []string) string {
	near := Nearest(misspelt, names)
	if near == "" {
		return ""
	}
	return fmt.Sprintf(", did you mean %s?", near)
}

// Typo returns the name that another is so near to that it is hardly meant itself: with a letter missing, added, changed or swapped
// with the next, or two of them in a long one. Names that begin with another letter, or have other digits, are others: a100 and h100,
// eu-west-1 and eu-west-2. It is "" where there is none, and for one of the names.
func Typo(misspelt string, names []string) string {
	if slices.Contains(names, misspelt) {
		return ""
	}
	for _, name := range names {
		if near(strings.ToLower(misspelt), strings.ToLower(name)) {
			return name
		}
	}
	return ""
}

// near compares names word by word, since names of a series differ in one, as team-a and team-b do.
func near(a, b string) bool {
	words := func(name string) []string {
		return strings.FieldsFunc(name, func(r rune) bool { return strings.ContainsRune("-._/", r) })
	}
	one, other := words(a), words(b)
	if len(one) != len(other) {
		return isTypo(a, b)
	}
	for i := range one {
		if one[i] != other[i] && !isTypo(one[i], other[i]) {
			return false
		}
	}
	return true
}

// longName is the length from which on two errors are still one name.
const longName = 8

func isTypo(a, b string) bool {
	if a == "" || b == "" || a[0] != b[0] || digits(a) != digits(b) {
		return false
	}
	switch levenshtein.ComputeDistance(a, b) {
	case 0, 1:
		return max(len(a), len(b)) > 2
	case 2:
		return len(b) >= longName || sortedLetters(a) == sortedLetters(b)
	}
	return false
}

func digits(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsDigit(r) {
			return r
		}
		return -1
	}, s)
}

func sortedLetters(s string) string {
	letters := []rune(s)
	slices.Sort(letters)
	return string(letters)
}
