package module_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
)

// Taste is a test: what a reviewer would say each time, said once. A rule
// finds what breaks it; where something must, it is excused by name and with a
// reason, and an excuse that nothing needs any more is an error, too.

// ours is the path of this module, caddy that of Caddy.
const (
	ours  = "github.com/caddy-login/caddy-login"
	caddy = "github.com/caddyserver/caddy/v2"
)

// tree is a repository, as far as rules look at it.
type tree struct {
	fs.FS
	fset    *token.FileSet
	sources []source
	// names are the packages' names where they are not the end of the path.
	names map[string]string
	// tracked are the files that belong to the repository.
	tracked []string
}

// source is a Go file.
type source struct {
	path string
	dir  string
	test bool
	*ast.File
}

// rule returns what breaks it, each as `file:line: what is wrong and why`.
type rule func(*tree) []string

// excuses are the beginnings of findings that may stay, with a reason each.
type excuses map[string]string

// keep fails the test for what breaks the rule, and if the rule does not even
// find what is wrong with the bad files.
func keep(t *testing.T, r rule, excused excuses, bad fstest.MapFS) {
	t.Helper()
	if found := r(read(t, bad)); len(found) == 0 {
		t.Errorf("the rule finds nothing wrong with %v", bad)
	}
	found := r(repository(t))
	slices.Sort(found)
	for beginning := range excused {
		rest := slices.DeleteFunc(slices.Clone(found), func(f string) bool { return strings.HasPrefix(f, beginning) })
		if len(rest) == len(found) {
			t.Errorf("%s needs no excuse any more", beginning)
		}
		found = rest
	}
	for _, f := range found {
		t.Error(f)
	}
}

func TestImportsPointOneWay(t *testing.T) {
	keep(t, againstTheStream, nil, files("module/policy/a.go", `package policy; import "`+caddy+`"`))
	for _, bad := range []fstest.MapFS{
		files("module/guest/a.go", `package guest; import "golang.org/x/net/idna"`),
		files("module/seal/a.go", `package seal; import "`+ours+`/module"`),
		files("module/a.go", `package module; import "`+ours+`/caddyfile"`),
		files("caddyfile/a.go", `package caddyfile; import "`+ours+`/plugin/provider/oidc"`),
		files("plugin/mailer/smtp/a.go", `package smtp; import "`+ours+`/module/page"`),
		files("plugin/provider/oidc/a.go", `package oidc; import "`+ours+`/plugin/store/badger"`),
		files("module/logintest/a_test.go", `package logintest`, "module/page/a.go", `package page; import "testing"`),
		files("caddyfile/a.go", `package caddyfile; import "`+ours+`/plugin"`),
	} {
		if len(againstTheStream(read(t, bad))) == 0 {
			t.Errorf("the rule finds nothing wrong with %v", bad)
		}
	}
}

// ban keeps some packages from importing some others. Packages of ours are
// named by their folder, others by their path.
type ban struct {
	from, to func(pkg string) bool
	why      string
}

var bans = []ban{
	{is("module/guest"), not(isStandard),
		"contracts hang on nothing, so that a guest written today builds against tomorrow's house"},
	{isPart, isCaddy,
		"the parts are plain Go: fast to test, and read without knowing Caddy"},
	{isPart, or(is("module"), below("caddyfile"), below("plugin"), below("examples")),
		"a part knows nothing of the whole that it is in"},
	{is("module"), or(below("caddyfile"), below("plugin"), below("examples")),
		"what runs needs neither how it is written nor what can be swapped"},
	{below("caddyfile"), or(below("plugin"), below("examples")),
		"the grammar knows no guest by name: each brings its own words"},
	{isGuest, and(isOurs, not(is("module/guest")), not(below("plugin"))),
		"what can be swapped depends on the contracts alone"},
	{below("plugin/provider"), and(below("plugin"), not(below("plugin/provider"))), "guests of different kinds don't know each other"},
	{below("plugin/store"), and(below("plugin"), not(below("plugin/store"))), "guests of different kinds don't know each other"},
	{below("plugin/mailer"), and(below("plugin"), not(below("plugin/mailer"))), "guests of different kinds don't know each other"},
	{not(or(below("plugin/caddy"), below("examples"), below("module/logintest"))), is("plugin"),
		"plugin imports everything: whoever imports it can leave nothing out"},
	{isShipped, or(is("testing"), below("module/logintest"), below("plugin/store/storetest")),
		"what serves tests does not go into anybody's Caddy"},
}

