"""The HTTP API from the command line: bounded retries, problem+json -> messages and exit codes. Blocking."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from logqueue_api.cli.exits import CommandError, ExitCode, UsageError
from logqueue_api.cli.stack import Stack

CONNECT_ATTEMPTS = 4
RESTART_ATTEMPTS = 24  # where run.json says that the stack is up, the API may just be coming back
RETRY_SECONDS = 0.25
CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 30.0
LARGEST_ANSWER_BYTES = 64 << 20

_CODES: dict[int, ExitCode] = {
    HTTPStatus.NOT_FOUND: ExitCode.NOT_FOUND,
    HTTPStatus.GONE: ExitCode.NOT_FOUND,
    HTTPStatus.SERVICE_UNAVAILABLE: ExitCode.UNREACHABLE,
    HTTPStatus.BAD_GATEWAY: ExitCode.UNREACHABLE,
    HTTPStatus.GATEWAY_TIMEOUT: ExitCode.TIMEOUT,
    HTTPStatus.CONFLICT: ExitCode.STATE,
}


class ApiClient:
    """Calls one API; every failure is a CommandError that names the address."""

    def __init__(self, stack: Stack, *, sleep: Callable[[float], None] = time.sleep) -> None:
        if stack.bootstrap_source == "--bootstrap" and stack.api_source != "--api":
            raise UsageError(
                "this asks the HTTP API, and --bootstrap names a log", hint="--api URL says where its API is"
            )
        self._url = stack.api
        self._source = stack.api_source
        self._attempts = RESTART_ATTEMPTS if stack.is_running else CONNECT_ATTEMPTS
        self._sleep = sleep

    def get(self, path: str, query: Mapping[str, object] | None = None, *, seconds: float = ANSWER_SECONDS) -> Any:
        """GET a JSON document; query values that are None are left out."""
        asked = {key: str(value) for key, value in (query or {}).items() if value is not None}
        return self._call("GET", path + ("?" + urlencode(asked) if asked else ""), None, seconds=seconds)

    def post(self, path: str, body: object, *, by: str | None = None, seconds: float = ANSWER_SECONDS) -> Any:
        """POST a JSON document. Only connecting is retried: a request that may have arrived is never sent twice.

        `by` says who asks for a change.
        """
        return self._call("POST", path, json.dumps(body).encode(), by=by, seconds=seconds)

    def _call(self, method: str, path: str, body: bytes | None, *, by: str | None = None, seconds: float) -> Any:
        connection = self._connect()
        try:
            connection.timeout = seconds
            if connection.sock is not None:
                connection.sock.settimeout(seconds)
            headers = {"Accept": "application/json"} | ({"Content-Type": "application/json"} if body else {})
            if by is not None:
                headers["X-Logqueue-Actor"] = by.encode("ascii", "backslashreplace").decode()
            connection.request(method, urlsplit(self._url).path + path, body=body, headers=headers)
            answer = connection.getresponse()
            data = answer.read(LARGEST_ANSWER_BYTES + 1)
        except TimeoutError:
            raise CommandError(
                f"the API at {self._url} did not answer within {seconds:g} s", code=ExitCode.TIMEOUT
            ) from None
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error) from error
        finally:
            connection.close()
        if len(data) > LARGEST_ANSWER_BYTES:
            raise CommandError(
                f"the answer of {self._url}{path} is larger than {LARGEST_ANSWER_BYTES >> 20} MiB", code=ExitCode.FAILED
            )
        return self._read(answer.status, data, path)

    def _connect(self) -> http.client.HTTPConnection:
        parts = urlsplit(self._url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        for attempt in range(1, self._attempts + 1):
            connection = kind(parts.hostname or "", parts.port, timeout=CONNECT_SECONDS)
            try:
                connection.connect()
            except OSError as error:
                connection.close()
                if attempt == self._attempts:
                    raise self._unreachable(error) from error
                self._sleep(RETRY_SECONDS)
            else:
                return connection
        raise AssertionError("the last attempt returns or raises")

    def _unreachable(self, error: Exception) -> CommandError:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return CommandError(
            f"no API answers at {self._url} (from {self._source}): {reason}",
            code=ExitCode.UNREACHABLE,
            hint="is `logqueue up` or `logqueue api` running? --api or LOGQUEUE_API says where",
        )

    def _read(self, status: int, data: bytes, path: str) -> Any:
        try:
            document = json.loads(data) if data else None
        except ValueError:
            document = None
        if 200 <= status < 300:
            return document
        raise _problem(status, document, url=self._url + path)


def quoted(part: str) -> str:
    """One part of a path, whatever is in it."""
    return quote(part, safe="")


def _problem(status: int, document: Any, *, url: str) -> CommandError:
    """RFC 9457 problem -> message; an answer that is none is shown by its status."""
    problem = document if isinstance(document, dict) else {}
    text = str(problem.get("detail") or problem.get("title") or f"{url} answered {status}")
    text = text.replace("`force`", "--force")  # the field of a request, as the command line has it
    fields = problem.get("errors")
    if isinstance(fields, list):
        told = (_field(item) for item in fields)
        text += "".join(f"\n  {line}" for line in told if line not in text)
    if status >= 500 and status not in _CODES:
        return CommandError(text, code=ExitCode.UNREACHABLE, hint="see the API's log")
    return CommandError(text, code=_CODES.get(status, ExitCode.USAGE))


def _field(item: Any) -> str:
    if not isinstance(item, dict):
        return str(item)
    place = item.get("field") or item.get("pointer") or item.get("loc") or ""
    said = item.get("message") or item.get("detail") or item.get("msg") or ""
    return f"{place}: {said}" if place else str(said)
