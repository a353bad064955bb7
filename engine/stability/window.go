package stability

import (
	"fmt"
	"strings"
	"time"
	_ "time/tzdata" // a schedule means the same wherever it is read

	"github.com/robfig/cron/v3"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/kcp-placement/placement/crds/v1alpha1"
)

// maxWindow is how long a window is open at most.
const maxWindow = 7 * 24 * time.Hour

// Windows are times that come again. None of them is at any time.
type Windows []window

type window struct {
	cron.Schedule
	open time.Duration
}

// reference is a time from which on a schedule has to come again.
var reference = time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC)

func compileWindows(path *field.Path, windows []v1alpha1.MoveWindow) (compiled Windows, errs field.ErrorList) {
	for i := range windows {
		w, at := &windows[i], path.Index(i)
		if d := w.Duration.Duration; d <= 0 || d > maxWindow {
			errs = append(errs, field.Invalid(at.Child("duration"), d.String(), fmt.Sprintf("must be more than 0 and at most %s", maxWindow)))
		}
		schedule, err := parse(at, w)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		compiled = append(compiled, window{schedule, w.Duration.Duration})
	}
	return compiled, errs
}

// parse reads a schedule as a CronJob has it.
func parse(at *field.Path, w *v1alpha1.MoveWindow) (cron.Schedule, *field.Error) {
	zone := w.TimeZone
	if _, err := time.LoadLocation(zone); err != nil || zone == "Local" {
		return nil, field.Invalid(at.Child("timeZone"), zone, `must be a name of the time zone database, for example "Europe/Berlin"`)
	}
	if zone == "" {
		zone = "UTC"
	}
	invalid := func(format string, args ...any) *field.Error {
		return field.Invalid(at.Child("schedule"), w.Schedule, fmt.Sprintf(format, args...))
	}
	switch {
	case strings.Contains(w.Schedule, "TZ"):
		return nil, invalid("must not name a time zone: write timeZone")
	case strings.HasPrefix(strings.TrimSpace(w.Schedule), "@every"):
		return nil, invalid("@every begins anew with each controller: write the five fields of cron")
	}
	schedule, err := cron.ParseStandard(fmt.Sprintf("CRON_TZ=%s %s", zone, w.Schedule))
	switch {
	case err != nil:
		return nil, invalid("must be the five fields of cron (minute, hour, day of the month, month, day of the week): %v", err)
	case schedule.Next(reference).IsZero():
		return nil, invalid("never comes")
	}
	return schedule, nil
}

// Open reports whether any window is open at a time. Otherwise next is when one opens.
func (w Windows) Open(now time.Time) (open bool, next time.Time) {
	for i := range w {
		switch opens := w[i].Next(now.Add(-w[i].open)); { // the first opening of those that have not closed again
		case opens.IsZero(): // not within five years
		case !opens.After(now):
			return true, now
		case next.IsZero() || opens.Before(next):
			next = opens
		}
	}
	if len(w) == 0 {
		return true, now
	}
	return false, next
}