func againstTheStream(h *tree) (found []string) {
	for _, s := range h.sources {
		if s.test {
			continue
		}
		for _, spec := range s.Imports {
			to := folder(importPath(spec))
			for _, ban := range bans {
				if ban.from(s.dir) && ban.to(to) {
					found = append(found, fmt.Sprintf("%s: %s must not import %s: %s", h.at(spec), s.dir, to, ban.why))
				}
			}
		}
	}
	return found
}

func is(pkg string) func(string) bool { return func(p string) bool { return p == pkg } }

func below(pkg string) func(string) bool {
	return func(p string) bool { return p == pkg || strings.HasPrefix(p, pkg+"/") }
}

func not(f func(string) bool) func(string) bool { return func(p string) bool { return !f(p) } }

func or(fs ...func(string) bool) func(string) bool {
	return func(p string) bool { return slices.ContainsFunc(fs, func(f func(string) bool) bool { return f(p) }) }
}

func and(fs ...func(string) bool) func(string) bool {
	return func(p string) bool { return !slices.ContainsFunc(fs, func(f func(string) bool) bool { return !f(p) }) }
}

var (
	isCaddy = below(caddy)
	isOurs  = or(below("module"), below("caddyfile"), below("plugin"), below("examples"))
	// isPart is a package that module is made of.
	isPart = and(below("module"), not(is("module")), not(below("module/logintest")))
	// isGuest is a package that can be swapped.
	isGuest = and(below("plugin"), not(is("plugin")), not(below("plugin/caddy")))
	// isShipped is what somebody's Caddy is made of.
	isShipped = and(isOurs, not(or(below("examples"), below("module/logintest"), below("plugin/store/storetest"), below("plugin/caddy/bench"))))
)

// isStandard reports whether pkg is the standard library's: those have no dot
// in their first element.
func isStandard(pkg string) bool {
	first, _, _ := strings.Cut(pkg, "/")
	return !strings.Contains(first, ".") && !isOurs(pkg)
}

// folder is where a package of ours lies; others keep their path.
func folder(pkg string) string {
	if pkg == ours {
		return "."
	}
	return strings.TrimPrefix(pkg, ours+"/")
}

func TestEveryPackageHasOneComment(t *testing.T) {
	keep(t, packageComments, nil, files("a/a.go", "package a"))
	two := files("a/a.go", "// Package a is one.\npackage a", "a/b.go", "// Package a is two.\npackage a")
	if len(packageComments(read(t, two))) == 0 {
		t.Error("the rule finds nothing wrong with two comments")
	}
}

// packageComments looks at tests only where a folder holds nothing else.
func packageComments(h *tree) (found []string) {
	program, comments := map[string]bool{}, map[string][]string{}
	for _, s := range h.sources {
		program[s.dir] = program[s.dir] || !s.test
	}
	for _, s := range h.sources {
		if s.Doc != nil && s.test != program[s.dir] {
			comments[s.dir] = append(comments[s.dir], s.path)
		}
	}
	for dir := range program {
		if in := comments[dir]; len(in) != 1 {
			found = append(found, fmt.Sprintf("%s: has %d package comments %v: exactly one tells what the package is", dir, len(in), in))
		}
	}
	return found
}

