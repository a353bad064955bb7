package batch_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"pgregory.net/rapid"

	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-placement/placement/engine"
	"github.com/kcp-placement/placement/engine/batch"
	"github.com/kcp-placement/placement/engine/workload"
)

// bench is a Batcher over an engine that takes a while for each batch and writes down what it was asked. It is used in
// a bubble of synctest, where time passes only while all wait.
type bench struct {
	*testing.T
	*batch.Batcher
	takes time.Duration
	start time.Time

	mu sync.Mutex
	// told is a line for each batch: when it went, of which workspace, with which requests.
	told []string
}

// newBench makes a Batcher of batches that take so long each.
func newBench(t *testing.T, takes time.Duration, o batch.Options) *bench {
	b := &bench{T: t, takes: takes, start: time.Now()}
	var err error
	if b.Batcher, err = batch.New(b.decideBatch, o); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *bench) decideBatch(ctx context.Context, requests []engine.Request) []engine.Result {
	var names []string
	results := make([]engine.Result, len(requests))
	for i, r := range requests {
		names = append(names, r.Workload.Name)
		results[i].Decision = &engine.Decision{Workload: r.Workload.Reference}
	}
	b.mu.Lock()
	b.told = append(b.told, fmt.Sprintf("%s %s: %s", time.Since(b.start), requests[0].Workspace, strings.Join(names, " ")))
	b.mu.Unlock()
	select {
	case <-time.After(b.takes):
	case <-ctx.Done():
		for i := range results {
			results[i] = engine.Result{Err: context.Cause(ctx)}
		}
	}
	return results
}

// submit submits requests by the names of their workloads, and answers with how to wait for all of them: each must get
// the answer that is its own.
func (b *bench) submit(workspace string, names ...string) (wait func()) {
	var pending []*batch.Pending
	for _, name := range names {
		pending = append(pending, b.Submit(b.Context(), request(workspace, name)))
	}
	return func() {
		b.Helper()
		for i, p := range pending {
			if decision, err := p.Wait(); err != nil || decision.Workload.Name != names[i] {
				b.Errorf("%s got %+v, %v", names[i], decision, err)
			}
		}
	}
}

func (b *bench) expect(want ...string) {
	b.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if !slices.Equal(b.told, want) {
		b.Errorf("decided\n\t%s\nwant\n\t%s", strings.Join(b.told, "\n\t"), strings.Join(want, "\n\t"))
	}
}

func request(workspace, name string) engine.Request {
	return engine.Request{
		Workspace: logicalcluster.Name(workspace),
		Workload:  &workload.Workload{Reference: workload.Reference{Name: name}},
	}
}

func numbered(n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprint(i)
	}
	return names
}

func TestALoneRequestGoesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 5*time.Millisecond, batch.Options{})
		for _, name := range []string{"a", "b"} {
			if d, err := b.Decide(t.Context(), request("shop", name)); err != nil || d.Workload.Name != name {
				t.Error(d, err)
			}
		}
		b.expect("0s shop: a", "5ms shop: b")
	})
}

func TestABurstGathersBehindTheBatchUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 5*time.Millisecond, batch.Options{})
		b.submit("shop", "a", "b", "c", "d")()
		b.expect("0s shop: a", "5ms shop: b c d")
	})
}

func TestABatchHasASize(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 5*time.Millisecond, batch.Options{Size: 3})
		b.submit("shop", numbered(8)...)()
		b.expect("0s shop: 0", "5ms shop: 1 2 3", "10ms shop: 4 5 6", "15ms shop: 7")
	})
}

// TestASlowBatchIsOvertaken: the batch under way holds up the next for Timeout, and no longer. Each holds up but the
// next, so a workspace whose batches are slow starts one in Timeout, however many requests it has.
func TestASlowBatchIsOvertaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 350*time.Millisecond, batch.Options{Size: 2})
		first := b.submit("shop", "slow")
		time.Sleep(30 * time.Millisecond)
		rest := b.submit("shop", "a", "b", "c")
		first()
		rest()
		b.expect("0s shop: slow", "130ms shop: a b", "230ms shop: c")
	})
}

func TestWorkspacesDoNotWaitForEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 5*time.Millisecond, batch.Options{})
		shop := b.submit("shop", "a", "b", "c")
		time.Sleep(time.Millisecond)
		bank := b.submit("bank", "x", "y")
		shop()
		bank()
		b.expect("0s shop: a", "1ms bank: x", "5ms shop: b c", "6ms bank: y")
	})
}

