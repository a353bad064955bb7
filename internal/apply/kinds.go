package apply

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/workload"
	"github.com/kcp-placement/placement/internal/spelling"
)

// goWithWorkloads are the kinds of objects that workloads need, by resource.
var goWithWorkloads = map[schema.GroupVersionResource]string{
	{Version: "v1", Resource: "configmaps"}:                                     "ConfigMap",
	{Version: "v1", Resource: "secrets"}:                                        "Secret",
	{Version: "v1", Resource: "serviceaccounts"}:                                "ServiceAccount",
	{Version: "v1", Resource: "persistentvolumeclaims"}:                         "PersistentVolumeClaim",
	{Version: "v1", Resource: "services"}:                                       "Service",
	{Group: "autoscaling", Version: "v2", Resource: "horizontalpodautoscalers"}: "HorizontalPodAutoscaler",
	{Group: "policy", Version: "v1", Resource: "poddisruptionbudgets"}:          "PodDisruptionBudget",
}

// DefaultKinds returns the kinds that are applied by default: the workload kinds that are placed by default, and their companions.
func DefaultKinds() []string {
	var kinds []string
	for gvr, kind := range goWithWorkloads {
		kinds = append(kinds, gvr.GroupVersion().String()+"/"+kind)
	}
	resources, err := workload.Kinds().Resources(workload.DefaultResources)
	if err != nil {
		panic(err) // both are part of the program
	}
	for _, gvr := range resources {
		kinds = append(kinds, gvr.GroupVersion().String()+"/"+workload.Kinds().Resource(gvr).Kind)
	}
	slices.Sort(kinds)
	return kinds
}

// ParseKinds parses kinds, each as apiVersion/Kind or, for known ones, as resource.version.group.
func ParseKinds(names []string) ([]v1alpha1.WorkloadType, error) {
	if len(names) == 0 {
		return nil, errors.New("must name at least one kind")
	}
	if len(names) > 256 {
		return nil, fmt.Errorf("names %d kinds, more than 256", len(names))
	}
	kinds := make([]v1alpha1.WorkloadType, 0, len(names))
	given := map[schema.GroupKind]string{}
	for _, name := range names {
		gvk, err := parseKind(name)
		if err != nil {
			return nil, err
		}
		if gvk.GroupKind() == namespaceKind {
			return nil, fmt.Errorf("%s: the agent makes namespaces itself, and applies none", name)
		}
		if before, twice := given[gvk.GroupKind()]; twice {
			return nil, fmt.Errorf("%s and %s are the same kind", before, name)
		}
		given[gvk.GroupKind()] = name
		kinds = append(kinds, v1alpha1.WorkloadType{APIVersion: gvk.GroupVersion().String(), Kind: gvk.Kind})
	}
	return kinds, nil
}

var kindName = regexp.MustCompile(`^[A-Z][A-Za-z0-9]{0,62}$`)

func parseKind(name string) (schema.GroupVersionKind, error) {
	if i := strings.LastIndex(name, "/"); i >= 0 {
		gv, err := schema.ParseGroupVersion(name[:i])
		if err != nil || gv.Version == "" || i > 317 || !kindName.MatchString(name[i+1:]) {
			return schema.GroupVersionKind{}, fmt.Errorf("%q is not apiVersion/Kind, for example apps/v1/Deployment or v1/Secret", name)
		}
		return gv.WithKind(name[i+1:]), nil
	}
	known := make([]string, 0, len(goWithWorkloads))
	for gvr := range goWithWorkloads {
		known = append(known, strings.TrimSuffix(gvr.Resource+"."+gvr.Version+"."+gvr.Group, "."))
	}
	for gvr, kind := range goWithWorkloads {
		if name == strings.TrimSuffix(gvr.Resource+"."+gvr.Version+"."+gvr.Group, ".") {
			return gvr.GroupVersion().WithKind(kind), nil
		}
	}
	resources, err := workload.Kinds().Resources([]string{name})
	if err != nil {
		return schema.GroupVersionKind{}, fmt.Errorf("%q is no resource.version.group of a kind that is known here%s; give it as apiVersion/Kind, for example networking.k8s.io/v1/Ingress",
			name, spelling.DidYouMean(name, known))
	}
	return resources[0].GroupVersion().WithKind(workload.Kinds().Resource(resources[0]).Kind), nil
}
