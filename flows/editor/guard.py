"""Who may talk to the page's server: this machine's browser, on the page that this start of the command opened.

The server listens on 127.0.0.1 only. Any web page that is open in the same browser could still send requests there, so:
the Host header must name this machine (a name that was rebound to 127.0.0.1 is refused), and everything but the page's
own files needs the token that was made at the start, in a header, which no other origin can set or read.
"""

from __future__ import annotations

import secrets

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

TOKEN_HEADER = "x-ratify-token"
HOSTS = ("127.0.0.1", "localhost")
MOST_BYTES = 20_000_000
"""A request with a longer body is refused; a file of 10,000 principles has two megabytes."""

HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
        "trusted-types 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


class Guard:
    """ASGI middleware: hosts, token, size, and the headers of every answer."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = TrustedHostMiddleware(app, allowed_hosts=list(HOSTS), www_redirect=False)
        self._token = token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            fault = self._fault(scope)
            app = self._app if fault is None else TrustedHostMiddleware(fault, list(HOSTS), www_redirect=False)
            await app(scope, receive, _with_headers(send))

    def _fault(self, scope: Scope) -> JSONResponse | None:
        headers = Headers(scope=scope)
        if not scope["path"].startswith("/api/"):
            return None
        if not secrets.compare_digest(headers.get(TOKEN_HEADER, "").encode(), self._token):
            sentence = "this page belongs to another start of the command; open the address that it printed"
            return JSONResponse({"fault": sentence, "kind": "token"}, 403)
        if scope["method"] == "POST":
            length = headers.get("content-length", "")
            if not length.isdigit() or int(length) > MOST_BYTES:
                return JSONResponse({"fault": f"a request has at most {MOST_BYTES:,} bytes", "kind": "size"}, 413)
        return None


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(HEADERS)
        await send(message)

    return sending
