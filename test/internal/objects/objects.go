// Package objects applies manifests to the servers of the tests, whatever their kinds, and waits.
package objects

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
)

// ApplyAll applies a stream of YAML documents after the changes have been made to each, including the status where it is a
// subresource.
func ApplyAll(ctx context.Context, config *rest.Config, documents io.Reader, change ...func(*unstructured.Unstructured) error) error {
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return err
	}
	decoder := yaml.NewYAMLOrJSONDecoder(documents, 4096)
	for {
		object := &unstructured.Unstructured{}
		if err := decoder.Decode(&object.Object); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if object.Object == nil {
			continue
		}
		for _, f := range change {
			if err := f(object); err != nil {
				return err
			}
		}
		resource, err := resourceOf(ctx, config, client, object)
		if err != nil {
			return err
		}
		if err := Apply(ctx, resource, object); err != nil {
			return fmt.Errorf("%s %s: %w", object.GetKind(), object.GetName(), err)
		}
	}
}

// resourceOf finds the resource of an object, and waits if its kind was created only just now.
func resourceOf(ctx context.Context, config *rest.Config, client dynamic.Interface, object *unstructured.Unstructured) (dynamic.ResourceInterface, error) {
	kind := object.GroupVersionKind()
	var mapping *meta.RESTMapping
	err := Poll(ctx, fmt.Sprintf("%s at %s", kind, config.Host), func(context.Context) (bool, error) {
		client, err := discovery.NewDiscoveryClientForConfig(config)
		if err != nil {
			return false, err
		}
		groups, err := restmapper.GetAPIGroupResources(client)
		if err != nil {
			return false, nil
		}
		mapping, err = restmapper.NewDiscoveryRESTMapper(groups).RESTMapping(kind.GroupKind(), kind.Version)
		return err == nil, nil
	})
	if err != nil {
		return nil, err
	}
	if mapping.Scope.Name() == meta.RESTScopeNameRoot {
		return client.Resource(mapping.Resource), nil
	}
	return client.Resource(mapping.Resource).Namespace(object.GetNamespace()), nil
}

// Apply applies one object, including the status where it is a subresource.
func Apply(ctx context.Context, resource dynamic.ResourceInterface, object *unstructured.Unstructured) error {
	options := metav1.ApplyOptions{FieldManager: "placement-test", Force: true}
	status, hasStatus := object.Object["status"]
	if _, err := resource.Apply(ctx, object.GetName(), object, options); err != nil {
		return err
	}
	if !hasStatus || len(status.(map[string]any)) == 0 {
		return nil
	}
	only := &unstructured.Unstructured{Object: map[string]any{"status": status}}
	only.SetGroupVersionKind(object.GroupVersionKind())
	only.SetName(object.GetName())
	only.SetNamespace(object.GetNamespace())
	_, err := resource.ApplyStatus(ctx, object.GetName(), only, options)
	return err
}

// Poll waits for a condition. Its error says what it waited for.
func Poll(ctx context.Context, what string, condition wait.ConditionWithContextFunc) error {
	var last error
	err := wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, 2*time.Minute, true, func(ctx context.Context) (bool, error) {
		var done bool
		done, last = condition(ctx)
		// A server that is starting refuses requests for a while. A lasting refusal is still there at the end.
		return done && last == nil, nil
	})
	if err != nil {
		return fmt.Errorf("waiting for %s: %w", what, errors.Join(err, last))
	}
	return nil
}
