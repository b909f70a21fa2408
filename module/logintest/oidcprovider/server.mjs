// The certified oidc-provider with people of our own, for end-to-end tests.
//
//   node server.mjs '{"port": 0, "clients": [{"client_id": "site", …}], "people": [{"sub": "ada", …}]}'
//
// It listens on 127.0.0.1 only, prints one JSON line {"issuer": …} once it is
// ready and one for every code, token and refusal before it gives that out. GET
// /reported says how many lines that makes: a pipe may be late. It ends when its
// standard input closes: a test that was killed leaves nothing behind.
import './runtime.mjs';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { request } from 'node:https';
import { randomBytes } from 'node:crypto';

const { default: Provider } = await import('oidc-provider');

const { port = 0, clients = [], people = [] } = JSON.parse(process.argv[2] ?? '{}');
const byEmail = new Map(people.map((person) => [person.email, person]));
const bySub = new Map(people.map((person) => [person.sub, person]));

let reported = 0;

const server = createServer();
server.listen(port, '127.0.0.1');
await once(server, 'listening');
const issuer = `http://127.0.0.1:${server.address().port}`;

const provider = new Provider(issuer, {
  clients: clients.map((client) => ({ grant_types: ['authorization_code', 'refresh_token'], ...client })),
  clientDefaults: { id_token_signed_response_alg: 'RS256' },
  jwks: { keys: [await signingKey()] },
  scopes: ['openid', 'offline_access', 'email', 'profile', 'groups'],
  claims: {
    openid: ['sub'],
    email: ['email', 'email_verified'],
    profile: ['name', 'groups'],
    groups: ['groups'],
  },
  pkce: { required: () => true },
  cookies: { keys: [secret()], names: cookieNames(), short: { httpOnly: true, sameSite: 'lax' } },
  features: {
    devInteractions: { enabled: false },
    rpInitiatedLogout: { enabled: true, logoutSource, postLogoutSuccessSource },
    backchannelLogout: { enabled: true },
  },
  interactions: { url: (ctx, interaction) => `/interaction/${interaction.uid}` },
  ttl: { AccessToken: 600, AuthorizationCode: 60, IdToken: 600, Interaction: 600, Session: 3600, Grant: 3600 },
  fetch: callSite,
  findAccount,
  loadExistingGrant,
  renderError,
});

provider.on('authorization.success', (ctx, response) => report({ event: 'authorized', issued: secretsOf(response) }));
provider.on('authorization.error', (ctx, error) => report({ event: 'authorization_refused', error: error.message }));
provider.on('grant.success', (ctx) => report({ event: 'token', issued: secretsOf(ctx.body) }));
provider.on('grant.error', (ctx, error) => report({ event: 'token_refused', error: error.message }));
provider.on('userinfo.error', (ctx, error) => report({ event: 'userinfo_refused', error: error.message }));
provider.on('backchannel.success', () => report({ event: 'logout_told' }));
provider.on('backchannel.error', (ctx, error) => report({ event: 'logout_not_told', error: error.message }));
provider.on('server_error', (ctx, error) => report({ event: 'broken', error: error.stack }));

const pages = provider.callback();
server.on('request', (req, res) => {
  if (req.url === '/reported') {
    res.end(String(reported));
    return;
  }
  const [, uid] = /^\/interaction\/([\w-]+)$/.exec(req.url) ?? [];
  if (uid === undefined) {
    pages(req, res);
    return;
  }
  interact(req, res).catch((error) => answer(res, 400, `<h1>This sign-in cannot go on</h1><p>${escaped(error.message)}</p>`));
});

process.stdin.resume();
process.stdin.on('close', () => process.exit(0));
report({ event: 'ready', issuer });

// interact asks who is there. A person is named by address; consent is never
// asked for (loadExistingGrant).
async function interact(req, res) {
  const { prompt, params } = await provider.interactionDetails(req, res);
  if (req.method !== 'POST') {
    answer(res, 200, signInPage(params.login_hint));
    return;
  }
  const form = await formOf(req);
  if (form.get('cancel') !== null) {
    await finish(req, res, { error: 'access_denied', error_description: 'The person said no' });
    return;
  }
  const person = byEmail.get(form.get('person'));
  if (person === undefined || prompt.name !== 'login') {
    answer(res, 200, signInPage(form.get('person'), 'Nobody of that name'));
    return;
  }
  await finish(req, res, { login: { accountId: person.sub } });
}

