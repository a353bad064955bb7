package sharing

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/internal/spelling"
)

// Reasons of problems of a ClusterSet.
const (
	// InvalidSelector and InvalidQuantity: the invalid part grants nothing.
	InvalidSelector = "InvalidSelector"
	InvalidQuantity = "InvalidQuantity"
	// NoClusters: the set selects no clusters. UnknownCluster: a name that it selects is not registered.
	NoClusters     = "NoClusters"
	UnknownCluster = "UnknownCluster"
	// WorkspaceNotFound: the workspace of a grant is not known.
	WorkspaceNotFound = "WorkspaceNotFound"
	// OwnWorkspace: a grant to the workspace of the set itself.
	OwnWorkspace = "OwnWorkspace"
	// GrantedTwice: two grants are for one workspace. The first counts.
	GrantedTwice = "GrantedTwice"
	// GuaranteedAboveQuota: the guaranteed amount is above the quota, and is capped by it.
	GuaranteedAboveQuota = "GuaranteedAboveQuota"
	// NothingGuaranteed: borrowing is limited, but nothing is guaranteed.
	NothingGuaranteed = "NothingGuaranteed"
	// UnknownResource: no cluster of the set has the resource.
	UnknownResource = "UnknownResource"
	// QuotaOvercommitted and GuaranteeOvercommitted: quotas, or guaranteed amounts, add up to more than the clusters have.
	QuotaOvercommitted     = "QuotaOvercommitted"
	GuaranteeOvercommitted = "GuaranteeOvercommitted"
)

// Problem is something wrong, or likely wrong, with a ClusterSet.
type Problem struct {
	Reason, Field, Message string
}

// Set is a ClusterSet and its state.
type Set struct {
	*v1alpha1.ClusterSet
	// Clusters that it selects, by name.
	Clusters []string
	// Grants in the order of spec.grants.
	Grants   []Grant
	Problems []Problem

	// counting are the grants that count, by the workspace they are for: none to the workspace itself, and no second one to the same workspace.
	counting map[string]*engine.Grant
}

// Grant is the state of a grant of a ClusterSet.
type Grant struct {
	// Workspace that it is for; nil if not known.
	Workspace *Workspace
	// Bound: the workspace uses it. If not, Message has the reason.
	Bound   bool
	Message string
	// Limits are the most that the workspace may be promised, by resource, whichever field of the grant sets the limit.
	Limits map[string]int64
	// Unanswered: no workspace is known, or it has no ClusterSetBinding for the set.
	Unanswered bool
}

// SetsOf returns the ClusterSets of a workspace by name, with their state. allocatable returns the capacity of a cluster.
func SetsOf(w *Workspace, lookup Lookup, allocatable func(cluster string) capacity.Resources) []Set {
	views := map[logicalcluster.Name]View{}
	answered := func(team *Workspace, set string) Grant {
		view, known := views[team.Name]
		if !known {
			view = ViewOf(team, lookup)
			views[team.Name] = view
		}
		g := Grant{Workspace: team, Message: "the workspace has no ClusterSetBinding for the set", Unanswered: true}
		for _, b := range view.Bindings {
			switch owner := lookup(b.Spec.Workspace); {
			case b.Spec.ClusterSet != set || owner == nil || owner.Name != w.Name:
			case b.Reason == Bound:
				return Grant{Workspace: team, Bound: true}
			case b.Reason == OwnFleet:
				g.Message, g.Unanswered = "the workspace uses clusters of its own", false
			case b.Reason == OtherFleet:
				g.Message, g.Unanswered = "the workspace uses the clusters of another workspace", false
			case b.Reason == InvalidGrant:
				g.Message, g.Unanswered = "the ClusterSet, or this grant, has errors, and nothing new is placed until they are mended", false
			}
		}
		return g
	}
	sets := make([]Set, len(w.sets))
	for i, s := range w.sets {
		set := &sets[i]
		set.ClusterSet, set.Clusters, set.counting = s.ClusterSet, s.clusters, map[string]*engine.Grant{}
		selector := field.NewPath("spec", "clusterSelector")
		switch {
		case len(s.errs) > 0:
			for _, err := range s.errs {
				set.Problems = append(set.Problems, Problem{InvalidSelector, err.Field, err.ErrorBody() + ": nothing is granted"})
			}
		case len(s.clusters) == 0 && s.Spec.ClusterSelector == nil:
			set.find(NoClusters, selector, "is not given, and selects no cluster: {} selects all")
		case len(s.clusters) == 0:
			set.find(NoClusters, selector, "selects none of the registered clusters")
		default:
			for j, name := range s.Spec.ClusterSelector.ClusterNames {
				if _, found := slices.BinarySearch(w.registered, name); !found {
					set.find(UnknownCluster, selector.Child("clusterNames").Index(j), "there is no ClusterRegistration %s%s", name, spelling.DidYouMean(name, w.registered))
				}
			}
		}
		first := map[logicalcluster.Name]string{}
		for j := range s.Spec.Grants {
			g := &s.Spec.Grants[j]
			at := field.NewPath("spec", "grants").Index(j)
			team := lookup(g.Workspace)
			grant := Grant{Workspace: team}
			switch {
			case team == nil:
				grant.Unanswered = true
				grant.Message = fmt.Sprintf("there is no workspace %s that binds the APIExport of placement: check the name", g.Workspace)
				set.find(WorkspaceNotFound, at.Child("workspace"), "%s", grant.Message)
			case team.Name == w.Name:
				grant.Message = "this workspace uses all of its clusters without a grant: remove it"
				set.find(OwnWorkspace, at.Child("workspace"), "%s", grant.Message)
			case first[team.Name] != "":
				grant.Message = fmt.Sprintf("grant %s is for %s already, and the first counts: make them one", first[team.Name], team)
				set.find(GrantedTwice, at.Child("workspace"), "%s", grant.Message)
			default:
				first[team.Name] = g.Name
				grant = answered(team, s.Name)
			}
			granted, problems := grantOf(&w.sets[i], j)
			grant.Limits = granted.Limits()
			set.Grants = append(set.Grants, grant)
			if by := whom(team, g.Workspace); by != w.Name.String() && set.counting[by] == nil {
				set.counting[by] = granted
			}
			set.Problems = append(set.Problems, problems...)
		}
	}
	overcommitted(sets, allocatable)
	return sets
}

