package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/util/cert"
)

// TestFlags: what is wrong is named with the value and the remedy, all of it at once.
func TestFlags(t *testing.T) {
	const needed = "--server https://kcp.example.com:6443 --allow-http "
	for _, test := range []struct{ args, want string }{
		{needed, ""},
		{"--server https://kcp.example.com --tls-cert-file tls.crt --tls-private-key-file tls.key --host console.example.com --prometheus http://prometheus:9090", ""},
		{"", "--server is missing: give the URL of the kcp\n" +
			"give --tls-cert-file and --tls-private-key-file, or --allow-http behind a proxy that has TLS"},
		{"--allow-http --server http://kcp.example.com", "--server http://kcp.example.com: it must be a URL that begins with https://"},
		{"--allow-http --server kcp.example.com:6443", "--server kcp.example.com:6443: it must be a URL that begins with https://"},
		{"--allow-http --server https://", "--server https://: it must be a URL that begins with https://"},
		{"--server https://kcp --tls-cert-file tls.crt", "--tls-cert-file and --tls-private-key-file go together: give both"},
		{"--server https://kcp --allow-http --tls-private-key-file tls.key", "--tls-cert-file and --tls-private-key-file go together: give both"},
		{"--server https://kcp --allow-http --tls-cert-file tls.crt --tls-private-key-file tls.key",
			"--allow-http and --tls-cert-file exclude each other: give the certificate, or have a proxy in front that has it"},
		{needed + "--prometheus prometheus:9090", "--prometheus prometheus:9090: it must be a URL that begins with http:// or https://"},
		{needed + "--workload-kinds cronjobs.v1.batch,pods.v1", ""},
		{needed + "--workload-kinds deployments", `--workload-kinds: "deployments" is not resource.version.group, for example deployments.v1.apps`},
		{needed + "--workload-kinds=", "--workload-kinds: must name at least one kind"},
		{needed + "--kinds-file missing.yaml", "--kinds-file: open missing.yaml: no such file or directory"},
	} {
		o, flags := newOptions(), pflag.NewFlagSet("", pflag.ContinueOnError)
		o.addFlags(flags)
		if err := flags.Parse(strings.Fields(test.args)); err != nil {
			t.Fatal(err)
		}
		got := ""
		if err := o.validate(); err != nil {
			got = err.Error()
		}
		if got != test.want {
			t.Errorf("%s:\n%s\nwant\n%s", test.args, got, test.want)
		}
	}
}

// TestCommand: what the program says before it serves.
func TestCommand(t *testing.T) {
	for _, test := range []struct{ args, says, fails string }{
		{"--help", "behind a proxy that has it: users' tokens pass here", ""},
		{"--help", "placement-console --server https://kcp.example.com:6443 --server-ca-file ca.crt", ""},
		{"--version", "placement-console version ", ""},
		{"--kubeconfig x", "", "unknown flag: --kubeconfig"},
		{"root:team", "", `unknown command "root:team" for "placement-console"`},
		{"--server https://kcp --allow-http --bind-address 127.0.0.1:none", "", "--bind-address: listen tcp: lookup tcp/none: unknown port"},
		{"--server https://kcp --bind-address 127.0.0.1:0 --tls-cert-file none.crt --tls-private-key-file none.key", "",
			"--tls-cert-file: open none.crt: no such file or directory"},
	} {
		var said bytes.Buffer
		c := command()
		c.SetArgs(strings.Fields(test.args))
		c.SetOut(&said)
		c.SetErr(&said)
		got := ""
		if err := c.ExecuteContext(t.Context()); err != nil {
			got = err.Error()
		}
		if got != test.fails || !strings.Contains(said.String(), test.says) {
			t.Errorf("%s: %q, want %q; it says\n%s", test.args, got, test.fails, &said)
		}
	}
}

// TestManifest: the container of docs/deploy/console.yaml serves with the arguments and files that it has there, also by the address by
// which its probes call it, and nothing in the manifest has a right. docs/deploy.md is what applies it to a real cluster.
func TestManifest(t *testing.T) {
	file, err := os.Open("../../docs/deploy/console.yaml")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var d appsv1.Deployment
	for decoder := yaml.NewYAMLOrJSONDecoder(file, 4096); ; {
		var raw struct {
			Kind string `json:"kind"`
			appsv1.Deployment
		}
		if err := decoder.Decode(&raw); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		switch raw.Kind {
		case "Deployment":
			d = raw.Deployment
		case "Namespace", "Service", "ServiceAccount":
		default:
			t.Errorf("the manifest has a %s: the console needs no right", raw.Kind)
		}
	}
	pod := d.Spec.Template.Spec
	if pod.AutomountServiceAccountToken == nil || *pod.AutomountServiceAccountToken {
		t.Error("a token is mounted")
	}

	certificate, key, err := cert.GenerateSelfSignedCertKey("console.example.com", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	c, mounts := pod.Containers[0], map[string]string{}
	for _, mount := range c.VolumeMounts {
		dir := t.TempDir()
		mounts[mount.MountPath] = dir
		for name, content := range map[string][]byte{"tls.crt": certificate, "tls.key": key, "ca.crt": certificate} {
			if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	args := []string{"--bind-address=127.0.0.1:0", "--host=console.example.com"}
	for _, arg := range c.Args {
		for path, dir := range mounts {
			arg = strings.Replace(arg, "="+path+"/", "="+dir+"/", 1)
		}
		args = append(args, arg)
	}
	ctx, stop := context.WithCancel(t.Context())
	program, said, served := command(), make(lines, 1), make(chan error, 1)
	program.SetArgs(args)
	program.SetErr(said)
	go func() { served <- program.ExecuteContext(ctx) }()
	var address string
	select {
	case line := <-said:
		address = strings.TrimSpace(line[strings.LastIndex(line, " on ")+4:])
	case err := <-served:
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} //nolint:gosec // as a kubelet does
	for _, probe := range []*corev1.Probe{c.LivenessProbe, c.ReadinessProbe} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, strings.ToLower(string(probe.HTTPGet.Scheme))+"://"+address+probe.HTTPGet.Path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = "10.0.0.7:8443" // of the pod
		answer, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode != http.StatusOK || probe.HTTPGet.Port.String() != c.Ports[0].Name {
			t.Errorf("a probe of %s gets %s", probe.HTTPGet.Path, answer.Status)
		}
	}
	client.CloseIdleConnections()
	stop()
	if err := <-served; err != nil {
		t.Error(err)
	}
	if o := newOptions(); o.address != ":8443" || c.Ports[0].ContainerPort != 8443 {
		t.Errorf("it serves on %s, and its port is %d", o.address, c.Ports[0].ContainerPort)
	}
}

// lines are what is written.
type lines chan string

func (l lines) Write(text []byte) (int, error) {
	l <- string(text)
	return len(text), nil
}
