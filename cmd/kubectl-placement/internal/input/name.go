package input

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/kcp-placement/placement/offline/manifest"
)

// WorkloadName selects a workload by an argument. An empty part matches anything.
type WorkloadName struct{ kind, group, namespace, name string }

// shortNames are kubectl's short names of workload kinds.
var shortNames = map[string]string{"deploy": "deployment", "sts": "statefulset", "ds": "daemonset", "rs": "replicaset"}

// ParseWorkloadName parses NAME, KIND/NAME, NAMESPACE/NAME and KIND/NAMESPACE/NAME, where the kind may also be an argument
// before the name, as in kubectl. KIND/NAME may mean NAMESPACE/NAME, too: the names are returned likeliest first.
func ParseWorkloadName(args []string, namespace string) ([]WorkloadName, error) {
	kind := ""
	if len(args) == 2 {
		kind = args[0]
	}
	parts := strings.Split(args[len(args)-1], "/")
	wrong := fmt.Errorf("%q is not the name of a workload: give NAME, KIND/NAME or KIND NAMESPACE/NAME", strings.Join(args, " "))
	if slices.Contains(parts, "") || len(parts) > 3 || len(parts) == 3 && kind != "" {
		return nil, wrong
	}
	var all []WorkloadName
	add := func(kind, in, name string) error {
		if in != "" && namespace != "" && in != namespace {
			return fmt.Errorf("%q is in namespace %s, and -n says %s", strings.Join(args, " "), in, namespace)
		}
		kind, group, _ := strings.Cut(strings.ToLower(kind), ".")
		if long, found := shortNames[kind]; found {
			kind = long
		}
		all = append(all, WorkloadName{kind, group, cmp.Or(in, namespace), name})
		return nil
	}
	var err error
	switch {
	case len(parts) == 1:
		err = add(kind, "", parts[0])
	case len(parts) == 3:
		err = add(parts[0], parts[1], parts[2])
	case kind != "":
		err = add(kind, parts[0], parts[1])
	default: // KIND/NAME, or else NAMESPACE/NAME
		if err = add(parts[0], "", parts[1]); err == nil && (namespace == "" || namespace == parts[0]) {
			err = add("", parts[0], parts[1])
		}
	}
	return all, err
}

// Matches reports whether the name selects a workload. Kinds match in any case, singular or plural, as in kubectl.
func (n WorkloadName) Matches(o manifest.Workload) bool {
	kind := strings.ToLower(o.GetKind())
	return o.GetName() == n.name && (n.namespace == "" || n.namespace == o.GetNamespace()) &&
		(n.kind == "" || n.kind == kind || n.kind == kind+"s") && (n.group == "" || n.group == o.GroupVersionKind().Group)
}
