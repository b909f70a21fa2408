// An app that believes who is there because it is signed, and not because it
// stands in a header.
import { createServer } from 'node:http'
import { createRemoteJWKSet, jwtVerify } from 'jose'

const origin = process.env.ORIGIN ?? 'https://app.example.com'
const keys = createRemoteJWKSet(new URL(process.env.KEYS ?? `${origin}/.login/jwks.json`))

// The site is the issuer and the audience: what was signed for another site,
// though with the same key, is not for this app; nor is what has no groups.
const expected = {
  issuer: origin, audience: origin, algorithms: ['ES256'], requiredClaims: ['sub', 'iat', 'exp', 'groups'],
}

const escape = (text) => text.replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`)

createServer(async (request, response) => {
  try {
    const { payload } = await jwtVerify(request.headers['remote-assertion'] ?? '', keys, expected)
    response.writeHead(200, { 'Content-Type': 'text/html; charset=utf-8' })
    response.end(`<p>Hello ${escape(payload.name ?? '')}, ${payload.sub} (${payload.groups.length} groups)\n`)
  } catch {
    response.writeHead(401).end('not signed by the site\n')
  }
}).listen(Number(process.env.PORT ?? 3000), '127.0.0.1')
