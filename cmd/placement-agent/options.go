package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/component-base/logs"
	logsapi "k8s.io/component-base/logs/api/v1"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/engine/capacity"
	"github.com/kcp-placement/placement/internal/agent"
	"github.com/kcp-placement/placement/internal/apply"
	"github.com/kcp-placement/placement/internal/delivery/render"
	"github.com/kcp-placement/placement/internal/program"
)

// options are the flags.
type options struct {
	kubeconfig, context       string
	kcpKubeconfig, kcpContext string
	name                      string
	register, takeOver        bool
	location                  string
	labels                    map[string]string
	capabilities              []string
	interval                  time.Duration
	material                  float64
	tolerate                  []string
	nodes                     agent.NodeRules
	volumes                   string
	deliver                   bool
	namespaceTemplate         string
	podSecurity               string
	deliverKinds              []string
	pruneVolumeClaims         bool
	bindAddress               string
	logs                      *logsapi.LoggingConfiguration
}

// podSecurityLevels are the Pod Security Standards of Kubernetes.
var podSecurityLevels = []string{"privileged", "baseline", "restricted"}

func newOptions() *options {
	return &options{
		register: true,
		interval: agent.DefaultInterval,
		material: 1,
		volumes:  "1Ei",

		namespaceTemplate: render.DefaultNamespaceTemplate,
		podSecurity:       "baseline",
		deliverKinds:      apply.DefaultKinds(),

		bindAddress: "127.0.0.1:8080",
		logs:        logs.NewOptions(),
	}
}

func (o *options) addFlags(flags *pflag.FlagSet) {
	flags.StringVar(&o.kubeconfig, "kubeconfig", o.kubeconfig, "Path of a kubeconfig for the physical cluster. $KUBECONFIG or the in-cluster configuration if empty.")
	flags.StringVar(&o.context, "context", o.context, "Context of that kubeconfig to use. The current one if empty.")
	flags.StringVar(&o.kcpKubeconfig, "kcp-kubeconfig", o.kcpKubeconfig, "Path of a kubeconfig that points at the kcp workspace with the registration. Required.")
	flags.StringVar(&o.kcpContext, "kcp-context", o.kcpContext, "Context of that kubeconfig to use. The current one if empty.")
	flags.StringVar(&o.name, "registration-name", o.name, "Name of the ClusterRegistration to report to. Required.")
	flags.BoolVar(&o.register, "register", o.register, "Create the registration where it does not exist, from the next three flags. They never change one that exists.")
	flags.StringVar(&o.location, "location", o.location, "Where the cluster is, for example eu-west-1. Required to create the registration.")
	flags.StringToStringVar(&o.labels, "labels", o.labels, "Labels of the registration, as key=value,...")
	flags.StringArrayVar(&o.capabilities, "capability", o.capabilities, "What the cluster can do, as type[:attribute=value,...], for example gpu:model=a100. May be repeated.")
	flags.BoolVar(&o.takeOver, "take-over", o.takeOver, "Take the registration from another cluster that reports to it, once: for a cluster that was built anew.")
	flags.DurationVar(&o.interval, "report-interval", o.interval, "How often to report where nothing changes.")
	flags.Float64Var(&o.material, "material-change", o.material, "By how many percent of what is allocatable of a resource the amounts that are allocated, or free on one node, have to move to be reported at once. With 0 every change is.")
	flags.StringArrayVar(&o.tolerate, "tolerate", o.tolerate, "Taint of nodes that count nevertheless, as key[=value][:effect], for example nvidia.com/gpu. May be repeated.")
	flags.StringSliceVar(&o.nodes.ReportLabels, "report-node-labels", nil, "Keys of labels of nodes to report before others where not all have room, and even if each node has another value, as example.com/rack or example.com/*. All are reported that have room, but kubernetes.io/hostname and its like.")
	flags.StringSliceVar(&o.nodes.OmitLabels, "omit-node-labels", nil, "Keys of labels of nodes to leave out of the report, as example.com/serial or example.com/*.")
	flags.StringSliceVar(&o.nodes.OmitTaints, "omit-node-taints", nil, "Keys of taints of nodes to leave out of the report, as dedicated or example.com/*: for where something in the cluster adds tolerations of them to pods.")
	flags.StringVar(&o.volumes, "volume-capacity", o.volumes, "How much the PersistentVolumes of the cluster may hold in all, for example 10Ti: it is reported as allocatable storage, since nodes do not say. The default is as good as no limit; with 0 no workload that claims volumes is placed here.")
	flags.BoolVar(&o.deliver, "deliver", o.deliver, "Bring what is placed on the cluster there, and keep it so: apply the Works beside the registration, and report how they fare. It takes more rights.")
	flags.StringVar(&o.namespaceTemplate, "namespace-template", o.namespaceTemplate, "Names of the namespaces that the agent makes: {workspace} is the logical cluster, {cluster} the registration, {namespace} the namespace there. Names that are too long are cut and hashed.")
	flags.StringVar(&o.podSecurity, "pod-security", o.podSecurity, "Pod Security Standard that those namespaces enforce: privileged, baseline or restricted.")
	flags.StringSliceVar(&o.deliverKinds, "deliver-kinds", o.deliverKinds, "Kinds of objects that are applied, as apiVersion/Kind or resource.version.group. Others are refused.")
	flags.BoolVar(&o.pruneVolumeClaims, "prune-volume-claims", o.pruneVolumeClaims, "Remove PersistentVolumeClaims that are not wanted any more, and all that they hold. Otherwise they are left, for whom they belong to.")
	flags.StringVar(&o.bindAddress, "metrics-bind-address", o.bindAddress, "Address to serve /metrics, /healthz and /readyz on. Empty turns it off.")
	logsapi.AddFlags(o.logs, flags)
}

