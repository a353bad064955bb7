package lint

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/engine/nodes"
	"github.com/kcp-placement/placement/engine/placement"
	"github.com/kcp-placement/placement/engine/snapshot"
	"github.com/kcp-placement/placement/engine/workload"
	"github.com/kcp-placement/placement/internal/spelling"
)

// A Workload is checked as an object, together with what was read from it; nil if it cannot be read.
type Workload struct {
	*unstructured.Unstructured
	Read *workload.Workload
}

// workloads are the checks of workloads.
var workloads = []check[Workload]{
	{Warning, "unit", units},
	{Warning, "no_requests", noRequests},
	{Warning, "unknown_resource", unknownResources},
	{Warning, "too_large", tooLarge},
	{Warning, "no_node", noNode},
	{Warning, "not_looked_at", notEvaluated},
	{Warning, "annotation", workloadAnnotations},
	{Error, "delivery_annotation", deliveryAnnotations},
}

// Workload returns findings about parts of a workload that have no effect.
func (w *Workspace) Workload(o Workload) []Finding {
	return run(workloads, nameOf(o.Unstructured), o, w)
}

func nameOf(u *unstructured.Unstructured) string {
	return u.GetKind() + " " + strings.TrimPrefix(u.GetNamespace()+"/"+u.GetName(), "/")
}

// types of the objects whose fields are all known. Of other objects, only pod templates are.
var types = map[string]reflect.Type{
	"v1 Pod":                   reflect.TypeFor[corev1.Pod](),
	"v1 ReplicationController": reflect.TypeFor[corev1.ReplicationController](),
	"apps/v1 Deployment":       reflect.TypeFor[appsv1.Deployment](),
	"apps/v1 StatefulSet":      reflect.TypeFor[appsv1.StatefulSet](),
	"apps/v1 DaemonSet":        reflect.TypeFor[appsv1.DaemonSet](),
	"apps/v1 ReplicaSet":       reflect.TypeFor[appsv1.ReplicaSet](),
	"batch/v1 Job":             reflect.TypeFor[batchv1.Job](),
	"batch/v1 CronJob":         reflect.TypeFor[batchv1.CronJob](),
}

// UnknownFields returns the fields of a workload that do not exist in its type, or in that of its pod templates. The API server refuses
// or drops them.
func UnknownFields(u *unstructured.Unstructured) []Finding {
	o, r := Workload{Unstructured: u}, &report{template: Finding{Severity: Error, Code: "unknown_field", Object: nameOf(u)}}
	if t, known := types[o.GetAPIVersion()+" "+o.GetKind()]; known {
		unknownIn("", o.Object, t, r)
		return r.findings
	}
	for _, template := range templates(o) {
		unknownIn(template.path, template.content, reflect.TypeFor[corev1.PodTemplateSpec](), r)
	}
	return r.findings
}

// unknownIn reports the fields of a value that its type does not have. Status is skipped, since people do not write it.
func unknownIn(path string, value any, t reflect.Type, report *report) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if reflect.PointerTo(t).Implements(reflect.TypeFor[interface{ UnmarshalJSON([]byte) error }]()) {
		return
	}
	switch value := value.(type) {
	case []any:
		if t.Kind() == reflect.Slice {
			for i, element := range value {
				unknownIn(fmt.Sprintf("%s[%d]", path, i), element, t.Elem(), report)
			}
		}
	case map[string]any:
		var fields map[string]reflect.Type
		if t.Kind() == reflect.Struct {
			fields = fieldsOf(t)
		}
		for _, name := range slices.Sorted(maps.Keys(value)) {
			at := strings.TrimPrefix(path+"."+name, ".")
			inner, known := fields[name]
			switch {
			case t.Kind() == reflect.Map:
				unknownIn(path+"["+name+"]", value[name], t.Elem(), report)
			case t.Kind() != reflect.Struct || at == "status":
			case known:
				unknownIn(at, value[name], inner, report)
			default:
				report.name(field.NewPath(at), "unknown field%s", spelling.DidYouMean(name, slices.Sorted(maps.Keys(fields))))
			}
		}
	}
}

// fieldsOf returns the members of the JSON object that a struct is written as.
func fieldsOf(t reflect.Type) map[string]reflect.Type {
	fields := map[string]reflect.Type{}
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case strings.Contains(options, "inline") || f.Anonymous && name == "":
			maps.Copy(fields, fieldsOf(f.Type))
		case name != "" && name != "-":
			fields[name] = f.Type
		}
	}
	return fields
}

// template is a pod template of a workload, with its path.
type template struct {
	path    string
	content map[string]any
}

