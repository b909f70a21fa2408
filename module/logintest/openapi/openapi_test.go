package openapi

import (
	"fmt"
	"strings"
	"testing"
)

// small is a document of one operation.
const small = `{"openapi":"3.1.0","info":{"title":"x","version":"1"},
"paths":{"/things/{id}":{"post":{"operationId":"x","summary":"x","security":[],
 "parameters":[{"name":"id","in":"path","required":true,"description":"x","schema":{"type":"string"}}],
 "requestBody":{"required":true,"content":{"application/json":{"schema":{"$ref":"#/components/schemas/Thing"}}}},
 "responses":{"200":{"description":"x","content":{"application/json":{"schema":{"$ref":"#/components/schemas/Thing"}}}},
  "204":{"description":"x"},
  "404":{"description":"x","content":{"application/problem+json":{"schema":{"$ref":"#/components/schemas/Problem","properties":{"code":{"enum":["gone"]}}}}}}}}}},
"components":{"schemas":{
 "Thing":{"type":"object","additionalProperties":false,"required":["name"],"properties":{"name":{"type":"string","maxLength":3},"kind":{"enum":["a","b"]},
  "at":{"type":"string","format":"date-time"},"of":{"type":"array","maxItems":2,"items":{"type":"integer","minimum":1,"maximum":9}},"on":{"type":"boolean"},
  "one":{"oneOf":[{"type":"string"},{"type":"null"}]},"where":{"type":"string","format":"uri"},"is":{"const":"this"},"like":{"type":"string","pattern":"^x"}},
  "examples":[{"name":"x"}]},
 "Problem":{"type":"object","additionalProperties":false,"required":["status"],"properties":{"status":{"type":"integer"},"code":{"enum":["gone","not_found","broken"]}}}}}}`

func parsed(t *testing.T) *Document {
	t.Helper()
	doc, err := Parse([]byte(small))
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

func TestAnswerThatIsDescribedPasses(t *testing.T) {
	doc := parsed(t)
	for _, e := range []Exchange{
		{Status: 200, AnswerType: "application/json; charset=utf-8", Answer: []byte(`{"name":"x","kind":"a","at":"2026-01-02T03:04:05Z","of":[1,9],"on":true,"one":null,"where":"https://x.test/","is":"this","like":"xy"}`)},
		{Status: 204},
		{Status: 404, AnswerType: "application/problem+json", Answer: []byte(`{"status":404,"code":"gone"}`)},
	} {
		e.Method, e.Path = "POST", "/things/7"
		seen, err := doc.Check(e)
		if err != nil || seen.Operation.String() != "POST /things/{id}" || seen.Status != fmt.Sprint(e.Status) {
			t.Errorf("%d: %+v, %v", e.Status, seen, err)
		}
	}
}

func TestAnswerThatIsNotDescribedFails(t *testing.T) {
	doc := parsed(t)
	for _, body := range []string{
		`{}`, `[]`, `null`, `{"name":1}`, `{"name":"long"}`, `{"name":"x","more":1}`, `{"name":"x","kind":"c"}`, `{"name":"x","at":"yesterday"}`,
		`{"name":"x","at":"2026-01-02T03:04:05+01:00"}`, `{"name":"x","of":[0]}`, `{"name":"x","of":[10]}`, `{"name":"x","of":[1.5]}`, `{"name":"x","of":[1,2,3]}`,
		`{"name":"x","of":null}`, `{"name":"x","on":"true"}`, `{"name":"x","one":1}`, `{"name":"x","where":"/x"}`, `{"name":"x","is":"that"}`, `{"name":"x","like":"y"}`,
		`{"name":"x"} {}`, `{"name":"x"`, ``,
	} {
		if _, err := doc.Check(Exchange{Method: "POST", Path: "/things/7", Status: 200, AnswerType: "application/json", Answer: []byte(body)}); err == nil {
			t.Errorf("%s passes", body)
		}
	}
	for _, e := range []Exchange{
		{Status: 201, AnswerType: "application/json", Answer: []byte(`{"name":"x"}`)},
		{Status: 200, AnswerType: "text/html", Answer: []byte(`{"name":"x"}`)},
		{Status: 204, Answer: []byte(`{}`)},
		{Status: 404, AnswerType: "application/problem+json", Answer: []byte(`{"status":404,"code":"broken"}`)},
		{Status: 500, AnswerType: "application/problem+json", Answer: []byte(`{"status":500}`)},
		{Status: 200, AnswerType: "application/json", Answer: []byte(`{"name":"x"}`), Type: "application/json", Body: []byte(`{"other":1}`)},
		{Method: "GET", Status: 200, AnswerType: "application/json", Answer: []byte(`{"name":"x"}`)},
		{Path: "/other", Status: 200, AnswerType: "application/json", Answer: []byte(`{"name":"x"}`)},
		{Path: "/things/7/8", Status: 405, AnswerType: "application/problem+json", Answer: []byte(`{"status":405}`)},
	} {
		if e.Method == "" {
			e.Method = "POST"
		}
		if e.Path == "" {
			e.Path = "/things/7"
		}
		if _, err := doc.Check(e); err == nil {
			t.Errorf("%+v passes", e)
		}
	}
}

func TestDocumentThatSaysMoreThanIsHeldIsRefused(t *testing.T) {
	for what, change := range map[string][2]string{
		"a keyword of schemas":     {`"maxLength":3`, `"maxLength":3,"contentEncoding":"base64"`},
		"a keyword of operations":  {`"summary":"x",`, `"summary":"x","callbacks":{},`},
		"a format":                 {`"date-time"`, `"hostname"`},
		"a type":                   {`"type":"boolean"`, `"type":"bool"`},
		"a reference":              {`"$ref":"#/components/schemas/Thing"`, `"$ref":"#/components/schemas/Other"`},
		"an open object":           {`"additionalProperties":false,"required":["name"]`, `"required":["name"]`},
		"a required stranger":      {`"required":["name"]`, `"required":["name","other"]`},
		"a wrong example":          {`"examples":[{"name":"x"}]`, `"examples":[{"name":1}]`},
		"a parameter of no path":   {`"name":"id"`, `"name":"other"`},
		"another version":          {`3.1.0`, `3.0.3`},
		"no problem":               {`"Problem":{`, `"Other":{`},
		"two documents":            {`}}}}}}`, `}}}}}} {}`},
		"a pattern that is none":   {`"^x"`, `"("`},
		"a status that is none":    {`"204"`, `"2xx"`},
		"a method that is none":    {`"post"`, `"brew"`},
		"an answer without a word": {`"204":{"description":"x"}`, `"204":{}`},
	} {
		if !strings.Contains(small, change[0]) {
			t.Errorf("%s: there is no %s", what, change[0])
		}
		if _, err := Parse([]byte(strings.Replace(small, change[0], change[1], 1))); err == nil {
			t.Errorf("%s passes", what)
		}
	}
}
