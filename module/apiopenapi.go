package module

import (
	_ "embed"
	"encoding/json"
	"net/http"
	"strings"
)

// openAPIDocument describes the API (OpenAPI 3.1). It is written for a site with the
// default settings: what differs at others is filled in.
//
//go:embed openapi.json
var openAPIDocument string

// openAPI serves the description, with this site's own path and cookie.
func (c *apiCall) openAPI(w http.ResponseWriter, r *http.Request, v *visit) error {
	base, cookie := inJSON(c.base+"/api/v1"), inJSON(v.base)
	return c.answerKept(w, r, tagOf([]byte(openAPIDocument), base, cookie), func() []byte {
		site := strings.NewReplacer(`"/.login/api/v1"`, string(base), `"__Host-login"`, string(cookie))
		return []byte(site.Replace(openAPIDocument))
	})
}

// inJSON is a text as JSON has it.
func inJSON(text string) []byte {
	encoded, err := json.Marshal(text)
	if err != nil {
		return []byte(`""`) // a string always encodes
	}
	return encoded
}
