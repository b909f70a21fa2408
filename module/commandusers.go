package module

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/caddy-login/caddy-login/module/guest"
)

const whoIs = `<who> is a user's id, an address, or <provider>:<subject>.`

func usersCommand() *cobra.Command {
	users := &cobra.Command{Use: "users", Short: "Shows users and changes them", Long: whoIs}
	return group(users, listCommand(), showCommand(), addCommand(), groupsCommand(), deleteCommand(),
		leaf("disable <who>", "Shuts somebody out, at once", cobra.ExactArgs(1), stateChange("disable", "is disabled, and signed out everywhere")),
		leaf("enable <who>", "Lets somebody in again", cobra.ExactArgs(1), stateChange("enable", "may sign in again")),
	)
}

func listCommand() *cobra.Command {
	cmd := leaf("list", "Lists users", cobra.NoArgs, listUsers)
	addPaging(cmd)
	return cmd
}

func addPaging(cmd *cobra.Command) {
	cmd.Flags().String("after", "", "Begin where another list ended")
	cmd.Flags().Int("limit", defaultPage, "How many at most")
	cmd.Flags().Bool("all", false, "All of them; with --json one line for each")
}

func listUsers(c *client, _ []string) error {
	table := newTable(c.people(), "ID", "STATE", "ADDRESS", "NAME", "GROUPS", "CREATED")
	next, err := walk(c, "users", func(page *userPage) (string, error) {
		return string(page.Next), c.printUsers(table, page.Users)
	})
	if err != nil {
		return err
	}
	table.flush()
	c.more(next)
	return nil
}

// walk shows a list, a page or with --all page after page, and returns where it
// would go on. One page in JSON is printed as it came.
func walk[P any](c *client, path string, show func(*P) (next string, err error)) (next string, err error) {
	all, next := flagged(c.Command, "all"), worded(c.Command, "after")
	params := url.Values{"limit": {worded(c.Command, "limit")}}
	if all {
		params.Set("limit", strconv.Itoa(longestPage))
	}
	for {
		if next != "" {
			params.Set("after", next)
		}
		var page P
		raw, err := c.call(http.MethodGet, path+"?"+params.Encode(), nil, &page)
		if err != nil {
			return "", err
		}
		if c.json && !all {
			return "", c.print(raw, nil)
		}
		if next, err = show(&page); err != nil || next == "" || !all {
			return next, err
		}
	}
}

// printUsers prints part of a list: rows of a table, or one line of JSON each.
func (c *client) printUsers(table *table, users []userView) error {
	for i := range users {
		u := &users[i]
		if !c.json {
			table.row(string(u.ID), string(u.State), addressOf(u), u.Name, strings.Join(u.Groups, ","), since(u.Created))
			continue
		}
		if err := c.printLine(u); err != nil {
			return err
		}
	}
	return nil
}

func addressOf(u *userView) string {
	if u.Provisioned != "" {
		return string(u.Provisioned) + " (not proven)"
	}
	return string(u.Email)
}

// people is where they read: nowhere, where a program does.
func (c *client) people() io.Writer {
	if c.json {
		return io.Discard
	}
	return c.OutOrStdout()
}

// more tells people, and no program, that a list goes on.
func (c *client) more(next string) {
	if next != "" && !c.json {
		fmt.Fprintf(c.ErrOrStderr(), "there are more: go on with --after %s, or say --all\n", next)
	}
}

// find is the one user who is meant.
func (c *client) find(who string) (*userView, error) {
	var page userPage
	if _, err := c.call(http.MethodPost, "users/find", searchFor(who), &page); err != nil {
		return nil, err
	}
	switch len(page.Users) {
	case 1:
		return &page.Users[0], nil
	case 0:
		return nil, fmt.Errorf("nobody is %q: say a user's id, an address or <provider>:<subject> ('caddy login users list' shows them)", visible(who))
	default:
		return nil, fmt.Errorf("%q is an account of %d users, at different issuers: say the id of one, such as %s", visible(who), len(page.Users), page.Users[0].ID)
	}
}

