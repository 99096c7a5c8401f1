"""Effects of handlers (`ctx.effect`): what is recorded of them live, and what a replay answers instead. No IO.

Recorded under `details.effects`, by the function's name and the place among the calls of that name:

    {"effects": {"mail.send#0": {"id": "m1"}, "mail.send#1": null}, "effects_dropped": 3}
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import msgspec

from logqueue.jobs.errors import EffectDenied
from logqueue.jobs.payload import encode_result

MAX_EFFECTS = 100
MAX_EFFECT_BYTES = 4 * 1024
"""JSON of one result; a larger one, and what has no JSON form, is not recorded."""
MAX_EFFECTS_BYTES = 12 * 1024

EFFECTS, DROPPED = "effects", "effects_dropped"


class Effects(StrEnum):
    """What a replay does where the handler wants to touch the outside world."""

    DENY = "deny"
    """EffectDenied is raised."""
    NONE = "none"
    """Nothing happens, and None is returned."""
    RECORDED = "recorded"
    """Nothing happens, and what the call returned live is returned; EffectDenied where that is not known."""


def effect_key(name: str, number: int) -> str:
    """How a call is known in the details."""
    return f"{name}#{number}"


def with_effect(details: Mapping[str, Any] | None, key: str, result: object) -> dict[str, Any]:
    """The details with the result of one more effect; one that cannot be kept is counted."""
    known = dict(details or {})
    effects: dict[str, Any] = known.get(EFFECTS, {})
    try:
        encoded = encode_result(result)
    except (TypeError, ValueError, RecursionError):
        encoded = None
    is_kept = encoded is not None and len(encoded) <= MAX_EFFECT_BYTES and len(effects) < MAX_EFFECTS
    if is_kept and encoded is not None:
        effects = {**effects, key: msgspec.json.decode(encoded)}
        is_kept = len(msgspec.json.encode(effects)) <= MAX_EFFECTS_BYTES
    if not is_kept:
        return {**known, DROPPED: known.get(DROPPED, 0) + 1}
    return {**known, EFFECTS: effects}


def replayed_effect(policy: Effects, key: str, recorded: Mapping[str, Any] | None) -> Any:
    """What a call answers in a replay, or EffectDenied; `recorded` are the job's details as it ran live."""
    if policy is Effects.NONE:
        return None
    if policy is Effects.DENY:
        raise EffectDenied(
            f"{key}: a replay does not touch the outside world (--effects none or recorded lets it pass)"
        )
    effects = (recorded or {}).get(EFFECTS)
    if not isinstance(effects, Mapping) or key not in effects:
        raise EffectDenied(f"{key}: what it returned when the job ran live is not recorded")
    return effects[key]