func (o *options) validate() error {
	var errs []error
	if o.kcpKubeconfig == "" {
		errs = append(errs, errors.New("--kcp-kubeconfig must be given: the credentials for kcp are not those for the cluster"))
	}
	if o.name == "" {
		errs = append(errs, errors.New("--registration-name must be given"))
	} else if problems := validation.IsDNS1123Subdomain(o.name); len(problems) > 0 {
		errs = append(errs, fmt.Errorf("--registration-name: %q: %s", o.name, strings.Join(problems, "; ")))
	}
	if problems := validation.IsValidLabelValue(o.location); len(problems) > 0 {
		errs = append(errs, fmt.Errorf("--location: %q: %s", o.location, strings.Join(problems, "; ")))
	}
	if err := metav1validation.ValidateLabels(o.labels, field.NewPath("--labels")).ToAggregate(); err != nil {
		errs = append(errs, err)
	}
	if o.interval < time.Second {
		errs = append(errs, fmt.Errorf("--report-interval must be at least 1s, is %s", o.interval))
	}
	if o.material < 0 || o.material > 100 {
		errs = append(errs, fmt.Errorf("--material-change must be 0 to 100, is %v", o.material))
	}
	for _, text := range o.capabilities {
		if _, err := parseCapability(text); err != nil {
			errs = append(errs, fmt.Errorf("--capability: %w", err))
		}
	}
	if _, err := parseVolumes(o.volumes); err != nil {
		errs = append(errs, fmt.Errorf("--volume-capacity: %w", err))
	}
	for _, text := range o.tolerate {
		if _, err := parseToleration(text); err != nil {
			errs = append(errs, fmt.Errorf("--tolerate: %w", err))
		}
	}
	if err := render.ValidateNamespaceTemplate(o.namespaceTemplate); err != nil {
		errs = append(errs, fmt.Errorf("--namespace-template: %w", err))
	}
	if !slices.Contains(podSecurityLevels, o.podSecurity) {
		errs = append(errs, fmt.Errorf("--pod-security: %q is none of %s", o.podSecurity, strings.Join(podSecurityLevels, ", ")))
	}
	if _, err := apply.ParseKinds(o.deliverKinds); err != nil {
		errs = append(errs, fmt.Errorf("--deliver-kinds: %w", err))
	}
	errs = append(errs, validateKeys("--report-node-labels", o.nodes.ReportLabels), validateKeys("--omit-node-labels", o.nodes.OmitLabels),
		validateKeys("--omit-node-taints", o.nodes.OmitTaints))
	return errors.Join(errs...)
}

// validateKeys checks keys of labels, and prefixes of keys that end in "*".
func validateKeys(flag string, keys []string) error {
	for _, key := range keys {
		whole := key
		if prefix, isPrefix := strings.CutSuffix(key, "*"); isPrefix {
			whole = prefix + "x" // as any key that it stands for
		}
		if problems := validation.IsQualifiedName(whole); len(problems) > 0 {
			return fmt.Errorf("%s: %q: %s", flag, key, strings.Join(problems, "; "))
		}
	}
	return nil
}

// parseCapability reads type[:attribute=value,...].
func parseCapability(text string) (v1alpha1.Capability, error) {
	kind, attributes, given := strings.Cut(text, ":")
	capability := v1alpha1.Capability{Type: kind, Available: true}
	if kind == "" {
		return capability, fmt.Errorf("%q has no type", text)
	}
	if !given {
		return capability, nil
	}
	capability.Attributes = map[string]string{}
	for attribute := range strings.SplitSeq(attributes, ",") {
		key, value, found := strings.Cut(attribute, "=")
		if !found || key == "" {
			return capability, fmt.Errorf("%q: %q is not attribute=value", text, attribute)
		}
		capability.Attributes[key] = value
	}
	return capability, nil
}

