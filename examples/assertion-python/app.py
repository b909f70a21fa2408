"""An app that believes who is there because it is signed, and not because it
stands in a header."""

import html
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import jwt

ORIGIN = os.environ.get("ORIGIN", "https://app.example.com")
KEYS = jwt.PyJWKClient(os.environ.get("KEYS", ORIGIN + "/.login/jwks.json"), lifespan=300)


def verified(token):
    """The claims. The site is the issuer and the audience: what was signed for
    another site, though with the same key, is not for this app; nor is what has no groups."""
    key = KEYS.get_signing_key_from_jwt(token).key
    return jwt.decode(
        token, key, algorithms=["ES256"], issuer=ORIGIN, audience=ORIGIN,
        options={"require": ["iss", "aud", "sub", "iat", "exp", "groups"]},
    )


class App(BaseHTTPRequestHandler):
    def do_GET(self):
        try:
            who = verified(self.headers.get("Remote-Assertion", ""))
        except (jwt.PyJWTError, ValueError):
            return self.answer(401, "not signed by the site\n")
        name = html.escape(who.get("name", ""))
        self.answer(200, f"<p>Hello {name}, {who['sub']} ({len(who['groups'])} groups)\n")

    def answer(self, status, text):
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", "3000"))), App).serve_forever()
