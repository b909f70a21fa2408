// Package module is what runs: the Caddy app "login", which holds what all
// sites share, and the HTTP handler "login", the gate in front of one site.
//
// # One request
//
// Gate.ServeHTTP reads straight down. Identity headers of the client are
// stripped (header), our cookies are taken out of the request (header.Jar).
// What is below /.login is the portal's. Otherwise the first rule whose Caddy
// matcher fits is found (rules.go), the session of the cookie is read
// (session), and policy.Decide says whether the visitor passes, signs in, or
// is refused. Who passes goes on to the app with the headers that were rendered
// when the session was first seen; the answer comes back through `answer`,
// which keeps the app from setting our cookies and ends streams with their
// session. Nothing that fails on the way goes on to the app.
//
// # One log-in
//
// The portal begins an attempt (signin): state, nonce and PKCE verifier, sealed
// into a cookie of the visitor's; the server keeps nothing. The provider, a
// guest module, makes the address to go to. Back at the callback the attempt is
// resumed and spent, the provider turns its answer into a profile, and in one
// transaction identity.Admit makes the profile a user and session.Start makes
// the user a session. Where the provider posts its answer, it is parked for a
// minute while the browser comes round by a GET that carries its cookies.
//
// Where the decision needs a word or a proof first, nothing is written but that
// this browser waits (pending). The pages that ask (confirm.go) take down what
// is said, and decide anew: the same admission, in the transaction that commits.
// So do codes by mail, which end where callbacks do.
//
// # One change
//
// People change what is kept of them on their account page (account.go,
// changes.go), operators by the admin endpoint (admin.go), of which `caddy
// login` is a thin client (command.go). What a change ends, it ends in its own
// transaction; it is written into the activity there, and told by mail
// afterwards (notices.go). What somebody granted us at a provider and is of no
// use any more is revoked behind their back (revocation.go).
//
// # One call
//
// Apps that draw their own pages call the API (api.go), which has a table of
// endpoints and no flow of its own: it calls what the pages call, and answers in
// another voice (voice.go, apivoice.go). Native apps get tokens in place of a
// cookie (credential.go, apitoken.go). openapi.json describes it all; tests hold
// it against the table, the structs, and every answer that they hear.
//
// # Across reloads
//
// What must outlive a config lies in a house (house.go), one for each store,
// in a caddy.UsagePool: the store, the keys, the sessions at hand. It is opened
// in Start, never in Provision, or by the first request that comes before.
//
// # Placeholders
//
//	{http.auth.user.id}        the user's id
//	{http.auth.user.email}     their proven address
//	{http.auth.user.name}      display name
//	{http.auth.user.groups}    groups, separated by commas
//	{http.auth.user.roles}     roles, separated by commas
//	{http.auth.user.provider}  the provider they came in by
//	{http.auth.user.session}   the session's public handle
//
// All are empty for the anonymous.
//
// # Events
//
//	login_succeeded  provider, user_id, new_user, decision, session, request_id
//	login_failed     provider, outcome, decision, request_id
//	login_linked     provider, user_id, decision, session, request_id
//	session_ended    user_id, session, reason, request_id
//	account_changed  what, provider, user_id, request_id
//	user_deleted     user_id
//	user_provisioned, user_enabled, user_disabled, user_groups_changed
//	                 user_id, by: an operator did it
//
// what is a word of the activity record (module/activity), such as address_added.
//
// reason is signed_out, replaced (by another sign-in in the same browser),
// token_reuse (a refresh token came twice, so that somebody has stolen one),
// logout_token (the provider said that the person signed out there) or
// grant_ended (the provider ended what it had granted; without a request_id).
//
// decision is the row of the decision table that admitted or refused.
//
// # Metrics
//
//	caddy_login_attempts_total{provider,outcome}      sign-ins that came to an end
//	caddy_login_requests_total{verdict}               requests at the gate
//	caddy_login_questions_total{kind}                 questions asked before one could go on
//	caddy_login_revocations_total{provider,outcome}   grants taken back
//	caddy_login_logout_tokens_total{provider,outcome} sign-outs that a provider told
//	caddy_login_provider_seconds{provider,call}       calls to providers, a histogram
//	caddy_login_provider_failures_total{provider,call,reason}
//	caddy_login_mails_total{outcome}
//	caddy_login_mail_seconds{outcome}                 a histogram
//	caddy_login_store_open                            1, or 0
//	caddy_login_store_full_total                      writes refused for want of room
//	caddy_login_sessions                              in use of late
//
// Every label's values are a closed set. A provider is one of the first 256
// names that configs gave, else "other".
package module
