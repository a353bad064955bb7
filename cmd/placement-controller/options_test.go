package main

import (
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/kcp-placement/placement/engine/disruption"
)

// TestFlags: the defaults are valid, and what is not is named with the value, all of it at once.
func TestFlags(t *testing.T) {
	for _, test := range []struct{ args, want string }{
		{"", ""},
		{"--batch-size 1 --batch-timeout 1ns --max-concurrent-decisions 1 --heartbeat-grace-period 0 --failover-after 0", ""},
		{"--batch-size 0", "--batch-size must be at least 1, is 0"},
		{"--batch-timeout 0", "--batch-timeout must be more than 0, is 0s"},
		{"--max-concurrent-decisions -1", "--max-concurrent-decisions must be at least 1, is -1"},
		{"--batch-size=-3 --policy-timeout 0", "--policy-timeout must be more than 0, is 0s\n--batch-size must be at least 1, is -3"},
		{"--failover-after 1m", "--failover-after must be 0 or at least --heartbeat-grace-period, 1m30s, is 1m0s"},
		{"--reservation-timeout -1s", "--reservation-timeout must not be negative, is -1s"},
		{"--not-ready-delay 0", "--not-ready-delay must be more than 0, is 0s"},
		{"--disruption-percent 100 --disruption-minimum 1 --disruption-interval 0", ""},
		{"--disruption-percent 101 --disruption-minimum 0 --disruption-interval -1s", "--disruption-percent must be from 0 to 100, is 101\n" +
			"--disruption-minimum must be at least 1, is 0\n--disruption-interval must not be negative, is -1s"},
		{"--workload-kinds deployments", `--workload-kinds: "deployments" is not resource.version.group, for example deployments.v1.apps`},
		{"--workload-kinds cronjobs.v1.batch,rayclusters.v1.ray.io,pods.v1", ""},
		{"--workload-kinds cronjob.v1.batch", "--workload-kinds: cronjob.v1.batch is no resource of a kind of workload, did you mean cronjobs.v1.batch?; --kinds-file adds kinds"},
		{"--workload-kinds deployments.v1beta1.extensions", "--workload-kinds: deployments.v1beta1.extensions is no resource of a kind of workload; --kinds-file adds kinds"},
		{"--workload-kinds=", "--workload-kinds: must name at least one kind"},
		{"--kinds-file missing.yaml", "--kinds-file: open missing.yaml: no such file or directory"},
		{"--decision-cache-bytes 0", "--decision-cache-bytes must be at least 1, is 0"},
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
			t.Errorf("%s: %q, want %q", test.args, got, test.want)
		}
	}
	if o := newOptions(); o.batchSize != 1000 || o.batchTimeout != 100*time.Millisecond || o.concurrent != 16 ||
		o.pace.NotReadyDelay != 5*time.Minute || o.pace.Disruptions != (disruption.Budget{Percent: 10, Minimum: 10, Interval: time.Minute}) {
		t.Errorf("docs/deploy.md says other defaults: %+v", o)
	}
}
