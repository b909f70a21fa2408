package header

import "strings"

// identity names every header that some product uses to tell an app who is
// there. A name that ends in '*' stands for its whole family. Clients may
// send none of them.
//
// Left out on purpose, because honest clients send them: Authorization,
// X-Access-Token, X-Auth-Token, X-Token and X-Api-Key (credentials that the
// app checks), X-Requested-With, the CSRF headers, X-User-Agent (gRPC-Web),
// and the X-Forwarded-* that say from where instead of who.
var identity = []struct{ product, names string }{
	{"IIS, Symfony, Laminas: another path than the one that rules judge", "X-Original-Url X-Rewrite-Url"},
	{"Gunicorn, mod_wsgi, Flask's and Plack's recipes, Pyramid: one that begins or ends elsewhere", "Script-Name X-Script-Name X-Forwarded-Script-Name Path-Info X-Traversal-Path X-Vhm-Root X-Vhm-Host"},
	{"this one, Authelia, tinyauth, Apache, any CGI", "Remote-*"},
	{"Kubernetes front proxies, Gitea, many apps", "X-Remote-*"},
	{"oauth2-proxy", "X-Forwarded-User X-Forwarded-Email X-Forwarded-Groups X-Forwarded-Preferred-Username X-Forwarded-Access-Token X-Auth-Request-*"},
	{"oauth2-proxy's relatives", "X-Forwarded-User-* X-Forwarded-Userid X-Forwarded-Username X-Forwarded-Name X-Forwarded-Displayname X-Forwarded-Mail X-Forwarded-Roles X-Forwarded-Id-Token"},
	{"SonarQube, Rundeck, Redash", "X-Forwarded-Login X-Forwarded-Uuid X-Forwarded-Remote-User"},
	{"Pomerium", "X-Pomerium-*"},
	{"Cloudflare Access, and its client certificates", "Cf-Access-* Cf-Cert-* Cf-Client-Cert-*"},
	{"Google IAP", "X-Goog-Authenticated-User-* X-Goog-Iap-*"},
	{"Google App Engine", "X-Appengine-User-*"},
	{"Google Cloud Endpoints, API Gateway", "X-Endpoint-Api-Userinfo X-Endpoint-Api-Consumer-* X-Apigateway-Api-Userinfo"},
	{"Grafana, Gitea and others behind an auth proxy", "X-Webauth-*"},
	{"authentik", "X-Authentik-*"},
	{"caddy-security", "X-Token-Subject X-Token-User-*"},
	{"Vouch", "X-Vouch-*"},
	{"tinyauth", "X-Tinyauth-* Tinyauth-*"},
	{"Azure App Service", "X-Ms-Client-Principal X-Ms-Client-Principal-* X-Ms-Token-*"},
	{"AWS load balancers, Verified Access", "X-Amzn-Oidc-* X-Amzn-Mtls-* X-Amzn-Ava-*"},
	{"Tailscale Serve, Teleport, ngrok", "Tailscale-* Teleport-Jwt-Assertion Ngrok-Auth-*"},
	{"Apache mod_auth_openidc", "Oidc-*"},
	{"Apache mod_auth_mellon", "Mellon-*"},
	{"Shibboleth", "Shib-* Eppn Persistent-Id Targeted-Id Unscoped-Affiliation"},
	{"Keycloak Gatekeeper, louketo", "X-Auth-User X-Auth-Userid X-Auth-Username X-Auth-Email X-Auth-Name X-Auth-Subject X-Auth-Groups X-Auth-Roles"},
	{"Kong", "X-Authenticated-* X-Consumer-* X-Credential-Identifier X-Anonymous-Consumer X-Userinfo X-Id-Token"},
	{"Istio and Envoy, WSO2", "X-Jwt-Payload X-Jwt-Claim-* X-Jwt-Assertion X-Forwarded-Client-Cert"},
	{"IBM WebSEAL", "Iv-User Iv-User-L Iv-Groups Iv-Creds"},
	{"WebSphere, WebLogic", "$Ws* Wl-Proxy-Client-Cert"},
	{"OpenSearch, CouchDB, NiFi, RStudio", "X-Proxy-Roles X-Proxy-Ext-* X-Auth-Couchdb-* X-Proxiedentitieschain X-Proxiedissuerschain X-Rstudio-Username"},
	{"SiteMinder, Oracle Access Manager", "Sm-User Smuser Sm-Userdn Sm-Universalid Oam-Remote-User Osso-*"},
	{"Red Hat, Kubeflow, Sandstorm, YunoHost, Replit, exe.dev", "Ynh-User Ynh-User-* X-Rh-Identity Kubeflow-Userid X-Sandstorm-* X-Replit-User-* X-Exedev-*"},
	{"apps' own spellings", "X-User X-Userid X-Username X-Useremail X-User-Id X-User-Name X-User-Email X-User-Login X-User-Groups X-User-Roles X-User-Role X-Role X-First-Name X-Last-Name X-User-Sub X-User-Claims X-Proxy-User X-Proxy-Email X-Authenticated X-Authuser X-Email X-Groups X-Roles X-Sso-* Auth-User User-Email Http-Remote-User"},
	{"client certificates (RFC 9440, nginx, Traefik, HAProxy, Azure)", "Client-Cert Client-Cert-Chain Ssl-Client-* X-Ssl-Client-* X-Ssl-Cert X-Client-Cert X-Client-Cert-* X-Client-Dn X-Client-Verify X-Client-Verified X-Forwarded-Tls-Client-Cert X-Forwarded-Tls-Client-Cert-* X-Arr-Clientcert"},
}

