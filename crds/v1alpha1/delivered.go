package v1alpha1

import (
	"fmt"
	"math"
	"strconv"
)

// WaveOf reads AnnotationWave. It is 0 where there is none.
func WaveOf(annotations map[string]string) (int32, error) {
	text, found := annotations[AnnotationWave]
	if !found {
		return 0, nil
	}
	wave, err := strconv.ParseInt(text, 10, 32)
	if err != nil {
		return 0, wrongValue(text, fmt.Sprintf("an integer from %d to %d, for example \"1\"", math.MinInt32, math.MaxInt32))
	}
	return int32(wave), nil
}

// TakeOverOf reads AnnotationTakeOver.
func TakeOverOf(annotations map[string]string) (bool, error) {
	switch text, found := annotations[AnnotationTakeOver]; {
	case text == "true":
		return true, nil
	case found && text != "false":
		return false, wrongValue(text, `"true", or left out`)
	}
	return false, nil
}

// MoveOf reads AnnotationMove. It is empty where there is none.
func MoveOf(annotations map[string]string) (MoveType, error) {
	text, found := annotations[AnnotationMove]
	if move := MoveType(text); !found || move == MakeBeforeBreak || move == BreakBeforeMake {
		return move, nil
	}
	return "", wrongValue(text, fmt.Sprintf("%s or %s", MakeBeforeBreak, BreakBeforeMake))
}

func wrongValue(value, want string) error { return fmt.Errorf("%.64q must be %s", value, want) }
