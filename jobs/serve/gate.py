"""Who may talk to the page: this machine, or who has the token; and no other web page.

A browser sends a person's requests, and also those that a foreign page makes it send. So whatever
changes something needs a header that foreign pages cannot set, and the name under which the page is
asked for must be its own: else a foreign name could be pointed at this machine.
"""

import hmac
import ipaddress
from hashlib import sha256
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE, HEADER = "spp_token", "x-spp"
READS = {"GET", "HEAD"}
WORK = {"/search", "/near"}
YEAR_S = 365 * 24 * 3600
HEADERS = {
    "content-security-policy": "default-src 'self'; img-src 'self' data:; object-src 'none'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}


def is_loopback(host: str) -> bool:
    """Return whether an address is this machine's own.

    >>> [is_loopback(host) for host in ("127.0.0.1", "localhost", "::1", "0.0.0.0")]
    [True, True, True, False]
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


class Gate:
    """Lets requests through to the page, or says why not."""

    def __init__(self, app: ASGIApp, token: str | None) -> None:
        """Stand before an app.

        Args:
            app: the page.
            token: that everybody must have, not blank; None: nobody needs one, and only this
                machine's own names are answered.
        """
        if token is not None and not token.strip():
            raise ValueError("a blank token would let everybody in")
        self._app, self._token = app, token
        # Cookies do not tell ports apart: two servers of one machine would overwrite each other's.
        self._cookie = f"{COOKIE}_{sha256((token or '').encode()).hexdigest()[:8]}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = [(key.encode(), value.encode()) for key, value in HEADERS.items()]
                message = {**message, "headers": [*message["headers"], *added]}
            await send(message)

        answer = self._refusal(Request(scope)) or self._app
        await answer(scope, receive, with_headers)

    def _refusal(self, request: Request) -> Response | None:
        host = _host(request)
        if self._token is None and not is_loopback(host):
            return PlainTextResponse(f"this page is not called {host!r}", 403)
        if _is_foreign(request):
            return PlainTextResponse("another page asks for this: open it yourself", 403)
        if request.method not in READS:
            origin = request.headers.get("origin")
            if HEADER not in request.headers or (
                origin and urlsplit(origin).netloc != _netloc(request)
            ):
                return PlainTextResponse("only this page itself may change anything", 403)
        return None if self._token is None else self._without_token(request, self._token)

    def _without_token(self, request: Request, token: str) -> Response | None:
        given = request.query_params.get("token")
        if given is not None and _same(given, token) and request.method in READS:
            # Out of the address, which people copy and browsers remember.
            answer = RedirectResponse(str(request.url.remove_query_params("token")), 303)
            answer.set_cookie(self._cookie, token, max_age=YEAR_S, httponly=True, samesite="strict")
            return answer
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
        if _same(request.cookies.get(self._cookie, ""), token) or _same(bearer, token):
            return None
        text = "a token is needed: open the address that spp serve printed, with ?token=…"
        return PlainTextResponse(text, 401)


def _host(request: Request) -> str:
    """Return the name that the page was asked for by, without the port."""
    try:
        return urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
    except ValueError:  # half an address
        return ""


def _is_foreign(request: Request) -> bool:
    """Whether a foreign page asks, and not a person who follows a link.

    What it gets it cannot read; but searching is work, and many requests would hold up everybody.
    Any page can send its visitors on to an address: those of searches are for this page only.
    """
    names = ("site", "mode", "dest")
    site, mode, what = (request.headers.get(f"sec-fetch-{name}") for name in names)
    follows = (mode, what) == ("navigate", "document") and request.url.path not in WORK
    return site == "cross-site" and not follows


def _same(given: str, token: str) -> bool:
    return hmac.compare_digest(given.encode(), token.encode())


def _netloc(request: Request) -> str:
    return request.headers.get("host", "")