// TestConcurrentBatchesAreLimited: what waits for a slot goes on gathering.
func TestConcurrentBatchesAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 5*time.Millisecond, batch.Options{Concurrent: 1})
		shop := b.submit("shop", "a")
		bank := b.submit("bank", "x", "y")
		shop()
		bank()
		b.expect("0s shop: a", "5ms bank: x y")
	})
}

// TestABurstStarvesNobody: one workspace has 100,000 requests, another has one. It waits for what is being decided.
func TestABurstStarvesNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, time.Millisecond, batch.Options{Concurrent: 1})
		burst := b.submit("burst", numbered(100_000)...)
		time.Sleep(10500 * time.Microsecond)
		for _, name := range []string{"x", "y"} {
			start := time.Now()
			b.submit("single", name)()
			if took := time.Since(start); took > 3*time.Millisecond { // the batch under way, one turn of the burst, its own
				t.Errorf("%s took %s", name, took)
			}
		}
		burst()
		if len(b.told) != 1+10_000+2 {
			t.Errorf("%d batches", len(b.told))
		}
	})
}

func TestWorkspacesTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, time.Millisecond, batch.Options{Concurrent: 1, Size: 2})
		first, second, third := b.submit("a", numbered(5)...), b.submit("b", numbered(4)...), b.submit("c", "0")
		first()
		second()
		third()
		b.expect("0s a: 0", "1ms b: 0 1", "2ms c: 0", "3ms a: 1 2", "4ms b: 2 3", "5ms a: 3 4")
	})
}

var errGone = errors.New("the caller is gone")

func TestARequestThatIsCancelledIsNotDecided(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 5*time.Millisecond, batch.Options{})
		ctx, cancel := context.WithCancelCause(t.Context())
		first := b.submit("shop", "a")
		waited, forgotten := b.Submit(ctx, request("shop", "b")), b.Submit(ctx, request("shop", "c"))
		last := b.submit("shop", "d")
		cancel(errGone)
		start := time.Now()
		if _, err := waited.Wait(); !errors.Is(err, errGone) || time.Since(start) > 0 {
			t.Errorf("%v after %s", err, time.Since(start))
		}
		if _, err := b.Decide(ctx, request("shop", "e")); !errors.Is(err, errGone) {
			t.Error(err)
		}
		first()
		last()
		if _, err := forgotten.Wait(); !errors.Is(err, errGone) { // nobody has waited for it in time
			t.Error(err)
		}
		b.expect("0s shop: a", "5ms shop: d")
	})
}

// TestARequestBeingDecidedIsAnswered: whoever asked has to know what is reserved.
func TestARequestBeingDecidedIsAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 50*time.Millisecond, batch.Options{})
		ctx, cancel := context.WithTimeoutCause(t.Context(), 60*time.Millisecond, errGone)
		defer cancel()
		first := b.submit("shop", "first")
		gone := b.Submit(ctx, request("shop", "gone"))
		mate := b.submit("shop", "mate")
		if d, err := gone.Wait(); err != nil || d.Workload.Name != "gone" {
			t.Error(d, err)
		}
		first()
		mate()
		b.expect("0s shop: first", "50ms shop: gone mate")
	})
}

// TestABatchThatAllHaveGivenUpIsStopped: deciding ends with the last of its requests' contexts.
func TestABatchThatAllHaveGivenUpIsStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 50*time.Millisecond, batch.Options{})
		first := b.submit("shop", "first")
		var pending []*batch.Pending
		for name, within := range map[string]time.Duration{"a": 60 * time.Millisecond, "b": 70 * time.Millisecond} {
			ctx, cancel := context.WithTimeoutCause(t.Context(), within, errGone)
			defer cancel()
			pending = append(pending, b.Submit(ctx, request("shop", name)))
		}
		for _, p := range pending {
			if _, err := p.Wait(); !errors.Is(err, errGone) || time.Since(b.start) != 70*time.Millisecond {
				t.Errorf("%v after %s", err, time.Since(b.start))
			}
		}
		first()
	})
}