// templates returns the pod templates of a workload: objects with a spec that has containers, or a key spelt similarly.
func templates(o Workload) (all []template) {
	var find func(path string, value any)
	find = func(path string, value any) {
		switch value := value.(type) {
		case []any:
			for i, element := range value {
				find(fmt.Sprintf("%s[%d]", path, i), element)
			}
		case map[string]any:
			spec, _ := value["spec"].(map[string]any)
			for name := range spec {
				if near := spelling.Nearest(name, []string{"containers", "initContainers"}); near != "" {
					all = append(all, template{path, value})
					return
				}
			}
			for _, name := range slices.Sorted(maps.Keys(value)) {
				find(strings.TrimPrefix(path+"."+name, "."), value[name])
			}
		}
	}
	find("", o.Object)
	return all
}

// spec returns the pod's spec.
func (t *template) spec() (path *field.Path, content map[string]any) {
	content, _ = t.content["spec"].(map[string]any)
	return field.NewPath(strings.TrimPrefix(t.path+".spec", ".")), content
}

// eachAmount visits the requests and limits of containers, as they are written.
func eachAmount(o Workload, visit func(at *field.Path, name, written string, amount resource.Quantity)) {
	for _, t := range templates(o) {
		path, spec := t.spec()
		visitAll := func(at *field.Path, owner map[string]any) {
			for _, list := range []string{"requests", "limits"} {
				amounts, _, _ := unstructured.NestedMap(owner, "resources", list)
				for _, name := range slices.Sorted(maps.Keys(amounts)) {
					written := fmt.Sprint(amounts[name])
					if amount, err := capacity.ParseQuantity(written); err == nil {
						field := at.Child("resources", list)
						if strings.Contains(name, ".") {
							visit(field.Key(name), name, written, amount)
						} else {
							visit(field.Child(name), name, written, amount)
						}
					}
				}
			}
		}
		visitAll(path, spec)
		for _, kind := range []string{"initContainers", "containers"} {
			containers, _ := spec[kind].([]any)
			for i, c := range containers {
				if c, ok := c.(map[string]any); ok {
					visitAll(path.Child(kind).Index(i), c)
				}
			}
		}
	}
}

// units reports amounts whose unit is likely missing or wrong.
func units(o Workload, w *Workspace, report *report) {
	eachAmount(o, func(at *field.Path, name, written string, amount resource.Quantity) {
		number := strings.TrimRight(written, "mkKMGiuneE")
		switch {
		case isBytes(name) && strings.HasSuffix(written, "m"):
			report.at(at, "%s is %s thousandths of a byte, did you mean %sMi?", written, number, number)
		case name == capacity.Memory && amount.Sign() > 0 && amount.CmpInt64(leastMemory) < 0:
			report.at(at, "%s is less than a program needs, did you mean %sMi?", written, number)
		case name == capacity.CPU && amount.CmpInt64(w.most(capacity.CPU, 256_000)/1000) > 0:
			report.at(at, "%s processors are more than any cluster of the fleet has, did you mean %sm?", written, number)
		}
	})
}

// most returns the largest amount of a resource that any cluster of the fleet has or, if not known, an amount that few clusters have.
func (w *Workspace) most(name string, otherwise int64) int64 {
	if !w.Fleet.Known() {
		return otherwise
	}
	most := int64(0)
	for _, c := range w.Fleet.Clusters {
		most = max(most, c.Allocatable.Get(name))
	}
	return most
}

func noRequests(o Workload, _ *Workspace, report *report) {
	if o.Read == nil || o.Read.Replicas == 0 {
		return
	}
	for _, amount := range o.Read.Requests.Each {
		if amount > 0 {
			return
		}
	}
	report.at(nil, "requests nothing, so that any cluster has room for it: write resources.requests for its containers")
}

// unknownResources reports requests for resources that the API server refuses, or that no cluster has.
func unknownResources(o Workload, w *Workspace, report *report) {
	seen := map[string]bool{}
	eachAmount(o, func(at *field.Path, name, _ string, amount resource.Quantity) {
		if seen[name] || amount.Sign() <= 0 || slices.Contains(w.Fleet.Resources, name) {
			return
		}
		seen[name] = true
		known := slices.Concat(w.Fleet.Resources, resources)
		switch qualified := strings.Contains(name, "/") || strings.HasPrefix(name, corev1.ResourceHugePagesPrefix); {
		case !qualified && !slices.Contains(native, name):
			report.name(at, "there is no such resource%s", didYouMeanOr(name, known))
		case w.Fleet.Known():
			report.name(at, "no cluster of the fleet has this resource%s", spelling.DidYouMean(name, w.Fleet.Resources))
		}
	})
}

// tooLarge reports workloads that request more than any cluster has, full or empty.
func tooLarge(o Workload, w *Workspace, report *report) {
	if o.Read == nil || !w.Fleet.Known() || len(report.findings) > 0 {
		return
	}
	asks, what := o.Read, "in all"
	if each := w.leastShare(o.Read); each > 0 {
		asks, what = o.Read.Share(each), fmt.Sprintf("for %d of its replicas", each)
	}
	for name, amount := range asks.Requests.Each {
		if most := w.most(name, 0); amount > most {
			report.at(nil, "requests %s %s %s, more than any cluster of the fleet has (%s)",
				capacity.Format(name, amount, true), name, what, capacity.Format(name, most, false))
		}
	}
}

