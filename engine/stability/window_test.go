package stability_test

import (
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/stability"
)

func windows(t testing.TB, all ...v1alpha1.MoveWindow) stability.Windows {
	t.Helper()
	l, errs := stability.CompileLimits(field.NewPath("spec"), v1alpha1.MoveBudget{}, all)
	if len(errs) > 0 {
		t.Fatal(errs.ToAggregate())
	}
	return l.Windows
}

func window(schedule, zone string, d time.Duration) v1alpha1.MoveWindow {
	return v1alpha1.MoveWindow{Schedule: schedule, TimeZone: zone, Duration: metav1.Duration{Duration: d}}
}

func at(t testing.TB, text string) time.Time {
	t.Helper()
	moment, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return moment
}

// TestWindows: a window is open from its schedule on for its duration, and said to open then; by the clock of its time zone, summer time
// included; over midnight; and where windows overlap.
func TestWindows(t *testing.T) {
	night := window("0 2 * * 1-5", "Europe/Berlin", 2*time.Hour)
	for _, test := range []struct {
		name    string
		windows []v1alpha1.MoveWindow
		now     string
		// opens is empty where it is open.
		opens string
	}{
		{"none: at any time", nil, "2026-03-04T12:00:00Z", ""},
		{"the first moment", []v1alpha1.MoveWindow{night}, "2026-03-04T01:00:00Z", ""},
		{"the last one", []v1alpha1.MoveWindow{night}, "2026-03-04T02:59:59Z", ""},
		{"after that", []v1alpha1.MoveWindow{night}, "2026-03-04T03:00:00Z", "2026-03-05T01:00:00Z"},
		{"before a weekend", []v1alpha1.MoveWindow{night}, "2026-03-06T03:00:00Z", "2026-03-09T01:00:00Z"},
		{"in summer it is an hour earlier", []v1alpha1.MoveWindow{night}, "2026-07-01T00:00:00Z", ""},
		{"over midnight", []v1alpha1.MoveWindow{window("30 23 * * *", "", time.Hour)}, "2026-03-04T00:29:59Z", ""},
		{"a week long", []v1alpha1.MoveWindow{window("@monthly", "UTC", 7*24*time.Hour)}, "2026-03-07T23:59:59Z", ""},
		{"over at last", []v1alpha1.MoveWindow{window("@monthly", "UTC", 7*24*time.Hour)}, "2026-03-08T00:00:00Z", "2026-04-01T00:00:00Z"},
		{"the first of several", []v1alpha1.MoveWindow{night, window("0 4 * * *", "", time.Minute)}, "2026-03-04T03:30:00Z", "2026-03-04T04:00:00Z"},
		{"one that opens again while it is open", []v1alpha1.MoveWindow{window("* * * * *", "", time.Hour)}, "2026-03-04T03:30:30Z", ""},
		// On 29 March 2026 clocks go from 2 to 3.
		{"an hour that there is not", []v1alpha1.MoveWindow{window("30 2 * * *", "Europe/Berlin", time.Hour)}, "2026-03-29T00:00:00Z", "2026-03-30T00:30:00Z"},
	} {
		open, opens := windows(t, test.windows...).Open(at(t, test.now))
		if open != (test.opens == "") || !open && !opens.Equal(at(t, test.opens)) {
			t.Errorf("%s: open %t, opens %s, want %s", test.name, open, opens.UTC(), test.opens)
		}
	}
}

