package console

import (
	"context"
	"time"

	"github.com/kcp-placement/placement/offline/manifest"
)

// Source is where workspaces are read from.
type Source interface {
	// Follow reads the workspaces and tells of them, at once and whenever they have changed, until ctx ends.
	Follow(ctx context.Context, tell func(Reading))
}

// Reading is what was read of a source.
type Reading struct {
	// Workspaces are nil where they cannot be read: what was read before stands.
	Workspaces []*manifest.Workspace
	// At is when they were as they are here.
	At time.Time
	// Problems are objects that are wrong and left out, and what cannot be read.
	Problems []string
	// Err is why the workspaces cannot be read, or cannot be followed.
	Err error
}

// Callers says who may ask, and what each of them may see.
type Callers interface {
	// Open returns the source of a workspace for who has a token, and a key: callers with the same key share what is read. It fails
	// with ErrUnauthenticated where the token is none. An empty workspace is the only one there is.
	Open(token, workspace string) (key string, from Source, err error)
	// Describe says in general where workspaces are read from: files, live or server, and which.
	Describe() (source, from string)
}
