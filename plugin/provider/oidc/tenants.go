package oidc

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/plugin/provider"
)

const (
	// anyTenant stands for a tenant's ID in the issuer that the documents of
	// `common` and `organizations` name.
	anyTenant = "{tenantid}"

	// personal is the tenant of all personal accounts.
	personal = "9188040d-6c67-4c5b-b112-36a304b66dad"
)

var uuid = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// tenants are those whose accounts may sign in.
type tenants struct {
	cloud   string   // such as https://login.microsoftonline.com
	choice  string   // one of the words, or a tenant's ID
	allowed []string // none: every tenant of the choice
}

func parseTenant(value string) (string, error) {
	id := strings.ToLower(value)
	if slices.Contains([]string{"common", "organizations", "consumers"}, value) || uuid.MatchString(id) {
		return id, nil
	}
	return "", fmt.Errorf("tenant: '%s' is none: write common, organizations, consumers, or the directory (tenant) ID, "+
		"such as 8eaef023-2b34-4da1-9baa-8bc8c9d6a490", provider.Cut(value, 64))
}

func parseTenantIDs(written []string) ([]string, error) {
	var ids []string
	for _, value := range written {
		id := strings.ToLower(value)
		if !uuid.MatchString(id) {
			return nil, fmt.Errorf("allowed_tenants: '%s' is no directory (tenant) ID: write it as "+
				"8eaef023-2b34-4da1-9baa-8bc8c9d6a490", provider.Cut(value, 64))
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// isOpen reports whether tenants may sign in that the operator did not choose.
// Personal accounts have one tenant, which is Microsoft's own.
func (t *tenants) isOpen() bool {
	return len(t.allowed) == 0 && (t.choice == "common" || t.choice == "organizations")
}

func (t *tenants) issuerOf(tenant string) string { return t.cloud + "/" + tenant + "/v2.0" }

// issues reports whether iss is the issuer of one of the tenants chosen. The
// keys of all tenants are the same: only this tells a token of one of them from
// a token of any other.
func (t *tenants) issues(iss string) bool {
	rest, _ := strings.CutPrefix(iss, t.cloud+"/")
	tenant, _ := strings.CutSuffix(rest, "/v2.0")
	if !uuid.MatchString(tenant) || iss != t.issuerOf(tenant) {
		return false
	}
	switch t.choice {
	case "common":
		return true
	case "organizations":
		return tenant != personal
	case "consumers":
		return tenant == personal
	default:
		return tenant == t.choice
	}
}

// signs refuses a token that was made with the key of another kind of account:
// with one for personal accounts, once stolen, every organisation's could be
// made. A key for all tenants has the placeholder in its issuer.
func (t *tenants) signs(keyIssuer string, c provider.Claims) error {
	iss := strings.Replace(keyIssuer, anyTenant, c.Text("tid"), 1)
	if keyIssuer == "" || iss == c.Text("iss") {
		return nil
	}
	return fmt.Errorf("its key is for issuer %s", provider.Quote(keyIssuer))
}

func (t *tenants) admit(c provider.Claims) error {
	tenant := c.Text("tid")
	if t.issuerOf(tenant) != c.Text("iss") {
		return untrusted("claim tid is %s, not the tenant of the issuer", provider.Quote(tenant))
	}
	if len(t.allowed) > 0 && !slices.Contains(t.allowed, tenant) {
		return &guest.Failure{
			Reason: guest.NotAllowed,
			Err:    errors.New("the account's tenant is none of the allowed_tenants list"),
		}
	}
	return nil
}
