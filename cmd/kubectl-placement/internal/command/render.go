package command

import (
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"github.com/kcp-placement/placement/cmd/kubectl-placement/internal/exit"
	"github.com/kcp-placement/placement/cmd/kubectl-placement/internal/input"
	"github.com/kcp-placement/placement/cmd/kubectl-placement/internal/output"
	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/workload"
	"github.com/kcp-placement/placement/internal/delivery/render"
	"github.com/kcp-placement/placement/offline/description"
	"github.com/kcp-placement/placement/offline/manifest"
	"github.com/kcp-placement/placement/offline/simulation"
)

func renderCommand() *cobra.Command {
	var clusters []string
	var template string
	c := &cobra.Command{
		Use:   "render [KIND] [NAMESPACE/]NAME [FILES]",
		Short: "Print what clusters get of a workload",
		Long: `render prints the objects that agents apply in the clusters of a workload: the workload with its share of the replicas and the
overrides of its placement, and what goes with it, such as the ConfigMaps that its pods refer to and the Services that
select them. What it refers to and that is not there is told on standard error.

The clusters are those that simulate shows. --cluster takes others: one that the workload is not placed on is told, and
gets all replicas.

Agents add labels and annotations that say whose the objects are. A workload in a file has no UID: zeros stand for it.`,
		Example: `  kubectl placement render web all/
  kubectl placement render deployment shop/web all/ --cluster paris
  kubectl placement render web all/ --cluster paris --namespace-template '{namespace}' | kubectl apply --server-side --dry-run=server -f -
  kubectl placement render Job/train -o json --workspace root:team-ml`,
	}
	from, out := input.NewSource(c), output.NewFlag(c, rendered{})
	from.ReadCompanions()
	named := newNamedWorkload(c, from)
	c.Flags().StringSliceVar(&clusters, "cluster", nil, "Print what this cluster gets. Repeatable. Default: all clusters of the workload.")
	c.Flags().StringVar(&template, "namespace-template", render.DefaultNamespaceTemplate, "How the namespaces of the clusters are named, as the agents' flag says.")
	now := addNow(c)
	c.PreRunE = validate(out, from, namespaceTemplate{&template})
	c.RunE = func(c *cobra.Command, _ []string) error {
		s, w, d, err := named.decide(c, *now)
		if err != nil {
			return err
		}
		kinds, err := input.Kinds(c)
		if err != nil {
			return err
		}
		answer, err := renderDecision(kinds, w, d, clusters, template, c.ErrOrStderr())
		if err != nil {
			return err
		}
		if err := out.Write(c.OutOrStdout(), answer); err != nil {
			return err
		}
		if s.invalid != nil || d.Failed() || answer.failed {
			return exit.Failure{Cause: s.invalid}
		}
		return nil
	}
	return c
}

// namespaceTemplate is the flag of that name.
type namespaceTemplate struct{ template *string }

// Validate implements validated.
func (f namespaceTemplate) Validate() error {
	if err := render.ValidateNamespaceTemplate(*f.template); err != nil {
		return fmt.Errorf("--namespace-template: %w", err)
	}
	return nil
}

// rendered is the answer of render. Its JSON is a contract.
type rendered struct {
	Workspace string              `json:"workspace"`
	Workload  simulation.Workload `json:"workload"`
	Clusters  []renderedCluster   `json:"clusters"`
	// failed: something is not delivered.
	failed bool
}

// renderedCluster is what a cluster gets.
type renderedCluster struct {
	Name    string                       `json:"name"`
	Objects []*unstructured.Unstructured `json:"objects"`
}

// Documents implements output.Documents.
func (r rendered) Documents(w io.Writer) error {
	for _, c := range r.Clusters {
		for _, o := range c.Objects {
			text, err := yaml.Marshal(o)
			if err != nil {
				return err
			}
			if _, err := fmt.Fprintf(w, "---\n# cluster %s\n%s", c.Name, text); err != nil {
				return err
			}
		}
	}
	return nil
}

// noUID stands for the UID of a workload that is in a file.
const noUID = "00000000-0000-0000-0000-000000000000"

