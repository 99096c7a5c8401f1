"""Whom a request takes this API for: what its Host header names. Knows nothing of routes.

A web page whose name is made to lead to 127.0.0.1 (DNS rebinding) is of the API's own origin for the browser that shows
it, and may send whatever it likes. Its requests carry the page's own name, which an API that listens on a loopback
address has no reason to go by: there people write localhost, an address, or a name that they gave to a proxy.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import ip_address
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from logqueue_api.rest.limits import variable_name
from logqueue_api.rest.problems import Problem, render

ANY_HOST: Final = "*"
MAX_REMEMBERED: Final = 64
MAX_SHOWN_CHARS: Final = 100


def only_known_hosts(app: ASGIApp, *, address: str, listed: Iterable[str]) -> ASGIApp:
    """The app behind a look at the Host header, where it listens on a loopback address; elsewhere the app itself.

    Taken are `localhost` and names below it (RFC 6761: nobody can make them lead here), every IP address, the `listed`
    names (ANY_HOST is all there are), and requests that name no host (HTTP/1.0, health checks). Others get 421.
    """
    names = frozenset({"localhost", *map(host_name, listed)})
    if ANY_HOST in names or not _is_loopback(address):
        return app
    return _KnownHosts(app, names)


def host_name(text: str) -> str:
    """The name or address in a Host header or a setting, without its port: `[::1]:8080` is `::1`."""
    name = text.strip().lower()
    if name.startswith("["):
        return name[1:].partition("]")[0]
    return name.partition(":")[0].rstrip(".")


class _KnownHosts:
    """Answers what is meant for others, and passes on the rest."""

    def __init__(self, app: ASGIApp, names: frozenset[str]) -> None:
        self._app = app
        self._names = names
        self._is_known = lru_cache(maxsize=MAX_REMEMBERED)(self._find)  # most requests say the same

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            for name, value in scope["headers"]:
                if name == b"host" and not self._is_known(value):
                    await _misdirected(value, scope["path"])(scope, receive, send)
                    return
        await self._app(scope, receive, send)

    def _find(self, value: bytes) -> bool:
        name = host_name(value.decode("latin-1"))
        return not name or name in self._names or name.endswith(".localhost") or _is_address(name)


def _misdirected(host: bytes, path: str) -> ASGIApp:
    name = host_name(host.decode("latin-1"))[:MAX_SHOWN_CHARS]
    setting = f"{variable_name('hosts')}={name}"
    detail = (
        f"this API listens on a loopback address and does not go by the name {name!r}; if it is to (a proxy in front "
        f"passes the name on), start it with {setting}, or `hosts` under [api] in its settings file"
    )
    return render(Problem(421, detail), instance=path)


def _is_loopback(address: str) -> bool:
    return _is_address(address) and ip_address(address).is_loopback


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
