// Package batch gathers the requests of a burst and has them decided together, fairly between workspaces: what deciding
// costs once for each call is shared by a batch, and no workspace's burst keeps another's request waiting.
package batch

import (
	"cmp"
	"container/list"
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-placement/placement/engine"
)

// Defaults of Options.
const (
	DefaultSize       = 10
	DefaultTimeout    = 100 * time.Millisecond
	DefaultConcurrent = 100
)

// Options of a Batcher; the zero value is good.
type Options struct {
	// Size is how many requests are decided together at most.
	Size int
	// Timeout is how long the batch under way in a workspace holds up the requests that gather behind it, counted from
	// when the first of them began to wait for it. Then the next batch is decided beside it.
	Timeout time.Duration
	// Concurrent is how many batches are under way at most, over all workspaces.
	Concurrent int
}

// Batcher decides requests in batches. A batch is of one workspace.
//
// The requests of a workspace stand in a queue. Where nothing of the workspace is being decided, a request goes at once.
// While a batch is being decided, requests gather; when it is done, up to Size of them go together.
//
// Requests of a workspace go to be decided in the order in which they were submitted, always. They are also decided in
// that order, each batch after the one before it is done, as long as no batch takes longer than Timeout. A batch that
// does is overtaken: the next goes beside it, so that its slowness does not add up for all behind it, and which of the
// two takes room first is open. Every batch can be overtaken once, so that a workspace starts no more than one batch in
// Timeout beside those that are slow. Who needs the order more than the time sets a Timeout that no batch reaches.
//
// When Concurrent batches are under way, workspaces take turns: each stands in line once, however much it has to
// decide, so a request that is the first of its workspace waits for one batch of each workspace before it at most.
//
// A Batcher that is idle has no goroutine, no timer and no memory of a workspace. That is why there is no Close.
type Batcher struct {
	decide  func(context.Context, []engine.Request) []engine.Result
	options Options
	metrics *metrics

	mu     sync.Mutex
	queues map[logicalcluster.Name]*queue
	// line holds the queues whose next batch waits for nothing but a slot, first come first served.
	line list.List
	// underWay counts the batches that are being decided.
	underWay int
}

// queue is the requests of one workspace that wait. It is guarded by the Batcher's mu.
type queue struct {
	workspace logicalcluster.Name
	// waiting holds *Pending in order of submission.
	waiting list.List
	inLine  bool
	// ahead is the batch that has to be done before the next may go; nil where there is none, or it was overtaken.
	ahead *batch
}

// batch is requests that are decided together.
type batch struct {
	queue    *queue
	requests []*Pending
	// timer lets the next batch overtake this one; nil while nothing has waited for it.
	timer *time.Timer
}

// Pending is a request that was submitted, and then its answer.
type Pending struct {
	batcher *Batcher
	// ctx is kept since a request ends with it while it waits, too.
	ctx       context.Context
	request   engine.Request
	queue     *queue
	submitted time.Time
	// place in the queue, nil once the request has left it; guarded by the Batcher's mu.
	place *list.Element
	// result is there once answered is closed.
	answered chan struct{}
	result   engine.Result
}

// PanicError is the answer to the requests of a batch in which deciding panicked.
type PanicError struct {
	// Value is what was given to panic.
	Value any
	// Stack is where that was, as debug.Stack formats it.
	Stack []byte
}

// Error implements error. It leaves out the stack, which is not for those who wait for an answer.
func (e *PanicError) Error() string { return fmt.Sprintf("deciding panicked: %v", e.Value) }

// New makes a Batcher. What decides is Engine.DecideBatch or wraps it: it gets requests of one workspace, and gives a
// result for each. Its context ends once the contexts of all the requests have ended, and has the values of the first
// one's.
func New(decide func(context.Context, []engine.Request) []engine.Result, options Options) (*Batcher, error) {
	if options.Size < 0 || options.Timeout < 0 || options.Concurrent < 0 {
		return nil, fmt.Errorf("batch size %d, timeout %s and number of concurrent batches %d must not be negative",
			options.Size, options.Timeout, options.Concurrent)
	}
	options.Size = cmp.Or(options.Size, DefaultSize)
	options.Timeout = cmp.Or(options.Timeout, DefaultTimeout)
	options.Concurrent = cmp.Or(options.Concurrent, DefaultConcurrent)
	b := &Batcher{decide: decide, options: options, queues: map[logicalcluster.Name]*queue{}}
	b.metrics = newMetrics(b)
	return b, nil
}

// Decide submits a request and waits for its answer.
func (b *Batcher) Decide(ctx context.Context, request engine.Request) (*engine.Decision, error) {
	return b.Submit(ctx, request).Wait()
}