func TestLifecycleMethodsHaveTheirGuard(t *testing.T) {
	const imports = `import ("` + caddy + `"; "` + caddy + `/modules/caddyhttp"; "net/http"); `
	keep(t, unguarded, nil, files("a/a.go", "package a; "+imports+"type T struct{}; func (*T) Provision(caddy.Context) error { return nil }; var _ caddy.Provisioner = (*U)(nil)"))
	for _, method := range []string{
		"CaddyModule() caddy.ModuleInfo", "Start() error", "Stop() error", "Validate() error", "Cleanup() error", "Destruct() error",
		"ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error", "UnmarshalCaddyfile(d *caddyfile.Dispenser) error",
	} {
		bad := files("a/a.go", "package a; "+imports+"type T struct{}; func (T) "+method+"; var _ caddy.Module = (*U)(nil)")
		bad["a/b.go"] = &fstest.MapFile{Data: []byte("package a; func (T) CaddyModule() caddy.ModuleInfo")}
		if found := strings.Join(unguarded(read(t, bad)), "\n"); !strings.Contains(found, "T."+method[:strings.Index(method, "(")]) {
			t.Errorf("the rule misses %s: %s", method, found)
		}
	}
}

// lifecycle are the methods that Caddy finds by an interface of its own: one
// with a wrong signature is silently never called.
var lifecycle = map[string]string{
	"CaddyModule":        "caddy.Module",
	"Provision":          "caddy.Provisioner",
	"Validate":           "caddy.Validator",
	"Start":              "caddy.App",
	"Stop":               "caddy.App",
	"Cleanup":            "caddy.CleanerUpper",
	"Destruct":           "caddy.Destructor",
	"ServeHTTP":          "caddyhttp.MiddlewareHandler",
	"UnmarshalCaddyfile": "caddyfile.Unmarshaler",
}

func unguarded(h *tree) (found []string) {
	guards, modules := map[string]bool{}, map[string]bool{}
	for _, s := range h.program() {
		for _, guard := range guardsOf(s.File) {
			guards[s.dir+" "+guard] = true
		}
		for _, f := range methods(s.File) {
			if f.Name.Name == "CaddyModule" {
				modules[s.dir+" "+receiver(f)] = true
			}
		}
	}
	for _, s := range h.program() {
		for _, f := range methods(s.File) {
			want, known := lifecycle[f.Name.Name]
			if !known || !isLifecycle(f, modules[s.dir+" "+receiver(f)]) {
				continue
			}
			if !guards[s.dir+" "+want+" "+receiver(f)] {
				found = append(found, fmt.Sprintf("%s: %s.%s has no guard: write var _ %s = (*%s)(nil), or Caddy may silently not call it", h.at(f), receiver(f), f.Name.Name, want, receiver(f)))
			}
		}
	}
	return found
}

// isLifecycle tells Caddy's methods from others of the same name: an
// http.Handler's ServeHTTP, the Start of what is no module.
func isLifecycle(f *ast.FuncDecl, ofModule bool) bool {
	switch f.Name.Name {
	case "ServeHTTP":
		return ofModule || takesNext(f)
	case "Validate", "Start", "Stop", "Cleanup":
		return ofModule
	case "Destruct":
		return f.Type.Params.NumFields() == 0
	default:
		return true
	}
}

// takesNext reports whether the last parameter is the handler after this one.
func takesNext(f *ast.FuncDecl) bool {
	params := f.Type.Params.List
	if len(params) == 0 {
		return false
	}
	selector, ok := params[len(params)-1].Type.(*ast.SelectorExpr)
	return ok && fmt.Sprint(selector.X, ".", selector.Sel) == "caddyhttp.Handler"
}

// guardsOf are the `var _ I = (*T)(nil)` of a file, as "I T".
func guardsOf(f *ast.File) (guards []string) {
	for node := range ast.Preorder(f) {
		spec, ok := node.(*ast.ValueSpec)
		if !ok || len(spec.Names) != 1 || spec.Names[0].Name != "_" || len(spec.Values) != 1 {
			continue
		}
		if selector, ok := spec.Type.(*ast.SelectorExpr); ok {
			guards = append(guards, fmt.Sprintf("%s.%s %s", selector.X, selector.Sel, pointedTo(spec.Values[0])))
		}
	}
	return guards
}

