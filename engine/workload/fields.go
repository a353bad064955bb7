package workload

// Fields says which parts of a workload something reads. Replicas and Requests are always read, and have no bit.
type Fields uint8

// The fields.
const (
	APIVersion Fields = 1 << iota
	Kind
	Namespace
	Name
	Labels
	Annotations

	AllFields = APIVersion | Kind | Namespace | Name | Labels | Annotations
)

// FieldNamed returns the field that CEL and Rego know by a name; all of them where the name is none of theirs.
func FieldNamed(name string) Fields {
	switch name {
	case "apiVersion":
		return APIVersion
	case "kind":
		return Kind
	case "namespace":
		return Namespace
	case "name":
		return Name
	case "labels":
		return Labels
	case "annotations":
		return Annotations
	case "replicas", "requests":
		return 0
	default:
		return AllFields
	}
}

// Only returns the workload with nothing but the fields, its replicas and its requests. Workloads that are the same
// by what is read of them are so made the same.
func (w *Workload) Only(fields Fields) *Workload {
	only := &Workload{Replicas: w.Replicas, Requests: w.Requests}
	if fields&APIVersion != 0 {
		only.APIVersion = w.APIVersion
	}
	if fields&Kind != 0 {
		only.Kind = w.Kind
	}
	if fields&Namespace != 0 {
		only.Namespace = w.Namespace
	}
	if fields&Name != 0 {
		only.Name = w.Name
	}
	if fields&Labels != 0 {
		only.Labels = w.Labels
	}
	if fields&Annotations != 0 {
		only.Annotations = w.Annotations
	}
	return only
}