// leastShare returns how many replicas of a workload a cluster gets at least, if a placement divides them; otherwise 0.
func (w *Workspace) leastShare(o *workload.Workload) (least int64) {
	for _, p := range w.Placements {
		r, selector := division(p), placement.Selector{}
		if r != nil && o.Divisible && o.Replicas > 0 {
			selector, _ = compiled(p)
		}
		if each := int64(1); selector.Selects(o) {
			each = min(max(each, int64(r.MinPerCluster)), o.Replicas)
			if least == 0 || each < least {
				least = each
			}
		}
	}
	return least
}

// noNode reports pods that no node of the fleet can run. It reports nothing while some cluster does not report its nodes.
func noNode(o Workload, w *Workspace, report *report) {
	if o.Read == nil || !w.Fleet.Known() {
		return
	}
	var all []*nodes.Summary
	for _, c := range w.Fleet.Clusters {
		if c.Nodes == nil {
			return
		}
		all = append(all, c.Nodes)
	}
	for _, pods := range o.Read.Nodes.Pods() {
		if slices.ContainsFunc(all, func(s *nodes.Summary) bool { return s.Have(&pods) }) {
			continue
		}
		var at *field.Path
		lack := nodes.Union(all).Lacking(&pods)
		if lack.Field != "" {
			at = field.NewPath(lack.Field)
		}
		report.at(at, "no cluster of the fleet has a node for these pods: %s%s", lack.Message, w.Fleet.didYouMeanLabel(&pods))
	}
}

// didYouMeanLabel returns " did you mean" for the first label that pods ask for and no node is reported to have.
func (f *Fleet) didYouMeanLabel(pods *nodes.Pods) string {
	for key, value := range pods.Labels {
		if near := spelling.DidYouMean(key, f.NodeLabelKeys); !slices.Contains(f.NodeLabelKeys, key) && near != "" {
			return near
		}
		if near := spelling.DidYouMean(value, f.NodeLabels[key]); !slices.Contains(f.NodeLabels[key], value) && near != "" {
			return near
		}
	}
	return ""
}

// unread are fields of pods by which Kubernetes chooses nodes, but placing chooses no cluster. Those in untold are read once a cluster
// reports its nodes.
var (
	unread = []string{
		"nodeName", "affinity.podAffinity", "affinity.podAntiAffinity", "topologySpreadConstraints",
		"schedulerName", "priorityClassName", "runtimeClassName", "resourceClaims",
	}
	unreported = []string{"nodeSelector", "affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution"}
)

func notEvaluated(o Workload, w *Workspace, report *report) {
	var first *field.Path
	var names []string
	found := func(at *field.Path, name string) {
		if first == nil {
			first = at
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	reported := slices.ContainsFunc(w.Fleet.Clusters, func(c *snapshot.Cluster) bool { return c.Nodes != nil })
	instead := ""
	for _, t := range templates(o) {
		path, spec := t.spec()
		has := func(name string) bool {
			value, _, _ := unstructured.NestedFieldNoCopy(spec, strings.Split(name, ".")...)
			return !isEmpty(value) && value != corev1.DefaultSchedulerName
		}
		for _, name := range unreported {
			if !reported && has(name) {
				found(path.Child(name), name)
				instead = ", or have the agents of clusters tell of their nodes (status.nodeGroups): then nodeSelector, required node affinity and tolerations are matched with them"
			}
		}
		for _, name := range unread {
			if has(name) {
				found(path.Child(name), name)
			}
		}
		volumes, _ := spec["volumes"].([]any)
		for i, v := range volumes {
			volume, _ := v.(map[string]any)
			for _, source := range []string{"persistentVolumeClaim", "hostPath"} {
				if volume[source] != nil {
					found(path.Child("volumes").Index(i), "volumes of type "+source)
				}
			}
		}
	}
	if len(names) > 0 {
		report.at(first, "placing does not look at %s: the nodes of a cluster have to meet it. If those of some clusters do not, "+
			"say by clusterSelector, capabilityRequirements or a constraint which do%s", strings.Join(names, ", "), instead)
	}
}

func isEmpty(value any) bool {
	switch value := value.(type) {
	case nil:
		return true
	case string:
		return value == ""
	case []any:
		return len(value) == 0
	case map[string]any:
		return len(value) == 0
	}
	return false
}

// placementsIn returns the names of the placements in a namespace.
func (w *Workspace) placementsIn(namespace string) (names []string) {
	for _, p := range w.Placements {
		if p.Namespace == namespace {
			names = append(names, p.Name)
		}
	}
	return names
}