// TestWhatGoesWrongStaysInItsBatch: every caller of the batch is told, and the next batch is decided as if nothing was.
func TestWhatGoesWrongStaysInItsBatch(t *testing.T) {
	errFailed := errors.New("failed")
	for name, wrong := range map[string]struct {
		decide func(requests []engine.Request) []engine.Result
		told   string
	}{
		"an error": {func(r []engine.Request) []engine.Result {
			return []engine.Result{{Err: errFailed}, {Err: errFailed}}[:len(r)]
		}, "failed"},
		"a panic":          {func([]engine.Request) []engine.Result { panic("out of cheese") }, "deciding panicked: out of cheese"},
		"too few answers":  {func([]engine.Request) []engine.Result { return nil }, "2 requests were decided with 0 answers"},
		"too many answers": {func([]engine.Request) []engine.Result { return make([]engine.Result, 3) }, "2 requests were decided with 3 answers"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				good := newBench(t, time.Millisecond, batch.Options{})
				b, err := batch.New(func(ctx context.Context, requests []engine.Request) []engine.Result {
					results := good.decideBatch(ctx, requests)
					if requests[0].Workload.Name == "bad" {
						return wrong.decide(requests)
					}
					return results
				}, batch.Options{Size: 2})
				if err != nil {
					t.Fatal(err)
				}
				good.Batcher = b
				before := good.submit("shop", "a")
				bad, mate := b.Submit(t.Context(), request("shop", "bad")), b.Submit(t.Context(), request("shop", "mate"))
				after := good.submit("shop", "b", "c")
				before()
				for _, p := range []*batch.Pending{bad, mate} {
					if d, err := p.Wait(); d != nil || err == nil || err.Error() != wrong.told {
						t.Errorf("%v, %v", d, err)
					}
				}
				after()
				good.expect("0s shop: a", "1ms shop: bad mate", "2ms shop: b c")
			})
		})
	}
}

func TestAPanicIsToldWithItsStack(t *testing.T) {
	b, err := batch.New(func(context.Context, []engine.Request) []engine.Result { panicsHere(); return nil }, batch.Options{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = b.Decide(t.Context(), request("shop", "a"))
	var panicked *batch.PanicError
	if !errors.As(err, &panicked) || !strings.Contains(string(panicked.Stack), "panicsHere") {
		t.Error(err)
	}
}

func panicsHere() { panic("here") }

func TestNegativeOptionsAreRefused(t *testing.T) {
	for _, o := range []batch.Options{{Size: -1}, {Timeout: -1}, {Concurrent: -1}} {
		if _, err := batch.New(nil, o); err == nil {
			t.Errorf("%+v is taken", o)
		}
	}
}

func TestMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, time.Second, batch.Options{Timeout: time.Hour})
		wait := b.submit("shop", "a", "b", "c")
		synctest.Wait()
		const during = `# HELP placement_batch_waiting_requests Requests that wait for their batch to go to be decided.
# TYPE placement_batch_waiting_requests gauge
placement_batch_waiting_requests 2
# HELP placement_batches_in_flight Batches that are being decided.
# TYPE placement_batches_in_flight gauge
placement_batches_in_flight 1
`
		if err := testutil.CollectAndCompare(b, strings.NewReader(during), "placement_batch_waiting_requests", "placement_batches_in_flight"); err != nil {
			t.Error(err)
		}
		wait()
		registry := prometheus.NewPedanticRegistry()
		registry.MustRegister(b)
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			h := f.GetMetric()[0].GetHistogram()
			switch got := fmt.Sprintf("%s: %d, in all %v", f.GetName(), h.GetSampleCount(), h.GetSampleSum()); {
			case h == nil:
			case got == "placement_batch_requests: 2, in all 3": // batches and requests
			case got == "placement_batch_gather_duration_seconds: 3, in all 2": // two waited for a second
			default:
				t.Error(got)
			}
		}
	})
}

