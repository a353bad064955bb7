package policy

// Limits on the text of all modules together, checked before it is parsed: OPA's parser cannot be interrupted.
const (
	MaxTokens = 25_000
	// maxPairs limits the pairs of elements in literal sets: if all hashes collide, each element is compared with all
	// others.
	maxPairs = 200_000
)

// tokens counts the tokens of a module, and the pairs of elements in its sets, approximately and in one pass.
func tokens(text string) (count, pairs int) {
	type level struct {
		brace, object bool
		commas        int
	}
	var levels []level
	word := false
	for i := 0; i < len(text); i++ {
		c := text[i]
		if c == '_' || c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c >= 0x80 {
			if !word {
				count++
			}
			word = true
			continue
		}
		word = false
		switch c {
		case ' ', '\t', '\r', '\n':
			continue
		case '#':
			i = skipTo(text, i, '\n', false)
			continue
		case '"':
			i = skipTo(text, i+1, '"', true)
		case '`':
			i = skipTo(text, i+1, '`', false)
		case '{', '[', '(':
			levels = append(levels, level{brace: c == '{'})
		case ',', ':', '|', ';':
			if len(levels) > 0 {
				top := &levels[len(levels)-1]
				if c == ',' {
					top.commas++
				} else {
					top.object = true // or a comprehension, or a body
				}
			}
		case '}', ']', ')':
			if len(levels) > 0 {
				top := levels[len(levels)-1]
				levels = levels[:len(levels)-1]
				if top.brace && !top.object {
					pairs += top.commas * top.commas
				}
			}
		}
		count++
	}
	return count, pairs
}

// skipTo returns the index of the next end, skipping escapes, or that of the last character.
func skipTo(text string, from int, end byte, escapes bool) int {
	for i := from; i < len(text); i++ {
		switch {
		case escapes && text[i] == '\\':
			i++
		case text[i] == end:
			return i
		case escapes && text[i] == '\n': // not a valid string
			return i
		}
	}
	return len(text) - 1
}

// withinTokens checks the limits.
func withinTokens(modules map[string]string) (errs Errors) {
	var count, pairs int
	for file, text := range modules {
		c, p := tokens(text)
		count, pairs = count+c, pairs+p
		if c > MaxTokens {
			errs = append(errs, Error{file, 1, 1, codeLimit, "the module has more words and signs than all of a workspace may have"})
		}
	}
	if count > MaxTokens {
		errs = append(errs, at(nil, codeLimit, "the modules of the workspace have %d words and signs together, more than %d", count, MaxTokens))
	}
	if pairs > maxPairs {
		errs = append(errs, at(nil, codeLimit, "the sets that are written out have %d pairs of elements, more than %d: write arrays", pairs, maxPairs))
	}
	return errs
}
