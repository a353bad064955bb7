// Command churn replays the arrivals and departures of a trace on the controller's own passes, in memory, once for each way to move
// workloads that run: it prints what they come to as a table, and draws it.
//
//	churn -openb folder [-plot file.svg]
//
// The trace is Alibaba's openb (clusterdata, cluster-trace-gpu-v2023), which is not part of this project.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
)

func main() {
	folder := flag.String("openb", "", "The `folder` of openb_node_list_all_node.csv and openb_pod_list_default.csv.")
	plot := flag.String("plot", "", "Write a plot to this `file`, as SVG.")
	speed := flag.Int64("speed", 20, "How many times as dense the arrivals are as in the trace. Workloads run as long as they do there.")
	every := flag.Int("every", 8, "Take every so many-th node of the trace as a cluster.")
	most := flag.Int("most", 0, "Replay only so many of the workloads; 0: all.")
	flag.Parse()
	if err := run(*folder, *plot, *speed, *every, *most); err != nil {
		fmt.Fprintln(os.Stderr, "churn:", err)
		os.Exit(1)
	}
}

func run(folder, plot string, speed int64, every, most int) error {
	t, err := readTrace(folder, speed, every, most)
	if err != nil {
		return err
	}
	outcomes := make([]*outcome, len(modes))
	for i, m := range modes {
		if outcomes[i], err = t.replay(context.Background(), m); err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
		fmt.Fprintf(os.Stderr, "%s: %s\n", m.name, outcomes[i].took)
	}
	print(os.Stdout, t, outcomes)
	if plot == "" {
		return nil
	}
	svg, err := draw(t, outcomes)
	if err != nil {
		return err
	}
	return os.WriteFile(plot, svg, 0o644)
}
