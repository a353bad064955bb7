package workload

import (
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// PodTemplate is a pod template of an object, or the object itself if that is a Pod.
type PodTemplate struct {
	// Path of the template; empty for the object itself.
	Path string
	// Content and VolumeClaims, the templates of PersistentVolumeClaims at VolumeClaimsPath, are parts of the object.
	Content          map[string]any
	VolumeClaims     []any
	VolumeClaimsPath string
}

// Child returns the path of a field of the template.
func (p *PodTemplate) Child(field string) string { return child(p.Path, field) }

// PodTemplates returns the pod templates of an object of a kind in the table.
func (t *Table) PodTemplates(object *unstructured.Unstructured) ([]PodTemplate, error) {
	d, err := t.Find(object.GetAPIVersion(), object.GetKind())
	if err != nil {
		return nil, err
	}
	var all []PodTemplate
	for i := range d.PodSets {
		p := &d.PodSets[i]
		err := p.each(&scope{object: object.Object}, func(s *scope) error {
			template, err := p.podTemplate(s)
			if template != nil {
				all = append(all, *template)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

// podTemplate returns the template of one pod set; nil if it has none.
func (p *PodSetDefinition) podTemplate(s *scope) (*PodTemplate, error) {
	path, content, err := p.template(s)
	if err != nil || content == nil {
		return nil, err
	}
	template := &PodTemplate{Path: path}
	var ok bool
	if template.Content, ok = content.(map[string]any); !ok {
		return nil, fmt.Errorf("%s: must be an object", path)
	}
	if p.VolumeClaims != "" {
		base, element := s.base()
		claims, err := at(base, element, p.VolumeClaims)
		if err != nil {
			return nil, err
		}
		template.VolumeClaimsPath = child(base, p.VolumeClaims)
		if template.VolumeClaims, ok = claims.([]any); !ok && claims != nil {
			return nil, fmt.Errorf("%s: must be a list", template.VolumeClaimsPath)
		}
	}
	return template, nil
}

// template returns the value at the path of the template; nil if there is nothing.
func (p *PodSetDefinition) template(s *scope) (path string, content any, err error) {
	path, content = s.base()
	if p.Template == "." {
		return path, content, nil
	}
	content, err = at(path, content, p.Template)
	return child(path, p.Template), content, err
}

// base returns the value that paths start at: the object, or the element that contains the pod set.
func (s *scope) base() (path string, content any) {
	if s.at != "" {
		return s.at, s.each
	}
	return "", s.object
}

// Divided returns the paths of the numbers of which clusters get a part when replicas are divided, the replicas first; none if
// the kind cannot be divided, or the table does not specify them.
func (d *Definition) Divided() []string {
	if !d.Divisible() {
		return nil
	}
	p := &d.PodSets[0]
	if p.Divided == nil && len(p.count.reads) == 1 {
		return p.count.reads
	}
	return p.Divided
}
