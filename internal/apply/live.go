package apply

import (
	"bytes"
	"encoding/json"
	"hash/maphash"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kcp-placement/placement/crds/v1alpha1"
)

// Field managers of server-side apply. The second owns spec.replicas for an autoscaler that has not scaled yet.
const (
	fieldManager   = "placement-agent"
	replicaManager = "placement-agent-replicas"
)

// id names an object of the cluster.
type id struct {
	schema.GroupKind
	namespace, name string
}

// live is what is kept of an object in the cluster that belongs to this agent.
type live struct {
	id
	uid             types.UID
	resourceVersion string
	// origin, revision, work and workloadUID are what the agent has recorded on it.
	origin, revision, work string
	workloadUID            types.UID
	apiVersion             string
	deleting               bool
	// owned is a hash of the fields that are the agent's according to server-side apply: whoever changes one of them takes it away. 0 if
	// there are none.
	owned uint64
	// ownsReplicas is set if spec.replicas is among them, scaled if an autoscaler of the cluster has set it.
	ownsReplicas, scaled bool
	replicas             int64

	health             v1alpha1.Health
	message, complaint string
	counts             *v1alpha1.WorkloadCounts
	finished           bool
}

var seed = maphash.MakeSeed()

func liveOf(object *unstructured.Unstructured) *live {
	annotations := object.GetAnnotations()
	l := &live{
		id:              id{object.GroupVersionKind().GroupKind(), object.GetNamespace(), object.GetName()},
		uid:             object.GetUID(),
		resourceVersion: object.GetResourceVersion(),
		origin:          annotations[v1alpha1.AnnotationNamespace],
		revision:        annotations[v1alpha1.AnnotationRevision],
		work:            annotations[v1alpha1.AnnotationWork],
		workloadUID:     types.UID(annotations[v1alpha1.LabelWorkloadUID]),
		apiVersion:      object.GetAPIVersion(),
		deleting:        object.GetDeletionTimestamp() != nil,
	}
	l.replicas, _, _ = unstructured.NestedInt64(object.Object, "spec", "replicas")
	for _, entry := range object.GetManagedFields() {
		switch {
		case entry.Subresource == "scale" && !strings.HasPrefix(entry.Manager, "kubectl"):
			l.scaled = l.scaled || holdsReplicas(entry.FieldsV1)
		case entry.Manager == fieldManager && entry.Operation == metav1.ManagedFieldsOperationApply && entry.Subresource == "" && entry.FieldsV1 != nil:
			l.owned, l.ownsReplicas = maphash.Bytes(seed, entry.FieldsV1.GetRawBytes()), holdsReplicas(entry.FieldsV1)
		}
	}
	observed := statusOf(object)
	l.health, l.message = healthOf(object)
	l.complaint, l.counts, l.finished = complaint(observed), observed.counts(), observed.finished()
	return l
}

func holdsReplicas(fields *metav1.FieldsV1) bool {
	if fields == nil || !bytes.Contains(fields.GetRawBytes(), []byte(`"f:replicas"`)) {
		return false
	}
	var set struct {
		Spec struct {
			Replicas *struct{} `json:"f:replicas"`
		} `json:"f:spec"`
	}
	return json.Unmarshal(fields.GetRawBytes(), &set) == nil && set.Spec.Replicas != nil
}

// ready reports whether a later wave need not wait for the object.
func (l *live) ready() bool {
	switch l.Kind {
	case "Job":
		return l.finished
	case "PersistentVolumeClaim": // some are bound only once a pod uses them
		return !l.deleting
	}
	return l.health == v1alpha1.HealthCurrent
}
