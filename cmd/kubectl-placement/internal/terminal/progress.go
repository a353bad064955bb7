package terminal

import (
	"io"
	"sync"
	"time"

	"github.com/jedib0t/go-pretty/v6/progress"
)

// showAfter is how long something may take before its progress is shown.
const showAfter = 2 * time.Second

// Progress shows a bar on a terminal for what takes long. Update sets how much is done; stop removes the bar and may be
// called again. Update is nil where w is no terminal.
func Progress(w io.Writer, what string) (update func(done, total int), stop func()) {
	if !Interactive(w) {
		return nil, func() {}
	}
	tracker := &progress.Tracker{Message: what}
	writer := progress.NewWriter()
	writer.SetOutputWriter(Raw(w)) // it moves the cursor
	writer.AppendTracker(tracker)
	timer := time.AfterFunc(showAfter, writer.Render)
	update = func(done, total int) {
		tracker.UpdateTotal(int64(total))
		tracker.SetValue(int64(done))
	}
	return update, sync.OnceFunc(func() {
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
