"""Who may ask: the Host header, a token where others can reach it, and what pages may do."""

from collections.abc import Collection
from hmac import compare_digest
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = ("127.0.0.1", "localhost", "::1")
COOKIE = "rot180-token"

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob:",
        "connect-src 'self'",
        "media-src blob:",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
"""What a page may load and do: only what comes from this server."""

HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
}


class Guard:
    """Answers before the application does, where somebody asks who may not.

    A page of another site can make a browser send requests here, and a name of another site can be
    made to lead here (DNS rebinding). So the Host header has to be one of the names that the server
    is known by, and what changes anything has to come from a page of the server itself. With a
    token, every request has to show it: in a cookie, which the address with ``?token=`` sets, or in
    the header ``Authorization: Bearer``.

    Args:
        app: the application.
        hosts: names that the server is known by, without port.
        token: that requests have to show; None where only this machine can reach the server.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str], token: str | None) -> None:
        self._app, self._token = app, token
        self._hosts = frozenset(one.lower() for one in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        answer = self._refused(scope) or self._admitted(scope)
        await (answer or self._app)(scope, receive, sent)

    def _refused(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        host = host_of(headers.get("host", ""))
        if host not in self._hosts:
            return PlainTextResponse(
                f"This server is not known as '{host}'. Ask for it under the address that it "
                "printed when it started, or start it with --allow-host.\n",
                421,
            )
        if scope["method"] in ("GET", "HEAD"):
            return None
        origin, site = headers.get("origin"), headers.get("sec-fetch-site", "same-origin")
        foreign = origin is not None and host_of(urlsplit(origin).netloc) != host
        if foreign or site not in ("same-origin", "none"):
            return PlainTextResponse("Only a page of this server may do that.\n", 403)
        return None

    def _admitted(self, scope: Scope) -> Response | None:
        """Return None for a request that shows the token, or needs none."""
        if self._token is None:
            return None
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        if self._right(dict(query).get("token", "")) and scope["method"] == "GET":
            rest = urlencode([one for one in query if one[0] != "token"])
            path = scope.get("raw_path", scope["path"].encode()).decode("latin-1").split("?")[0]
            # Two slashes at the start would lead to another server.
            answer = RedirectResponse(f"/{path.lstrip('/')}{'?' if rest else ''}{rest}", 303)
            answer.set_cookie(COOKIE, self._token, httponly=True, samesite="strict")
            return answer
        headers = Headers(scope=scope)
        kind, _, shown = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and self._right(shown):
            return None
        if self._right(_cookie(headers.get("cookie", ""))):
            return None
        return PlainTextResponse(
            "A token is needed here: open the address that 'rot180 serve' printed, which holds "
            "it.\n",
            401,
            {"WWW-Authenticate": "Bearer"},
        )

    def _right(self, shown: str) -> bool:
        assert self._token is not None
        return compare_digest(shown.encode(), self._token.encode())


def host_of(netloc: str) -> str:
    """Return the name in a Host header or in an address, without port and in small letters."""
    try:
        return (urlsplit(f"//{netloc}").hostname or "").lower()
    except ValueError:
        return ""


def _cookie(header: str) -> str:
    try:
        found = SimpleCookie(header).get(COOKIE)
    except CookieError:
        return ""
    return found.value if found is not None else ""
