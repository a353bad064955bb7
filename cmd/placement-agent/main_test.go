package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"

	"github.com/kcp-placement/placement/crds/v1alpha1"
)

func TestParseCapability(t *testing.T) {
	for text, want := range map[string]v1alpha1.Capability{
		"storage":                     {Type: "storage", Available: true},
		"gpu:model=a100,memory=80Gi":  {Type: "gpu", Available: true, Attributes: map[string]string{"model": "a100", "memory": "80Gi"}},
		"gpu:url=https://example.com": {Type: "gpu", Available: true, Attributes: map[string]string{"url": "https://example.com"}},
		"gpu:shared=":                 {Type: "gpu", Available: true, Attributes: map[string]string{"shared": ""}},
	} {
		got, err := parseCapability(text)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%s: %v, -want +got:\n%s", text, err, diff)
		}
	}
	for _, text := range []string{"", ":model=a100", "gpu:", "gpu:model", "gpu:=a100"} {
		if got, err := parseCapability(text); err == nil {
			t.Errorf("%q is taken as %v", text, got)
		}
	}
}

func TestParseToleration(t *testing.T) {
	for text, want := range map[string]corev1.Toleration{
		"nvidia.com/gpu":             {Key: "nvidia.com/gpu", Operator: corev1.TolerationOpExists},
		"nvidia.com/gpu:NoSchedule":  {Key: "nvidia.com/gpu", Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule},
		"team=ml":                    {Key: "team", Operator: corev1.TolerationOpEqual, Value: "ml"},
		"team=:NoExecute":            {Key: "team", Operator: corev1.TolerationOpEqual, Effect: corev1.TaintEffectNoExecute},
		"dedicated=ml-1.x:NoExecute": {Key: "dedicated", Operator: corev1.TolerationOpEqual, Value: "ml-1.x", Effect: corev1.TaintEffectNoExecute},
	} {
		got, err := parseToleration(text)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%s: %v, -want +got:\n%s", text, err, diff)
		}
	}
	for _, text := range []string{"", "=ml", ":NoSchedule", "team:", "team:Never", "a/b/c"} {
		if got, err := parseToleration(text); err == nil {
			t.Errorf("%q is taken as %v", text, got)
		}
	}
}

func TestFlags(t *testing.T) {
	for _, test := range []struct {
		name string
		args []string
		want []string
	}{
		{"nothing", nil, []string{"--kcp-kubeconfig must be given", "--registration-name must be given"}},
		{"all wrong at once", []string{
			"--registration-name=Frankfurt", "--kcp-kubeconfig=x", "--location=eu west", "--labels=a=b/c", "--report-interval=10ms",
			"--material-change=-1", "--capability=:", "--tolerate=a:b", "--report-node-labels=a b", "--omit-node-labels=a,*",
			"--namespace-template={workspace}", "--pod-security=strict", "--deliver-kinds=apps/v1/Deployment,deployments.v1.apps",
		}, []string{
			`--namespace-template: "{workspace}" must contain {namespace}`, `--pod-security: "strict" is none of privileged, baseline, restricted`,
			"--deliver-kinds: apps/v1/Deployment and deployments.v1.apps are the same kind",
			`--registration-name: "Frankfurt"`, `--location: "eu west"`, "--labels:", "--report-interval must be at least 1s, is 10ms",
			"--material-change must be 0 to 100, is -1", "--capability:", "--tolerate:", "--report-node-labels: \"a b\"",
		}},
	} {
		o, flags := newOptions(), pflag.NewFlagSet("", pflag.ContinueOnError)
		o.addFlags(flags)
		if err := flags.Parse(test.args); err != nil {
			t.Fatal(err)
		}
		err := o.validate()
		for _, want := range test.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v does not say %q", test.name, err, want)
			}
		}
	}
}
