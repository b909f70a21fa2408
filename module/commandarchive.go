package module

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

func doctorCommand() *cobra.Command {
	return leaf("doctor", "Looks whether sign-ins can work", cobra.NoArgs, func(c *client, _ []string) error {
		var found health
		raw, err := c.call(http.MethodGet, "doctor", nil, &found)
		if err != nil {
			return err
		}
		if err := c.print(raw, found.print); err != nil {
			return err
		}
		return found.err()
	})
}

func (h *health) print(out io.Writer) {
	table := newTable(out)
	for _, check := range h.Checks {
		table.row(string(check.Status), check.About, check.Detail)
	}
	table.flush()
}

// err is an error where a check failed: for scripts.
func (h *health) err() error {
	if h.OK {
		return nil
	}
	var about []string
	for _, check := range h.Checks {
		if check.Status == checkFailed {
			about = append(about, visible(check.About))
		}
	}
	return fmt.Errorf("sign-ins may fail: look at %s", strings.Join(about, ", "))
}

func backupCommand() *cobra.Command {
	cmd := leaf("backup [<file>]", "Saves all users, sessions and keys", cobra.MaximumNArgs(1), func(c *client, args []string) error {
		file := "caddy-login-" + time.Now().UTC().Format("20060102-150405") + ".backup"
		if len(args) == 1 {
			file = args[0]
		}
		if file == "-" {
			_, err := c.download(c.OutOrStdout())
			return err
		}
		bytes, err := c.save(file)
		if err != nil {
			return err
		}
		raw := fmt.Appendf(nil, `{"file":%s,"bytes":%d}`, jsonOf(file), bytes)
		return c.print(raw, func(out io.Writer) { fmt.Fprintf(out, "%s written to %s\n", size(bytes), visible(file)) })
	})
	cmd.Long = `Saves everything that the store holds, as of one moment, while people go on
signing in: to a file of your own in this directory that nobody else can read, to
<file>, or to standard output (-). It holds the keys: keep it as safe as the store
itself.`
	return cmd
}

func (c *client) download(to io.Writer) (int64, error) {
	resp, err := c.send(http.MethodGet, "backup", nil, nil)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	n, err := io.Copy(to, resp.Body)
	if err != nil {
		return n, fmt.Errorf("saving, and what came is of no use: %w", err)
	}
	return n, nil
}

// save writes a backup to a file that did not exist. It appears under its name
// once it is whole and on the disk.
func (c *client) save(file string) (n int64, err error) {
	if _, err := os.Lstat(file); err == nil {
		return 0, fmt.Errorf("%s exists: say another name, or remove it", visible(file))
	}
	part, err := os.CreateTemp(filepath.Dir(file), filepath.Base(file)+".*.part") // mode 0600
	if err != nil {
		return 0, fmt.Errorf("making file: %w", err)
	}
	defer os.Remove(part.Name())
	n, err = c.download(part)
	if err = errors.Join(err, part.Sync(), part.Close()); err != nil {
		return 0, err
	}
	return n, appear(part.Name(), file)
}

// appear gives a file the name that it is to have, and replaces none: a rename
// would.
func appear(part, file string) error {
	err := os.Link(part, file)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s exists by now: say another name", visible(file))
	}
	if err != nil { // a file system without links
		err = os.Rename(part, file)
	}
	if err != nil {
		return fmt.Errorf("naming file: %w", err)
	}
	return nil
}

func restoreCommand() *cobra.Command {
	cmd := leaf("restore <file>", "Replaces everything with a backup, and signs everybody out", cobra.ExactArgs(1), func(c *client, args []string) error {
		backup, err := c.open(args[0])
		if err != nil {
			return err
		}
		defer backup.Close()
		if err := c.confirm("Replace all users with those of %s, and sign everybody out?", visible(args[0])); err != nil {
			return err
		}
		resp, err := c.send(http.MethodPost, "restore", http.Header{"Content-Type": {archiveKind}}, io.NopCloser(backup))
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		raw, err := io.ReadAll(resp.Body)
		if err != nil {
			return fmt.Errorf("reading Caddy's answer: %w", err)
		}
		return c.print(raw, func(out io.Writer) {
			fmt.Fprintln(out, "restored; everybody has to sign in again")
		})
	})
	cmd.Long = `Replaces everything that the store holds with the backup in <file>, or from
standard input (-), or changes nothing. No session of before or of the backup
works afterwards.`
	cmd.Flags().Bool("yes", false, "Don't ask")
	return cmd
}

func (c *client) open(file string) (io.ReadCloser, error) {
	if file == "-" {
		if !flagged(c.Command, "yes") {
			return nil, errors.New("standard input can't both be the backup and answer questions: say --yes")
		}
		return io.NopCloser(c.InOrStdin()), nil
	}
	opened, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("opening backup: %w", err)
	}
	return opened, nil
}

// confirm asks whoever sits there, unless --yes is said.
func (c *client) confirm(format string, args ...any) error {
	if flagged(c.Command, "yes") {
		return nil
	}
	stat, err := os.Stdin.Stat()
	if err != nil || stat.Mode()&fs.ModeCharDevice == 0 {
		return errors.New("nobody is there to ask: say --yes")
	}
	fmt.Fprintf(c.ErrOrStderr(), format+" [y/N] ", args...)
	line, _ := bufio.NewReader(c.InOrStdin()).ReadString('\n') // none is no
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes":
		return nil
	default:
		return errors.New("nothing was done: answer y, or say --yes")
	}
}