// searchFor tells an account from an address: a provider's name has no @, and
// no address of ours a colon.
func searchFor(who string) map[string]string {
	if provider, _, ok := strings.Cut(who, ":"); ok && guest.CheckName(provider) == nil {
		return map[string]string{"identity": who}
	}
	if strings.Contains(who, "@") {
		return map[string]string{"email": who}
	}
	return map[string]string{"id": who}
}

// path is the path of a user, and of what is below them.
func (u *userView) path(below string) string { return "users/" + url.PathEscape(string(u.ID)) + below }

func showCommand() *cobra.Command {
	cmd := leaf("show <who>", "Shows all about one user", cobra.ExactArgs(1), func(c *client, args []string) error {
		user, err := c.find(args[0])
		if err != nil {
			return err
		}
		var file dossier
		raw, err := c.call(http.MethodGet, user.path(""), nil, &file)
		if err != nil {
			return err
		}
		return c.print(raw, file.print)
	})
	cmd.Long = whoIs
	return cmd
}

// print shows a dossier to people.
func (f *dossier) print(out io.Writer) {
	facts := newTable(out)
	for _, fact := range [][2]string{
		{"id", string(f.User.ID)}, {"state", string(f.User.State)}, {"name", f.User.Name},
		{"groups", strings.Join(f.User.Groups, ", ")},
		{"created", since(f.User.Created) + " by " + f.User.CreatedBy},
	} {
		facts.row(fact[0], fact[1])
	}
	if !f.User.Deletes.IsZero() {
		facts.row("deletes", since(f.User.Deletes))
	}
	facts.flush()
	f.printAddresses(out)
	f.printAccounts(out)
	printSessions(section(out, "SESSIONS", len(f.Sessions)), f.Sessions)
	f.printActivity(out)
}

func (f *dossier) printAddresses(out io.Writer) {
	table := newTable(section(out, "ADDRESSES", len(f.Addresses)))
	for _, a := range f.Addresses {
		proven, primary := "not proven", ""
		if !a.Proven.IsZero() {
			proven = "proven " + since(a.Proven)
		}
		if a.Primary {
			primary = "primary"
		}
		table.row(string(a.Address), proven, "by "+a.By, primary)
	}
	table.flush()
}

func (f *dossier) printAccounts(out io.Writer) {
	table := newTable(section(out, "ACCOUNTS", len(f.Accounts)))
	for _, a := range f.Accounts {
		table.row(a.Provider+":"+a.Subject, a.Email, "linked "+since(a.Linked), a.How, strings.Join(a.Groups, ","), a.Issuer)
	}
	table.flush()
}

func (f *dossier) printActivity(out io.Writer) {
	table := newTable(section(out, "ACTIVITY", len(f.Activity)))
	for _, a := range f.Activity {
		row := ""
		if a.Row != "" {
			row = "row " + a.Row
		}
		table.row(since(a.At), strings.ReplaceAll(string(a.What), "_", " "), row, a.Provider, a.Detail, a.Place, a.Session, a.Request)
	}
	table.flush()
}

// section begins a part of the output; where it is empty nothing is told.
func section(out io.Writer, title string, entries int) io.Writer {
	if entries == 0 {
		return io.Discard
	}
	fmt.Fprintf(out, "\n%s\n", title)
	return out
}

func addCommand() *cobra.Command {
	cmd := leaf("add <address>", "Invites somebody: whoever proves the address becomes this user", cobra.ExactArgs(1), func(c *client, args []string) error {
		groups, err := c.Flags().GetStringSlice("group")
		if err != nil {
			return err
		}
		var user userView
		body := map[string]any{"email": args[0], "name": worded(c.Command, "name"), "groups": groups}
		raw, err := c.call(http.MethodPost, "users", body, &user)
		if err != nil {
			return err
		}
		return c.print(raw, func(out io.Writer) {
			fmt.Fprintf(out, "%s is invited: who proves that address is user %s\n", visible(addressOf(&user)), user.ID)
		})
	})
	cmd.Flags().String("name", "", "Their name, until they say another")
	cmd.Flags().StringSlice("group", nil, "A group they are in; may be said again")
	return cmd
}

