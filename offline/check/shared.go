package check

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/lint"
	"github.com/kcp-placement/placement/internal/sharing"
	"github.com/kcp-placement/placement/internal/spelling"
	"github.com/kcp-placement/placement/offline/manifest"
)

// CodeSharing marks parts of ClusterSets and ClusterSetBindings that have no effect, or cannot be honored.
const CodeSharing = "sharing"

// shared is what the checked workspaces share.
type shared struct {
	workspaces map[logicalcluster.Name]*manifest.Workspace
	sharing    map[logicalcluster.Name]*sharing.Workspace
	lookup     sharing.Lookup
	paths      []string
}

func newShared(workspaces []*manifest.Workspace) *shared {
	s := &shared{workspaces: map[logicalcluster.Name]*manifest.Workspace{}}
	s.sharing, s.lookup = manifest.Shared(workspaces)
	for _, w := range workspaces {
		s.workspaces[w.Name] = w
		if w.Path != "" {
			s.paths = append(s.paths, w.Path)
		}
	}
	return s
}

// fleetOf returns the workspace whose clusters a workspace uses, and the clusters that it sees.
func (s *shared) fleetOf(w *manifest.Workspace) (owner *manifest.Workspace, seen []manifest.Typed[v1alpha1.ClusterRegistration]) {
	view := sharing.ViewOf(s.sharing[w.Name], s.lookup)
	owner = s.workspaces[view.Fleet]
	switch owner {
	case w:
		return w, w.Clusters
	case nil:
		return w, nil
	}
	for _, c := range owner.Clusters {
		if slices.ContainsFunc(view.Grants, func(g engine.Grant) bool { return slices.Contains(g.Clusters, c.Typed.Name) }) {
			seen = append(seen, c)
		}
	}
	return owner, seen
}

// Sharing checks the ClusterSets and ClusterSetBindings of some of the workspaces, and returns its findings by position. It leaves out what
// may be intended, such as quotas beyond capacity.
func Sharing(workspaces, of []*manifest.Workspace) []Finding {
	c := checker{now: time.Now(), of: func(*manifest.File) bool { return true }, report: &Report{}, shared: newShared(workspaces)}
	for _, w := range of {
		c.sets(w, false)
		c.bindings(w, sharing.ViewOf(c.shared.sharing[w.Name], c.shared.lookup))
	}
	c.report.Sort()
	return c.report.Findings
}

// sharing checks the ClusterSets and ClusterSetBindings of a workspace against the others. A workspace that is not among those checked
// may exist all the same.
func (c *checker) sharing(w *manifest.Workspace) {
	c.sets(w, true)
	view := sharing.ViewOf(c.shared.sharing[w.Name], c.shared.lookup)
	c.tooLarge(w, view.Grants)
	c.bindings(w, view)
}

// share adds a finding in a field of a ClusterSet or a ClusterSetBinding.
func (c *checker) share(severity Severity, o *manifest.Object, at, message string) {
	c.lint(o, []lint.Finding{{Severity: severity, Code: CodeSharing, Object: o.String(), Field: at, Message: message}})
}

// unknown reports a workspace that is not in the files if a similar path is.
func (c *checker) unknown(o *manifest.Object, at string, to v1alpha1.WorkspaceReference) {
	if near := spelling.DidYouMean(to.Path, c.shared.paths); near != "" {
		c.share(Warning, o, at, "there is no workspace "+to.Path+" in the files"+near)
	}
}

// sets checks the ClusterSets of a workspace. all includes findings that may be intended.
func (c *checker) sets(w *manifest.Workspace, all bool) {
	allocatable := map[string]capacity.Resources{}
	for _, r := range w.Clusters {
		allocatable[r.Typed.Name] = w.Cluster(r.Typed, c.now).Allocatable
	}
	sets := sharing.SetsOf(c.shared.sharing[w.Name], c.shared.lookup, func(name string) capacity.Resources { return allocatable[name] })
	for _, set := range sets {
		i := slices.IndexFunc(w.Sets, func(o manifest.Typed[v1alpha1.ClusterSet]) bool { return o.Typed == set.ClusterSet })
		o := w.Sets[i].Object
		for _, p := range set.Problems {
			severity := Warning
			switch p.Reason {
			case sharing.WorkspaceNotFound: // below
				continue
			case sharing.QuotaOvercommitted, sharing.GuaranteeOvercommitted:
				if !all {
					continue
				}
			case sharing.NoClusters:
				if len(w.Clusters) == 0 && set.Spec.ClusterSelector != nil {
					continue // nobody knows
				}
			case sharing.InvalidSelector, sharing.InvalidQuantity:
				severity = Error
			}
			c.share(severity, o, p.Field, p.Message)
		}
		for j, g := range set.Grants {
			spec := &set.Spec.Grants[j]
			if missing := c.unguaranteed(spec.Guaranteed, g.Workspace); all && missing != "" {
				c.share(Warning, o, field.NewPath("spec", "grants").Index(j).Child("guaranteed").String(), fmt.Sprintf(
					"no %s is guaranteed: a workload that asks for %[1]s is never within what is guaranteed, as it has to be with all that it asks for: guarantee %[1]s, too", missing))
			}
			if g.Workspace == nil {
				c.unknown(o, field.NewPath("spec", "grants").Index(j).Child("workspace", "path").String(), spec.Workspace)
			}
		}
	}
}

