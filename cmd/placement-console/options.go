package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"k8s.io/client-go/rest"

	"github.com/kcp-placement/placement/engine/workload"
	"github.com/kcp-placement/placement/internal/console"
	"github.com/kcp-placement/placement/internal/program"
)

type options struct {
	server, serverCA  string
	address           string
	certFile, keyFile string
	allowHTTP         bool
	hosts             []string
	prometheus        string
	kindsFile         string
	kinds             []string
}

func newOptions() *options {
	return &options{address: ":8443", hosts: []string{"*"}, kinds: slices.Clone(workload.DefaultResources)}
}

func (o *options) addFlags(flags *pflag.FlagSet) {
	flags.StringVar(&o.server, "server", "", "URL of the kcp, for example https://kcp.example.com:6443. Required.")
	flags.StringVar(&o.serverCA, "server-ca-file", "", "File with the CA of the kcp. Default: those of the system.")
	flags.StringVar(&o.address, "bind-address", o.address, "Address to serve on.")
	flags.StringVar(&o.certFile, "tls-cert-file", "", "File with the certificate to serve with, and those that it was signed with. It is read again when it changes.")
	flags.StringVar(&o.keyFile, "tls-private-key-file", "", "File with its key.")
	flags.BoolVar(&o.allowHTTP, "allow-http", false, "Serve without TLS, behind a proxy that has it: users' tokens pass here.")
	flags.StringSliceVar(&o.hosts, "host", o.hosts, "Names by which browsers may call the console; * is any.")
	flags.StringVar(&o.prometheus, "prometheus", "", "URL of a Prometheus with the metrics of the controller, for charts. Its numbers are about all workspaces together, and all users see them.")
	flags.StringVar(&o.kindsFile, "kinds-file", "", "File with more kinds of workload, as kubectl placement kinds -o yaml shows them.")
	flags.StringSliceVar(&o.kinds, "workload-kinds", o.kinds, "Workload kinds to read, as resource.version.group; see kubectl placement kinds.")
}

func (o *options) validate() error {
	var errs []error
	if o.server == "" {
		errs = append(errs, errors.New("--server is missing: give the URL of the kcp"))
	} else if err := checkURL(o.server, "https"); err != nil {
		errs = append(errs, fmt.Errorf("--server %w", err))
	}
	switch {
	case (o.certFile == "") != (o.keyFile == ""):
		errs = append(errs, errors.New("--tls-cert-file and --tls-private-key-file go together: give both"))
	case o.certFile != "" && o.allowHTTP:
		errs = append(errs, errors.New("--allow-http and --tls-cert-file exclude each other: give the certificate, or have a proxy in front that has it"))
	case o.certFile == "" && !o.allowHTTP:
		errs = append(errs, errors.New("give --tls-cert-file and --tls-private-key-file, or --allow-http behind a proxy that has TLS"))
	}
	if o.prometheus != "" {
		if err := checkURL(o.prometheus, "http", "https"); err != nil {
			errs = append(errs, fmt.Errorf("--prometheus %w", err))
		}
	}
	if kinds, err := program.Kinds(o.kindsFile); err != nil {
		errs = append(errs, err)
	} else if _, err := kinds.Resources(o.kinds); err != nil {
		errs = append(errs, fmt.Errorf("--workload-kinds: %w", err))
	}
	return errors.Join(errs...)
}

// checkURL returns an error unless a text is a URL of one of some schemes.
func checkURL(text string, schemes ...string) error {
	if at, err := url.Parse(text); err != nil || !slices.Contains(schemes, at.Scheme) || at.Host == "" {
		return fmt.Errorf("%s: it must be a URL that begins with %s://", text, strings.Join(schemes, ":// or "))
	}
	return nil
}

func (o *options) run(ctx context.Context, log io.Writer) error {
	kinds, err := program.Kinds(o.kindsFile)
	if err != nil {
		return err
	}
	resources, err := kinds.Resources(o.kinds)
	if err != nil {
		return fmt.Errorf("--workload-kinds: %w", err)
	}
	callers := &console.Tokens{
		Server: &rest.Config{Host: o.server, TLSClientConfig: rest.TLSClientConfig{CAFile: o.serverCA}}, Kinds: kinds, Resources: resources,
	}
	handler := console.Options{Kinds: kinds, Hosts: o.hosts}
	if o.prometheus != "" {
		handler.Prometheus = &console.Prometheus{URL: o.prometheus, Client: &http.Client{}}
	}
	listener, err := o.listen()
	if err != nil {
		return err
	}
	fmt.Fprintf(log, "placement-console serves %s on %s\n", o.server, listener.Addr())
	return console.Serve(ctx, listener, console.Handler(callers, handler))
}

func (o *options) listen() (net.Listener, error) {
	listener, err := net.Listen("tcp", o.address)
	if err != nil {
		return nil, fmt.Errorf("--bind-address: %w", err)
	}
	if o.certFile == "" {
		return listener, nil
	}
	load := func() (*tls.Certificate, error) {
		certificate, err := tls.LoadX509KeyPair(o.certFile, o.keyFile)
		return &certificate, err
	}
	if _, err := load(); err != nil {
		return nil, errors.Join(fmt.Errorf("--tls-cert-file: %w", err), listener.Close())
	}
	return tls.NewListener(listener, &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return load() },
	}), nil
}
