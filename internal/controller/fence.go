package controller

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	apisv1alpha2 "github.com/kcp-dev/kcp/sdk/apis/apis/v1alpha2"
	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-placement/placement/crds/v1alpha1"
)

// errFenced is the error of a write that the fence has not admitted.
var errFenced = errors.New("not written")

// fenced returns actions that write only while the fence admits it and for WriteWithin at most, so that a former leader writes
// nothing more. What they read takes readWithin at most.
func (a actions) fenced(fence func() error) actions {
	f := a
	f.listDecisions = func(ctx context.Context) ([]*v1alpha1.PlacementDecision, error) {
		ctx, done := context.WithTimeout(ctx, readWithin)
		defer done()
		return a.listDecisions(ctx)
	}
	f.listKept = func(ctx context.Context, of logicalcluster.Name) ([]*v1alpha1.PlacementDecision, error) {
		ctx, done := context.WithTimeout(ctx, readWithin)
		defer done()
		return a.listKept(ctx, of)
	}
	f.liveUIDs = func(ctx context.Context, resource schema.GroupVersionResource, names []types.NamespacedName) (map[types.NamespacedName]types.UID, error) {
		ctx, done := context.WithTimeout(ctx, readWithin)
		defer done()
		return a.liveUIDs(ctx, resource, names)
	}
	f.stillBound = func(ctx context.Context, binding *apisv1alpha2.APIBinding) (bool, error) {
		ctx, done := context.WithTimeout(ctx, readWithin)
		defer done()
		return a.stillBound(ctx, binding)
	}
	f.readHeartbeat = func(ctx context.Context, cluster string) (heartbeat, bool, error) {
		ctx, done := context.WithTimeout(ctx, readWithin)
		defer done()
		return a.readHeartbeat(ctx, cluster)
	}
	f.writeDecision = fenced(fence, a.writeDecision)
	f.deleteDecision = func(ctx context.Context, d *v1alpha1.PlacementDecision) error {
		_, err := fenced(fence, func(ctx context.Context, d *v1alpha1.PlacementDecision) (any, error) {
			return nil, a.deleteDecision(ctx, d)
		})(ctx, d)
		return err
	}
	f.makeNamespace = func(ctx context.Context, name string) error {
		_, err := fenced(fence, func(ctx context.Context, name string) (any, error) { return nil, a.makeNamespace(ctx, name) })(ctx, name)
		return err
	}
	f.writeStatus = fenced(fence, a.writeStatus)
	f.writeConfig = fenced(fence, a.writeConfig)
	f.writeSet, f.writeSetBinding = fenced(fence, a.writeSet), fenced(fence, a.writeSetBinding)
	f.writePlan = fenced(fence, a.writePlan)
	f.writeConditions = fenced(fence, a.writeConditions)
	f.annotate = func(ctx context.Context, configMap *corev1.ConfigMap, key, value string) error {
		_, err := fenced(fence, func(ctx context.Context, configMap *corev1.ConfigMap) (any, error) {
			return nil, a.annotate(ctx, configMap, key, value)
		})(ctx, configMap)
		return err
	}
	f.event = func(about runtime.Object, kind, reason, message string) {
		if fence == nil || fence() == nil {
			a.event(about, kind, reason, message)
		}
	}
	return f
}

// fenced returns a write that is made only while the fence admits it, and that takes at most WriteWithin.
func fenced[In, Out any](fence func() error, write func(context.Context, In) (Out, error)) func(context.Context, In) (Out, error) {
	return func(ctx context.Context, in In) (out Out, err error) {
		if fence != nil {
			if err := fence(); err != nil {
				return out, fmt.Errorf("%w: %w", errFenced, err)
			}
		}
		ctx, done := context.WithTimeout(ctx, WriteWithin)
		defer done()
		return write(ctx, in)
	}
}

// readWithin bounds each reading from a server, so that none holds a worker for good.
const readWithin = time.Minute
