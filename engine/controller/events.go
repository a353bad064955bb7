package controller

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/record"

	kcpkubernetes "github.com/kcp-dev/client-go/kubernetes"
	"github.com/kcp-dev/logicalcluster/v3"
)

// Events are for people: they wait behind what is decided, and some may be lost in a flood.
const (
	eventsPerSecond = 20
	eventsBurst     = 100
	maxEvent        = 1000 // bytes of a message; the API server takes 1024
)

// newRecorder returns a recorder of events for the workspaces of one endpoint.
func newRecorder(ctx context.Context, config *rest.Config) (record.EventRecorder, error) {
	slow := rest.CopyConfig(config)
	slow.QPS, slow.Burst = eventsPerSecond, eventsBurst
	client, err := kcpkubernetes.NewForConfig(slow)
	if err != nil {
		return nil, err
	}
	broadcaster := record.NewBroadcaster(record.WithContext(ctx))
	broadcaster.StartRecordingToSink(&eventSink{ctx, client})
	return broadcaster.NewRecorder(scheme.Scheme, corev1.EventSource{Component: "placement-controller"}), nil
}

// eventSink writes each event to the workspace that its annotation names.
type eventSink struct {
	ctx    context.Context
	client kcpkubernetes.ClusterInterface
}

func (s *eventSink) in(event *corev1.Event) logicalcluster.Path {
	return logicalcluster.From(event).Path()
}

// Create implements record.EventSink.
func (s *eventSink) Create(event *corev1.Event) (*corev1.Event, error) {
	workspace := s.in(event)
	bare := event.DeepCopy()
	delete(bare.Annotations, logicalcluster.AnnotationKey)
	return s.client.Cluster(workspace).CoreV1().Events(event.Namespace).Create(s.ctx, bare, metav1.CreateOptions{})
}

// Update implements record.EventSink.
func (s *eventSink) Update(event *corev1.Event) (*corev1.Event, error) {
	return s.client.Cluster(s.in(event)).CoreV1().Events(event.Namespace).Update(s.ctx, event, metav1.UpdateOptions{})
}

// Patch implements record.EventSink.
func (s *eventSink) Patch(event *corev1.Event, patch []byte) (*corev1.Event, error) {
	return s.client.Cluster(s.in(event)).CoreV1().Events(event.Namespace).
		Patch(s.ctx, event.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{})
}