// pointedTo is the T of (*T)(nil), or empty.
func pointedTo(e ast.Expr) string {
	call, ok := e.(*ast.CallExpr)
	if !ok {
		return ""
	}
	paren, ok := call.Fun.(*ast.ParenExpr)
	if !ok {
		return ""
	}
	star, ok := paren.X.(*ast.StarExpr)
	if !ok {
		return ""
	}
	return fmt.Sprint(star.X)
}

func TestEverySwitchOnAWordHasADefault(t *testing.T) {
	keep(t, switchesWithoutDefault, nil, files("a/a.go", `package a; func f() { switch d.Val() { case "a": } }`))
	init := files("a/a.go", `package a; func f() { switch word := d.Val(); word { case "a": } }`)
	if len(switchesWithoutDefault(read(t, init))) == 0 {
		t.Error("the rule misses a word with a name")
	}
}

func switchesWithoutDefault(h *tree) (found []string) {
	for _, s := range h.sources {
		for node := range ast.Preorder(s.File) {
			sw, ok := node.(*ast.SwitchStmt)
			if !ok || !asksForWord(sw.Tag) && !asksForWord(sw.Init) {
				continue
			}
			if !slices.ContainsFunc(sw.Body.List, func(c ast.Stmt) bool { return c.(*ast.CaseClause).List == nil }) {
				found = append(found, h.at(sw)+": no default: an unknown word would pass silently")
			}
		}
	}
	return found
}

// asksForWord reports whether a node calls Val, as in d.Val().
func asksForWord(n ast.Node) bool {
	if n == nil || reflect.ValueOf(n).IsNil() {
		return false
	}
	for node := range ast.Preorder(n) {
		if call, ok := node.(*ast.CallExpr); ok && len(call.Args) == 0 {
			if selector, ok := call.Fun.(*ast.SelectorExpr); ok && selector.Sel.Name == "Val" {
				return true
			}
		}
	}
	return false
}

func TestEveryJSONFieldIsExplained(t *testing.T) {
	keep(t, unexplainedFields, excuses{
		"caddyfile/guest.go":    "reads the name out of a guest's JSON, which the guest explains",
		"examples/demo/":        "what the demo's app tells its own page",
		"module/logintest/e2e/": "what tests tell a program of theirs, by names of OpenID Connect",
		"plugin/caddy/bench/":   "a report whose names carry their units",
	}, files("a/a.go", "package a; type T struct { A int `json:\"a\"` }"))
}

func unexplainedFields(h *tree) (found []string) {
	for _, s := range h.program() {
		for node := range ast.Preorder(s.File) {
			field, ok := node.(*ast.Field)
			if !ok || field.Tag == nil || field.Doc != nil || field.Comment != nil {
				continue
			}
			text, err := strconv.Unquote(field.Tag.Value)
			if name, tagged := reflect.StructTag(text).Lookup("json"); err == nil && tagged && name != "-" {
				found = append(found, fmt.Sprintf("%s: JSON field %q has no comment: the struct is the manual", h.at(field), name))
			}
		}
	}
	return found
}

func TestEveryGuestHasAGoldenFile(t *testing.T) {
	keep(t, guestsWithoutGoldenFile, nil, files("plugin/provider/x/a.go", `package x; var i = caddy.ModuleInfo{ID: "login.providers.x"}`))
	ids := guests(repository(t))
	if len(ids) < 4 {
		t.Errorf("found the guests %v only", ids)
	}
}

