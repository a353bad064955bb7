package render

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
)

// DefaultNamespaceTemplate keeps workspaces that share a cluster apart.
const DefaultNamespaceTemplate = "{workspace}-{namespace}"

// Namespace returns the namespace of a cluster for one of a workspace. In the template {workspace} stands for the logical cluster,
// {cluster} for the registration and {namespace} for the namespace there. A result that is not a valid namespace name is cut, and ends with
// a hash of the three.
//
// Invariant: two namespaces of a workspace have different ones in a cluster. So a name that merely looks as if it ended with a hash gets one.
func Namespace(template, workspace, cluster, namespace string) string {
	name := strings.NewReplacer("{workspace}", workspace, "{cluster}", cluster, "{namespace}", namespace).Replace(template)
	if len(validation.IsDNS1123Label(name)) == 0 && !hashed.MatchString(name) {
		return name
	}
	sum := sha256.Sum256([]byte(workspace + "/" + cluster + "/" + namespace))
	hash := hex.EncodeToString(sum[:hashBytes])
	name = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, name)
	name = strings.Trim(name[:min(len(name), validation.DNS1123LabelMaxLength-1-len(hash))], "-")
	return strings.TrimLeft(name+"-"+hash, "-")
}

// KeepsApart reports whether a template names the namespaces of different workspaces differently.
func KeepsApart(template string) bool { return strings.Contains(template, "{workspace}") }

// hashBytes is large enough that nobody finds two namespaces with the same hash.
const hashBytes = 8

var hashed = regexp.MustCompile(fmt.Sprintf(`(^|-)[0-9a-f]{%d}$`, 2*hashBytes))

// ValidateNamespaceTemplate returns why a template cannot produce valid names.
func ValidateNamespaceTemplate(template string) error {
	if !strings.Contains(template, "{namespace}") {
		return fmt.Errorf("%q must contain {namespace}, so that equal names of two namespaces do not meet; the default is %s", template, DefaultNamespaceTemplate)
	}
	example := strings.NewReplacer("{workspace}", "w", "{cluster}", "c", "{namespace}", "n").Replace(template)
	if problems := validation.IsDNS1123Label(example); len(problems) > 0 {
		return fmt.Errorf("%q: with %q: %s. It may contain {workspace}, {cluster} and {namespace}", template, example, strings.Join(problems, "; "))
	}
	return nil
}
