package apply

import (
	"encoding/json"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/kcp-placement/placement/crds/v1alpha1"
	"github.com/kcp-placement/placement/internal/decode"
)

// work is a Work as the agent has read it. It is immutable except for status, which belongs to the agent.
type work struct {
	name string
	// workspace is the workspace of the objects, empty for that of the registration.
	workspace       string
	uid             types.UID
	generation      int64
	resourceVersion string
	manifests       []*wanted
	status          v1alpha1.WorkStatus
	// doubtful is set if the Work cannot be read in full: what it had is not removed then, since it may still be wanted.
	doubtful bool
}

// wanted is one object as wanted in the cluster.
type wanted struct {
	id
	work     *work
	manifest *v1alpha1.Manifest
	// reference is the object as the workspace knows it.
	reference v1alpha1.ManifestReference
	// labels are those of a namespace; objects of Works bring their own.
	labels map[string]string
	// kind is nil if the object cannot be applied; problem is then the reason, worded for its owner.
	kind    *kind
	problem string
}

// workOf reads a Work.
func workOf(object *unstructured.Unstructured) *work {
	content, problems := decode.To[v1alpha1.Work](object.Object)
	w := &work{
		name: object.GetName(), workspace: content.Spec.Workspace, uid: object.GetUID(), generation: object.GetGeneration(), resourceVersion: object.GetResourceVersion(),
		status: content.Status,
	}
	unread := map[int]string{}
	for _, p := range problems {
		if p.Field != "" && !strings.HasPrefix(p.Field, "spec") {
			continue
		}
		w.doubtful = true
		var i int
		if _, err := fmt.Sscanf(p.Field, "spec.manifests[%d]", &i); err == nil {
			unread[i] = p.Error()
		}
	}
	for i := range content.Spec.Manifests {
		d := &wanted{work: w, manifest: &content.Spec.Manifests[i]}
		if d.problem = unread[i]; d.problem == "" {
			d.problem = d.read()
		}
		w.doubtful = w.doubtful || d.problem != ""
		w.manifests = append(w.manifests, d)
	}
	return w
}

// read determines which object a manifest is about; it returns the problem if it cannot.
func (d *wanted) read() string {
	var object struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
		Metadata   struct {
			Name      string `json:"name"`
			Namespace string `json:"namespace"`
		} `json:"metadata"`
	}
	if err := json.Unmarshal(d.manifest.Object.Raw, &object); err != nil {
		return fmt.Sprintf("the manifest cannot be read: %v", err)
	}
	d.reference = v1alpha1.ManifestReference{
		APIVersion: object.APIVersion, Kind: object.Kind, Namespace: object.Metadata.Namespace, Name: object.Metadata.Name,
		WorkloadUID: d.manifest.WorkloadUID,
	}
	gv, err := schema.ParseGroupVersion(object.APIVersion)
	switch {
	case err != nil || gv.Version == "" || object.Kind == "":
		return fmt.Sprintf("the manifest has apiVersion %q and kind %q", object.APIVersion, object.Kind)
	case len(validation.IsDNS1123Label(object.Metadata.Namespace)) > 0:
		return fmt.Sprintf("the manifest has the namespace %q: only objects in namespaces are delivered", object.Metadata.Namespace)
	case object.Metadata.Name == "":
		return "the manifest has no name"
	case d.manifest.Revision == "":
		return "the manifest has no revision"
	}
	d.GroupKind, d.name = gv.WithKind(object.Kind).GroupKind(), object.Metadata.Name
	return ""
}