// TestInvalidStability: whatever cannot be meant is named by its field, with what to write.
func TestInvalidStability(t *testing.T) {
	d := func(d time.Duration) *metav1.Duration { return &metav1.Duration{Duration: d} }
	for want, s := range map[string]v1alpha1.Stability{
		`spec.moves: Unsupported value: "Sometimes": supported values: "Never", "ForGain"`: {Moves: "Sometimes"},
		"spec.minGain: Invalid value: 101: must be from 1 to 100":                          {MinGain: 101},
		"spec.minGain: Invalid value: -1: must be from 1 to 100":                           {MinGain: -1},
		"spec.after: Invalid value: \"-1s\": must be from 0s to 8784h0m0s":                 {After: d(-time.Second)},
		"spec.cooldown: Invalid value: \"0s\": must be from 1s to 8784h0m0s":               {Cooldown: d(0)},
		"spec.budget.moves: Invalid value: -1: must be at least 1":                         {Budget: v1alpha1.MoveBudget{Moves: -1}},
		"spec.budget.interval: Invalid value: \"2562047h47m16.854775807s\": must be from":  {Budget: v1alpha1.MoveBudget{Interval: d(1<<63 - 1)}},
		"spec.windows[0].duration: Invalid value: \"0s\": must be more than 0":             {Windows: []v1alpha1.MoveWindow{window("@daily", "", 0)}},
		"spec.windows[1].timeZone: Invalid value: \"Berlin\": must be a name":              {Windows: []v1alpha1.MoveWindow{window("@daily", "", 1), window("@daily", "Berlin", 1)}},
		"spec.windows[0].timeZone: Invalid value: \"Local\": must be a name":               {Windows: []v1alpha1.MoveWindow{window("@daily", "Local", 1)}},
		"spec.windows[0].timeZone: Invalid value: \"../etc/passwd\": must be a name":       {Windows: []v1alpha1.MoveWindow{window("@daily", "../etc/passwd", 1)}},
		"spec.windows[0].schedule: Invalid value: \"TZ=UTC @daily\": must not name a":      {Windows: []v1alpha1.MoveWindow{window("TZ=UTC @daily", "", 1)}},
		"spec.windows[0].schedule: Invalid value: \"@every 1h\": @every begins anew":       {Windows: []v1alpha1.MoveWindow{window("@every 1h", "", 1)}},
		"spec.windows[0].schedule: Invalid value: \"0 0 30 2 *\": never comes":             {Windows: []v1alpha1.MoveWindow{window("0 0 30 2 *", "", 1)}},
		"spec.windows[0].schedule: Invalid value: \"* * * *\": must be the five fields":    {Windows: []v1alpha1.MoveWindow{window("* * * *", "", 1)}},
		"spec.windows[0].schedule: Invalid value: \"\": must be the five fields":           {Windows: []v1alpha1.MoveWindow{window("", "", 1)}},
	} {
		if rules, errs := stability.Compile(field.NewPath("spec"), &s); rules != nil || len(errs) != 1 || !strings.HasPrefix(errs[0].Error(), want) {
			t.Errorf("%v, want %s", errs, want)
		}
	}
}

// FuzzWindow: no schedule that anybody writes stops the reader, and a window is open right after it opens.
func FuzzWindow(f *testing.F) {
	for _, seed := range []string{"0 2 * * 1-5", "@daily", "*/0 * * * *", "0 0 29 2 *", "TZ=", "CRON_TZ=UTC", " ", "0-4294967295 * * * *", "* * * * * *", "@every 1ns", "60 24 32 13 8", "1-1/1,? * * jan sun"} {
		f.Add(seed, "Europe/Berlin")
	}
	f.Fuzz(func(t *testing.T, schedule, zone string) {
		l, errs := stability.CompileLimits(field.NewPath("spec"), v1alpha1.MoveBudget{}, []v1alpha1.MoveWindow{window(schedule, zone, time.Minute)})
		if len(errs) > 0 {
			return
		}
		open, opens := l.Windows.Open(at(t, "2026-01-01T00:00:01Z"))
		if opens.IsZero() {
			t.Fatalf("%q in %q is valid and never opens", schedule, zone)
		}
		if again, _ := l.Windows.Open(opens); !open && !again {
			t.Fatalf("%q in %q is not open at %s, when it opens", schedule, zone, opens)
		}
	})
}
