package render

import (
	"errors"
	"fmt"
	"strings"

	images "github.com/distribution/reference"

	"github.com/kcp-placement/placement/engine/workload"
)

// setRegistry replaces the registry of each image of a pod template.
func setRegistry(template workload.PodTemplate, registry string) error {
	set := func(at string, holder map[string]any, field string) error {
		image, _ := holder[field].(string)
		if image == "" {
			return nil
		}
		moved, err := inRegistry(registry, image)
		if err != nil {
			return fmt.Errorf("%s.%s: %w", template.Child("spec."+at), field, err)
		}
		holder[field] = moved
		return nil
	}
	for _, list := range []string{"initContainers", "containers", "ephemeralContainers"} {
		for i, container := range listIn(template.Content, "spec", list) {
			if err := set(fmt.Sprintf("%s[%d]", list, i), container, "image"); err != nil {
				return err
			}
		}
	}
	for i, volume := range listIn(template.Content, "spec", "volumes") {
		if image, ok := volume["image"].(map[string]any); ok {
			if err := set(fmt.Sprintf("volumes[%d].image", i), image, "reference"); err != nil {
				return err
			}
		}
	}
	return nil
}

// inRegistry returns the name of an image in a registry. As for container runtimes, nginx means docker.io/library/nginx.
func inRegistry(registry, image string) (string, error) {
	named, err := images.ParseNormalizedNamed(image)
	if err != nil {
		return "", fmt.Errorf("%.128q is no name of an image: %w", image, err)
	}
	moved := registry + "/" + images.Path(named) + strings.TrimPrefix(named.String(), named.Name())
	if _, err := images.ParseNormalizedNamed(moved); err != nil {
		return "", fmt.Errorf("%.128q: %w", moved, err)
	}
	return moved, nil
}

// validateRegistry returns why images cannot be named in a registry.
func validateRegistry(registry string) error {
	named, err := images.ParseNormalizedNamed(registry + "/image")
	if err != nil {
		return fmt.Errorf("is no registry: %w", err)
	}
	if host, _, _ := strings.Cut(registry, "/"); images.Domain(named) != host {
		return errors.New("is taken for a path of docker.io, since it has neither a dot nor a port: write for example registry.example.com/" + registry)
	}
	return nil
}