// guests are the IDs of all guest modules, and where they are told.
func guests(h *tree) map[string]ast.Node {
	ids := map[string]ast.Node{}
	for _, s := range h.program() {
		for node := range ast.Preorder(s.File) {
			literal, ok := node.(*ast.BasicLit)
			if !ok || literal.Kind != token.STRING || !below("plugin")(s.dir) {
				continue
			}
			if id, err := strconv.Unquote(literal.Value); err == nil && strings.Count(id, ".") == 2 && strings.HasPrefix(id, "login.") {
				ids[id] = literal
			}
		}
	}
	return ids
}

func guestsWithoutGoldenFile(h *tree) (found []string) {
	for id, node := range guests(h) {
		part := strings.Split(id, ".")
		kind, name := strings.TrimSuffix(part[1], "s"), regexp.QuoteMeta(part[2])
		mention := regexp.MustCompile(`"` + kind + `":\s*"` + name + `"`)
		file := h.fset.Position(node.Pos()).Filename
		golden := slices.Concat(h.glob("caddyfile/testdata/*.caddyfiletest"), h.glob("plugin/testdata/*.caddyfiletest"),
			h.glob(path.Dir(file)+"/testdata/*"))
		if !slices.ContainsFunc(golden, func(p string) bool { return mention.MatchString(h.text(p)) }) {
			found = append(found, h.at(node)+": no golden file shows what "+id+" becomes in JSON")
		}
	}
	return found
}

func TestEveryExampleIsDriven(t *testing.T) {
	keep(t, undrivenExamples, nil, files("examples/x/Caddyfile", "x", "examples/examples_test.go", "package examples_test"))
}

// undrivenExamples finds examples that are neither a story of examples_test.go
// nor a program with tests of its own.
func undrivenExamples(h *tree) (found []string) {
	driven := map[string]bool{}
	for _, s := range h.sources {
		driven[s.dir] = driven[s.dir] || s.test
		if s.dir != "examples" || !s.test {
			continue
		}
		for _, name := range keysOf("stories", s.File) {
			driven["examples/"+name] = true
		}
	}
	for _, file := range h.glob("examples/*/*") {
		if dir := path.Dir(file); !driven[dir] {
			driven[dir] = true
			found = append(found, dir+": nothing drives this example")
		}
	}
	return found
}

// keysOf are the keys of a file's map of this name.
func keysOf(variable string, f *ast.File) (keys []string) {
	for node := range ast.Preorder(f) {
		spec, ok := node.(*ast.ValueSpec)
		if !ok || spec.Names[0].Name != variable {
			continue
		}
		for node := range ast.Preorder(spec) {
			if pair, ok := node.(*ast.KeyValueExpr); ok {
				if key, ok := pair.Key.(*ast.BasicLit); ok {
					text, _ := strconv.Unquote(key.Value) // it was parsed
					keys = append(keys, text)
				}
			}
		}
	}
	return keys
}

func TestNoPackageIsADrawer(t *testing.T) {
	keep(t, drawers, nil, files("a/a.go", "package utils"))
}

var drawer = regexp.MustCompile(`(?:^|_)(?:common|helpers?|misc)$|utils?$`)

func drawers(h *tree) (found []string) {
	for _, s := range h.sources {
		if drawer.MatchString(strings.TrimSuffix(s.Name.Name, "_test")) {
			found = append(found, fmt.Sprintf("%s: package %s is a drawer: name it after what it is about", s.path, s.Name.Name))
		}
	}
	return found
}

func TestExportedSignaturesNameNoDependency(t *testing.T) {
	keep(t, exportedDependencies, nil, files("a/a.go", `package a; import "go.uber.org/zap"; func F(*zap.Logger) {}`))
	for _, bad := range []string{
		"type T struct { L *zap.Logger }", "type T struct { *zap.Logger }", "type T interface { F() zap.Field }",
		"type T []zap.Field", "var V zap.Field", "type T struct{}; func (*T) F() (zap.Field, error) { return nil, nil }",
	} {
		if len(exportedDependencies(read(t, files("a/a.go", `package a; import "go.uber.org/zap"; `+bad)))) == 0 {
			t.Errorf("the rule finds nothing wrong with %s", bad)
		}
	}
}

