package policy

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/workload"
)

// Limits on all probes of a set together.
const (
	maxProbes   = 500
	probeBudget = 4 * Budget
	// maxPaired is the number of conditions among which every two are also probed together.
	maxPaired = 24
)

// MadeUp is the text of fields that policies do not compare with anything: a result that contains it means nothing.
const MadeUp = "madeup"

// Probe is the result of the policies for a made-up workload.
type Probe struct {
	// Workload describes it, for example: a Job with input.workload.labels["team"] = "a".
	Workload string
	// Likely means that the policies themselves refer to such workloads: it is of an existing kind, and has what one
	// comparison or one rule asks for.
	Likely    bool
	Judgement *Judgement
	// Err is the error of Judge.
	Err error
}

// Undefined reports whether the policies give the workload no weights, which is an error as well.
func (p *Probe) Undefined() bool {
	var undefined *undefinedError
	return errors.As(p.Err, &undefined)
}

// Probe evaluates the policies for made-up workloads: one of each kind, given as APIVersion and Kind; one for each
// literal that the policies compare a part of the input with; one for each rule for which it holds, and for every two rules;
// and workloads without replicas, without requests, and with arbitrary text in what is read. It stops when that costs too much,
// at the same probe on every machine.
func (s *Set) Probe(ctx context.Context, kinds []workload.Reference) (probes []Probe) {
	left := probeBudget
	for _, sample := range s.samples(kinds) {
		m := newMeter(ctx, s.timeout)
		m.left = min(m.left, left)
		m.nextCheck = m.left - unitsPerCheck
		cut := m.left < Budget
		judgement, err := s.judge(ctx, m, sample.input(kinds))
		if left -= max(0, min(Budget, left)-m.left); ctx.Err() != nil || left <= 0 || Stopped(err) && (cut || !OverBudget(err)) {
			break
		}
		probes = append(probes, Probe{sample.String(), sample.likely, judgement, err})
	}
	return probes
}

// sampled is a made-up workload.
type sampled struct {
	settings condition
	likely   bool
	// Without requests, without replicas.
	noRequests, noReplicas bool
}

// samples returns the workloads to make up, most likely first, without duplicates.
func (s *Set) samples(kinds []workload.Reference) (samples []sampled) {
	seen := map[string]bool{}
	add := func(next sampled) {
		if key := next.String(); len(samples) < maxProbes && !seen[key] {
			seen[key] = true
			samples = append(samples, next)
		}
	}
	kind := func(k workload.Reference) setting { return setting{Field{Name: "workload.kind"}, ast.String(k.Kind)} }
	for _, k := range kinds {
		add(sampled{settings: condition{{Field{Name: "workload.apiVersion"}, ast.String(k.APIVersion)}, kind(k)}, likely: true})
	}
	add(sampled{likely: true})
	for _, c := range s.conditions {
		add(sampled{settings: c, likely: true})
	}
	for _, c := range s.comparisons {
		if c.Literal == nil {
			continue
		}
		if value := satisfying(c.Operator, ast.MustInterfaceToValue(c.Literal)); value != nil {
			add(sampled{settings: condition{{c.Field, value}}, likely: true})
		}
	}
	add(sampled{noReplicas: true})
	add(sampled{noRequests: true})
	for _, c := range s.conditions[:min(len(s.conditions), maxPaired)] {
		add(sampled{settings: c, noReplicas: true})
		add(sampled{settings: c, noRequests: true})
	}
	for _, read := range []struct {
		field string
		keys  []string
	}{{"workload.labels", s.reads.Labels}, {"workload.annotations", s.reads.Annotations}} {
		for _, key := range read.keys {
			add(sampled{settings: condition{{Field{read.field, key}, ast.String(MadeUp)}}})
		}
	}
	paired := s.conditions[:min(len(s.conditions), maxPaired)]
	for i, a := range paired {
		for _, b := range paired[i+1:] {
			if both, ok := a.and(b); ok {
				add(sampled{settings: both})
			}
		}
	}
	return samples
}