func stateChange(verb, now string) func(*client, []string) error {
	return func(c *client, args []string) error {
		user, err := c.find(args[0])
		if err != nil {
			return err
		}
		raw, err := c.call(http.MethodPost, user.path("/"+verb), nil, nil)
		if err != nil {
			return err
		}
		return c.print(raw, func(out io.Writer) { fmt.Fprintf(out, "%s %s\n", title(user), now) })
	}
}

// title names a user to people.
func title(u *userView) string {
	for _, name := range []string{addressOf(u), u.Name} {
		if name != "" {
			return visible(name) + " (" + string(u.ID) + ")"
		}
	}
	return string(u.ID)
}

func groupsCommand() *cobra.Command {
	cmd := leaf("groups <who> [set|add|remove] [<group>...]", "Shows or changes the groups of a user", cobra.MinimumNArgs(1), func(c *client, args []string) error {
		user, err := c.find(args[0])
		if err != nil {
			return err
		}
		if len(args) > 1 {
			return c.changeGroups(user, args[1], args[2:])
		}
		raw := fmt.Appendf(nil, `{"groups":%s}`, jsonOf(user.Groups))
		return c.print(raw, func(out io.Writer) { printGroups(out, user.Groups) })
	})
	cmd.Long = whoIs + `

'set' without a group takes all of them away.`
	return cmd
}

func (c *client) changeGroups(user *userView, verb string, groups []string) error {
	body := map[string][]string{}
	switch {
	case verb == "set":
		body["groups"] = groups
	case verb != "add" && verb != "remove":
		return fmt.Errorf("unknown word %.40q (write set, add or remove)", verb)
	case len(groups) == 0:
		return fmt.Errorf("%s which group? Write its name", verb)
	default:
		body[verb] = groups
	}
	var changed userView
	raw, err := c.call(http.MethodPut, user.path("/groups"), body, &changed)
	if err != nil {
		return err
	}
	return c.print(raw, func(out io.Writer) { printGroups(out, changed.Groups) })
}

func printGroups(out io.Writer, groups []string) {
	for _, group := range groups {
		fmt.Fprintln(out, visible(group))
	}
}

func deleteCommand() *cobra.Command {
	cmd := leaf("delete <who>", "Deletes a user and all that is kept of them, for good", cobra.ExactArgs(1), func(c *client, args []string) error {
		user, err := c.find(args[0])
		if err != nil {
			return err
		}
		if err := c.confirm("Delete %s for good?", title(user)); err != nil {
			return err
		}
		raw, err := c.call(http.MethodDelete, user.path(""), nil, nil)
		if err != nil {
			return err
		}
		return c.print(raw, func(out io.Writer) { fmt.Fprintf(out, "%s is deleted\n", title(user)) })
	})
	cmd.Flags().Bool("yes", false, "Don't ask")
	return cmd
}

// table aligns columns of text that others wrote.
type table struct{ w *tabwriter.Writer }

func newTable(out io.Writer, heads ...string) *table {
	t := &table{tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)}
	if len(heads) > 0 {
		fmt.Fprint(t.w, strings.Join(heads, "\t"), "\n")
	}
	return t
}

func (t *table) row(cells ...string) {
	for i := range cells {
		cells[i] = visible(cells[i])
	}
	fmt.Fprint(t.w, strings.TrimRight(strings.Join(cells, "\t"), "\t"), "\n")
}

// flush prints what is in the table. Where the output fails there is nobody left
// to tell.
func (t *table) flush() { _ = t.w.Flush() }

func since(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return ago(time.Since(t))
}
