package examples_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/caddy-login/caddy-login/module/logintest"
	"github.com/caddy-login/caddy-login/module/logintest/e2e"
	"github.com/caddy-login/caddy-login/module/logintest/inbox"
)

func everyMetricIsShown(t *testing.T) {
	app, corp := e2e.NewApp(t), newCorp(t)
	box := inbox.Options{Username: secrets["SMTP_USERNAME"], Password: secrets["SMTP_PASSWORD"]}.New(t)
	s := show(t, "monitoring",
		replacement{"https://id.example.com", corp.URL},
		replacement{"smtp.example.com:587", box.Addr},
		replacement{"{env.SMTP_PASSWORD}\n", "{env.SMTP_PASSWORD} {\ntls_ca {file." + box.CAFile + "}\n}\n"},
		replacement{"localhost:3000", app.Addr})
	s.register(corp, "corp", secrets["OIDC_CLIENT_ID"], secrets["OIDC_CLIENT_SECRET"], "app.example.com")
	s.signInsOfAllKinds(corp, box)
	seen := s.scrape()
	for series, want := range map[string]string{
		`caddy_login_attempts_total{outcome="succeeded",provider="corp"}`:                        "1",
		`caddy_login_questions_total{kind="code"}`:                                               "1",
		`caddy_login_attempts_total{outcome="provider_unavailable",provider="corp"}`:             "1",
		`caddy_login_provider_seconds_count{call="discovery",provider="corp"}`:                   "1",
		`caddy_login_provider_seconds_count{call="keys",provider="corp"}`:                        "1",
		`caddy_login_provider_failures_total{call="token",provider="corp",reason="unreachable"}`: "1",
		`caddy_login_provider_seconds_count{call="token",provider="corp"}`:                       "3",
		`caddy_login_mails_total{outcome="sent"}`:                                                "1",
		`caddy_login_mail_seconds_count{outcome="sent"}`:                                         "1",
		`caddy_login_store_open`:       "1",
		`caddy_login_store_full_total`: "0",
		`caddy_login_sessions`:         "1",
	} {
		if got := seen.values[series]; got != want {
			t.Errorf("%s is %q, want %s", series, got, want)
		}
	}
	s.wantNothingOfAnybody(seen)
	seen.wantShown(t)
	s.wantCountsAfterReload(seen)
}

// signInsOfAllKinds are a sign-in by the provider, one that is asked to prove an
// address, one that asks for a code by mail, and one that finds the provider
// gone half-way.
func (s *stage) signInsOfAllKinds(corp *logintest.Issuer, box *inbox.Inbox) {
	s.t.Helper()
	inside, begin := s.at("app.example.com", "/inside"), s.at("app.example.com", "/.login/corp?return=%2Finside")
	for _, subject := range []string{"ada", "mallory"} {
		s.want(s.signIn(e2e.NewVisitor(s.t), corp, begin, subject), http.StatusOK)
	}
	s.ask(e2e.NewVisitor(s.t), inside, "grace@example.net")
	box.NextCode(e2e.Patience)

	unlucky := e2e.NewVisitor(s.t)
	asked := unlucky.Follow(begin)
	callback, _ := corp.SignIn(s.t, &http.Client{Jar: unlucky.Jar, Transport: unlucky.Transport}, asked.Request.URL.String(), "ada")
	corp.Down(true)
	if got := unlucky.Follow(callback.String()); got.StatusCode < 500 {
		s.t.Errorf("without its provider a sign-in ends in %d", got.StatusCode)
	}
	e2e.Eventually(s.t, 20*time.Second, "the mail to be counted", func() bool {
		return s.scrape().values[`caddy_login_mails_total{outcome="sent"}`] == "1"
	})
}

// scraped is what Prometheus gets.
type scraped struct {
	text   string
	values map[string]string          // of each series
	labels map[string]map[string]bool // names by series' name
}

var sample = regexp.MustCompile(`(?m)^(\w+)(?:\{(.*)\})? (\S+)$`)

func (s *stage) scrape() scraped {
	s.t.Helper()
	resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/metrics", s.AdminPort))
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		s.t.Fatalf("scraping: %d, %v", resp.StatusCode, err)
	}
	seen := scraped{string(body), map[string]string{}, map[string]map[string]bool{}}
	for _, line := range sample.FindAllStringSubmatch(seen.text, -1) {
		series := strings.TrimSuffix(line[0], " "+line[3])
		seen.values[series] = line[3]
		if seen.labels[line[1]] == nil {
			seen.labels[line[1]] = map[string]bool{}
		}
		for _, label := range label.FindAllStringSubmatch(line[2], -1) {
			seen.labels[line[1]][label[1]] = true
		}
	}
	return seen
}

