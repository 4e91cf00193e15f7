"""Access control: the Host header, the token, and the security headers of pages."""

import re
from collections.abc import Collection, Iterator
from hmac import compare_digest
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = ("127.0.0.1", "localhost", "::1")
COOKIE = "rot180-token"
"""Prefix of the cookie's name, which ends with the port: all ports of a host share cookies."""

_HOST = re.compile(
    r"(?:(?P<name>[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_.])?)|\[(?P<address>[0-9a-f:.]+)\])"
    r"(?::(?P<port>[0-9]{1,5}))?",
    re.IGNORECASE | re.ASCII,
)

_PORTS = {"http": 80, "https": 443}

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
"""The content security policy: pages load only what comes from this server."""

HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
}


class SecurityMiddleware:
    """Refuses requests that are not allowed, before the application sees them.

    A page of another site can make a browser send requests here, and a domain of another site can
    be made to resolve to this machine (DNS rebinding). So the Host header must be one of the
    server's names, and requests that change anything must come from a page of this server. If there
    is a token, every request needs it: in a cookie, which the address with ``?token=`` sets, or in
    the header ``Authorization: Bearer``.

    Args:
        app: the application.
        hosts: names that the Host header may have, without port.
        token: the token that requests need; None if only this machine can reach the server.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str], token: str | None) -> None:
        self._app, self._token = app, token
        self._hosts = frozenset(one.lower() for one in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
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
        if host is None or host[0] not in self._hosts:
            named = f"'{host[0]}'" if host else "a malformed host name"
            return PlainTextResponse(
                f"This server does not accept requests for {named}. Use the address that it "
                "printed when it started, or start it with --allow-host.\n",
                421,
            )
        if scope["method"] in ("GET", "HEAD"):
            return None
        origin, site = headers.get("origin"), headers.get("sec-fetch-site", "same-origin")
        foreign = origin is not None and not _is_own(origin, host)
        if foreign or site not in ("same-origin", "none"):
            return PlainTextResponse("Only pages of this server may send this request.\n", 403)
        return None

    def _admitted(self, scope: Scope) -> Response | None:
        """Return None for a request that has the token, or needs none."""
        if self._token is None:
            return None
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        if self._right(dict(query).get("token", "")) and scope["method"] == "GET":
            rest = urlencode([one for one in query if one[0] != "token"])
            path = scope.get("raw_path", scope["path"].encode()).decode("latin-1").split("?")[0]
            # Two slashes at the start would lead to another server.
            answer = RedirectResponse(f"/{path.lstrip('/')}{'?' if rest else ''}{rest}", 303)
            answer.set_cookie(_name(scope), self._token, httponly=True, samesite="strict")
            return answer
        headers = Headers(scope=scope)
        kind, _, shown = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and self._right(shown):
            return None
        if any(map(self._right, _cookies(headers.get("cookie", ""), _name(scope)))):
            return None
        return PlainTextResponse(
            "A token is required: open the address that 'rot180 serve' printed, which contains "
            "it.\n",
            401,
            {"WWW-Authenticate": "Bearer"},
        )

    def _right(self, shown: str) -> bool:
        assert self._token is not None
        return compare_digest(shown.encode(), self._token.encode())


def _name(scope: Scope) -> str:
    """Return the name of this server's cookie."""
    _, port = scope.get("server") or ("", None)
    return f"{COOKIE}-{port}"


def host_of(header: str) -> tuple[str, int | None] | None:
    """Return the name (lower case) and port of a Host header; None if it is malformed."""
    found = _HOST.fullmatch(header)
    if found is None:
        return None
    port = int(found["port"]) if found["port"] else None
    return (found["name"] or found["address"]).lower(), port


def _is_own(origin: str, host: tuple[str, int | None]) -> bool:
    """Return whether an Origin header names the same server as the Host header, port included."""
    scheme, _, rest = origin.partition("://")
    asked, usual = host_of(rest), _PORTS.get(scheme.lower())
    if asked is None or usual is None:
        return False
    (name, port), (known, known_port) = asked, host
    return name == known and (port or usual) == (known_port or usual)


def _cookies(header: str, name: str) -> Iterator[str]:
    """Yield the values of the cookies of a name.

    Other programs on the same machine may set cookies of any form, which must not stop the parser.
    """
    for one in header.split(";"):
        found, _, value = one.partition("=")
        if found.strip() == name:
            yield value.strip()
