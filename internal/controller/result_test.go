package controller

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/klog/v2"
	"k8s.io/klog/v2/ktesting"

	"github.com/kcp-placement/placement/internal/panics"
)

// TestEachErrorIsReportedByItself: one step finds a conflict, which is routine, and two others fail, which is not. The
// routine one is quiet and hides nothing.
func TestEachErrorIsReportedByItself(t *testing.T) {
	logger := ktesting.NewLogger(t, ktesting.NewConfig(ktesting.BufferLogs(true), ktesting.Verbosity(4)))
	ctx := klog.NewContext(t.Context(), logger)
	step := func() (err error) {
		defer panics.RecoverTo(&err)
		panic("a bug")
	}
	var r result
	r.fail(nil)
	r.fail(fmt.Errorf("deciding: %w", step()))
	r.fail(fmt.Errorf("status of x: %w", apierrors.NewConflict(schema.GroupResource{}, "x", errors.New("changed"))))
	r.fail(apierrors.NewForbidden(schema.GroupResource{}, "y", errors.New("not yours")))
	r.report(ctx)

	log := logger.GetSink().(ktesting.Underlier).GetBuffer().Data()
	var got []string
	for _, entry := range log {
		got = append(got, fmt.Sprintf("%s %s: %v %v", entry.Type, entry.Message, entry.Err, entry.ParameterKVList))
	}
	if len(got) != 3 {
		t.Fatalf("%d lines: %q", len(got), got)
	}
	for i, want := range [][]string{
		{"ERROR A step panicked", "panic: a bug", "TestEachErrorIsReportedByItself"}, // the stack names this function
		{"INFO Written by another client", "changed"},
		{"ERROR A step failed", "not yours"},
	} {
		for _, part := range want {
			if !strings.Contains(got[i], part) {
				t.Errorf("%q lacks %q", got[i], part)
			}
		}
	}
}
