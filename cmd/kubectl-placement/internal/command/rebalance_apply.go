package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/dynamic"

	"github.com/kcp-placement/placement/cmd/kubectl-placement/internal/exit"
	"github.com/kcp-placement/placement/cmd/kubectl-placement/internal/input"
	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/offline/rebalance"
)

// applyFlags leave a plan to the controller.
type applyFlags struct {
	apply, wait, partial bool
	moveTimeout          time.Duration
	moreWaiting          int32
}

func (a *applyFlags) add(c *cobra.Command) {
	c.Flags().BoolVar(&a.apply, "apply", false, "Leave the moves to the controller, as a RebalancePlan in the live workspace.")
	c.Flags().BoolVar(&a.wait, "wait", false, "With --apply: follow the plan until it is complete or halted.")
	c.Flags().BoolVar(&a.partial, "partial", false, "Be content with moves that come near to an aim that is not reached.")
	c.Flags().DurationVar(&a.moveTimeout, "move-timeout", 10*time.Minute, "With --apply: how long a workload that has moved may take to be ready before the plan halts.")
	c.Flags().Int32Var(&a.moreWaiting, "more-waiting", 0, "With --apply: how many workloads more than now may wait before the plan halts.")
}

// Validate implements validated.
func (a *applyFlags) Validate() error {
	switch {
	case a.wait && !a.apply:
		return errors.New("--wait follows the plan of --apply: give that, too")
	case a.moveTimeout < time.Second || a.moveTimeout > 24*time.Hour:
		return fmt.Errorf("--move-timeout must be from 1s to 24h, is %s", a.moveTimeout)
	case a.moreWaiting < 0:
		return fmt.Errorf("--more-waiting must be at least 0, is %d", a.moreWaiting)
	}
	return nil
}

// object is a plan as the controller reads it.
func (a *applyFlags) object(plan *rebalance.Plan) (*v1alpha1.RebalancePlan, error) {
	if len(plan.Moves) > v1alpha1.MaxRebalanceMoves || plan.Waves > v1alpha1.MaxRebalanceWaves {
		return nil, fmt.Errorf("a RebalancePlan has at most %d moves in %d waves, and these are %d in %d: choose an aim that takes fewer",
			v1alpha1.MaxRebalanceMoves, v1alpha1.MaxRebalanceWaves, len(plan.Moves), plan.Waves)
	}
	object := &v1alpha1.RebalancePlan{
		TypeMeta:   metav1.TypeMeta{APIVersion: v1alpha1.SchemeGroupVersion.String(), Kind: "RebalancePlan"},
		ObjectMeta: metav1.ObjectMeta{GenerateName: "rebalance-"},
		Spec: v1alpha1.RebalancePlanSpec{
			Aim: plan.Aim[:min(len(plan.Aim), 1024)], Limits: v1alpha1.RebalanceLimits{MoveTimeout: &metav1.Duration{Duration: a.moveTimeout}, MoreWaiting: a.moreWaiting},
		},
	}
	for _, m := range plan.Moves {
		w := m.Workload
		object.Spec.Moves = append(object.Spec.Moves, v1alpha1.RebalanceMove{
			Workload: v1alpha1.NamespacedWorkloadReference{Namespace: w.Namespace, APIVersion: w.APIVersion, Kind: w.Kind, Name: w.Name, UID: types.UID(w.UID)},
			From:     m.From, To: m.To, Wave: int32(m.Wave),
		})
	}
	return object, nil
}

var plans = v1alpha1.SchemeGroupVersion.WithResource("rebalanceplans")

// run creates the plan, and follows it if it is to.
func (a *applyFlags) run(c *cobra.Command, from *input.Source, plan *rebalance.Plan) error {
	object, err := a.object(plan)
	if err != nil {
		return err
	}
	config, path, err := from.Config()
	if err != nil {
		return err
	}
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return err
	}
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
	if err != nil {
		return err
	}
	delete(content, "status")
	created, err := client.Resource(plans).Create(c.Context(), &unstructured.Unstructured{Object: content}, metav1.CreateOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return fmt.Errorf("workspace %s does not serve %s: its APIExport tmc.kcp.io is of an earlier version", path, plans.GroupResource())
	case err != nil:
		return fmt.Errorf("creating the plan in workspace %s: %w", path, err)
	}
	fmt.Fprintf(c.ErrOrStderr(), "rebalanceplan.tmc.kcp.io/%s created. To stop it: kubectl delete rebalanceplan %s\n", created.GetName(), created.GetName())
	if !a.wait {
		return nil
	}
	return follow(c.Context(), client.Resource(plans), created.GetName(), c.ErrOrStderr())
}

// followEvery is how often a plan is looked at.
const followEvery = time.Second

// follow says how far a plan is, until it is over. It fails where the plan has not moved all that it was to.
func follow(ctx context.Context, client dynamic.ResourceInterface, name string, to io.Writer) error {
	var printed string
	var verdict error
	err := wait.PollUntilContextCancel(ctx, followEvery, true, func(ctx context.Context) (bool, error) {
		u, err := client.Get(ctx, name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return false, exit.Failure{Cause: fmt.Errorf("plan %s has been deleted", name)}
		}
		if err != nil {
			return false, fmt.Errorf("reading plan %s: %w", name, err)
		}
		plan := new(v1alpha1.RebalancePlan)
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, plan); err != nil {
			return false, fmt.Errorf("reading plan %s: %w", name, err)
		}
		if now := progress(plan); now != printed {
			printed = now
			fmt.Fprintln(to, now)
		}
		if !plan.IsOver() {
			return false, nil
		}
		for _, s := range plan.Status.SkippedMoves {
			fmt.Fprintf(to, "skipped: %s %s/%s from %s to %s: %s\n", s.Workload.Kind, s.Workload.Namespace, s.Workload.Name, s.From, s.To, s.Message)
		}
		if int(plan.Status.Moved) < len(plan.Spec.Moves) {
			verdict = exit.Failure{}
		}
		return true, nil
	})
	if err != nil {
		return err
	}
	return verdict
}

// progress says in a line how far a plan is.
func progress(p *v1alpha1.RebalancePlan) string {
	s := &p.Status
	line := fmt.Sprintf("wave %d: %d of %d moved, %d skipped", s.Wave, s.Moved, len(p.Spec.Moves), s.Skipped)
	for _, c := range s.Conditions {
		if c.Type == v1alpha1.HaltedCondition && c.Status == "True" {
			return fmt.Sprintf("%s; halted: %s", line, c.Message)
		}
		if c.Type == v1alpha1.CompleteCondition && c.Status == "True" {
			return line + "; complete"
		}
		if c.Type == v1alpha1.ProgressingCondition && c.Message != "" {
			line += "; " + c.Message
		}
	}
	return line
}
