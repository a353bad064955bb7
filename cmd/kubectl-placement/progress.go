package main

import (
	"io"
	"time"

	"github.com/jedib0t/go-pretty/v6/progress"
)

// showAfter is how long something may take before its progress is shown.
const showAfter = 2 * time.Second

// newProgress returns a function that is told how far something is, and shows it on a terminal once it takes long;
// done ends it.
func newProgress(w io.Writer, what string) (tell func(done, total int), done func()) {
	if !colourful(w) {
		return nil, func() {}
	}
	start := time.Now()
	var writer progress.Writer
	tracker := &progress.Tracker{Message: what}
	tell = func(done, total int) {
		if writer == nil {
			if time.Since(start) < showAfter {
				return
			}
			writer = progress.NewWriter()
			writer.SetOutputWriter(w)
			writer.SetAutoStop(false)
			writer.Style().Visibility.Value = true
			writer.AppendTracker(tracker)
			go writer.Render()
		}
		tracker.UpdateTotal(int64(total))
		tracker.SetValue(int64(done))
	}
	return tell, func() {
		if writer != nil {
			tracker.MarkAsDone()
			writer.Stop()
			for writer.IsRenderInProgress() {
				time.Sleep(10 * time.Millisecond)
			}
		}
	}
}
