"""What exceptions of HTTP clients say: status and Retry-After, read from attributes. Imports no HTTP library. Pure.

| client   | exception                | status                     | headers              |
|----------|--------------------------|----------------------------|----------------------|
| httpx    | `HTTPStatusError`        | `.response.status_code`    | `.response.headers`  |
| requests | `HTTPError`              | `.response.status_code`    | `.response.headers`  |
| aiohttp  | `ClientResponseError`    | `.status`                  | `.headers`           |
| urllib   | `HTTPError`              | `.code`                    | `.headers`           |

Sources: RFC 9110 (15.5, 15.6, 10.2.3), RFC 6585 (429), RFC 8470 (425).
"""

from __future__ import annotations

from collections.abc import Iterator
from email.utils import parsedate_to_datetime

MAX_RETRY_AFTER_S = 24 * 3600.0
"""A server that asks for more is asked again after this."""

_TEMPORARY_4XX = frozenset({408, 409, 425, 429})
_SAYS_WHEN = frozenset({429, 503})


def http_status(error: BaseException) -> int | None:
    """The status of an HTTP-like error, 400 to 599; None for every other exception."""
    if isinstance(error, SystemExit):
        return None
    for holder, name in _places(error):
        found = attribute_of(holder, name)
        if isinstance(found, int) and not isinstance(found, bool) and 400 <= found <= 599:
            return int(found)
    return None


def attribute_of(holder: object, name: str) -> object:
    """An attribute of an exception of anybody's; None where there is none, or it is a property that raises."""
    try:
        return getattr(holder, name, None)
    except Exception:  # whatever a user's property raises
        return None


def is_temporary(status: int) -> bool:
    """Whether a later try may succeed: all of 5xx, and 408, 409, 425, 429."""
    return status >= 500 or status in _TEMPORARY_4XX


def retry_after_s(error: BaseException, *, now_s: float) -> float | None:
    """Seconds to wait that a 429 or 503 asks for, 0 to MAX_RETRY_AFTER_S; None where it asks for nothing readable.

    `now_s` is the wall clock, in seconds since the epoch.
    """
    if http_status(error) not in _SAYS_WHEN:
        return None
    text = _retry_after(error)
    if text is None:
        return None
    if text.isascii() and text.isdigit():
        return min(MAX_RETRY_AFTER_S, float(text[:10]))
    try:
        wait_s = parsedate_to_datetime(text).timestamp() - now_s
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return min(MAX_RETRY_AFTER_S, max(0.0, wait_s))


def _places(error: BaseException) -> Iterator[tuple[object, str]]:
    response = attribute_of(error, "response")
    if response is not None:
        yield response, "status_code"
        yield response, "status"
    yield error, "status_code"
    yield error, "status"
    yield error, "code"


def _retry_after(error: BaseException) -> str | None:
    for holder in (attribute_of(error, "response"), error):
        get = attribute_of(attribute_of(holder, "headers"), "get")
        if not callable(get):
            continue
        for name in ("Retry-After", "retry-after"):
            try:
                found = get(name)
            except Exception:  # no mapping of headers
                break
            if isinstance(found, str):
                return found.strip()
    return None