// wantNothingOfAnybody looks for what visitors brought.
func (s *stage) wantNothingOfAnybody(seen scraped) {
	s.t.Helper()
	for line := range strings.Lines(seen.text) {
		if strings.HasPrefix(line, "caddy_login_") && regexp.MustCompile(`@|127\.0\.0\.1|/|ada|mallory|grace`).MatchString(line) {
			s.t.Errorf("a metric tells of a visitor: %s", line)
		}
	}
}

func (s *stage) wantCountsAfterReload(before scraped) {
	s.t.Helper()
	home := filepath.Dir(filepath.Dir(s.DataDir()))
	out, err := s.Command("reload", "--force", "--config", filepath.Join(home, "Caddyfile"), "--adapter", "caddyfile",
		"--address", fmt.Sprintf("127.0.0.1:%d", s.AdminPort))
	if err != nil {
		s.t.Fatalf("reloading: %v\n%s", err, out)
	}
	after := s.scrape()
	for series, value := range before.values {
		if strings.HasPrefix(series, "caddy_login_") && after.values[series] != value {
			s.t.Errorf("%s was %s and is %q after a reload", series, value, after.values[series])
		}
	}
}

// wantShown checks that the dashboard, the rules and the README ask for what
// there is, and that the dashboard and the README have all there is.
func (seen scraped) wantShown(t *testing.T) {
	t.Helper()
	words := vocabulary(t)
	shown := map[string]bool{}
	for _, expr := range slices.Concat(dashboardExprs(t), ruleExprs(t)) {
		for _, wrong := range seen.faults(expr, words) {
			t.Errorf("%s\nin %s", wrong, expr)
		}
	}
	for _, expr := range dashboardExprs(t) {
		for _, name := range metric.FindAllString(expr, -1) {
			shown[family(name)] = true
		}
	}
	readme := read(t, "README.md")
	for _, name := range ourMetrics(t) {
		if !slices.ContainsFunc([]string{name, name + "_count"}, func(n string) bool { return seen.labels[n] != nil }) {
			t.Errorf("%s is not in Caddy's metrics", name)
		}
		if !shown[name] {
			t.Errorf("%s is on no panel of the dashboard", name)
		}
		if !strings.Contains(readme, "`"+name+"`") {
			t.Errorf("%s is not in the README", name)
		}
	}
}

var (
	metric = regexp.MustCompile(`caddy_login_\w+`)
	part   = regexp.MustCompile(`_(?:bucket|count|sum)$`)
	named  = regexp.MustCompile(`(?:counter|gauge|histogram)\("(\w+)"|Name: "(\w+)"`)
)

// family is a histogram's name without what Prometheus makes of it.
func family(name string) string { return part.ReplaceAllString(name, "") }

// ourMetrics are all that the program makes.
func ourMetrics(t *testing.T) (names []string) {
	t.Helper()
	for _, match := range named.FindAllStringSubmatch(read(t, "../../module/metrics.go"), -1) {
		names = append(names, "caddy_login_"+match[1]+match[2])
	}
	if len(names) < 10 {
		t.Fatalf("found only %v", names)
	}
	return names
}

// vocabulary is every word that the program writes as a constant.
func vocabulary(t *testing.T) map[string]bool {
	t.Helper()
	words := map[string]bool{}
	for _, dir := range []string{"", "guest/", "mail/", "backchannel/", "identity/"} {
		paths, err := filepath.Glob(root + "/module/" + dir + "*.go")
		if err != nil || len(paths) == 0 {
			t.Fatalf("no sources in module/%s: %v", dir, err)
		}
		for _, path := range paths {
			content, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			for _, word := range regexp.MustCompile(`"(\w+)"`).FindAllStringSubmatch(string(content), -1) {
				words[word[1]] = true
			}
		}
	}
	return words
}