// parseToleration reads key[=value][:effect].
func parseToleration(text string) (corev1.Toleration, error) {
	taint, effect, given := strings.Cut(text, ":")
	toleration := corev1.Toleration{Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffect(effect)}
	var equal bool
	if toleration.Key, toleration.Value, equal = strings.Cut(taint, "="); equal {
		toleration.Operator = corev1.TolerationOpEqual
	}
	if problems := validation.IsQualifiedName(toleration.Key); len(problems) > 0 {
		return toleration, fmt.Errorf("%q: the key: %s", text, strings.Join(problems, "; "))
	}
	effects := []corev1.TaintEffect{corev1.TaintEffectNoSchedule, corev1.TaintEffectNoExecute}
	if given && !slices.Contains(effects, toleration.Effect) {
		return toleration, fmt.Errorf("%q: the effect must be one of %v", text, effects)
	}
	return toleration, nil
}

// parseVolumes reads a quantity in bytes; nothing is 0.
func parseVolumes(text string) (int64, error) {
	if text == "" {
		return 0, nil
	}
	quantity, err := capacity.ParseQuantity(text)
	if err != nil {
		return 0, fmt.Errorf("%q: %w", text, err)
	}
	amounts, err := capacity.FromResourceList(corev1.ResourceList{corev1.ResourceStorage: quantity})
	return amounts.Storage, err
}

// completed is the program that the flags describe.
type completed struct {
	*options
	registry *prometheus.Registry
	agent    *agent.Agent
	// applier delivers; nil without --deliver.
	applier *apply.Applier
}

func (o *options) complete() (*completed, error) {
	cluster, err := program.Kubeconfig(o.kubeconfig, o.context)
	if err != nil {
		return nil, fmt.Errorf("--kubeconfig: %w", err)
	}
	kcp, err := program.Kubeconfig(o.kcpKubeconfig, o.kcpContext)
	if err != nil {
		return nil, fmt.Errorf("--kcp-kubeconfig: %w", err)
	}
	registration := &v1alpha1.ClusterRegistration{
		ObjectMeta: metav1.ObjectMeta{Name: o.name, Labels: o.labels},
		Spec:       v1alpha1.ClusterRegistrationSpec{Location: o.location},
	}
	for _, text := range o.capabilities {
		capability, err := parseCapability(text)
		if err != nil {
			return nil, err
		}
		registration.Spec.Capabilities = append(registration.Spec.Capabilities, capability)
	}
	var tolerations []corev1.Toleration
	for _, text := range o.tolerate {
		toleration, err := parseToleration(text)
		if err != nil {
			return nil, err
		}
		tolerations = append(tolerations, toleration)
	}
	volumes, err := parseVolumes(o.volumes)
	if err != nil {
		return nil, err
	}
	c := &completed{options: o, registry: prometheus.NewRegistry()}
	c.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	var delivery *v1alpha1.AgentDelivery
	if o.deliver {
		kinds, err := apply.ParseKinds(o.deliverKinds)
		if err != nil {
			return nil, err
		}
		delivery = &v1alpha1.AgentDelivery{NamespaceTemplate: o.namespaceTemplate, PodSecurity: o.podSecurity, Kinds: kinds}
	}
	c.agent, err = agent.New(agent.Config{
		Cluster: cluster, KCP: kcp, Registration: registration, Register: o.register, TakeOver: o.takeOver,
		Interval: o.interval, MaterialChange: o.material, Tolerations: tolerations, NodeRules: o.nodes, VolumeCapacity: volumes, Delivery: delivery,
		Registry: c.registry,
	})
	if err != nil || !o.deliver {
		return c, err
	}
	c.applier, err = apply.New(apply.Config{
		Cluster: cluster, KCP: kcp, Registration: o.name, Delivery: *delivery, PruneVolumeClaims: o.pruneVolumeClaims, Holds: c.agent.Holds,
		Registry: c.registry,
	})
	return c, err
}

func (c *completed) run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop, err := program.Serve(c.bindAddress, c.registry, c.ready, cancel)
	if err != nil {
		return err
	}
	defer stop()
	var delivering sync.WaitGroup
	defer delivering.Wait()
	defer cancel(nil)
	if c.applier != nil {
		delivering.Go(func() { c.applier.Run(ctx) })
	}
	return errors.Join(c.agent.Run(ctx), program.Failure(ctx))
}

func (c *completed) ready() error {
	err := c.agent.Ready()
	if c.applier != nil {
		err = errors.Join(err, c.applier.Ready())
	}
	return err
}
