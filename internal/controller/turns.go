package controller

import "github.com/kcp-dev/logicalcluster/v3"

// turns is a queue in which workspaces take turns, however much each has in it.
type turns[T any] struct {
	// by is the workspace that has an element.
	by   func(T) logicalcluster.Name
	next []logicalcluster.Name
	of   map[logicalcluster.Name][]T
	n    int
}

func newTurns[T any](by func(T) logicalcluster.Name) *turns[T] {
	return &turns[T]{by: by, of: map[logicalcluster.Name][]T{}}
}

// Touch implements workqueue.Queue.
func (*turns[T]) Touch(T) {}

// Push implements workqueue.Queue.
func (t *turns[T]) Push(element T) {
	by := t.by(element)
	if len(t.of[by]) == 0 {
		t.next = append(t.next, by)
	}
	t.of[by] = append(t.of[by], element)
	t.n++
}

// Len implements workqueue.Queue.
func (t *turns[T]) Len() int { return t.n }

// Pop implements workqueue.Queue.
func (t *turns[T]) Pop() T {
	by := t.next[0]
	first := t.of[by][0]
	t.next, t.of[by], t.n = t.next[1:], t.of[by][1:], t.n-1
	if len(t.of[by]) > 0 {
		t.next = append(t.next, by)
	} else {
		delete(t.of, by)
	}
	return first
}

// longest is the workspace that has the most in the queue, which is not empty.
func (t *turns[T]) longest() logicalcluster.Name {
	longest := t.next[0]
	for _, by := range t.next {
		if len(t.of[by]) > len(t.of[longest]) {
			longest = by
		}
	}
	return longest
}

// dropLast removes what a workspace with more than one element has pushed last.
func (t *turns[T]) dropLast(by logicalcluster.Name) {
	last := len(t.of[by]) - 1
	clear(t.of[by][last:])
	t.of[by], t.n = t.of[by][:last], t.n-1
}
