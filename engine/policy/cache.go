package policy

// compiled is the result of compiling modules.
type compiled struct {
	set *Set
	err error
}

// The memory that a compiled set takes, as measured: for the built-in modules and the compiler's tables, and for each
// byte of text.
const (
	bytesPerSet  = 64 << 10
	bytesPerByte = 100
)

// bytesOf estimates the memory that the outcome of compiling takes.
func bytesOf(set *Set, modules map[string]string) int {
	if set == nil {
		return maxErrors * maxMessage
	}
	bytes := bytesPerSet
	for _, text := range modules {
		bytes += bytesPerByte * len(text)
	}
	return bytes
}
