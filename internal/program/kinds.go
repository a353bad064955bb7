package program

import (
	"fmt"
	"os"

	"github.com/kcp-placement/placement/engine/workload"
)

// Kinds returns the kinds of workload: those that are known, and those of a file that the flag --kinds-file names, if any.
func Kinds(file string) (*workload.Table, error) {
	if file == "" {
		return workload.Kinds(), nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("--kinds-file: %w", err)
	}
	more, err := workload.ParseKinds(file, text)
	if err != nil {
		return nil, fmt.Errorf("--kinds-file: %w", err)
	}
	return workload.Kinds().With(more), nil
}
