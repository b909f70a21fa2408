package policy

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// maxForms bounds what one request can make us match.
const maxForms = 8

// Forms returns every other request that some app could take r for, by what
// its matchers may look at besides its path: a method in capitals, or in a
// header or parameter that frameworks obey instead; the host without a dot at
// its end; one of several values of a parameter alone. And, whatever the
// matchers look at, the place that WebDAV's COPY and MOVE write to (RFC 4918
// section 10.3). The visitor must be admitted under the rule of each.
//
// A method that a form's body names is not seen: rules by method are no fence
// around an app that obeys one.
//
// With byPath nothing but paths is matched, and only that place is looked for.
// complete is false where there are more than 8 forms, or one cannot be read:
// refuse such a request. r is not changed; a form shares its headers.
func Forms(r *http.Request, byPath bool) (forms []*http.Request, complete bool) {
	if byPath && len(r.Header["Destination"]) == 0 {
		return nil, true
	}
	methods, hosts, queries := []string{r.Method}, []string{r.Host}, []string{r.URL.RawQuery}
	if !byPath {
		methods, queries = methodsOf(r), queriesOf(r.URL.RawQuery)
		hosts = addNew(hosts, strings.TrimSuffix(r.Host, "."))
	}
	paths := []*url.URL{r.URL}
	for _, to := range r.Header["Destination"] {
		u, err := url.Parse(to)
		if err != nil || u.Path == "" {
			return nil, false
		}
		paths = append(paths, u)
	}
	if len(methods)*len(hosts)*len(queries)*len(paths) > maxForms+1 {
		return nil, false
	}
	for _, method := range methods {
		for _, host := range hosts {
			for _, query := range queries {
				for _, path := range paths {
					forms = append(forms, form(r, method, host, query, path))
				}
			}
		}
	}
	return forms[1:], true
}

// form is r in another form.
func form(r *http.Request, method, host, query string, path *url.URL) *http.Request {
	other := *r
	other.Method, other.Host = method, host
	other.URL = &url.URL{Path: path.Path, RawPath: path.RawPath, RawQuery: query}
	other.RequestURI = other.URL.RequestURI()
	return &other
}

// methodsOf are the methods that r asks for: its own first.
func methodsOf(r *http.Request) []string {
	methods := addNew([]string{r.Method}, strings.ToUpper(r.Method))
	for name, values := range r.Header {
		if !overrides(name) {
			continue
		}
		for _, value := range values {
			methods = addNew(methods, strings.ToUpper(strings.TrimSpace(value)))
		}
	}
	for pair := range strings.SplitSeq(readable(r.URL.RawQuery), "&") {
		name, value, _ := strings.Cut(pair, "=")
		if strings.EqualFold(unescaped(name), "_method") {
			methods = addNew(methods, strings.ToUpper(unescaped(value)))
		}
	}
	return methods
}

// overrides reports whether frameworks take the method from this header, in
// the spelling that a CGI gives it, too.
func overrides(name string) bool {
	switch len(name) {
	case len("X-Http-Method"), len("X-Method-Override"), len("X-Http-Method-Override"):
		name = strings.ToLower(strings.NewReplacer("_", "-", ".", "-").Replace(name))
		return name == "x-http-method" || name == "x-method-override" || name == "x-http-method-override"
	default:
		return false
	}
}

// queriesOf are the ways in which query can be read: with ; between parameters,
// too, and where one comes more than once by its first value, its last or all.
func queriesOf(query string) []string {
	queries := []string{query}
	if !strings.ContainsAny(query, "&;%") {
		return queries
	}
	queries = addNew(queries, readable(query))
	pairs := strings.Split(readable(query), "&")
	first := onceEach(pairs)
	if len(first) == len(pairs) {
		return queries
	}
	slices.Reverse(pairs)
	return addNew(addNew(queries, strings.Join(first, "&")), strings.Join(onceEach(pairs), "&"))
}

// readable is query as the lenient read it: with & for ;, and a % that begins
// no escape as a %. Go, and with it Caddy's matchers, would drop such a
// parameter or the whole query.
func readable(query string) string {
	query = strings.ReplaceAll(query, ";", "&")
	if _, err := url.QueryUnescape(query); err == nil {
		return query
	}
	var b strings.Builder
	for i := range len(query) {
		b.WriteByte(query[i])
		if query[i] == '%' && (i+2 >= len(query) || !isHex(query[i+1]) || !isHex(query[i+2])) {
			b.WriteString("25")
		}
	}
	return b.String()
}

func unescaped(s string) string {
	plain, _ := url.QueryUnescape(s) // readable has no other escapes than valid ones
	return plain
}

// onceEach are the pairs of which none has the name of one before.
func onceEach(pairs []string) (once []string) {
	seen := map[string]bool{}
	for _, pair := range pairs {
		name, _, _ := strings.Cut(pair, "=")
		if name = unescaped(name); !seen[name] {
			seen[name] = true
			once = append(once, pair)
		}
	}
	return once
}

func addNew(all []string, s string) []string {
	if s == "" || slices.Contains(all, s) {
		return all
	}
	return append(all, s)
}
