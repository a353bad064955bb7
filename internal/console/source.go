package console

import (
	"context"
	"time"

	"github.com/kcp-dev/logicalcluster/v3"

	"github.com/kcp-placement/placement/offline/manifest"
)

// Source is where workspaces are read from.
type Source interface {
	// Follow reads the workspaces and reports them, at once and whenever they have changed, until ctx ends.
	Follow(ctx context.Context, report func(Reading))
}

// Where workspaces are read from.
const (
	SourceFiles = "files"
	// SourceLive is one workspace, by a kubeconfig.
	SourceLive = "live"
	// SourceServer is any workspace that the caller's token may read.
	SourceServer = "server"
)

// Reading is what was read of a source.
type Reading struct {
	// Workspaces are nil where they cannot be read: what was read before stands.
	Workspaces []*manifest.Workspace
	// About is the only one of them to show, where others are read for the clusters that it shares with them; all where it is empty.
	About logicalcluster.Name
	// At is when they were as they are here.
	At time.Time
	// Problems are objects that are wrong and left out, and what cannot be read.
	Problems []string
	// Err is why the workspaces cannot be read, or cannot be followed. Denied: the server does not let the caller see them (any more).
	Err    error
	Denied bool
}

// Callers says who may ask, and what each of them may see.
type Callers interface {
	// Open returns the source of a workspace for who has a token. What is read is shared by requests of the same caller. It fails
	// with ErrUnauthenticated where the token is none. An empty workspace is the only one there is.
	Open(token, workspace string) (caller, of string, from Source, err error)
	// Describe says in general where workspaces are read from: files, live or server, and which.
	Describe() (source, from string)
}

// Lister are Callers that do not read workspaces to tell which there are.
type Lister interface {
	List(ctx context.Context, token string) ([]Workspace, error)
}