// TestProperties: whatever is submitted and given up in whatever order, every request is answered once, with what is
// its own; those of a workspace go in the order of submission, Size at a time at most, Concurrent batches at a time at
// most, and one after the other unless one is overtaken.
func TestProperties(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		size, concurrent := rapid.IntRange(1, 4).Draw(r, "size"), rapid.IntRange(1, 3).Draw(r, "concurrent")
		timeout := time.Duration(rapid.SampledFrom([]int{10, 1_000_000}).Draw(r, "timeout")) * time.Millisecond
		type step struct {
			workspace                  string
			after, takes, cancelsAfter time.Duration
		}
		steps := rapid.SliceOfN(rapid.Custom(func(r *rapid.T) step {
			return step{
				workspace:    rapid.SampledFrom([]string{"a", "b", "c"}).Draw(r, "workspace"),
				after:        time.Duration(max(0, rapid.IntRange(-10, 10).Draw(r, "after"))) * time.Millisecond,
				takes:        time.Duration(rapid.IntRange(0, 30).Draw(r, "takes")) * time.Millisecond,
				cancelsAfter: time.Duration(max(0, rapid.IntRange(-40, 20).Draw(r, "cancels after"))) * time.Millisecond,
			}
		}), 1, 60).Draw(r, "steps")

		var wrong []string
		var mu sync.Mutex
		fail := func(format string, args ...any) { // not r's: this is another goroutine
			mu.Lock()
			defer mu.Unlock()
			wrong = append(wrong, fmt.Sprintf(format, args...))
		}
		synctest.Test(t, func(t *testing.T) {
			underWay, last, decided := map[string]int{}, map[string]int{}, map[int]bool{}
			b, err := batch.New(func(_ context.Context, requests []engine.Request) []engine.Result {
				workspace := requests[0].Workspace.String()
				mu.Lock()
				underWay[workspace]++
				all := 0
				for _, n := range underWay {
					all += n
				}
				bad := len(requests) > size || all > concurrent || underWay[workspace] > 1 && timeout > time.Minute
				var takes time.Duration
				results := make([]engine.Result, len(requests))
				for i, request := range requests {
					index, err := strconv.Atoi(request.Workload.Name)
					if err != nil {
						panic(err)
					}
					bad = bad || request.Workspace != requests[0].Workspace || decided[index] || index+1 <= last[workspace]
					decided[index], last[workspace] = true, index+1
					takes += steps[index].takes
					results[i].Decision = &engine.Decision{Workload: request.Workload.Reference}
				}
				mu.Unlock()
				if bad {
					fail("%d requests of %s to %s, with %d batches under way", len(requests), workspace, requests[len(requests)-1].Workload.Name, all)
				}
				time.Sleep(takes)
				mu.Lock()
				defer mu.Unlock()
				underWay[workspace]--
				return results
			}, batch.Options{Size: size, Timeout: timeout, Concurrent: concurrent})
			if err != nil {
				t.Fatal(err)
			}
			var callers sync.WaitGroup
			for i, s := range steps {
				time.Sleep(s.after)
				synctest.Wait()
				ctx, cancel := context.WithCancelCause(t.Context())
				if s.cancelsAfter > 0 {
					time.AfterFunc(s.cancelsAfter, func() { cancel(errGone) })
				}
				p := b.Submit(ctx, request(s.workspace, fmt.Sprint(i)))
				callers.Go(func() {
					defer cancel(nil)
					d, err := p.Wait()
					mu.Lock()
					was := decided[i]
					mu.Unlock()
					switch {
					case was && (err != nil || d.Workload.Name != fmt.Sprint(i)):
						fail("%d got %v, %v", i, d, err)
					case !was && (!errors.Is(err, errGone) || s.cancelsAfter == 0):
						fail("%d was not decided: %v", i, err)
					}
				})
			}
			callers.Wait()
			synctest.Wait()
			if n := testutil.CollectAndCount(b); n != 4 {
				fail("%d metrics", n)
			}
		})
		for _, w := range wrong {
			r.Error(w)
		}
	})
}

// idle is an engine that takes no time.
func idle(_ context.Context, requests []engine.Request) []engine.Result {
	return make([]engine.Result, len(requests))
}

// BenchmarkLone is what the Batcher adds to one request that waits for nothing.
func BenchmarkLone(b *testing.B) {
	batcher, err := batch.New(idle, batch.Options{})
	if err != nil {
		b.Fatal(err)
	}
	r := request("shop", "a")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := batcher.Decide(b.Context(), r); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkBurst is what the Batcher adds to each of 1000 requests that are submitted at once.
func BenchmarkBurst(b *testing.B) {
	const burst = 1000
	batcher, err := batch.New(idle, batch.Options{})
	if err != nil {
		b.Fatal(err)
	}
	r := request("shop", "a")
	pending := make([]*batch.Pending, burst)
	b.ReportAllocs()
	for b.Loop() {
		for i := range pending {
			pending[i] = batcher.Submit(b.Context(), r)
		}
		for _, p := range pending {
			if _, err := p.Wait(); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/burst, "ns/request")
}
