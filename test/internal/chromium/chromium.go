// Package chromium starts the browser that tests show pages to.
package chromium

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/chromedp/chromedp"
)

// Start starts a browser that reaches nothing but this machine. Contexts of tabs are made of the one that is returned; stop ends them all.
func Start() (browser context.Context, stop func(), err error) {
	bin, err := find()
	if err != nil {
		return nil, nil, err
	}
	options := []chromedp.ExecAllocatorOption{
		chromedp.ExecPath(bin), chromedp.Headless, chromedp.WindowSize(1440, 1000),
		// Nothing but this machine can be reached, whatever a page or the browser itself asks for.
		chromedp.Flag("host-resolver-rules", "MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"),
		chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("lang", "en"), chromedp.Flag("force-color-profile", "srgb"),
	}
	if os.Getuid() == 0 {
		options = append(options, chromedp.NoSandbox) // Chromium's does not work for root
	}
	allocator, end := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, cancel := chromedp.NewContext(allocator)
	return ctx, func() { cancel(); end() }, chromedp.Do(ctx)
}

// find returns a browser: CHROMIUM_BIN, one in the path, or Debian's, which it installs where it may.
func find() (string, error) {
	if bin := os.Getenv("CHROMIUM_BIN"); bin != "" {
		return bin, nil
	}
	installed := func() string {
		for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "chrome"} {
			if bin, err := exec.LookPath(name); err == nil {
				return bin
			}
		}
		return ""
	}
	if bin := installed(); bin != "" {
		return bin, nil
	}
	if apt, err := exec.LookPath("apt-get"); err == nil && os.Getuid() == 0 {
		// Tests of another package may be about to install it, too.
		lock, err := os.OpenFile(filepath.Join(os.TempDir(), "placement-chromium.lock"), os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return "", err
		}
		defer lock.Close()
		if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
			return "", err
		}
		if bin := installed(); bin != "" {
			return bin, nil
		}
		for _, args := range [][]string{{"update"}, {"install", "-y", "--no-install-recommends", "chromium", "fonts-dejavu-core"}} {
			// A mirror may fail for a moment, and make may be installing something else.
			install := exec.Command(apt, append([]string{"-o", "Acquire::Retries=5", "-o", "DPkg::Lock::Timeout=600"}, args...)...)
			install.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
			if out, err := install.CombinedOutput(); err != nil {
				return "", fmt.Errorf("apt-get %s: %w\n%s", strings.Join(args, " "), err, out)
			}
		}
		if bin := installed(); bin != "" {
			return bin, nil
		}
	}
	return "", errors.New("the tests of the console need a browser: install chromium, or name one in CHROMIUM_BIN")
}
