package process

import (
	"bytes"
	"sync"
)

// lastLine keeps the latest line that a command prints, to show what the command is doing.
type lastLine struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lastLine) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lastLine) lines() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Count(l.text.Bytes(), []byte("\n"))
}

func (l *lastLine) last() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := bytes.Split(bytes.TrimSpace(l.text.Bytes()), []byte("\n"))
	return string(lines[len(lines)-1])
}

func (l *lastLine) tail() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	text := l.text.Bytes()
	return string(text[max(0, len(text)-4000):])
}
