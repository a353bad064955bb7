// Package build knows what the programs were built from.
package build

import "runtime/debug"

// Version is that of the module, with the commit where it is no release: what Go has put into the program.
func Version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}