func exportedDependencies(h *tree) (found []string) {
	for _, s := range h.program() {
		if s.Name.Name == "main" {
			continue // nobody can import it
		}
		imported := h.imported(s.File)
		for _, typ := range exportedTypes(s.File) {
			for node := range ast.Preorder(typ) {
				selector, ok := node.(*ast.SelectorExpr)
				if !ok {
					continue
				}
				pkg := imported[fmt.Sprint(selector.X)]
				if pkg != "" && !isStandard(pkg) && !isCaddy(pkg) && !isOurs(folder(pkg)) {
					found = append(found, fmt.Sprintf("%s: exports %s of %s: a dependency that can't be let go", h.at(node), selector.Sel, pkg))
				}
			}
		}
	}
	return found
}

// exportedTypes are the types that a file's exported names are made of.
func exportedTypes(f *ast.File) (types []ast.Expr) {
	for _, decl := range f.Decls {
		switch decl := decl.(type) {
		case *ast.FuncDecl:
			if decl.Name.IsExported() && (decl.Recv == nil || ast.IsExported(receiver(decl))) {
				types = append(types, decl.Type)
			}
		case *ast.GenDecl:
			for _, spec := range decl.Specs {
				types = append(types, exportedOf(spec)...)
			}
		}
	}
	return types
}

func exportedOf(spec ast.Spec) (types []ast.Expr) {
	switch spec := spec.(type) {
	case *ast.ValueSpec:
		if spec.Type != nil && slices.ContainsFunc(spec.Names, (*ast.Ident).IsExported) {
			return []ast.Expr{spec.Type}
		}
	case *ast.TypeSpec:
		structure, ok := spec.Type.(*ast.StructType)
		switch {
		case !spec.Name.IsExported():
			return nil
		case !ok:
			return []ast.Expr{spec.Type}
		}
		for _, field := range structure.Fields.List {
			if len(field.Names) == 0 || slices.ContainsFunc(field.Names, (*ast.Ident).IsExported) {
				types = append(types, field.Type)
			}
		}
	}
	return types
}

func TestNoWarningIsSilencedWithoutAReason(t *testing.T) {
	keep(t, silenced, nil, files("a/a.go", "package a\n\nvar a int //"+"nolint:unused\n"))
	good := files("a/a.go", "package a\n\nvar a int //"+"nolint:unused // the linker fills it in\n")
	if found := silenced(read(t, good)); len(found) > 0 {
		t.Errorf("a reason does not count: %v", found)
	}
}

var (
	silencer = regexp.MustCompile(`^//\s*(?:nolint|lint:(?:file-)?ignore|#nosec)`)
	reasoned = regexp.MustCompile(`^//\s*(?:nolint\S*\s+//\s*\w+ \w+|lint:(?:file-)?ignore \S+ \w+ \w+|#nosec \S+ \w+ \w+)`)
)

func silenced(h *tree) (found []string) {
	for _, s := range h.sources {
		for _, group := range s.Comments {
			for _, comment := range group.List {
				if silencer.MatchString(comment.Text) && !reasoned.MatchString(comment.Text) {
					found = append(found, h.at(comment)+": silences a warning and does not say why")
				}
			}
		}
	}
	return found
}

func TestFunctionsFitOnAScreen(t *testing.T) {
	keep(t, longFunctions, nil, files("a/a.go", "package a\nfunc f() {"+strings.Repeat("\n", longest)+"}"))
}

// longest is how many lines a function may have. Most have about ten.
const longest = 60

func longFunctions(h *tree) (found []string) {
	for _, s := range h.program() {
		for _, decl := range s.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if !ok {
				continue
			}
			if lines := h.fset.Position(f.End()).Line - h.fset.Position(f.Pos()).Line + 1; lines > longest {
				found = append(found, fmt.Sprintf("%s: %s has %d lines: at most %d", h.at(f), f.Name, lines, longest))
			}
		}
	}
	return found
}