// unguaranteed returns which of cpu and memory a grant with guarantees does not guarantee although workloads of its workspace ask for it, or
// are not known; empty if none.
func (c *checker) unguaranteed(guaranteed corev1.ResourceList, of *sharing.Workspace) string {
	amounts := sharing.Amounts(guaranteed)
	if !slices.ContainsFunc(slices.Collect(maps.Values(amounts)), func(amount int64) bool { return amount > 0 }) {
		return ""
	}
	var workloads []manifest.Workload
	if of != nil && c.shared.workspaces[of.Name] != nil {
		workloads = c.shared.workspaces[of.Name].Workloads
	}
	var missing []string
	for _, name := range []string{capacity.CPU, capacity.Memory} {
		asksFor := func(o manifest.Workload) bool { return o.Err == nil && o.Requests.Get(name) > 0 }
		if amounts[name] == 0 && (len(workloads) == 0 || slices.ContainsFunc(workloads, asksFor)) {
			missing = append(missing, name)
		}
	}
	return strings.Join(missing, " or ")
}

// bindings checks the ClusterSetBindings of a workspace.
func (c *checker) bindings(w *manifest.Workspace, view sharing.View) {
	for _, b := range view.Bindings {
		i := slices.IndexFunc(w.Bindings, func(o manifest.Typed[v1alpha1.ClusterSetBinding]) bool { return o.Typed == b.ClusterSetBinding })
		o := w.Bindings[i].Object
		switch reason, at, message := b.Unusable(); {
		case reason == "":
		case reason == sharing.NotGranted && c.shared.lookup(b.Spec.Workspace) == nil:
			c.unknown(o, "spec.workspace.path", b.Spec.Workspace)
		case reason == sharing.NoClusters && len(c.shared.workspaces[b.Fleet].Clusters) == 0: // nobody knows
		default:
			c.share(Warning, o, at, message)
		}
	}
}

// tooLarge finds workloads that ask for more than any grant to their workspace can ever give, however much is free.
func (c *checker) tooLarge(w *manifest.Workspace, grants []engine.Grant) {
	if len(grants) == 0 {
		return
	}
	// If replicas may be divided, a single one has to fit.
	divides := slices.ContainsFunc(w.Placements, func(p manifest.Typed[v1alpha1.WorkloadPlacement]) bool { return p.Typed.Spec.ReplicaScheduling != nil })
	for _, o := range w.Workloads {
		if o.Err != nil || o.PerNode || o.End() != "" {
			continue
		}
		asks := o.Requests
		if divides {
			asks = o.Share(1).Requests
		}
		why := ""
		for i := range grants {
			g := &grants[i]
			if len(g.Clusters) == 0 {
				continue
			}
			short := ""
			for name, amount := range asks.Each {
				if most := g.Most(name); amount > most && short == "" {
					field := "clusterQuota"
					if bounds := g.Bounds(name); len(bounds) > 0 && bounds[0].Most == most {
						field = bounds[0].Field
					}
					short = fmt.Sprintf("asks for %s %s, and ClusterSet %s grants this workspace %s at most: it waits for ever; ask for less, or its owners for a larger %s",
						capacity.Format(name, amount, true), name, g.Set, capacity.Format(name, most, false), field)
				}
			}
			if why = short; short == "" {
				break
			}
		}
		if why != "" {
			c.lint(o.Object, []lint.Finding{{Severity: Warning, Code: CodeSharing, Object: o.String(), Field: "spec", Message: why}})
		}
	}
}