// Submit puts a request behind all that were submitted before it in its workspace, and does not wait. A request whose
// ctx ends before its turn is not decided.
func (b *Batcher) Submit(ctx context.Context, request engine.Request) *Pending {
	p := &Pending{batcher: b, ctx: ctx, request: request, submitted: time.Now(), answered: make(chan struct{})}
	if ctx.Err() != nil {
		p.answer(engine.Result{Err: context.Cause(ctx)})
		return p
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	q := b.queues[request.Workspace]
	if q == nil {
		q = &queue{workspace: request.Workspace}
		b.queues[request.Workspace] = q
	}
	p.queue, p.place = q, q.waiting.PushBack(p)
	b.advance(q)
	return p
}

// Wait waits for the answer. If ctx of the request ends while it waits for its turn, the answer is the cause. Once the
// request is being decided, Wait returns what comes of that, so that whoever asked knows what is reserved.
func (p *Pending) Wait() (*engine.Decision, error) {
	select {
	case <-p.answered:
	case <-p.ctx.Done():
		p.batcher.withdraw(p)
		<-p.answered
	}
	return p.result.Decision, p.result.Err
}

func (p *Pending) answer(result engine.Result) {
	p.result = result
	close(p.answered)
}

// withdraw answers a request whose ctx has ended, unless it is being decided.
func (b *Batcher) withdraw(p *Pending) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if p.place == nil {
		return
	}
	b.leave(p)
	p.answer(engine.Result{Err: context.Cause(p.ctx)})
	b.advance(p.queue)
}

// leave takes a request out of its queue.
func (b *Batcher) leave(p *Pending) {
	p.queue.waiting.Remove(p.place)
	p.place = nil
}

// advance is called whenever something in a queue has changed. It lets those in line go while there are slots.
func (b *Batcher) advance(q *queue) {
	b.lineUp(q)
	for b.underWay < b.options.Concurrent && b.line.Len() > 0 {
		b.start(b.line.Remove(b.line.Front()).(*queue))
	}
}

// lineUp puts a queue in line if its next batch may go, limits how long it waits if not, and forgets it if it is idle.
func (b *Batcher) lineUp(q *queue) {
	switch {
	case q.inLine:
	case q.waiting.Len() == 0:
		if q.ahead == nil && b.queues[q.workspace] == q {
			delete(b.queues, q.workspace)
		}
	case q.ahead == nil:
		q.inLine = true
		b.line.PushBack(q)
	case q.ahead.timer == nil:
		ahead := q.ahead
		ahead.timer = time.AfterFunc(b.options.Timeout, func() { b.overtake(ahead) })
	}
}

// start lets the next batch of a queue go.
func (b *Batcher) start(q *queue) {
	q.inLine = false
	next := &batch{queue: q}
	for q.waiting.Len() > 0 && len(next.requests) < b.options.Size {
		p := q.waiting.Front().Value.(*Pending)
		b.leave(p)
		if p.ctx.Err() != nil {
			p.answer(engine.Result{Err: context.Cause(p.ctx)})
			continue
		}
		next.requests = append(next.requests, p)
	}
	if len(next.requests) > 0 {
		q.ahead = next
		b.underWay++
		go b.run(next)
	}
	b.lineUp(q)
}

// overtake lets the next batch go beside one that has held it up for Timeout.
func (b *Batcher) overtake(slow *batch) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.makeWay(slow)
}

// done gives back the slot of a batch, and lets the next go.
func (b *Batcher) done(finished *batch) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.underWay--
	if finished.timer != nil {
		finished.timer.Stop()
	}
	b.makeWay(finished)
}

// makeWay ends that a batch holds up what waits behind it.
func (b *Batcher) makeWay(ahead *batch) {
	if ahead.queue.ahead == ahead {
		ahead.queue.ahead = nil
	}
	b.advance(ahead.queue)
}

// run decides a batch and answers its requests, whatever happens: a panic here would end the process, or leave those
// who wait without an answer.
func (b *Batcher) run(next *batch) {
	requests := make([]engine.Request, len(next.requests))
	for i, p := range next.requests {
		requests[i] = p.request
	}
	ctx, release := together(next.requests)
	b.metrics.started(next.requests)

	var results []engine.Result
	failure := errors.New("deciding ended without an answer")
	defer func() {
		if value := recover(); value != nil {
			failure = &PanicError{Value: value, Stack: debug.Stack()}
		}
		release()
		b.done(next)
		for i, p := range next.requests {
			if len(results) == len(requests) {
				p.answer(results[i])
			} else {
				p.answer(engine.Result{Err: failure})
			}
		}
	}()
	results = b.decide(ctx, requests)
	if len(results) != len(requests) {
		failure = fmt.Errorf("%d requests were decided with %d answers", len(requests), len(results))
	}
}

// together returns a context that ends once the contexts of all the requests have ended.
func together(requests []*Pending) (ctx context.Context, release func()) {
	first := requests[0].ctx
	shared := true
	for _, p := range requests[1:] {
		shared = shared && p.ctx.Done() == first.Done()
	}
	if shared { // as it is for all of one caller
		return first, func() {}
	}
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(first))
	var left atomic.Int64
	left.Store(int64(len(requests)))
	stops := make([]func() bool, len(requests))
	for i, p := range requests {
		stops[i] = context.AfterFunc(p.ctx, func() {
			if left.Add(-1) == 0 {
				cancel(context.Cause(p.ctx))
			}
		})
	}
	return ctx, func() {
		for _, stop := range stops {
			stop()
		}
		cancel(nil)
	}
}
