package apply

import (
	"errors"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
)

// Failed attempts are retried after at most these times: those that the cluster may well admit soon, and others.
const maxTransient, maxRefused = 10 * time.Second, time.Minute

// maxQuarrel is how long a change by others is remembered.
const maxQuarrel = 5 * time.Minute

// memory is the outcome of attempts to change an object.
type memory struct {
	// running is set while a request is under way, unsure after one whose outcome is not known.
	running, unsure bool
	// tried is the revision of the latest attempt, or removal; wanted is what was to be applied then.
	tried  string
	wanted *wanted
	// uid, revision and owned are those of the object as last applied.
	uid      types.UID
	revision string
	owned    uint64
	// problem is why the latest attempt failed, worded for the owner. After failures the next attempt is not made before retry.
	problem  string
	failures int
	retry    time.Time
	// corrections is how often others have changed the object lately, corrected when that was last reverted.
	corrections int
	corrected   time.Time
	// event is the latest warning event about a workload without pods, asked when it was last looked for.
	event string
	asked time.Time
}

// removal stands for the revision in an attempt to remove an object.
const removal = "-"

// vanished is a Work that is no longer seen.
type vanished struct {
	// running is set while the server is asked, confirmed if it has answered that the Work is gone. It is asked again at retry.
	running, confirmed bool
	retry              time.Time
}

func (s *state) memoryOf(key id) *memory {
	m := s.memory[key]
	if m == nil {
		m = &memory{}
		s.memory[key] = m
	}
	return m
}

// begin records that a request for an object is under way.
func (s *state) begin(do action) {
	m := s.memoryOf(do.id)
	m.running = true
	switch d := s.wanted[do.id]; {
	case do.readEvents:
	case do.wanted != nil:
		m.tried, m.wanted = do.wanted.manifest.Revision, do.wanted
	case d != nil: // another object of its name is removed first
		m.tried = d.manifest.Revision
	default:
		m.tried = removal
	}
}

// end records the outcome of a request to apply or remove an object, and reports whether it has reverted changes by others.
func (s *state) end(do action, applied *live, err error, now time.Time) (corrected bool) {
	m := s.memoryOf(do.id)
	m.running = false
	if err != nil {
		m.problem = explain(err)
		m.unsure = m.unsure || do.wanted != nil && isUncertain(err)
		m.failures++
		m.retry = now.Add(wait.Jitter(backoff(m.failures, isTransient(err)), 0.2))
		return false
	}
	m.problem, m.failures, m.unsure = "", 0, false
	if applied == nil {
		return false
	}
	if corrected = m.isCorrection(do.live, applied); corrected {
		m.corrections++
		m.corrected = now
	}
	m.uid, m.revision, m.owned = applied.uid, applied.revision, applied.owned
	s.observe(applied)
	return corrected
}

// isCorrection reports whether the only difference of the object from what the agent had applied was a change by others.
func (m *memory) isCorrection(before, after *live) bool {
	return before != nil && m.uid == before.uid && m.revision == before.revision && before.revision == after.revision && m.owned != before.owned
}

// confirmed records the server's answer about a Work that is no longer seen.
func (s *state) confirmed(work string, gone bool, now time.Time) {
	if v := s.vanished[work]; v != nil { // otherwise it is back
		v.running, v.confirmed, v.retry = false, gone, now.Add(maxTransient)
	}
}

// eventsRead records what the events about a workload without pods report.
func (s *state) eventsRead(key id, warning string, now time.Time) {
	m := s.memoryOf(key)
	m.running, m.asked, m.event = false, now, warning
}

func backoff(failures int, transient bool) time.Duration {
	most := maxRefused
	if transient {
		most = maxTransient
	}
	return min(250*time.Millisecond<<min(failures-1, 10), most)
}

// isUncertain reports whether a request may have been carried out although it failed.
func isUncertain(err error) bool {
	status := apierrors.APIStatus(nil)
	var refused *refusal
	return !errors.As(err, &status) && !errors.As(err, &refused) || apierrors.IsTimeout(err) || apierrors.IsServerTimeout(err)
}
