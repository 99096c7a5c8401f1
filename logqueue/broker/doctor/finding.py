"""One thing that was looked at, and what was seen."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum


class Status(Enum):
    """How it is, from good to bad."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What was looked at (`check`), how it is, what was seen, and what to do about it."""

    check: str
    status: Status
    text: str
    hint: str = ""


def ok(check: str, text: str) -> Finding:
    return Finding(check=check, status=Status.OK, text=text)


def warning(check: str, text: str, hint: str = "") -> Finding:
    return Finding(check=check, status=Status.WARNING, text=text, hint=hint)


def problem(check: str, text: str, hint: str = "") -> Finding:
    return Finding(check=check, status=Status.PROBLEM, text=text, hint=hint)


def worst(findings: Iterable[Finding]) -> Status:
    """The worst of them."""
    order = list(Status)
    return max((finding.status for finding in findings), key=order.index, default=Status.OK)
