package check

import (
	"fmt"
	"slices"

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

// CodeSharing marks what ClusterSets and ClusterSetBindings say in vain, or cannot keep.
const CodeSharing = "sharing"

// shared is what the workspaces that are checked share.
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

// fleetOf returns the workspace whose clusters one looks at, and those that it sees.
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

// sharing checks the ClusterSets and ClusterSetBindings of a workspace against the others. A workspace that is not among what is checked
// may be there all the same.
func (c *checker) sharing(w *manifest.Workspace) {
	unknown := func(o *manifest.Object, at string, to v1alpha1.WorkspaceReference) {
		if near := spelling.DidYouMean(to.Path, c.shared.paths); near != "" {
			c.lint(o, []lint.Finding{{Severity: Warning, Code: CodeSharing, Object: o.String(), Field: at, Message: "there is no workspace " + to.Path + " in the files" + near}})
		}
	}
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
			case sharing.NoClusters:
				if len(w.Clusters) == 0 && set.Spec.ClusterSelector != nil {
					continue // nobody knows
				}
			case sharing.InvalidSelector, sharing.InvalidQuantity:
				severity = Error
			}
			c.lint(o, []lint.Finding{{Severity: severity, Code: CodeSharing, Object: o.String(), Field: p.Field, Message: p.Message}})
		}
		for j, g := range set.Grants {
			if g.Workspace == nil {
				unknown(o, field.NewPath("spec", "grants").Index(j).Child("workspace", "path").String(), set.Spec.Grants[j].Workspace)
			}
		}
	}
	view := sharing.ViewOf(c.shared.sharing[w.Name], c.shared.lookup)
	c.tooLarge(w, view.Grants)
	for _, b := range view.Bindings {
		i := slices.IndexFunc(w.Bindings, func(o manifest.Typed[v1alpha1.ClusterSetBinding]) bool { return o.Typed == b.ClusterSetBinding })
		o := w.Bindings[i].Object
		switch {
		case b.Reason == sharing.Bound:
		case b.Reason == sharing.NotGranted && c.shared.lookup(b.Spec.Workspace) == nil:
			unknown(o, "spec.workspace.path", b.Spec.Workspace)
		default:
			c.lint(o, []lint.Finding{{Severity: Warning, Code: CodeSharing, Object: o.String(), Field: b.Field, Message: b.Message}})
		}
	}
}

// tooLarge finds workloads that ask for more than any grant to their workspace can ever give, whatever is free.
func (c *checker) tooLarge(w *manifest.Workspace, grants []engine.Grant) {
	if len(grants) == 0 {
		return
	}
	// Of one whose replicas may be divided, a single one has to fit.
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
