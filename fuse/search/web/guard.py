"""Which hosts a request may name, and the security headers of every response.

The page has no password, so pages of other sites in the same browser must not read it. Such a site
can point its own host name at this machine ("DNS rebinding"), so requests for unknown host names
are refused; a plain IP address can't be rebound.
"""

import ipaddress
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY = "; ".join(
    (
        "default-src 'none'",
        "style-src 'self'",
        "media-src 'self'",
        "img-src data:",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-cache",  # another gallery may have another video of that number
}


class Guard:
    """Checks the Host header of each request, and adds HEADERS to every response."""

    def __init__(self, app: ASGIApp, names: Iterable[str]) -> None:
        """names: accepted host names in addition to localhost and IP addresses."""
        self._app = app
        self._names = {"localhost", *(name.casefold() for name in names)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        if self._is_ours(Headers(scope=scope).get("host", "")):
            await self._app(scope, receive, with_headers)
        else:
            refusal = PlainTextResponse("m2hf app does not serve this host name\n", 421)
            await refusal(scope, receive, with_headers)

    def _is_ours(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        return name in self._names or _is_address(name)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