func TestNoTestSleeps(t *testing.T) {
	keep(t, sleepers, nil, files("a/a_test.go", `package a; import "time"; func f() { time.Sleep(1) }`))
}

// sleepers finds tests, and what serves them, that wait for time to pass
// instead of for what they wait for.
func sleepers(h *tree) (found []string) {
	serves := or(below("module/logintest"), below("plugin/store/storetest"))
	for _, s := range h.sources {
		if !s.test && !serves(s.dir) {
			continue
		}
		imported := h.imported(s.File)
		for node := range ast.Preorder(s.File) {
			selector, ok := node.(*ast.SelectorExpr)
			if ok && selector.Sel.Name == "Sleep" && imported[fmt.Sprint(selector.X)] == "time" {
				found = append(found, h.at(node)+": sleeps: wait for what should happen, or turn a clock")
			}
		}
	}
	return found
}

func TestNoFileNamesAMachine(t *testing.T) {
	keep(t, machines, nil, files("a.md", "see /home/"+"ada/src"))
	for _, bad := range []string{"/Users/" + "ada", "/root/" + "go", `"reso` + `lved": "https://npm.example/x.tgz"`, "GOPROXY" + "=https://go.example"} {
		if len(machines(read(t, files("package-lock.json", bad)))) == 0 {
			t.Errorf("the rule finds nothing wrong with %s", bad)
		}
	}
}

// machine is a path of somebody's computer, or a registry of somebody's own.
var machine = []*regexp.Regexp{
	regexp.MustCompile(`(?:^|[^\w./-])(?:/home/[a-z_][\w-]*/|/Users/[A-Za-z]|/root/\w|/w(?:ork)/\w|[A-Z]:\\\\?Users\\)`),
	regexp.MustCompile(`"resolved":\s*"http`), // npm leaves it out where .npmrc says so
	regexp.MustCompile(`(?:GOPROXY|GONOSUMDB|npm_config_registry|PIP_INDEX_URL)\s*[:=]\s*"?https?:`),
	regexp.MustCompile(`(?m)^registry\s*=`),
}

func machines(h *tree) (found []string) {
	hosts := registries()
	for _, file := range h.tracked {
		for n, line := range strings.Split(h.text(file), "\n") {
			for _, pattern := range machine {
				if at := pattern.FindString(line); at != "" {
					found = append(found, fmt.Sprintf("%s:%d: names a machine: %q", file, n+1, at))
				}
			}
			for _, host := range hosts {
				if strings.Contains(line, host) {
					found = append(found, fmt.Sprintf("%s:%d: names a registry of this machine's", file, n+1))
				}
			}
		}
	}
	return found
}

// registries are the hosts of this machine's own package registries.
func registries() (hosts []string) {
	proxies, _ := exec.Command("go", "env", "GOPROXY", "GOSUMDB").Output() // none is fine
	all := string(proxies)
	for _, name := range []string{"npm_config_registry", "NPM_CONFIG_REGISTRY", "PIP_INDEX_URL", "HTTPS_PROXY", "https_proxy"} {
		all += "\n" + os.Getenv(name)
	}
	for _, word := range strings.FieldsFunc(all, func(r rune) bool { return strings.ContainsRune(",|\n ", r) }) {
		u, err := url.Parse(word)
		if err == nil && strings.Contains(u.Hostname(), ".") && u.Hostname() != "127.0.0.1" {
			hosts = append(hosts, u.Hostname())
		}
	}
	return hosts
}

// repository is this one.
func repository(t *testing.T) *tree {
	t.Helper()
	h, err := wholeTree()
	if err != nil {
		t.Fatal(err)
	}
	return h
}

