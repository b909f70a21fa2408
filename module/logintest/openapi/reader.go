package openapi

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// reader turns a decoded document into a Document, and gathers what is wrong.
type reader struct {
	root any
	doc  *Document
	errs []error
}

func (r *reader) complain(at, format string, args ...any) {
	r.errs = append(r.errs, fmt.Errorf("%s: "+format, append([]any{at}, args...)...))
}

// object is the object at a place, whose members must be known ones.
func (r *reader) object(at string, value any, known ...string) map[string]any {
	object, ok := value.(map[string]any)
	if !ok {
		r.complain(at, "is no object")
	}
	for name := range object {
		if len(known) > 0 && !slices.Contains(known, name) {
			r.complain(at, "%q is a keyword that is not known here", name)
		}
	}
	return object
}

// each calls fn for the members of an object, by name.
func (r *reader) each(at string, value any, fn func(at, name string, value any)) {
	object := r.object(at, value)
	for _, name := range slices.Sorted(maps.Keys(object)) {
		fn(at+"/"+name, name, object[name])
	}
}

func (r *reader) document(root any) {
	all := r.object("#", root, "openapi", "info", "servers", "tags", "security", "paths", "components")
	if version, _ := all["openapi"].(string); !strings.HasPrefix(version, "3.1.") {
		r.complain("#/openapi", "is %q", version)
	}
	components := r.object("#/components", all["components"], "schemas", "securitySchemes", "parameters")
	r.each("#/components/schemas", components["schemas"], func(_, name string, _ any) { r.doc.schemas[name] = new(schema) })
	r.each("#/components/schemas", components["schemas"], func(at, name string, value any) { *r.doc.schemas[name] = *r.schema(at, value) })
	if r.doc.problem = r.doc.schemas[ProblemSchema]; r.doc.problem == nil {
		r.complain("#/components/schemas", "there is no %s", ProblemSchema)
		r.doc.problem = new(schema)
	}
	r.each("#/paths", all["paths"], func(at, path string, value any) {
		r.each(at, value, func(at, method string, value any) {
			if method == "parameters" {
				r.parameters(at, path, value)
				return
			}
			r.operation(at, path, strings.ToUpper(method), value)
		})
	})
	r.examples("#", root)
}

var methods = []string{"GET", "POST", "PATCH", "PUT", "DELETE"}

func (r *reader) operation(at, path, method string, value any) {
	o := &Operation{Method: method, Path: path, responses: map[string]response{}}
	if !slices.Contains(methods, method) {
		r.complain(at, "is no method")
	}
	all := r.object(at, value, "operationId", "summary", "description", "tags", "parameters", "requestBody", "responses", "security")
	for _, must := range []string{"operationId", "summary", "responses", "security"} {
		if all[must] == nil {
			r.complain(at, "%s is missing", must)
		}
	}
	if parameters, ok := all["parameters"]; ok {
		r.parameters(at+"/parameters", path, parameters)
	}
	if body, ok := all["requestBody"]; ok {
		body := r.object(at+"/requestBody", body, "description", "required", "content")
		o.request = r.content(at+"/requestBody/content", body["content"])
	}
	r.each(at+"/responses", all["responses"], func(at, status string, value any) {
		if _, err := strconv.Atoi(status); err != nil && status != "default" {
			r.complain(at, "is no status")
		}
		described := r.object(at, value, "description", "headers", "content")
		if described["description"] == nil {
			r.complain(at, "has no description")
		}
		o.responses[status] = response{content: r.content(at+"/content", described["content"])}
	})
	r.doc.operations = append(r.doc.operations, o)
}

// parameters must be described, and stand in the path where they say so.
func (r *reader) parameters(at, path string, value any) {
	list, ok := value.([]any)
	if !ok {
		r.complain(at, "is no list")
	}
	for _, one := range list {
		parameter := r.object(at, r.resolve(at, one), "name", "in", "required", "description", "schema")
		name, _ := parameter["name"].(string)
		if in := parameter["in"]; in != "query" && in != "header" && (in != "path" || !strings.Contains(path, "{"+name+"}")) {
			r.complain(at, "%q is nowhere", name)
		}
		r.schema(at+"/"+name+"/schema", parameter["schema"])
	}
}

// resolve follows a reference to a parameter.
func (r *reader) resolve(at string, value any) any {
	object, _ := value.(map[string]any)
	to, ok := object["$ref"].(string)
	if !ok {
		return value
	}
	found := r.root
	for _, name := range strings.Split(strings.TrimPrefix(to, "#/"), "/") {
		object, _ := found.(map[string]any)
		found = object[name]
	}
	if found == nil {
		r.complain(at, "%s leads nowhere", to)
	}
	return found
}

