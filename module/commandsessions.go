package module

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/caddy-login/caddy-login/module/page"
)

func sessionsCommand() *cobra.Command {
	sessions := &cobra.Command{Use: "sessions", Short: "Shows who is signed in, and ends sessions"}
	return group(sessions, listSessionsCommand(), endCommand())
}

func listSessionsCommand() *cobra.Command {
	cmd := leaf("list", "Lists live sessions", cobra.NoArgs, func(c *client, _ []string) error {
		if who := worded(c.Command, "user"); who != "" {
			return c.listOf(who)
		}
		return c.listSessions()
	})
	cmd.Flags().String("user", "", "Those of one user: id, address or <provider>:<subject>")
	addPaging(cmd)
	return cmd
}

func (c *client) listOf(who string) error {
	user, err := c.find(who)
	if err != nil {
		return err
	}
	var list sessionPage
	raw, err := c.call(http.MethodGet, "sessions?"+url.Values{"user": {string(user.ID)}}.Encode(), nil, &list)
	if err != nil {
		return err
	}
	return c.print(raw, func(out io.Writer) { printSessions(out, list.Sessions) })
}

func (c *client) listSessions() error {
	table := sessionTable(c.people())
	next, err := walk(c, "sessions", func(page *sessionPage) (string, error) {
		return page.Next, c.printSome(table, page.Sessions)
	})
	if err != nil {
		return err
	}
	table.flush()
	c.more(next)
	return nil
}

func (c *client) printSome(table *table, sessions []sessionView) error {
	for i := range sessions {
		if !c.json {
			table.session(&sessions[i])
			continue
		}
		if err := c.printLine(&sessions[i]); err != nil {
			return err
		}
	}
	return nil
}

func printSessions(out io.Writer, sessions []sessionView) {
	table := sessionTable(out)
	for i := range sessions {
		table.session(&sessions[i])
	}
	table.flush()
}

func sessionTable(out io.Writer) *table {
	return newTable(out, "HANDLE", "USER", "SITE", "BY", "BEGAN", "SEEN", "DEVICE")
}

func (t *table) session(s *sessionView) {
	t.row(s.Handle, string(s.User), s.Scope, s.Provider, since(s.Began), since(s.Seen), cmp.Or(page.Device(s.Device), s.Device))
}

func endCommand() *cobra.Command {
	cmd := leaf("end [<handle>]", "Ends a session, or with --user all of somebody's, at once", cobra.MaximumNArgs(1), func(c *client, args []string) error {
		who := worded(c.Command, "user")
		switch {
		case who == "" && len(args) == 1:
			return c.end(http.MethodDelete, "sessions/"+url.PathEscape(args[0]))
		case who == "" || len(args) == 1:
			return errors.New("say one session's handle, or --user <who> for all of somebody's")
		}
		user, err := c.find(who)
		if err != nil {
			return err
		}
		return c.end(http.MethodPost, user.path("/end-sessions"))
	})
	cmd.Flags().String("user", "", "Whose sessions end: id, address or <provider>:<subject>")
	return cmd
}

func (c *client) end(method, path string) error {
	var done ending
	raw, err := c.call(method, path, nil, &done)
	if err != nil {
		return err
	}
	return c.print(raw, func(out io.Writer) {
		if done.Ended == 1 {
			fmt.Fprintln(out, "1 session ended")
			return
		}
		fmt.Fprintf(out, "%d sessions ended\n", done.Ended)
	})
}