var wholeTree = sync.OnceValues(func() (*tree, error) {
	const root = ".."
	h, err := newTree(os.DirFS(root))
	if err != nil {
		return nil, err
	}
	list := exec.Command("go", "list", "-e", "-deps", "-f", "{{.ImportPath}} {{.Name}}", "./...")
	list.Dir = root
	out, err := list.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	for line := range strings.Lines(string(out)) {
		if pkg, name, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			h.names[pkg] = name
		}
	}
	// Outside of a checkout every file counts.
	git := exec.Command("git", "ls-files", "-co", "--exclude-standard")
	git.Dir = root
	if out, err := git.Output(); err == nil {
		h.tracked = strings.Split(strings.TrimSpace(string(out)), "\n")
	}
	return h, nil
})

// files is a repository of these files: path, content, path, content …
func files(pairs ...string) fstest.MapFS {
	all := fstest.MapFS{}
	for i := 0; i < len(pairs); i += 2 {
		all[pairs[i]] = &fstest.MapFile{Data: []byte(pairs[i+1])}
	}
	return all
}

func read(t *testing.T, all fs.FS) *tree {
	t.Helper()
	h, err := newTree(all)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func newTree(all fs.FS) (*tree, error) {
	h := &tree{FS: all, fset: token.NewFileSet(), names: map[string]string{}}
	err := fs.WalkDir(all, ".", func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && slices.Contains([]string{".git", "node_modules", "testdata", "bin"}, entry.Name()) {
			return fs.SkipDir
		}
		if entry.IsDir() {
			return nil
		}
		h.tracked = append(h.tracked, file)
		if path.Ext(file) != ".go" {
			return nil
		}
		return h.parse(file)
	})
	return h, err
}

func (h *tree) parse(file string) error {
	parsed, err := parser.ParseFile(h.fset, file, h.text(file), parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return fmt.Errorf("parsing: %w", err)
	}
	h.sources = append(h.sources, source{file, path.Dir(file), strings.HasSuffix(file, "_test.go"), parsed})
	return nil
}

// program is the sources that are no tests.
func (h *tree) program() (all []source) {
	for _, s := range h.sources {
		if !s.test {
			all = append(all, s)
		}
	}
	return all
}

func (h *tree) at(n ast.Node) string {
	p := h.fset.Position(n.Pos())
	return fmt.Sprintf("%s:%d", p.Filename, p.Line)
}

// text is a file's, or empty where it is gone by now.
func (h *tree) text(file string) string {
	content, _ := fs.ReadFile(h, filepath.ToSlash(file))
	return string(content)
}

func (h *tree) glob(pattern string) []string {
	paths, _ := fs.Glob(h, pattern) // the patterns are ours
	return paths
}

// imported are a file's imports by the name they have in it.
func (h *tree) imported(f *ast.File) map[string]string {
	names := map[string]string{}
	for _, spec := range f.Imports {
		pkg := importPath(spec)
		name := h.names[pkg]
		if name == "" {
			name = version.ReplaceAllString(pkg, "")
			name = name[strings.LastIndex(name, "/")+1:]
		}
		if spec.Name != nil {
			name = spec.Name.Name
		}
		names[name] = pkg
	}
	return names
}

var version = regexp.MustCompile(`/v\d+$`)

func importPath(spec *ast.ImportSpec) string {
	pkg, _ := strconv.Unquote(spec.Path.Value) // it was parsed
	return pkg
}

func methods(f *ast.File) (all []*ast.FuncDecl) {
	for _, decl := range f.Decls {
		if f, ok := decl.(*ast.FuncDecl); ok && f.Recv != nil {
			all = append(all, f)
		}
	}
	return all
}

// receiver is the name of a method's type, or empty for a function.
func receiver(f *ast.FuncDecl) string {
	if f.Recv == nil || len(f.Recv.List) != 1 {
		return ""
	}
	for node := range ast.Preorder(f.Recv.List[0].Type) {
		if name, ok := node.(*ast.Ident); ok {
			return name.Name
		}
	}
	return ""
}