func (r *reader) content(at string, value any) map[string]*schema {
	if value == nil {
		return nil
	}
	content := map[string]*schema{}
	r.each(at, value, func(at, kind string, value any) {
		content[kind] = r.schema(at+"/schema", r.object(at, value, "schema", "examples")["schema"])
	})
	return content
}

// schema reads a schema.
func (r *reader) schema(at string, value any) *schema {
	s := new(schema)
	all := r.object(at, value, "$ref", "type", "properties", "required", "additionalProperties", "items", "oneOf", "enum", "const",
		"format", "pattern", "minLength", "maxLength", "minimum", "maximum", "maxItems",
		"description", "title", "examples", "default")
	if to, ok := all["$ref"].(string); ok {
		if s.to = r.doc.schemas[strings.TrimPrefix(to, "#/components/schemas/")]; s.to == nil {
			r.complain(at, "%s leads nowhere", to)
		}
	}
	s.types, s.required = r.types(at, all["type"]), texts(all["required"])
	r.ofObject(at, s, all)
	if items, ok := all["items"]; ok {
		s.items = r.schema(at+"/items", items)
	}
	if alternatives, ok := all["oneOf"].([]any); ok {
		for i, one := range alternatives {
			s.oneOf = append(s.oneOf, r.schema(at+"/oneOf/"+strconv.Itoa(i), one))
		}
	}
	s.enum, _ = all["enum"].([]any)
	if constant, ok := all["const"]; ok {
		s.constant = &constant
	}
	r.bounds(at, s, all)
	return s
}

func (r *reader) types(at string, value any) []string {
	types := texts(value)
	if one, ok := value.(string); ok {
		types = []string{one}
	}
	for _, t := range types {
		if !slices.Contains([]string{"null", "integer", "number", "string", "boolean", "array", "object"}, t) {
			r.complain(at, "%q is no type", t)
		}
	}
	return types
}

// ofObject reads what is said of objects: each says whether it may have more.
func (r *reader) ofObject(at string, s *schema, all map[string]any) {
	if properties, ok := all["properties"]; ok {
		s.properties = map[string]*schema{}
		r.each(at+"/properties", properties, func(at, name string, value any) { s.properties[name] = r.schema(at, value) })
	}
	switch more, said := all["additionalProperties"]; {
	case said && more != false:
		r.complain(at, "additionalProperties is false here, or not there")
	case said:
		s.closed = true
	case slices.Contains(s.types, "object"):
		r.complain(at, "does not say additionalProperties: false")
	}
	for _, name := range s.required {
		if s.properties[name] == nil {
			r.complain(at, "requires %q, which is not described", name)
		}
	}
}

func (r *reader) bounds(at string, s *schema, all map[string]any) {
	s.format, _ = all["format"].(string)
	if !slices.Contains([]string{"", "date-time", "uri", "email"}, s.format) {
		r.complain(at, "format %q is not known here", s.format)
	}
	if text, ok := all["pattern"].(string); ok {
		pattern, err := regexp.Compile(text)
		if err != nil {
			r.complain(at, "%v", err)
		}
		s.pattern = pattern
	}
	s.minLength, s.maxLength, s.maxItems = whole(all["minLength"]), whole(all["maxLength"]), whole(all["maxItems"])
	s.minimum, s.maximum = number(all["minimum"]), number(all["maximum"])
}

func texts(value any) (texts []string) {
	list, _ := value.([]any)
	for _, one := range list {
		text, _ := one.(string)
		texts = append(texts, text)
	}
	return texts
}

func number(value any) *float64 {
	text, ok := value.(json.Number)
	if !ok {
		return nil
	}
	n, err := text.Float64()
	if err != nil {
		return nil
	}
	return &n
}

func whole(value any) *int {
	n := number(value)
	if n == nil {
		return nil
	}
	i := int(*n)
	return &i
}

// examples holds each example against the schema beside it, or around it.
func (r *reader) examples(at string, value any) {
	switch value := value.(type) {
	case []any:
		for i, one := range value {
			r.examples(at+"/"+strconv.Itoa(i), one)
		}
	case map[string]any:
		if list, ok := value["examples"].([]any); ok {
			described := r.schema(at, value)
			for _, one := range list {
				if err := described.check(one); err != nil {
					r.complain(at, "its example: %v", err)
				}
			}
		}
		if named, ok := value["examples"].(map[string]any); ok && value["schema"] != nil {
			described := r.schema(at, value["schema"])
			r.each(at+"/examples", named, func(at, _ string, one any) {
				if err := described.check(r.object(at, one, "summary", "value")["value"]); err != nil {
					r.complain(at, "%v", err)
				}
			})
		}
		for name, one := range value {
			if name != "examples" {
				r.examples(at+"/"+name, one)
			}
		}
	}
}