// and returns what two conditions require together; false if they contradict each other.
func (c condition) and(o condition) (condition, bool) {
	both := slices.Clone(c)
	for _, s := range o {
		i := slices.IndexFunc(both, func(b setting) bool { return b.Field == s.Field })
		if i < 0 {
			both = append(both, s)
		} else if both[i].value.Compare(s.value) != 0 {
			return nil, false
		}
	}
	return both, true
}

// input returns the input with the workload.
func (s sampled) input(kinds []workload.Reference) Input {
	in := sample
	in.Placement.Labels = map[string]string{}
	w := *sample.Workload
	w.Namespace, w.Name, in.Placement.Name, in.Workspace = MadeUp, MadeUp, MadeUp, MadeUp
	w.Labels, w.Annotations, w.Requests = map[string]string{}, map[string]string{}, capacity.Resources{CPU: 1000, Memory: 1 << 30}
	in.Workload = &w
	if s.noReplicas {
		w.Replicas, w.Requests = 0, capacity.Resources{}
	}
	if s.noRequests {
		w.Requests = capacity.Resources{}
	}
	for _, set := range s.settings {
		set.apply(&in)
	}
	if i := slices.IndexFunc(kinds, func(k workload.Reference) bool { return strings.EqualFold(k.Kind, w.Kind) }); i >= 0 {
		w.Kind = kinds[i].Kind // it may be compared in lower case
	}
	hasVersion := slices.ContainsFunc(s.settings, func(set setting) bool { return set.Name == "workload.apiVersion" })
	if i := slices.IndexFunc(kinds, func(k workload.Reference) bool { return k.Kind == w.Kind }); i >= 0 && !hasVersion {
		w.APIVersion = kinds[i].APIVersion
	}
	return in
}

func (s setting) apply(in *Input) {
	w := in.Workload
	if text, ok := s.value.(ast.String); ok {
		value := string(text)
		switch s.Name {
		case "workspace":
			in.Workspace = value
		case "placement.name":
			in.Placement.Name = value
		case "placement.namespace":
			in.Placement.Namespace = value
		case "placement.labels":
			in.Placement.Labels[s.Key] = value
		case "workload.apiVersion":
			w.APIVersion = value
		case "workload.kind":
			w.Kind = value
		case "workload.namespace":
			w.Namespace = value
		case "workload.name":
			w.Name = value
		case "workload.labels":
			w.Labels[s.Key] = value
		case "workload.annotations":
			w.Annotations[s.Key] = value
		}
		return
	}
	number, _ := s.value.(ast.Number)
	amount, ok := number.Int64()
	if !ok || amount < 0 || amount > capacity.MaxAmount {
		return
	}
	switch s.Name {
	case "workload.replicas":
		w.Replicas = amount
	case "workload.requests":
		switch s.Key {
		case capacity.CPU:
			w.Requests.CPU = amount
		case capacity.Memory:
			w.Requests.Memory = amount
		case capacity.Storage:
			w.Requests.Storage = amount
		default:
			extended := maps.Clone(w.Requests.Extended)
			if extended == nil {
				extended = map[string]int64{}
			}
			extended[s.Key] = amount
			w.Requests.Extended = extended
		}
	}
}

// String describes the workload.
func (s sampled) String() string {
	kind := sample.Workload.Kind
	var with []string
	for _, set := range s.settings {
		switch set.Name {
		case "workload.kind":
			text, _ := set.value.(ast.String)
			kind = string(text)
		case "workload.apiVersion":
		default:
			with = append(with, fmt.Sprintf("%s = %s", set.Field, short(ast.NewTerm(set.value))))
		}
	}
	if s.noReplicas {
		with = append(with, "no replicas")
	}
	if s.noRequests {
		with = append(with, "no requests")
	}
	if len(with) == 0 {
		return "a " + kind
	}
	return "a " + kind + " with " + strings.Join(with, " and ")
}
