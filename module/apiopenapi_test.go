package module

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-login/caddy-login/module/activity"
	"github.com/caddy-login/caddy-login/module/logintest/openapi"
	"github.com/caddy-login/caddy-login/module/page"
)

// described are the structs that the schemas of openapi.json describe.
var described = map[string]any{
	"Problem": page.ProblemBody{}, "Envelope": envelope{}, "Denial": errorView{}, "Challenge": challengeView{}, "Link": linkView{}, "Way": wayView{},
	"Session": ownSession{}, "Tokens": tokensView{}, "SignedOut": leaveAnswer{},
	"Metadata": metadataAnswer{}, "Method": methodView{}, "Native": nativeView{}, "Policy": policyView{}, "Endpoints": endpointsView{},
	"Nonce": nonceAnswer{}, "TokenRequest": tokenRequest{}, "TokenAnswer": tokenAnswer{},
	"IntentRequest": intentBody{}, "ValidateRequest": validateBody{}, "ChallengeRequest": challengeBody{}, "CheckRequest": codeBody{},
	"VerifierRequest": verifierBody{}, "ConfirmRequest": wordBody{},
	"Profile": ownProfile{}, "ProfileChange": changeOfProfile{}, "Deletion": deletionView{}, "FreshRequest": freshRequest{},
	"Emails": emailsView{}, "Email": emailView{}, "EmailRequest": newEmail{}, "EmailChange": changeOfEmail{},
	"Identities": identitiesView{}, "Identity": identityView{}, "Sessions": listedSessions{}, "ListedSession": listedSession{},
	"Activity": ownActivity{}, "ActivityEntry": activity.Entry{}, "Changed": accountChanged{},
	"Download": exported{}, "DownloadAddress": exportedAddress{}, "DownloadAccount": exportedAccount{}, "DownloadSession": exportedSession{},
}

type schemaText struct {
	Ref                  string                `json:"$ref"`                 // to another
	Type                 string                `json:"type"`                 // of JSON
	Format               string                `json:"format"`               // of a text
	Required             []string              `json:"required"`             // members
	Properties           map[string]schemaText `json:"properties"`           // members
	AdditionalProperties *bool                 `json:"additionalProperties"` // false
	Items                *schemaText           `json:"items"`                // of a list
}

func schemasOf(t *testing.T) map[string]schemaText {
	t.Helper()
	var doc struct {
		Components struct {
			Schemas map[string]schemaText `json:"schemas"` // by name
		} `json:"components"` // of OpenAPI
	}
	if err := json.Unmarshal([]byte(openAPIDocument), &doc); err != nil {
		t.Fatal(err)
	}
	return doc.Components.Schemas
}

func TestDescriptionIsOfTheEndpointsThatThereAre(t *testing.T) {
	doc, err := openapi.Parse([]byte(openAPIDocument))
	if err != nil {
		t.Fatal(err)
	}
	var in, are []string
	for _, o := range doc.Operations() {
		in = append(in, o.String())
	}
	for _, e := range endpoints {
		are = append(are, e.method+" "+e.path)
	}
	slices.Sort(in)
	slices.Sort(are)
	if !slices.Equal(in, are) {
		t.Errorf("described are\n%s\nand there are\n%s", strings.Join(in, "\n"), strings.Join(are, "\n"))
	}
}

// TestDescriptionIsOfTheStructsThatThereAre holds members, their types and
// whether they may be absent.
func TestDescriptionIsOfTheStructsThatThereAre(t *testing.T) {
	schemas := schemasOf(t)
	names := map[reflect.Type]string{}
	for name, value := range described {
		names[reflect.TypeOf(value)] = name
		if schemas[name].Type == "" {
			t.Errorf("there is no schema %s", name)
		}
	}
	for name, schema := range schemas {
		value, ok := described[name]
		if !ok {
			t.Errorf("schema %s is of no struct", name)
			continue
		}
		required, members := []string{}, map[string]bool{}
		for i := range reflect.TypeOf(value).NumField() {
			field := reflect.TypeOf(value).Field(i)
			member, options, _ := strings.Cut(field.Tag.Get("json"), ",")
			members[member] = true
			if options == "" {
				required = append(required, member)
			}
			if got, want := typeOfSchema(schema.Properties[member]), typeOfMember(field.Type, names); got != want {
				t.Errorf("%s.%s is described as %q, and is %q", name, member, got, want)
			}
		}
		for member := range schema.Properties {
			if !members[member] {
				t.Errorf("%s.%s is described, and there is no such member", name, member)
			}
		}
		slices.Sort(required)
		slices.Sort(schema.Required)
		if !slices.Equal(required, schema.Required) {
			t.Errorf("%s requires %v, and has always %v", name, schema.Required, required)
		}
	}
}

func typeOfSchema(s schemaText) string {
	switch {
	case s.Ref != "":
		return s.Ref[strings.LastIndexByte(s.Ref, '/')+1:]
	case s.Items != nil:
		return "list of " + typeOfSchema(*s.Items)
	case s.Format == "date-time":
		return "time"
	}
	return s.Type
}

func typeOfMember(t reflect.Type, names map[reflect.Type]string) string {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case names[t] != "":
		return names[t]
	case t == reflect.TypeFor[time.Time]():
		return "time"
	}
	switch t.Kind() {
	case reflect.String:
		return "string"
	case reflect.Bool:
		return "boolean"
	case reflect.Int:
		return "integer"
	case reflect.Slice:
		return "list of " + typeOfMember(t.Elem(), names)
	default:
		return t.String()
	}
}

// whatIsRead finds what calls read: `var in T`.
var whatIsRead = regexp.MustCompile(`var in (\w+)\n`)

func TestEveryBodyThatIsReadIsDescribed(t *testing.T) {
	files, err := filepath.Glob("api*.go")
	if err != nil || len(files) < 5 {
		t.Fatal(files, err)
	}
	names := map[string]bool{}
	for _, value := range described {
		names[reflect.TypeOf(value).Name()] = true
	}
	found := 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range whatIsRead.FindAllStringSubmatch(string(text), -1) {
			if found++; !names[match[1]] {
				t.Errorf("%s reads %s, which no schema describes", file, match[1])
			}
		}
	}
	if found < 8 {
		t.Errorf("found only %d bodies", found)
	}
}
