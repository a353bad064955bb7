package console

import (
	"context"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/kcp-placement/placement/internal/live"
	"github.com/kcp-placement/placement/offline/manifest"
)

// Live is the source of a live workspace.
func Live(r *live.Reader) Source { return followed{r} }

type followed struct{ *live.Reader }

// Follow implements Source.
func (f followed) Follow(ctx context.Context, report func(Reading)) {
	f.Reader.Follow(ctx, func(r *live.Reading, err error) {
		reading := Reading{Workspaces: r.Workspaces, About: r.About, At: time.Now(), Problems: r.Notes, Err: err}
		if err := manifest.Join(r.Wrong); err != nil {
			reading.Problems = append(reading.Problems, strings.Split(err.Error(), "\n")...)
		}
		reading.Denied = apierrors.IsUnauthorized(err) || apierrors.IsForbidden(err)
		report(reading)
	})
}
