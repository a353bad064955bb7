// Command run shows placement on a real, local kcp: it starts the server and the controller, applies the fleets, policies and
// workloads of the teams of examples/, one of which has no clusters but those that another one shares with it, waits until every workload is
// placed, and prints where and why. With --physical there is one more team, whose clusters are real and run what is placed on them.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/dynamic"
	"k8s.io/klog/v2"
	"k8s.io/klog/v2/textlogger"
	"sigs.k8s.io/yaml"

	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/policy"
	"github.com/kcp-placement/placement/engine/workload"
	"github.com/kcp-placement/placement/internal/controller"
	"github.com/kcp-placement/placement/offline/report"
	"github.com/kcp-placement/placement/test/kcp"
	"github.com/kcp-placement/placement/test/kubernetes"
)

// team is one of examples/.
type team struct {
	name string
	// explain is the workload whose decision is explained.
	explain string
	// files in the order in which they are applied.
	files []string
}

// files of a team whose clusters do not exist.
var files = []string{"fleet.yaml", "policies.yaml", "placements.yaml", "workloads.yaml"}

// placeWithin bounds the time that it takes to place the examples.
const placeWithin = time.Minute

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	d := demo{teams: []team{
		{"team-shop", "Deployment default/web", slices.Concat(files, []string{"sets.yaml"})},
		{"team-ml", "Job default/train-vision", files},
		{"team-blog", "Deployment default/comments", []string{"binding.yaml", "placements.yaml", "workloads.yaml"}},
	}}
	c := &cobra.Command{
		Use:           "run",
		Short:         "Place the examples on a real, local kcp",
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE:          func(cmd *cobra.Command, _ []string) error { return d.run(cmd.Context()) },
	}
	c.Flags().BoolVar(&d.once, "once", os.Getenv("ONCE") != "", "Exit after printing, with an error if a workload is not placed as expected. Default: true if $ONCE is set.")
	c.Flags().StringVar(&d.dir, "dir", ".kcp", "Folder for the data of the server and the kubeconfigs.")
	c.Flags().StringVar(&d.examples, "examples", "examples", "Folder with the files of the teams.")
	c.Flags().IntVar(&d.physical, "physical", 0, "How many physical clusters to start, with agents, for one more team. Their programs are built first if need be.")
	c.Flags().StringVar(&d.agent, "agent", "bin/placement-agent", "Program of their agents.")
	if err := c.ExecuteContext(ctx); err != nil {
		if ctx.Err() != nil {
			fmt.Fprintln(os.Stderr, "interrupted")
			os.Exit(130)
		}
		fmt.Fprintln(os.Stderr, "run:", err)
		os.Exit(1)
	}
}

type demo struct {
	once          bool
	dir, examples string
	physical      int
	agent         string
	teams         []team

	server *kcp.Server
	engine *engine.Engine
	kinds  map[string]schema.GroupVersionResource

	// clusters by their names, which are physical, and what stops them and their agents, in the order in which they were started.
	clusters map[string]*kubernetes.Server
	started  []func()
}

func (d *demo) run(ctx context.Context) error {
	start := time.Now()
	say := func(format string, args ...any) {
		fmt.Printf("%5.1fs  %s\n", time.Since(start).Seconds(), fmt.Sprintf(format, args...))
	}
	binary, err := kcp.Binary(ctx, os.Stderr)
	if err != nil {
		return err
	}
	say("starting kcp in %s, which takes about half a minute", d.dir)
	if d.server, err = kcp.Start(ctx, kcp.Options{Binary: binary, Dir: d.dir}); err != nil {
		return err
	}
	defer d.server.Stop()
	say("installing the exports in %s", kcp.Provider)
	if err := d.server.Install(ctx); err != nil {
		return err
	}
	defer func() {
		for _, stop := range slices.Backward(d.started) {
			stop()
		}
	}()
	if d.physical > 0 {
		say("starting %d physical clusters", d.physical)
		if err := d.startPhysical(ctx); err != nil {
			return err
		}
		d.teams = append(d.teams, live)
	}
	stop, err := d.startController(ctx)
	if err != nil {
		return err
	}
	defer stop()
	say("the controller is running, its log is %s", filepath.Join(d.dir, "controller.log"))
	say("making the workspaces of the teams")
	for _, team := range slices.Backward(d.teams) { // those that share the clusters of others come after these
		if err := d.server.CreateTeam(ctx, team.name); err != nil {
			return err
		}
		if err := d.clear(ctx, team.name); err != nil {
			return fmt.Errorf("clearing root:%s: %w", team.name, err)
		}
	}
	for _, team := range d.teams {
		say("workspace root:%s", team.name)
		if err := d.bring(ctx, team); err != nil {
			return err
		}
	}
	broken := d.await(ctx)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	switch {
	case broken == nil && d.physical > 0:
		say("everything is placed as expected, and what %s has is ready in its clusters", live.name)
	case broken == nil:
		say("everything is placed as expected")
	}
	for _, team := range d.teams {
		if err := d.show(ctx, team.name, team.explain); err != nil {
			return err
		}
	}
	if d.once || broken != nil {
		return broken
	}
	d.hints()
	<-ctx.Done()
	fmt.Println("\nstopping")
	return nil
}

