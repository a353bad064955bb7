package apply

import (
	"time"

	"github.com/kcp-placement/placement/crds/v1alpha1"
)

// The status of a Work is written at once if objects settle: they are ready, or gone, or something is wrong with them. While many others
// are on their way, this waits until one has settled for every crowd of these. Other changes, and those that wait, are written after
// statusGather, plus statusEach for each object on its way. After a write, the agent rests for statusRest times its duration, up to
// mostRest: the busier the server, the more changes are combined.
const (
	crowd        = 4
	statusGather = time.Second
	statusEach   = 25 * time.Millisecond
	statusRest   = 4
	mostRest     = 2 * time.Second
)

// statusPause returns how long to pause after a status write of that duration.
func statusPause(took time.Duration) time.Duration { return min(statusRest*took, mostRest) }

// statusDue returns when to write a status that has differed from the written one since a time.
func statusDue(written, status *v1alpha1.WorkStatus, since time.Time) time.Time {
	turned, underWay := progress(written, status)
	if turned > 0 && crowd*turned >= underWay {
		return since
	}
	return since.Add(statusGather + time.Duration(underWay)*statusEach)
}

// progress counts the objects that have settled or changed since a status was written, and those on their way.
func progress(written, status *v1alpha1.WorkStatus) (turned, underWay int) {
	before := make(map[v1alpha1.ManifestReference]*v1alpha1.ManifestStatus, len(written.Manifests)+len(written.Removing))
	for _, reference := range written.Removing {
		before[reference] = &v1alpha1.ManifestStatus{}
	}
	for i := range written.Manifests {
		before[written.Manifests[i].ManifestReference] = &written.Manifests[i]
	}
	for i := range status.Manifests {
		m := &status.Manifests[i]
		b := before[m.ManifestReference]
		delete(before, m.ManifestReference)
		switch {
		case !settled(m):
			underWay++
		case b == nil || b.Health != m.Health || b.Wrong != m.Wrong || b.Revision != m.Revision || b.Since != m.Since:
			turned++
		}
	}
	for _, reference := range status.Removing {
		delete(before, reference)
	}
	return turned + len(before), underWay + len(status.Removing)
}

// settled reports whether no further change of an object is expected soon.
func settled(m *v1alpha1.ManifestStatus) bool {
	return m.Wrong || m.Health == v1alpha1.HealthCurrent || m.Health == v1alpha1.HealthFailed
}
