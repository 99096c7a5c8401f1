"""Commands that steer what runs: pauses, limits, weights, kill switches. Keys and values in `jobs.control`. Pure.

    pause/queue/<queue>   pause/tenant/<queue>/<tenant>   pause/type/<type>            {reason}
    limit/queue/<queue>/<by>   limit/tenant/<queue>/<tenant>   limit/type/<by>/<type>  {running, rate, burst}
    weight/tenant/<queue>/<tenant>   weight/priority/<queue>/<class>                   {weight}
    kill/<name>                                                      {type, queue, tenant, arguments, reason}

A limit without running and rate lifts the one that is declared; a command that is taken back lets the declaration
hold again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from logqueue.jobs.control import MAX_REASON_CHARS, Command
from logqueue.jobs.errors import InvalidArguments, InvalidDefinition
from logqueue.jobs.headers import MAX_TYPE_CHARS
from logqueue.jobs.limits import Limit, is_argument, parse_rate, read_limit
from logqueue.jobs.sending import check_tenant
from logqueue.jobs.topics import check_priority, check_queue

KILL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", re.ASCII)
MIN_WEIGHT, MAX_WEIGHT = 0.01, 1000.0


def pause_key(*, queue: str | None = None, tenant: str | None = None, type_: str | None = None) -> str:
    """What is paused: a queue, a tenant of a queue, or a type; InvalidArguments names what does not go together."""
    if type_ is not None:
        if queue is not None or tenant is not None:
            raise InvalidArguments("a type is paused in every queue", field="type")
        return f"pause/type/{_type(type_)}"
    if queue is None:
        raise InvalidArguments("what is to be paused: a queue, a tenant of a queue, or a type", field="queue")
    if tenant is None:
        return f"pause/queue/{_queue(queue)}"
    return f"pause/tenant/{_queue(queue)}/{check_tenant(tenant)}"


def limit_key(
    *, queue: str | None = None, tenant: str | None = None, type_: str | None = None, by: str | None = None
) -> str:
    """Whose limit it is: of a queue or a type for each value of `by` (see `limit_by`), or of one tenant of a queue."""
    if tenant is not None:
        if queue is None or by not in (None, "tenant") or type_ is not None:
            raise InvalidArguments("the limit of one tenant is given with its queue alone", field="tenant")
        return f"limit/tenant/{_queue(queue)}/{check_tenant(tenant)}"
    if (queue is None) == (type_ is None):
        raise InvalidArguments("whose limit: give a queue or a type, one of them", field="queue")
    by = limit_by(queue=queue, tenant=tenant, by=by)
    limit_value(by=by, running=1)
    return f"limit/queue/{_queue(queue)}/{by}" if queue is not None else f"limit/type/{by}/{_type(type_ or '')}"


def limit_by(*, queue: str | None, tenant: str | None, by: str | None) -> str:
    """For each of what a limit counts: as given, else the tenant, all of the queue, or all of the type."""
    if tenant is not None:
        return "tenant"
    if by is not None:
        return by
    return "queue" if queue is not None else "type"


def limit_value(
    *, by: str, running: int | None = None, rate: str | None = None, burst: int | None = None
) -> dict[str, Any]:
    """The value of a limit; without running and rate it lifts the declared one. InvalidArguments says what is wrong."""
    if running is None and rate is None and burst is None:
        return {}
    if by not in ("queue", "tenant", "type") and not is_argument(by):
        raise InvalidArguments(f"{by!r} is none of queue, tenant, type, argument:<name>", field="by")
    if burst is not None and rate is None:
        raise InvalidArguments("a burst goes with a rate, such as 100/s", field="burst")
    try:
        if rate is not None:
            parse_rate(rate)
    except InvalidDefinition as error:
        raise InvalidArguments(str(error), field="rate") from None
    try:
        limit = Limit(by=by, running=running, rate=rate, burst=burst)
    except InvalidDefinition as error:
        raise InvalidArguments(str(error), field="limit") from None
    return {name: value for name, value in limit.describe().items() if name != "by"}


def weight_key(queue: str, *, tenant: str | None = None, priority: str | None = None) -> str:
    """Whose weight it is: a tenant's or a priority class's."""
    if (tenant is None) == (priority is None):
        raise InvalidArguments("whose weight: give a tenant or a priority", field="tenant")
    if tenant is not None:
        return f"weight/tenant/{_queue(queue)}/{check_tenant(tenant)}"
    try:
        return f"weight/priority/{_queue(queue)}/{check_priority(priority or '')}"
    except InvalidDefinition as error:
        raise InvalidArguments(str(error), field="priority") from None


def weight_value(weight: float) -> dict[str, Any]:
    """The value of a weight."""
    return {"weight": check_weight(weight)}


def check_weight(weight: object) -> float:
    """A weight itself, or InvalidArguments."""
    if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not MIN_WEIGHT <= weight <= MAX_WEIGHT:
        raise InvalidArguments(
            f"weight {weight!r} is not a number from {MIN_WEIGHT:g} to {MAX_WEIGHT:g}", field="weight"
        )
    return float(weight)


def kill_key(name: str) -> str:
    """A kill switch by its name."""
    if not KILL_NAME.fullmatch(name):
        raise InvalidArguments(f"{name!r} is not of the form [A-Za-z0-9][A-Za-z0-9._-]*, 100 at most", field="name")
    return f"kill/{name}"


def kill_value(
    *, type_: str, queue: str | None, tenant: str | None, arguments: Mapping[str, Any] | None, reason: str | None
) -> dict[str, Any]:
    """What a kill switch selects: a type, and whatever else has to match."""
    value: dict[str, Any] = {"type": _type(type_)}
    if queue is not None:
        value["queue"] = _queue(queue)
    if tenant is not None:
        value["tenant"] = check_tenant(tenant)
    if arguments:
        value["arguments"] = dict(arguments)
    return {**value, **reason_value(reason)}


def reason_value(reason: str | None) -> dict[str, Any]:
    """A reason as it is kept."""
    return {} if not reason else {"reason": reason[:MAX_REASON_CHARS]}


def command(key: str, value: Mapping[str, Any] | None, *, by: str, at_ms: int) -> Command:
    """The command; a value of None takes it back."""
    return Command(key=key, by=by, at_ms=at_ms, value=value)


def standing_limit(key: str, value: Mapping[str, Any]) -> tuple[str, str, Limit | None] | None:
    """Scope, subject and limit of a `limit/...` command; None for a key of another form or a value that is no limit.

    The subject is a queue, `<queue>/<tenant>`, or a type. The limit is None where it lifts what is declared.
    """
    match key.split("/", 3):
        case ["limit", "queue", queue, by]:
            scope, subject = "queue", queue
        case ["limit", "tenant", queue, tenant]:
            scope, subject, by = "tenant", f"{queue}/{tenant}", "tenant"
        case ["limit", "type", by, type_]:
            scope, subject = "type", type_
        case _:
            return None
    given = {name: value[name] for name in ("running", "rate", "burst") if value.get(name) is not None}
    try:
        return scope, subject, read_limit({"by": by, **given}) if given else None
    except (InvalidDefinition, TypeError):
        return None


def _queue(name: str) -> str:
    try:
        return check_queue(name)
    except InvalidDefinition as error:
        raise InvalidArguments(str(error), field="queue") from None


def _type(name: str) -> str:
    if not name.strip() or len(name) > MAX_TYPE_CHARS or not name.isprintable():
        raise InvalidArguments(f"a type is 1 to {MAX_TYPE_CHARS} printable characters", field="type")
    return name