// connectionOnly names what concerns one connection and nobody behind it.
// HTTP2-Settings belongs to an h2c upgrade, which would tunnel later requests
// past the gate; Trailer announces fields that we do not let through.
const connectionOnly = "Http2-Settings Trailer"

// longest is the length in bytes of the longest name that can be looked for.
const longest = 64

// nameSet finds header names in any spelling that a server may take for one
// of them: CGI, PHP and WSGI turn '-', '_' and '.' into the same character.
type nameSet struct {
	exact    map[string]struct{}
	families []string

	// starts has a bit for each pair of first letters in the set. Most
	// headers of a browser are let off after this one look.
	starts [notLetter + 1]uint32
}

// notLetter is the class of all bytes but letters.
const notLetter = 26

func builtin() *nameSet {
	s := &nameSet{exact: make(map[string]struct{})}
	for _, from := range identity {
		s.add(from.names)
	}
	s.add(connectionOnly)
	return s
}

// add takes names separated by spaces, each of 2 to longest bytes.
func (s *nameSet) add(names string) {
	for name := range strings.FieldsSeq(names) {
		var buf [longest]byte
		stem, family := strings.CutSuffix(name, "*")
		folded := string(fold(buf[:0], stem))
		s.starts[class(folded[0])] |= 1 << class(folded[1])
		if family {
			s.families = append(s.families, folded)
		} else {
			s.exact[folded] = struct{}{}
		}
	}
}

// has reports whether some server could take name for one of the set. It does
// not allocate.
func (s *nameSet) has(name string) bool {
	if len(name) < 2 || s.starts[class(name[0])]>>class(name[1])&1 == 0 {
		return false
	}
	var buf [longest]byte
	folded := fold(buf[:0], name[:min(len(name), longest)])
	if _, ok := s.exact[string(folded)]; ok && len(name) <= longest {
		return true
	}
	for _, family := range s.families {
		if len(folded) >= len(family) && string(folded[:len(family)]) == family {
			return true
		}
	}
	return false
}

// fold appends name as the least careful server reads it: letters without
// case, everything that is neither letter nor digit alike.
func fold(dst []byte, name string) []byte {
	for i := range len(name) {
		c := name[i]
		switch {
		case 'A' <= c && c <= 'Z':
			c += 'a' - 'A'
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9':
		default:
			c = '-'
		}
		dst = append(dst, c)
	}
	return dst
}

// Alike reports whether some server could take one header name for the other.
func Alike(a, b string) bool { return string(fold(nil, a)) == string(fold(nil, b)) }

// class is the place of a letter in the alphabet, or notLetter.
func class(c byte) byte {
	if c |= 0x20; 'a' <= c && c <= 'z' {
		return c - 'a'
	}
	return notLetter
}
