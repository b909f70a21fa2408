// Package openapi holds an API against the OpenAPI 3.1 document that describes
// it: what a test hears must be described there, all of it.
//
// It knows the part of OpenAPI and of JSON Schema that our document is written
// in, and refuses a document that uses more: what it passed over would be held
// against nothing.
package openapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// Document is a description. It is safe for concurrent use.
type Document struct {
	operations []*Operation
	schemas    map[string]*schema
	// problems is what any path may answer with, also one that is none.
	problem *schema
}

// Operation is one method at one path.
type Operation struct {
	// Method and Path are the table's: Path has {id} for one segment.
	Method, Path string

	request   map[string]*schema // by media type; nil: no body
	responses map[string]response
}

// response is one status's.
type response struct {
	content map[string]*schema // by media type; empty: no body
}

// ProblemSchema is the name of the schema of what could not be done.
const ProblemSchema = "Problem"

// Parse reads a document. It refuses a keyword that it does not know, a
// reference that leads nowhere, and an example that its schema refuses.
func Parse(raw []byte) (*Document, error) {
	root, err := decode(raw)
	if err != nil {
		return nil, fmt.Errorf("reading document: %w", err)
	}
	r := &reader{root: root, doc: &Document{schemas: map[string]*schema{}}}
	r.document(root)
	return r.doc, errors.Join(r.errs...)
}

// decode reads JSON with its numbers as they are written.
func decode(raw []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var value any
	if err := d.Decode(&value); err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("there is more than one value")
	}
	return value, nil
}

// Operations are all that are described, by path and method.
func (d *Document) Operations() []*Operation { return d.operations }

// Statuses are those that the operation is described to answer with; "default" is
// any other.
func (o *Operation) Statuses() []string { return slices.Sorted(maps.Keys(o.responses)) }

// Codes are the problems that the operation is described to answer a status with.
func (o *Operation) Codes(status string) []string {
	found := o.responses[status].content["application/problem+json"]
	if found == nil {
		return nil
	}
	return found.words("code")
}

// Codes are all codes that a problem may have.
func (d *Document) Codes() []string { return d.problem.words("code") }

func (o *Operation) String() string { return o.Method + " " + o.Path }

// Exchange is one request and its answer, as a client saw them.
type Exchange struct {
	Method string
	// Path is below the server's.
	Path string
	// Type and Body are the request's; Body nil: it was not kept.
	Type string
	Body []byte

	Status     int
	AnswerType string
	Answer     []byte
}

// Seen is what an answer was of.
type Seen struct {
	// Operation is nil where the path or the method is none.
	Operation *Operation
	// Status is as described, Code that of a problem or of a denial.
	Status, Code string
}

// Check reports an answer that is not described, and what it was of.
func (d *Document) Check(e Exchange) (Seen, error) {
	at := d.at(e.Path)
	i := slices.IndexFunc(at, func(o *Operation) bool {
		return o.Method == e.Method || o.Method == http.MethodGet && e.Method == http.MethodHead
	})
	switch {
	case len(at) == 0:
		return Seen{Code: codeOf(e.Answer)}, d.checkProblem(e, http.StatusNotFound)
	case e.Method == http.MethodOptions:
		return Seen{}, checkOptions(e)
	case i < 0:
		return Seen{Code: codeOf(e.Answer)}, d.checkProblem(e, http.StatusMethodNotAllowed)
	}
	return at[i].check(e)
}

// at are the operations of a path.
func (d *Document) at(path string) (at []*Operation) {
	for _, o := range d.operations {
		if fits(o.Path, path) {
			at = append(at, o)
		}
	}
	return at
}

func fits(template, path string) bool {
	wanted, segments := strings.Split(template, "/"), strings.Split(path, "/")
	return slices.EqualFunc(wanted, segments, func(want, is string) bool {
		return want == is || strings.HasPrefix(want, "{") && is != ""
	})
}

// checkProblem is for a path or a method that is none: only what says so, or
// that the caller is nobody we answer, or that we can't, will do.
func (d *Document) checkProblem(e Exchange, status int) error {
	if e.Status != status && e.Status != http.StatusUnauthorized && e.Status < http.StatusInternalServerError {
		return fmt.Errorf("answers %d, want %d: it is not described", e.Status, status)
	}
	return checkBody(map[string]*schema{"application/problem+json": d.problem}, e.Method, e.AnswerType, e.Answer)
}

func checkOptions(e Exchange) error {
	if e.Status == http.StatusNoContent && len(e.Answer) == 0 || e.Status == http.StatusUnauthorized || e.Status >= http.StatusInternalServerError {
		return nil
	}
	return fmt.Errorf("OPTIONS answers %d, want 204 and no body", e.Status)
}

func (o *Operation) check(e Exchange) (Seen, error) {
	seen := Seen{Operation: o, Status: strconv.Itoa(e.Status)}
	described, ok := o.responses[seen.Status]
	if !ok {
		seen.Status = "default"
		described, ok = o.responses[seen.Status]
		if !ok || e.Status < http.StatusInternalServerError {
			return seen, fmt.Errorf("%s answers %d, which is not described", o, e.Status)
		}
	}
	if err := checkBody(described.content, e.Method, e.AnswerType, e.Answer); err != nil {
		return seen, fmt.Errorf("%s answers %d: %w", o, e.Status, err)
	}
	seen.Code = codeOf(e.Answer)
	if e.Status >= 300 || e.Body == nil {
		return seen, nil
	}
	if err := o.checkRequest(e); err != nil {
		return seen, fmt.Errorf("%s takes what is not described: %w", o, err)
	}
	return seen, nil
}

func (o *Operation) checkRequest(e Exchange) error {
	kind, _, _ := strings.Cut(e.Type, ";")
	if o.request == nil || len(e.Body) == 0 || kind != "application/json" {
		return nil
	}
	return checkBody(o.request, e.Method, kind, e.Body)
}

func codeOf(answer []byte) string {
	var problem struct {
		Code string `json:"code"` // of a problem
	}
	if json.Unmarshal(answer, &problem) == nil && problem.Code != "" {
		return problem.Code
	}
	var denial struct {
		Error struct {
			Code string `json:"code"` // of a denial
		} `json:"error"` // why it was denied
	}
	if json.Unmarshal(answer, &denial) != nil {
		return ""
	}
	return denial.Error.Code
}

// checkBody holds a body against what is described of its media type.
func checkBody(content map[string]*schema, method, kind string, body []byte) error {
	kind, _, _ = strings.Cut(kind, ";")
	if len(content) == 0 {
		if len(body) > 0 {
			return fmt.Errorf("there is a body, and none is described: %.500s", body)
		}
		return nil
	}
	described, ok := content[kind]
	switch {
	case !ok:
		return fmt.Errorf("the media type is %q, which is not described: %.500s", kind, body)
	case method == http.MethodHead:
		return nil
	}
	value, err := decode(body)
	if err != nil {
		return fmt.Errorf("%w: %.500s", err, body)
	}
	if err := described.check(value); err != nil {
		return fmt.Errorf("%w, in %.1000s", err, body)
	}
	return nil
}
