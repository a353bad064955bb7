package main

import (
	"io"
	"sync"
	"time"

	"github.com/jedib0t/go-pretty/v6/progress"
)

// showAfter is how long something may take before its progress is shown.
const showAfter = 2 * time.Second

// newProgress shows on a terminal what is being done once that takes long; tell says how far it is, done ends it and
// can be called again.
func newProgress(w io.Writer, what string) (tell func(done, total int), done func()) {
	if !colourful(w) {
		return nil, func() {}
	}
	tracker := &progress.Tracker{Message: what}
	writer := progress.NewWriter()
	writer.SetOutputWriter(raw(w)) // it moves the cursor
	writer.AppendTracker(tracker)
	timer := time.AfterFunc(showAfter, writer.Render)
	tell = func(done, total int) {
		tracker.UpdateTotal(int64(total))
		tracker.SetValue(int64(done))
	}
	return tell, sync.OnceFunc(func() {
		if timer.Stop() {
			return
		}
		tracker.MarkAsDone()
		writer.Stop()
		for writer.IsRenderInProgress() {
			time.Sleep(10 * time.Millisecond)
		}
	})
}
