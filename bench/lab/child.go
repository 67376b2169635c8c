package lab

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Child is a process that the lab started. It dies with its context, and with this process, however that ends.
type Child struct {
	name   string
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout *bufio.Reader
	stderr tail

	waitOnce sync.Once
	waitErr  error
}

// command prepares a process in a namespace, or in ours when namespace is empty.
//
// `ip netns exec` becomes the program it runs: the process id stays, and so does the wish to die with the parent. Nothing
// in this process may end an operating system thread (a locked goroutine that returns does), because that wish looks at
// the thread that started the child; so namespaces are entered by children only.
func command(ctx context.Context, namespace string, argv ...string) *exec.Cmd {
	if namespace != "" {
		argv = append([]string{"ip", "netns", "exec", namespace}, argv...)
	}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	// A group of its own: Ctrl-C at the terminal must reach us alone, who end the children in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 2 * time.Second
	return cmd
}

// Start starts a process in a namespace. env is added to the environment.
func (l *Lab) Start(ctx context.Context, namespace string, env []string, argv ...string) (*Child, error) {
	c := &Child{name: filepath.Base(argv[0]) + " " + strings.Join(argv[1:], " ")}
	c.cmd = command(ctx, namespace, argv...)
	c.cmd.Env = append(os.Environ(), env...)
	c.cmd.Stderr = &c.stderr
	var err error
	if c.stdin, err = c.cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("start %s: %w", c.name, err)
	}
	stdout, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", c.name, err)
	}
	c.stdout = bufio.NewReader(stdout)
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", c.name, err)
	}
	return c, nil
}

// PID returns the process id.
func (c *Child) PID() int { return c.cmd.Process.Pid }

// Line waits for the next line of the child's output.
func (c *Child) Line() (string, error) {
	line, err := c.stdout.ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("%s ended without a report: %w", c.name, errors.Join(c.Wait(), errorOrNil(c.stderr.String())))
	}
	return strings.TrimSpace(line), nil
}

// Stop asks a generator to finish, by closing its input.
func (c *Child) Stop() { c.stdin.Close() }

// Signal sends a signal to the child alone.
func (c *Child) Signal(signal os.Signal) { c.cmd.Process.Signal(signal) }

// Kill ends the child and all it started, at once, and waits for it.
func (c *Child) Kill() {
	if c.cmd.ProcessState == nil { // not waited for yet, so that its id is still its own
		c.cmd.Cancel()
	}
	c.Wait()
}

// Wait waits for the end. It may be called more than once, but not while Line is being called.
func (c *Child) Wait() error {
	c.waitOnce.Do(func() { c.waitErr = c.cmd.Wait() })
	return c.waitErr
}

// Stderr returns the end of what the child wrote to its standard error.
func (c *Child) Stderr() string { return c.stderr.String() }

// Output runs a process to its end and returns what it printed. The output is returned also when the process fails:
// iperf3 explains errors there.
func (l *Lab) Output(ctx context.Context, namespace string, argv ...string) ([]byte, error) {
	cmd := command(ctx, namespace, argv...)
	var stderr tail
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("run %s %s: %w", filepath.Base(argv[0]), brief(argv[1:]), errors.Join(err, errorOrNil(stderr.String())))
	}
	return out, err
}

// brief is a command line for people: a transaction's is long.
func brief(args []string) string {
	const most = 200
	line := strings.Join(args, " ")
	if len(line) > most {
		line = line[:most] + " ..."
	}
	return line
}

func errorOrNil(text string) error {
	if text = strings.TrimSpace(text); text != "" {
		return errors.New(text)
	}
	return nil
}

// tail keeps the last bytes written to it.
type tail struct {
	mu sync.Mutex
	b  bytes.Buffer // guarded by mu
}

const tailSize = 4096

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b.Write(p)
	if over := t.b.Len() - tailSize; over > 0 {
		t.b.Next(over)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.b.String()
}

// drain throws away what a long-running child prints, so that it never blocks on a full pipe.
func (c *Child) drain() { io.Copy(io.Discard, c.stdout) }
