package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/dynamic"

	"github.com/kcp-dev/kcp/sdk/apis/third_party/conditions/util/conditions"

	"github.com/kcp-placement/placement/cmd/kubectl-placement/internal/input"
	"github.com/kcp-placement/placement/crds/v1alpha1"
)

func cordonCommand() *cobra.Command {
	c, _ := registrationCommand(&cobra.Command{
		Use:   "cordon CLUSTER",
		Short: "Let nothing new come to a cluster of a live workspace",
		Long:  "cordon sets spec.unschedulable of a ClusterRegistration: nothing new is placed there, and what is there stays as it is.",
	}, func() (map[string]any, error) { return map[string]any{"unschedulable": true}, nil }, "cordoned")
	return c
}

func uncordonCommand() *cobra.Command {
	c, _ := registrationCommand(&cobra.Command{
		Use:   "uncordon CLUSTER",
		Short: "End the cordon and the drain of a cluster of a live workspace",
		Long:  "uncordon takes spec.unschedulable and spec.drain of a ClusterRegistration away. What has left does not return by itself.",
	}, func() (map[string]any, error) { return map[string]any{"unschedulable": nil, "drain": nil}, nil }, "uncordoned")
	return c
}

func drainCommand() *cobra.Command {
	var within time.Duration
	var follows bool
	c, from := registrationCommand(&cobra.Command{
		Use:   "drain CLUSTER",
		Short: "Have workloads leave a cluster of a live workspace",
		Long: `drain sets spec.drain of a ClusterRegistration: nothing new is placed there, and what is there leaves, each workload once there is another
place for it, at the pace of the controller's disruption budget. What has no other place stays.

With --wait it says how many remain, and why, until none do. To stop waiting, as with Ctrl-C, does not end the drain: uncordon does.`,
		Example: `  kubectl placement drain frankfurt --wait
  kubectl placement drain frankfurt --deadline 2h     # from then on, all that can leave do at once`,
	}, func() (map[string]any, error) {
		drain := map[string]any{"deadline": nil} // an earlier one would stay otherwise
		if within < 0 {
			return nil, fmt.Errorf("--deadline must not be negative, is %s", within)
		}
		if within > 0 {
			drain["deadline"] = metav1.NewTime(time.Now().Add(within)).Rfc3339Copy()
		}
		return map[string]any{"drain": drain}, nil
	}, "draining")
	c.Flags().DurationVar(&within, "deadline", 0, "In what time the pacing ends. 0 is never.")
	c.Flags().BoolVar(&follows, "wait", false, "Follow the drain until no workload remains.")
	patch := c.RunE
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := patch(c, args); err != nil || !follows {
			return err
		}
		client, _, err := registrations(from)
		if err != nil {
			return err
		}
		err = followDrain(c.Context(), client, args[0], c.OutOrStdout())
		if errors.Is(err, context.Canceled) {
			return fmt.Errorf("stopped waiting; the drain goes on: kubectl placement uncordon %s ends it", args[0])
		}
		return err
	}
	return c
}

// registrationCommand makes a command that patches the spec of the registration that its argument names.
func registrationCommand(c *cobra.Command, spec func() (map[string]any, error), done string) (*cobra.Command, *input.Source) {
	from := input.NewLiveSource(c)
	c.Args = cobra.ExactArgs(1)
	c.RunE = func(c *cobra.Command, args []string) error {
		changed, err := spec()
		if err != nil {
			return err
		}
		patch, err := json.Marshal(map[string]any{"spec": changed})
		if err != nil {
			return err
		}
		client, path, err := registrations(from)
		if err != nil {
			return err
		}
		if _, err := client.Patch(c.Context(), args[0], types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
			return fmt.Errorf("ClusterRegistration %s of workspace %s: %w", args[0], path, err)
		}
		fmt.Fprintf(c.OutOrStdout(), "clusterregistration.tmc.kcp.io/%s %s\n", args[0], done)
		return nil
	}
	return c, from
}

func registrations(from *input.Source) (client dynamic.ResourceInterface, path string, err error) {
	config, path, err := from.Config()
	if err != nil {
		return nil, "", err
	}
	all, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, "", err
	}
	return all.Resource(v1alpha1.SchemeGroupVersion.WithResource("clusterregistrations")), path, nil
}

// followDrain says how far a drain is until no workload remains.
func followDrain(ctx context.Context, client dynamic.ResourceInterface, name string, to io.Writer) error {
	var printed string
	return wait.PollUntilContextCancel(ctx, followEvery, true, func(ctx context.Context) (bool, error) {
		u, err := client.Get(ctx, name, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err):
			return false, fmt.Errorf("ClusterRegistration %s has been deleted", name)
		case err != nil:
			return false, fmt.Errorf("reading ClusterRegistration %s: %w", name, err)
		}
		r := new(v1alpha1.ClusterRegistration)
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, r); err != nil {
			return false, fmt.Errorf("reading ClusterRegistration %s: %w", name, err)
		}
		if r.Spec.Drain == nil {
			return false, fmt.Errorf("the drain of %s has been ended by someone else", name)
		}
		drained := conditions.Get(r, v1alpha1.DrainedCondition)
		if drained == nil || r.Status.Drain == nil {
			return false, nil // the controller has not seen it yet
		}
		now := drained.Message
		if conditions.IsTrue(r, v1alpha1.DrainedCondition) {
			now = name + " is drained"
		}
		if now != printed {
			printed = now
			fmt.Fprintln(to, now)
		}
		return conditions.IsTrue(r, v1alpha1.DrainedCondition), nil
	})
}