// startController runs the controller in this process, so that its engine can explain decisions.
func (d *demo) startController(ctx context.Context) (stop func(), err error) {
	log, err := os.Create(filepath.Join(d.dir, "controller.log"))
	if err != nil {
		return nil, err
	}
	logger := textlogger.NewLogger(textlogger.NewConfig(textlogger.Output(log), textlogger.Verbosity(2)))

	policies, err := policy.NewCompiler(policy.Options{})
	if err != nil {
		return nil, err
	}
	if d.engine, err = engine.New(engine.Options{Policies: policies}); err != nil {
		return nil, err
	}
	d.kinds = map[string]schema.GroupVersionResource{
		"Deployment":  {Group: "apps", Version: "v1", Resource: "deployments"},
		"StatefulSet": {Group: "apps", Version: "v1", Resource: "statefulsets"},
		"Job":         {Group: "batch", Version: "v1", Resource: "jobs"},
	}
	c, err := controller.New(controller.Config{
		Provider: d.server.Config(kcp.Provider), EndpointSlice: kcp.Export,
		Kinds:  slices.Collect(maps.Values(d.kinds)),
		Engine: d.engine, Policies: policies, Registry: prometheus.NewRegistry(), Deliver: d.physical > 0,
	})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(klog.NewContext(ctx, logger))
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			fmt.Fprintln(os.Stderr, "controller:", err)
		}
		_ = log.Close()
	}, nil
}

func (d *demo) bring(ctx context.Context, t team) error {
	if t.name == live.name {
		if err := d.startAgents(ctx); err != nil {
			return err
		}
	}
	for _, file := range t.files {
		documents, err := os.ReadFile(filepath.Join(d.examples, t.name, file))
		if err != nil {
			return err
		}
		if err := d.server.Apply(ctx, "root:"+t.name, documents); err != nil {
			return fmt.Errorf("%s/%s: %w", t.name, file, err)
		}
	}
	return d.server.WriteKubeconfig("root:"+t.name, filepath.Join(d.dir, t.name+".kubeconfig"))
}

// clear removes what an earlier run and its users left in a team's workspace.
func (d *demo) clear(ctx context.Context, team string) error {
	client, err := dynamic.NewForConfig(d.server.Config("root:" + team))
	if err != nil {
		return err
	}
	group := v1alpha1.SchemeGroupVersion
	resources := slices.Concat(slices.Collect(maps.Values(d.kinds)), []schema.GroupVersionResource{
		group.WithResource("workloadplacements"), group.WithResource("clusterregistrations"), group.WithResource("clustersets"), group.WithResource("clustersetbindings"), corev1.SchemeGroupVersion.WithResource("configmaps"),
	})
	for _, resource := range resources {
		options := metav1.ListOptions{}
		if resource.Resource == "configmaps" {
			options.LabelSelector = v1alpha1.LabelPolicy + "=" + v1alpha1.PolicyRego
		}
		list, err := client.Resource(resource).List(ctx, options)
		if err != nil {
			return err
		}
		for _, object := range list.Items {
			err := client.Resource(resource).Namespace(object.GetNamespace()).Delete(ctx, object.GetName(), metav1.DeleteOptions{})
			if err != nil && !apierrors.IsNotFound(err) {
				return err
			}
		}
	}
	return wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, placeWithin, true, func(ctx context.Context) (bool, error) {
		for _, resource := range d.kinds { // what has been delivered goes once it is gone from its clusters
			left, err := client.Resource(resource).List(ctx, metav1.ListOptions{})
			if err != nil || len(left.Items) > 0 {
				return false, err
			}
		}
		placed, err := d.placed(ctx, team)
		return len(placed) == 0, err
	})
}

