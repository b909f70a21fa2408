package policy

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
)

// asked is a request with these headers, by turns name and value, as they came.
func asked(method, target string, headers ...string) *http.Request {
	r := httptest.NewRequest("GET", "http://app.test"+target, nil)
	r.Method = method
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header[headers[i]] = append(r.Header[headers[i]], headers[i+1])
	}
	return r
}

func TestRequestsHaveTheFormsThatAppsGiveThem(t *testing.T) {
	dotted := asked("GET", "/x")
	dotted.Host = "app.test."
	for _, c := range []struct {
		r    *http.Request
		want string
	}{
		{asked("POST", "/x", "X-Http-Method-Override", "DELETE"), "DELETE app.test /x"},
		{asked("POST", "/x", "X-Http-Method-Override", " delete "), "DELETE app.test /x"},
		{asked("POST", "/x", "X_http_method_override", "DELETE"), "DELETE app.test /x"},
		{asked("POST", "/x", "X-Http-Method", "PUT"), "PUT app.test /x"},
		{asked("GET", "/x", "X-Method-Override", "PATCH"), "PATCH app.test /x"},
		{asked("POST", "/x", "X-Http-Method-Override", "POST", "X-Http-Method-Override", "DELETE"), "DELETE app.test /x"},
		{asked("POST", "/x?_method=delete"), "DELETE app.test /x?_method=delete"},
		{asked("POST", "/x?%5Fmethod=DELETE"), "DELETE app.test /x?%5Fmethod=DELETE"},
		{asked("POST", "/x?a=b&_METHOD=PUT"), "PUT app.test /x?a=b&_METHOD=PUT"},
		{asked("delete", "/x"), "DELETE app.test /x"},
		{dotted, "GET app.test /x"},
		{asked("GET", "/x?a=1&a=2"), "GET app.test /x?a=1"},
		{asked("GET", "/x?a=1&b=3&a=2"), "GET app.test /x?a=2&b=3"},
		{asked("GET", "/x?a=1&%61=2"), "GET app.test /x?%61=2"},
		{asked("GET", "/x?a=1;a=2"), "GET app.test /x?a=2"},
		{asked("GET", "/x?b;a=2"), "GET app.test /x?b&a=2"},
		{asked("GET", "/x?b=100%;a=2"), "GET app.test /x?b=100%25&a=2"},
		{asked("POST", "/x?a;_method=PUT&b=%"), "PUT app.test /x?a;_method=PUT&b=%"},
		{asked("MOVE", "/x", "Destination", "https://app.test/y/z?a"), "MOVE app.test /y/z"},
		{asked("COPY", "/x", "Destination", "/y%2Fz"), "COPY app.test /y%2Fz"},
	} {
		forms, complete := Forms(c.r, false)
		var got []string
		for _, f := range forms {
			got = append(got, f.Method+" "+f.Host+" "+f.RequestURI)
		}
		if !complete || !slices.Contains(got, c.want) {
			t.Errorf("%s %s has the forms %q, complete: %v; want %q", c.r.Method, c.r.URL, got, complete, c.want)
		}
	}
}

func TestHonestRequestsHaveOneForm(t *testing.T) {
	for _, r := range []*http.Request{
		asked("GET", "/"), asked("POST", "/x?a=b&c=d"), asked("DELETE", "/x?method=GET", "X-Requested-With", "XMLHttpRequest"),
		asked("PROPFIND", "/x", "Depth", "1"), asked("POST", "/x", "X-Http-Method-Override", "POST"), asked("GET", "/x?a=b=c&d"),
	} {
		if forms, complete := Forms(r, false); len(forms) > 0 || !complete {
			t.Errorf("%s %s has %d forms, complete: %v", r.Method, r.URL, len(forms), complete)
		}
	}
}

func TestWhereOnlyPathsAreMatchedOnlyDestinationsCount(t *testing.T) {
	r := asked("post", "/x?a=1&a=2&_method=DELETE", "X-Http-Method-Override", "PUT", "Destination", "/y")
	forms, complete := Forms(r, true)
	if !complete || len(forms) != 1 || forms[0].URL.Path != "/y" {
		t.Errorf("%d forms, complete: %v", len(forms), complete)
	}
}

func TestFormsThatCannotAllBeTriedAreRefused(t *testing.T) {
	for what, r := range map[string]*http.Request{
		"many methods":          asked("POST", "/x?"+strings.Repeat("_method=A&", 3)+"_method=B&_method=C&_method=D&_method=E"),
		"no destination":        asked("MOVE", "/x", "Destination", ""),
		"a host alone":          asked("MOVE", "/x", "Destination", "https://app.test"),
		"an opaque destination": asked("MOVE", "/x", "Destination", "app:x"),
		"an escape":             asked("MOVE", "/x", "Destination", "/%zz"),
	} {
		if forms, complete := Forms(r, false); complete {
			t.Errorf("%s: %d forms", what, len(forms))
		}
	}
}
