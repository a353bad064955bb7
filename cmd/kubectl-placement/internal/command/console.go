package command

import (
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"runtime"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/kcp-placement/placement/cmd/kubectl-placement/internal/input"
	"github.com/kcp-placement/placement/internal/console"
)

func consoleCommand() *cobra.Command {
	var port int
	var noBrowser bool
	var prometheus string
	c := &cobra.Command{
		Use:   "console [FILES]",
		Short: "Show all this in a browser, and try policies there",
		Long: `console serves pages on this machine that show the fleet, the workloads and the queue, why a workload runs where it does or
what it waits for, and a playground that shows at once what other policies would move. It opens the browser.

Files are read again when they change, a live workspace is followed. Nothing is written to a server or to a file, and no
other machine can reach the pages: they are served on loopback, to who has the link that is printed. Ctrl-C ends it.

Behind the pages is an API with the JSON of the other commands: /api/v1/openapi.json documents it.`,
		Example: `  kubectl placement console all/
  kubectl placement console --workspace root:team-shop
  kubectl placement console all/ --no-browser --port 8080`,
	}
	from := input.NewSource(c)
	from.ReadWorks()
	c.Flags().IntVar(&port, "port", 0, "Port to serve on. Default: any that is free.")
	c.Flags().BoolVar(&noBrowser, "no-browser", false, "Print the link, and open no browser.")
	c.Flags().StringVar(&prometheus, "prometheus", "", "URL of a Prometheus with the metrics of the controller, for charts that go further back.")
	c.Args = from.Arguments
	c.PreRunE = validate(from)
	c.RunE = func(c *cobra.Command, _ []string) error {
		kinds, err := input.Kinds(c)
		if err != nil {
			return err
		}
		source, err := from.Follow(c)
		if err != nil {
			return err
		}
		local := &console.Local{Token: console.NewToken(), From: source, Kind: console.SourceFiles, Name: from.String()}
		if from.Live() {
			local.Kind = console.SourceLive
		}
		listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			return fmt.Errorf("--port: %w", err)
		}
		link := fmt.Sprintf("http://%s/#token=%s", listener.Addr(), local.Token)
		fmt.Fprintf(c.OutOrStdout(), "%s\n", link)
		if !noBrowser {
			openBrowser(link)
		}
		options := console.Options{Kinds: kinds}
		if prometheus != "" {
			options.Prometheus = &console.Prometheus{URL: prometheus, Client: &http.Client{}}
		}
		return console.Serve(c.Context(), listener, console.Handler(local, options))
	}
	return c
}

// openBrowser opens a link in the user's browser, if there is one. The link is printed in any case.
func openBrowser(link string) {
	name, args := "xdg-open", []string{link}
	switch runtime.GOOS {
	case "darwin":
		name = "open"
	case "windows":
		name, args = "rundll32", []string{"url.dll,FileProtocolHandler", link}
	}
	if browser := exec.Command(name, args...); browser.Start() == nil {
		go func() { _ = browser.Wait() }()
	}
}