function finish(req, res, result) {
  return provider.interactionFinished(req, res, result, { mergeWithLastSubmission: false });
}

function signInPage(hint = '', complaint = '') {
  return `<h1>Who are you?</h1><p role="alert">${escaped(complaint)}</p>
    <form method="post">
      <label>Address <input name="person" value="${escaped(hint)}" autofocus></label>
      <button>Sign in here</button>
      <button name="cancel" value="yes">Cancel</button>
    </form>
    <p>${people.map((person) => escaped(person.email)).join(', ')}</p>`;
}

async function findAccount(ctx, sub) {
  const person = bySub.get(sub);
  return person && { accountId: sub, claims: async () => person };
}

// loadExistingGrant grants what was asked for, as a person who always agrees.
// The grant of a session stays the same: a new one would take back the codes
// given out under it.
async function loadExistingGrant(ctx) {
  const { client, session, params } = ctx.oidc;
  const before = session.grantIdFor(client.clientId);
  const grant = (before && await provider.Grant.find(before))
    || new provider.Grant({ clientId: client.clientId, accountId: session.accountId });
  grant.addOIDCScope(params.scope);
  await grant.save();
  return grant;
}

// callSite calls a site of the test's: whatever its name, it is on this machine,
// with a certificate that nobody knows.
function callSite(url, { method, headers, body, signal }) {
  const lookup = (name, { all }, done) => (all
    ? done(null, [{ address: '127.0.0.1', family: 4 }])
    : done(null, '127.0.0.1', 4));
  const form = String(body);
  return new Promise((resolve, reject) => {
    const call = request(url, {
      method, lookup, signal, rejectUnauthorized: false,
      headers: { ...Object.fromEntries(headers), 'content-length': Buffer.byteLength(form) },
    }, (answer) => {
      answer.resume();
      answer.on('end', () => resolve(new Response(null, { status: answer.statusCode })));
    });
    call.on('error', reject);
    call.end(form);
  });
}

async function logoutSource(ctx, form) {
  ctx.body = page(`<h1>Sign out here, too?</h1>${form}
    <button type="submit" form="op.logoutForm" value="yes" name="logout">Sign out here</button>
    <button type="submit" form="op.logoutForm">Stay signed in here</button>`);
}

async function postLogoutSuccessSource(ctx) {
  ctx.body = page('<h1>Signed out here</h1>');
}

async function renderError(ctx, out) {
  ctx.type = 'html';
  ctx.body = page(`<h1>The provider refuses</h1><pre>${escaped(JSON.stringify(out))}</pre>`);
}

// cookieNames tells providers on two ports of one address apart: cookies know
// no ports.
function cookieNames() {
  const { port: own } = server.address();
  return { session: `op_${own}_session`, interaction: `op_${own}_interaction`, resume: `op_${own}_resume` };
}

async function signingKey() {
  const pair = await crypto.subtle.generateKey(
    { name: 'RSASSA-PKCS1-v1_5', modulusLength: 2048, publicExponent: new Uint8Array([1, 0, 1]), hash: 'SHA-256' },
    true,
    ['sign', 'verify'],
  );
  return { ...await crypto.subtle.exportKey('jwk', pair.privateKey), use: 'sig', alg: 'RS256', key_ops: undefined, ext: undefined };
}

function secretsOf(response = {}) {
  return ['code', 'state', 'access_token', 'refresh_token', 'id_token'].map((name) => response[name]).filter(Boolean);
}

async function formOf(req) {
  let body = '';
  for await (const chunk of req) body += chunk;
  return new URLSearchParams(body);
}

function answer(res, status, body) {
  res.writeHead(status, { 'content-type': 'text/html; charset=utf-8', 'cache-control': 'no-store' });
  res.end(page(body));
}

function page(body) {
  return `<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>Provider</title>
    <link rel="icon" href="data:,"></head><body>${body}</body></html>`;
}

function escaped(text) {
  return String(text ?? '').replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);
}

function secret() {
  return randomBytes(32).toString('base64url');
}

function report(line) {
  reported += 1;
  process.stdout.write(`${JSON.stringify(line)}\n`);
}