// whom returns a key for the workspace that a grant is for, the same for all grants to one workspace.
func whom(team *Workspace, reference v1alpha1.WorkspaceReference) string {
	if team != nil {
		return team.Name.String()
	}
	return "unknown " + reference.String()
}

func (s *Set) find(reason string, at *field.Path, format string, args ...any) {
	s.Problems = append(s.Problems, Problem{reason, at.String(), fmt.Sprintf(format, args...)})
}

// grantOf reads a grant, and returns its problems.
func grantOf(s *selected, index int) (*engine.Grant, []Problem) {
	given := &s.Spec.Grants[index]
	at := field.NewPath("spec", "grants").Index(index)
	var problems []Problem
	read := func(name string, list corev1.ResourceList) map[string]int64 {
		amounts, wrong := readAmounts(list)
		for _, resource := range slices.Sorted(maps.Keys(wrong)) {
			problems = append(problems, Problem{InvalidQuantity, at.Child(name).Key(resource).String(), wrong[resource]})
		}
		return amounts
	}
	g := &engine.Grant{
		Set: s.Name, Clusters: slices.Clone(s.clusters), Weight: max(1, int64(given.Weight)),
		Quota: read("quota", given.Quota), ClusterQuota: read("clusterQuota", given.ClusterQuota), Guaranteed: read("guaranteed", given.Guaranteed),
		BorrowingLimit: read("borrowingLimit", given.BorrowingLimit),
	}
	for _, resource := range slices.Sorted(maps.Keys(g.Guaranteed)) {
		quota, bounded := g.Quota[resource]
		if guaranteed := g.Guaranteed[resource]; bounded && guaranteed > quota {
			problems = append(problems, Problem{GuaranteedAboveQuota, at.Child("guaranteed").Key(resource).String(), fmt.Sprintf(
				"%s is more than the quota of %s, which is all that can be used", capacity.Format(resource, guaranteed, true), capacity.Format(resource, quota, false))})
			g.Guaranteed[resource] = quota
		}
	}
	for _, resource := range slices.Sorted(maps.Keys(g.BorrowingLimit)) {
		if _, guaranteed := g.Guaranteed[resource]; !guaranteed {
			problems = append(problems, Problem{NothingGuaranteed, at.Child("borrowingLimit").Key(resource).String(),
				"nothing of this resource is guaranteed, so that all of it is borrowed: say what is guaranteed, or write the limit as quota"})
		}
	}
	return g, problems
}

// Amounts returns the readable amounts of a resource list, by resource, including those that are 0.
func Amounts(list corev1.ResourceList) map[string]int64 {
	amounts, _ := readAmounts(list)
	return amounts
}

// readAmounts returns the amounts of a resource list, and what is wrong with those that cannot be read.
func readAmounts(list corev1.ResourceList) (amounts map[string]int64, wrong map[string]string) {
	amounts, wrong = make(map[string]int64, len(list)), map[string]string{}
	for resource, quantity := range list {
		name := string(resource)
		r, err := capacity.FromResourceList(corev1.ResourceList{resource: quantity})
		if err != nil {
			wrong[name] = strings.TrimPrefix(err.Error(), name+": ")
			continue
		}
		amounts[name] = r.Get(name)
	}
	return amounts, wrong
}

// amounts returns the amounts of a grant by field.
func amounts(g *v1alpha1.ClusterSetGrant) map[string]corev1.ResourceList {
	return map[string]corev1.ResourceList{"quota": g.Quota, "clusterQuota": g.ClusterQuota, "guaranteed": g.Guaranteed, "borrowingLimit": g.BorrowingLimit}
}

// unknownResources finds resources in grants that no cluster has. An amount of 0 is not reported, since none may be the intention.
func (s *Set) unknownResources(has capacity.Resources) {
	known := slices.Sorted(maps.Keys(has.ResourceList()))
	names := make([]string, len(known))
	for i, name := range known {
		names[i] = string(name)
	}
	for i := range s.Spec.Grants {
		all := amounts(&s.Spec.Grants[i])
		for _, at := range slices.Sorted(maps.Keys(all)) {
			for _, name := range slices.Sorted(maps.Keys(all[at])) {
				if amount := all[at][name]; amount.IsZero() || slices.Contains(known, name) {
					continue
				}
				s.find(UnknownResource, field.NewPath("spec", "grants").Index(i).Child(at).Key(string(name)),
					"no cluster of the set has any%s", spelling.DidYouMean(string(name), names))
			}
		}
	}
}