// renderDecision renders what was decided for a workload, or what some clusters would get, and tells what is wrong.
func renderDecision(kinds *workload.Table, w *manifest.Workspace, d *simulation.Decision, clusters []string, template string, errOut io.Writer) (answer rendered, err error) {
	answer = rendered{Workspace: d.Workspace, Workload: d.Workload, Clusters: []renderedCluster{}}
	warn := func(format string, args ...any) { fmt.Fprintf(errOut, format+"\n", args...) }
	object := description.Object(w, d)
	if object.GetUID() == "" {
		object.SetUID(noUID)
	}
	with, missing, err := companionsOf(kinds, w, object)
	if err != nil {
		warn("%v", err)
		answer.failed = true
		return answer, nil
	}
	for _, reference := range missing {
		warn("%s: %s", d.Workload, reference)
	}
	overrides, err := overridesOf(w, d)
	if err != nil {
		warn("%v", err)
		answer.failed = true
		return answer, nil
	}
	if d.Error != "" {
		warn("%s runs nowhere: %s", d.Workload, d.Error)
		answer.failed = len(clusters) == 0
	}
	shares, err := sharesOf(kinds, object, d)
	if err != nil {
		warn("%v", err)
		answer.failed = true
	}
	if len(clusters) == 0 {
		for _, choice := range d.Clusters {
			clusters = append(clusters, choice.Name)
		}
		slices.Sort(clusters)
	}
	for _, name := range clusters {
		cluster, found := clusterOf(w, name)
		if !found {
			return answer, fmt.Errorf("--cluster %s: there is no such cluster of workspace %s", name, d.Workspace)
		}
		if d.Error == "" && !slices.ContainsFunc(d.Clusters, func(c engine.Choice) bool { return c.Name == name }) {
			warn("%s is not placed on %s: this is what it would get with all replicas", d.Workload, name)
		}
		manifests, err := render.Manifests(render.Request{
			Kinds: kinds, Workload: object, With: with, Changes: overrides.For(cluster), Share: shares[name],
		})
		if err != nil {
			warn("cluster %s: %v", name, err)
			answer.failed = true
		}
		objects, err := inNamespaces(manifests, func(namespace string) string {
			return render.Namespace(template, d.Workspace, name, namespace)
		})
		if err != nil {
			return answer, err
		}
		answer.Clusters = append(answer.Clusters, renderedCluster{name, objects})
	}
	return answer, nil
}

// companionsOf returns what goes with an object, and what is missing.
func companionsOf(kinds *workload.Table, w *manifest.Workspace, object *unstructured.Unstructured) ([]*unstructured.Unstructured, []render.Reference, error) {
	objects := render.NewObjects(kinds)
	for _, o := range w.ConfigMaps {
		objects.Put(o.Unstructured())
	}
	for _, o := range w.Others {
		objects.Put(o.Unstructured())
	}
	needs, err := render.NeedsOf(kinds, object)
	if err != nil {
		return nil, nil, err
	}
	with, missing := objects.With(needs)
	return with, missing, nil
}

// overridesOf compiles those of the placement that a workload belongs to.
func overridesOf(w *manifest.Workspace, d *simulation.Decision) (*render.Overrides, error) {
	name := types.NamespacedName{Namespace: d.Workload.Namespace, Name: d.Placement}
	for _, p := range w.Placements {
		if p.GetNamespace() != name.Namespace || p.GetName() != name.Name {
			continue
		}
		overrides, errs := render.CompileOverrides(p.Typed)
		if len(errs) > 0 {
			return nil, &manifest.Error{Position: p.Position(errs[0].Field), Object: p.String(), Message: errs.ToAggregate().Error()}
		}
		return overrides, nil
	}
	return nil, nil
}

// sharesOf returns the share of each cluster; nil where each gets all replicas.
func sharesOf(kinds *workload.Table, object *unstructured.Unstructured, d *simulation.Decision) (map[string]render.Share, error) {
	if !d.Divided {
		return nil, nil
	}
	replicas := map[string]int32{}
	for _, choice := range d.Clusters {
		replicas[choice.Name] = int32(choice.Replicas)
	}
	shares, _, err := render.Divide(kinds, object, replicas, nil)
	return shares, err
}

// clusterOf returns what overrides select a cluster by.
func clusterOf(w *manifest.Workspace, name string) (render.Cluster, bool) {
	for _, c := range w.Clusters {
		if c.Typed.Name == name {
			return render.Cluster{Name: name, Location: c.Typed.Spec.Location, Labels: c.Typed.Labels}, true
		}
	}
	return render.Cluster{}, false
}

// inNamespaces returns the objects of manifests in the namespaces of a cluster.
func inNamespaces(manifests []v1alpha1.Manifest, namespace func(string) string) ([]*unstructured.Unstructured, error) {
	objects := []*unstructured.Unstructured{}
	for _, m := range manifests {
		o := &unstructured.Unstructured{}
		if err := o.UnmarshalJSON(m.Object.Raw); err != nil {
			return nil, err
		}
		o.SetNamespace(namespace(o.GetNamespace()))
		objects = append(objects, o)
	}
	return objects, nil
}
