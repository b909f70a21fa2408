package module

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"unicode"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "login",
		Usage: "users|sessions|doctor|backup|restore",
		Short: "Manages who signs in",
		Long: `Asks the running Caddy who its users are and what they do, and changes it. It
talks to Caddy's admin endpoint, which it finds as 'caddy reload' does: by
--address, or in the configuration (--config, else a Caddyfile in this
directory).

What was done is in the user's activity and in Caddy's log.`,
		CobraFunc: buildCommand,
	})
}

func buildCommand(root *cobra.Command) {
	flags := root.PersistentFlags()
	flags.String("address", "", "Address of Caddy's admin endpoint")
	flags.StringP("config", "c", "", "Configuration file that says it")
	flags.StringP("adapter", "a", "", "Name of config adapter to apply")
	flags.Bool("json", false, "Print the answer as JSON")
	group(root, usersCommand(), sessionsCommand(), doctorCommand(), backupCommand(), restoreCommand())
}

// group makes parent a command that only has others below it.
func group(parent *cobra.Command, below ...*cobra.Command) *cobra.Command {
	parent.AddCommand(below...)
	parent.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return cmd.Help()
		}
		var names []string
		for _, one := range below {
			names = append(names, one.Name())
		}
		return fmt.Errorf("unknown command %.40q (commands: %s)", args[0], strings.Join(names, ", "))
	}
	return parent
}

// leaf is a command that does something, at one endpoint.
func leaf(usage, short string, args cobra.PositionalArgs, run func(*client, []string) error) *cobra.Command {
	return &cobra.Command{
		Use: usage, Short: short, Args: args,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := clientOf(cmd)
			if err != nil {
				return err
			}
			return run(c, args)
		},
	}
}

// client speaks to the admin endpoint for one command.
type client struct {
	*cobra.Command
	address string
	json    bool
}

func clientOf(cmd *cobra.Command) (*client, error) {
	address, err := adminAddress(cmd)
	if err != nil {
		return nil, err
	}
	return &client{Command: cmd, address: address, json: flagged(cmd, "json")}, nil
}

// adminAddress is the endpoint's, found as `caddy reload` finds it.
func adminAddress(cmd *cobra.Command) (string, error) {
	address, config, adapter := worded(cmd, "address"), worded(cmd, "config"), worded(cmd, "adapter")
	if address != "" {
		return address, nil
	}
	loaded, file, adapter, err := caddycmd.LoadConfig(config, adapter)
	if err != nil {
		return "", fmt.Errorf("reading the configuration for the address of Caddy's admin endpoint: %w; say --address instead", err)
	}
	address, err = caddycmd.DetermineAdminAPIAddress("", loaded, file, adapter)
	if err != nil {
		return "", fmt.Errorf("finding the address of Caddy's admin endpoint: %w; say --address", err)
	}
	return address, nil
}

// worded is the value of a flag, empty where the command has none such.
func worded(cmd *cobra.Command, name string) string {
	flag := cmd.Flag(name)
	if flag == nil {
		return ""
	}
	return flag.Value.String()
}

func flagged(cmd *cobra.Command, name string) bool { return worded(cmd, name) == "true" }

// call makes one request, with body as JSON unless it is nil, and decodes the
// answer into answer unless that is nil. It returns the answer as it came.
func (c *client) call(method, path string, body, answer any) ([]byte, error) {
	var reader io.Reader
	if body != nil {
		encoded, err := json.Marshal(body)
		if err != nil {
			return nil, fmt.Errorf("encoding request: %w", err)
		}
		reader = bytes.NewReader(encoded)
	}
	resp, err := c.send(method, path, nil, reader)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("reading Caddy's answer: %w", err)
	}
	if answer != nil {
		err = json.Unmarshal(raw, answer)
	}
	if err != nil {
		return nil, fmt.Errorf("reading Caddy's answer: %w: is it of the same version as this command?", err)
	}
	return raw, nil
}

func (c *client) send(method, path string, header http.Header, body io.Reader) (*http.Response, error) {
	resp, err := caddycmd.AdminAPIRequest(c.address, method, adminPath+path, header, body)
	if err != nil {
		return nil, c.explain(err)
	}
	return resp, nil
}

// explain makes one line of what Caddy's client says, and names the cure.
func (c *client) explain(err error) error {
	said, refused := strings.CutPrefix(err.Error(), "caddy responded with error: HTTP ")
	if !refused {
		return fmt.Errorf("no answer from the admin endpoint at %s: is Caddy running? Say where by --address or --config (%w)", c.address, err)
	}
	var problem struct {
		Error string `json:"error"` // Caddy's
	}
	status, body, _ := strings.Cut(said, ": ")
	if json.Unmarshal([]byte(body), &problem) == nil && problem.Error != "" {
		return errors.New(visible(problem.Error))
	}
	if status == "404" {
		return fmt.Errorf("the Caddy at %s has no login in it: say which one by --address or --config", c.address)
	}
	return errors.New(visible(err.Error()))
}

// print writes the answer as it came, or for people. JSON is the same JSON with
// its text made safe for a terminal.
func (c *client) print(raw []byte, human func(io.Writer)) error {
	out := c.OutOrStdout()
	if !c.json {
		human(out)
		return nil
	}
	_, err := fmt.Fprintln(out, escaped(strings.TrimSpace(string(raw))))
	return err
}

// printLine writes one line of JSON.
func (c *client) printLine(v any) error {
	_, err := fmt.Fprintln(c.OutOrStdout(), escaped(string(jsonOf(v))))
	return err
}

// jsonOf is for values of ours, which always have a form in JSON.
func jsonOf(v any) []byte {
	encoded, err := json.Marshal(v)
	if err != nil {
		return []byte("null")
	}
	return encoded
}

// visible is text that somebody else wrote, for a terminal: what is not there to
// be seen, and would move the cursor, change colours or turn the writing round,
// is spelt out.
func visible(s string) string {
	var b strings.Builder
	for _, r := range s {
		if unicode.IsPrint(r) {
			b.WriteRune(r)
			continue
		}
		fmt.Fprintf(&b, "<U+%04X>", r)
	}
	return b.String()
}

// escaped is JSON in which what visible would spell out is escaped.
func escaped(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case unicode.IsPrint(r) || r == '\n':
			b.WriteRune(r)
		case r > 0xffff:
			high, low := (r-0x10000)>>10+0xd800, (r-0x10000)&0x3ff+0xdc00
			fmt.Fprintf(&b, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}
