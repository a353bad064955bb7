package output

import (
	"io"
	"net/url"
	"path/filepath"

	sarifreport "github.com/owenrumney/go-sarif/v3/pkg/report"
	"github.com/owenrumney/go-sarif/v3/pkg/report/v210/sarif"

	"github.com/kcp-placement/placement/offline/check"
)

// Checked is an answer with findings.
type Checked interface {
	Report() *check.Report
}

// writeSARIF writes findings as SARIF 2.1.0, which code hosts show beside the lines of a change.
func writeSARIF(w io.Writer, answer Checked) error {
	run := sarif.NewRunWithInformationURI("kubectl-placement", "https://github.com/kcp-placement/placement")
	for _, f := range answer.Report().Findings {
		run.AddRule(f.Code)
		result := run.CreateResultForRule(f.Code).WithLevel(string(f.Severity)).WithMessage(sarif.NewTextMessage(f.Description()))
		if f.File == nil {
			continue
		}
		path := &url.URL{Path: filepath.ToSlash(f.File.Name)}
		location := sarif.NewPhysicalLocation().WithArtifactLocation(sarif.NewSimpleArtifactLocation(path.EscapedPath()))
		if f.Line > 0 {
			location.WithRegion(sarif.NewRegion().WithStartLine(f.Line).WithStartColumn(f.Column))
		}
		result.AddLocation(sarif.NewLocationWithPhysicalLocation(location))
	}
	document := sarifreport.NewV210Report()
	document.AddRun(run)
	return document.PrettyWrite(w)
}