func read(t *testing.T, name string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("monitoring", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

var (
	selector = regexp.MustCompile(`(\w+)\{([^}]*)\}`)
	label    = regexp.MustCompile(`(\w+)(=~|!~|!=|=)"((?:[^"\\]|\\.)*)"`)
	grouping = regexp.MustCompile(`\b(?:by|without|on|ignoring) \(([\w, ]*)\)`)
	window   = regexp.MustCompile(`\[([^\]]*)\]`)
	duration = regexp.MustCompile(`^(?:[0-9]+[smhd]|\$__rate_interval)$`)
	word     = regexp.MustCompile(`[A-Za-z_]\w*(?: *\()?`)
	symbols  = regexp.MustCompile(`^[\s()+*/<>=!.,0-9-]*$`)
)

// functions and operators are those of PromQL that we use.
var (
	functions = []string{"sum", "min", "max", "rate", "increase", "absent", "histogram_quantile", "max_over_time"}
	operators = []string{"and", "or", "unless"}
)

// faults are what is wrong with an expression of PromQL: names and labels that
// are not there, words that nothing is called, what is no grammar.
func (seen scraped) faults(expr string, words map[string]bool) (wrong []string) {
	for _, s := range selector.FindAllStringSubmatch(expr, -1) {
		for _, one := range strings.Split(s[2], ", ") {
			m := label.FindStringSubmatch(one)
			switch {
			case m == nil || m[0] != one:
				wrong = append(wrong, "no matcher: "+one)
			case m[1] != "instance" && !seen.labels[s[1]][m[1]]:
				wrong = append(wrong, s[1]+" has no label "+m[1])
			default:
				wrong = append(wrong, unknownValues(m[3], words)...)
			}
		}
	}
	rest := selector.ReplaceAllString(expr, "$1")
	for _, w := range window.FindAllStringSubmatch(rest, -1) {
		if !duration.MatchString(w[1]) {
			wrong = append(wrong, "no duration: "+w[1])
		}
	}
	rest = grouping.ReplaceAllString(window.ReplaceAllString(rest, ""), "")
	return append(wrong, seen.faultsOfWords(rest)...)
}

func unknownValues(pattern string, words map[string]bool) (wrong []string) {
	if strings.HasPrefix(pattern, "$") {
		return nil
	}
	for value := range strings.SplitSeq(pattern, "|") {
		if !words[value] {
			wrong = append(wrong, "no label has the value "+value)
		}
	}
	return wrong
}

func (seen scraped) faultsOfWords(rest string) (wrong []string) {
	for _, w := range word.FindAllString(rest, -1) {
		name := strings.TrimRight(w, " (")
		switch {
		case seen.labels[w] != nil, slices.Contains(operators, w), name != w && slices.Contains(functions, name):
		default:
			wrong = append(wrong, "what is "+w+"?")
		}
	}
	if rest = word.ReplaceAllStringFunc(rest, func(w string) string { return strings.Repeat("(", strings.Count(w, "(")) }); !symbols.MatchString(rest) {
		wrong = append(wrong, "no PromQL: "+rest)
	}
	if strings.Count(rest, "(") != strings.Count(rest, ")") {
		wrong = append(wrong, "parentheses don't match")
	}
	return wrong
}

func TestMistakesInExpressionsAreFound(t *testing.T) {
	seen := scraped{labels: map[string]map[string]bool{"caddy_login_a_total": {"outcome": true}}}
	words := map[string]bool{"sent": true, "lost": true}
	for expr, good := range map[string]bool{
		`sum by (outcome) (rate(caddy_login_a_total{instance=~"$instance", outcome=~"sent|lost"}[5m])) > 0.5`: true,
		`caddy_login_a_total == 0 and absent(caddy_login_a_total)`:                                            true,
		`caddy_login_b_total`:                                false,
		`caddy_login_a_total{provider="sent"}`:               false,
		`caddy_login_a_total{outcome="sent",outcome="lost"}`: false,
		`caddy_login_a_total{outcome=~"send"}`:               false,
		`caddy_login_a_total{outcome="sent}`:                 false,
		`rate(caddy_login_a_total[5 minutes])`:               false,
		`speed(caddy_login_a_total[5m])`:                     false,
		`sum(rate(caddy_login_a_total[5m])`:                  false,
		`caddy_login_a_total & 1`:                            false,
	} {
		if wrong := seen.faults(expr, words); (len(wrong) == 0) != good {
			t.Errorf("%s: %v", expr, wrong)
		}
	}
}

// dashboard is what we rely on of Grafana's classic model.
type dashboard struct {
	Title, UID string
	Panels     []panel
	Templating struct {
		List []struct{ Name, Type, Query any }
	}
}

type panel struct {
	ID         int
	Type       string
	Title      string
	Datasource *struct{ Type, UID string }
	GridPos    struct{ X, Y, W, H int }
	Targets    []struct {
		Expr       string
		Datasource struct{ Type, UID string }
	}
}

func theDashboard(t *testing.T) (d dashboard) {
	t.Helper()
	if err := json.Unmarshal([]byte(read(t, "dashboard.json")), &d); err != nil {
		t.Fatal(err)
	}
	return d
}

func dashboardExprs(t *testing.T) (exprs []string) {
	t.Helper()
	for _, panel := range theDashboard(t).Panels {
		for _, target := range panel.Targets {
			exprs = append(exprs, target.Expr)
		}
	}
	if len(exprs) == 0 {
		t.Fatal("the dashboard asks for nothing")
	}
	return exprs
}

func TestDashboardCanBeImportedAnywhere(t *testing.T) {
	d := theDashboard(t)
	if len(d.Templating.List) == 0 || d.Templating.List[0].Type != "datasource" || d.Templating.List[0].Name != "datasource" || d.Title == "" || d.UID == "" {
		t.Fatal("there is no data source to choose")
	}
	ids, taken := map[int]bool{}, map[[2]int]string{}
	for _, p := range d.Panels {
		if ids[p.ID] || p.Title == "" {
			t.Errorf("panel %d %q: another has its id, or it has no title", p.ID, p.Title)
		}
		ids[p.ID] = true
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := taken[[2]int{x, y}]; other != "" || x >= 24 {
					t.Fatalf("%s lies over %s, or beside the page", p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
		if p.Type == "row" {
			continue
		}
		if p.Datasource == nil || p.Datasource.UID != "${datasource}" || len(p.Targets) == 0 {
			t.Errorf("%s asks another source than the one that was chosen", p.Title)
		}
		for _, target := range p.Targets {
			if target.Datasource.UID != "${datasource}" {
				t.Errorf("%s asks another source than the one that was chosen", p.Title)
			}
		}
	}
}

// rules is Prometheus' rule file, as far as ours goes.
type rules struct {
	Groups []struct {
		Name  string
		Rules []struct {
			Alert, Expr, For    string
			Labels, Annotations map[string]string
		}
	}
}

func theRules(t *testing.T) (r rules) {
	t.Helper()
	parse(t, "alerts.yml", &r)
	return r
}

// parse refuses what the type does not know.
func parse(t *testing.T, name string, into any) {
	t.Helper()
	decoder := yaml.NewDecoder(strings.NewReader(read(t, name)))
	decoder.KnownFields(true)
	if err := decoder.Decode(into); err != nil {
		t.Fatalf("reading %s: %v", name, err)
	}
}

func ruleExprs(t *testing.T) (exprs []string) {
	t.Helper()
	for _, group := range theRules(t).Groups {
		for _, rule := range group.Rules {
			exprs = append(exprs, rule.Expr)
		}
	}
	if len(exprs) == 0 {
		t.Fatal("there are no rules")
	}
	return exprs
}

// template is what a rule writes about what it found.
var template = regexp.MustCompile(`\{\{ \$(?:labels\.(\w+)|value(?: \| humanize\w+)?) \}\}`)

func TestRulesAreWhole(t *testing.T) {
	names := map[string]bool{}
	for _, group := range theRules(t).Groups {
		for _, rule := range group.Rules {
			severity, said := rule.Labels["severity"], rule.Annotations["summary"]+rule.Annotations["description"]
			if names[rule.Alert] || !strings.HasPrefix(rule.Alert, "Login") || severity != "critical" && severity != "warning" {
				t.Errorf("%s is there twice, or says not how bad it is", rule.Alert)
			}
			names[rule.Alert] = true
			if rule.Annotations["summary"] == "" || rule.Annotations["description"] == "" || rule.For != "" && !duration.MatchString(rule.For) {
				t.Errorf("%s does not say what to do, or lasts for %q", rule.Alert, rule.For)
			}
			for _, used := range template.FindAllStringSubmatch(said, -1) {
				if used[1] == "provider" && !strings.Contains(rule.Expr, "provider") {
					t.Errorf("%s names a provider that it does not know", rule.Alert)
				}
			}
			if strings.Contains(template.ReplaceAllString(said, ""), "{{") {
				t.Errorf("%s: no template: %s", rule.Alert, said)
			}
		}
	}
}

func TestScrapeConfigIsWhole(t *testing.T) {
	var config struct {
		Global    map[string]string
		RuleFiles []string `yaml:"rule_files"`
		Scrape    []struct {
			Job    string                       `yaml:"job_name"`
			Static []struct{ Targets []string } `yaml:"static_configs"`
		} `yaml:"scrape_configs"`
	}
	parse(t, "prometheus.yml", &config)
	if len(config.RuleFiles) != 1 || config.RuleFiles[0] != "alerts.yml" {
		t.Errorf("rules are read from %v", config.RuleFiles)
	}
	if len(config.Scrape) != 1 || len(config.Scrape[0].Static) != 1 || config.Scrape[0].Static[0].Targets[0] != "localhost:2019" {
		t.Errorf("scrapes %+v", config.Scrape)
	}
	for _, pair := range [][]string{{"check", "config", "prometheus.yml"}, {"check", "rules", "alerts.yml"}} {
		promtool(t, pair...)
	}
}

// promtool has Prometheus itself look, where it is installed; the tests above
// look everywhere.
func promtool(t *testing.T, args ...string) {
	t.Helper()
	program, err := exec.LookPath("promtool")
	if err != nil {
		return
	}
	cmd := exec.Command(program, args...)
	cmd.Dir = "monitoring"
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool %v: %v\n%s", args, err, out)
	}
}
