"""What a workload is run with: its settings with the changes of the command line, checked before anything starts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from benchmarks.report import InvalidSetting, Settings, settings_text
from logqueue.jobs.settings import AT_LEAST_ONCE, EXACTLY_ONCE

MAY_BE_ZERO = frozenset({"delays_us", "ms", "park_us", "port", "tail_kib", "version", "warm_up"})
"""Settings of which none makes sense; of all others there is at least one."""
CHOICES: Mapping[str, Sequence[str]] = {
    "acks": ("-1", "1"),  # acks=0 has no answer that could be timed
    "codecs": ("none", "gzip", "snappy", "lz4", "zstd"),
    "cold": ("0", "1"),
    "fsync": ("0", "1"),
    "order": ("tenant", "none"),
    "peer_fsync": ("0", "1"),
    "processing": (AT_LEAST_ONCE, EXACTLY_ONCE),
}
NUMBER = re.compile(r"[0-9]{1,15}")


def changed(workload: str, settings: Settings, changes: Sequence[str], *, seconds: int | None) -> Settings:
    """The settings of a workload with changes like `jobs=1000`. Raises InvalidSetting, which says what there is."""
    if seconds is not None:
        if "seconds" not in settings:
            raise InvalidSetting(f"--seconds: {workload} is not bound by time, but by {settings_text(settings)}")
        changes = [*changes, f"seconds={seconds}"]
    result = dict(settings)
    for change in changes:
        name, _, value = change.partition("=")
        if name not in settings:
            raise InvalidSetting(f"--set {change}: settings of {workload} are {settings_text(settings)}")
        if problem := _problem(name, settings[name], value):
            raise InvalidSetting(f"{change}: {problem}")
        result[name] = value if isinstance(settings[name], str) else int(value)
    return result


def _problem(name: str, default: int | str, value: str) -> str | None:
    """What is wrong with a value, or None. Where the default is numbers, it has to be numbers too."""
    words = value.split() if isinstance(default, str) else [value]
    if not words:
        return f"nothing is no {name}; the default is {default}"
    if len(words) > len(set(words)):
        return "one of them comes twice"
    if name in CHOICES:
        return None if set(words) <= set(CHOICES[name]) else f"there are {', '.join(CHOICES[name])}"
    if isinstance(default, str) and not all(map(NUMBER.fullmatch, default.split())):
        return None  # the workload knows
    least = 0 if name in MAY_BE_ZERO else 1
    if all(NUMBER.fullmatch(word) and int(word) >= least for word in words):
        return None
    what = "whole numbers" if isinstance(default, str) else "a whole number"
    return f"{name} is {what} from {least} on, for example {default}"