// await waits until every workload is placed as expected. At the timeout it returns an error for each that is not.
func (d *demo) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, placeWithin)
	defer cancel()
	for {
		var broken []error
		for _, team := range d.teams {
			broken = append(broken, d.check(ctx, team.name))
		}
		err := errors.Join(broken...)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func (d *demo) check(ctx context.Context, team string) error {
	if team == live.name {
		return d.checkLive(ctx)
	}
	text, err := os.ReadFile(filepath.Join(d.examples, team, "expected.yaml"))
	if err != nil {
		return err
	}
	var expected map[string][]string
	if err := yaml.UnmarshalStrict(text, &expected); err != nil {
		return err
	}
	placed, err := d.placed(ctx, team)
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(expected)) {
		var clusters []string
		for _, p := range placed {
			if p.Workload == name {
				for _, c := range p.Clusters {
					clusters = append(clusters, c.Name)
				}
			}
		}
		if !slices.Equal(clusters, expected[name]) {
			errs = append(errs, fmt.Errorf("%s: %s is on %v, expected %v", team, name, clusters, expected[name]))
		}
	}
	return errors.Join(errs...)
}

// placed reads the decisions of a team from its PlacementDecisions.
func (d *demo) placed(ctx context.Context, team string) ([]report.Placed, error) {
	decisions, err := listAll[v1alpha1.PlacementDecision](ctx, d.server.Config("root:"+team), "placementdecisions")
	if err != nil {
		return nil, err
	}
	var placed []report.Placed
	for i := range decisions {
		if decisions[i].Source != nil {
			continue // it is of a team that shares the clusters
		}
		placed = append(placed, report.FromAPI(&decisions[i])...)
	}
	slices.SortFunc(placed, func(a, b report.Placed) int { return strings.Compare(a.Workload, b.Workload) })
	return placed, nil
}

func (d *demo) show(ctx context.Context, team, explain string) error {
	placed, err := d.placed(ctx, team)
	if err != nil {
		return err
	}
	fmt.Printf("\nworkspace root:%s\n\n", team)
	if team == live.name {
		if err := d.showClusters(ctx); err != nil {
			return err
		}
	}
	report.Decisions(os.Stdout, placed)
	if team == live.name {
		if err := d.showRunning(ctx); err != nil {
			return err
		}
	}
	for _, p := range placed {
		if p.Workload == explain {
			fmt.Printf("\nwhy %s runs there:\n\n", explain)
			return d.explain(ctx, os.Stdout, team, p)
		}
	}
	return nil
}

func (d *demo) explain(ctx context.Context, out io.Writer, team string, placed report.Placed) error {
	client, err := dynamic.NewForConfig(d.server.Config("root:" + team))
	if err != nil {
		return err
	}
	kind, name, _ := strings.Cut(placed.Workload, " ")
	namespace, name, _ := strings.Cut(name, "/")
	object, err := client.Resource(d.kinds[kind]).Namespace(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	w, err := workload.FromObject(object)
	if err != nil {
		return err
	}
	u, err := client.Resource(v1alpha1.SchemeGroupVersion.WithResource("workloadplacements")).Namespace(namespace).Get(ctx, placed.Placement, metav1.GetOptions{})
	if err != nil {
		return err
	}
	var spec v1alpha1.WorkloadPlacement
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &spec); err != nil {
		return err
	}
	placement, err := d.engine.CompilePlacement(&spec)
	if err != nil {
		return err
	}
	decision, err := d.engine.Explain(ctx, engine.Request{Workspace: logicalcluster.From(u), Placement: placement, Workload: w})
	if err != nil {
		return err
	}
	report.Explanation(out, decision, report.View{})
	return nil
}

func (d *demo) hints() {
	fmt.Printf(`
Look around, in another terminal:

  export KUBECONFIG=%[1]s/team-shop.kubeconfig
  kubectl get workloadplacements,clusterregistrations,placementdecisions
  kubectl describe workloadplacement web
  kubectl get events --sort-by=.lastTimestamp
  kubectl edit configmap placement-policies        # change a weight, and decisions change
  kubectl edit clusterregistration dublin --subresource=status   # make it not Ready

team-ml also has a cluster frankfurt, which is another one: KUBECONFIG=%[1]s/team-ml.kubeconfig
team-blog has no clusters. It uses those that team-shop shares with it, up to a quota:

  kubectl --kubeconfig %[1]s/team-blog.kubeconfig get clustersetbindings,placementdecisions
  kubectl get clustersets                          # and who has how much of them
`, d.dir)
	if d.physical > 0 {
		d.hintsPhysical()
	}
	fmt.Print("\nCtrl-C stops everything; the next run starts the examples afresh.\n")
}
