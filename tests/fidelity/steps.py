"""Steps, the actions they name, and scripts: what a session does, without what it does it to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from logqueue.protocol.api import ApiKey
from logqueue.protocol.versions import SERVED
from tests.fidelity.messages import Plain

Run = Callable[..., Plain]


@dataclass(frozen=True, slots=True)
class Step:
    """One call of an action; printed as it can be typed."""

    action: str
    arguments: tuple[tuple[str, Any], ...]

    def __repr__(self) -> str:
        return f"step({self.action!r}, {', '.join(f'{name}={value!r}' for name, value in self.arguments)})"


def step(name: str, /, **arguments: Any) -> Step:
    """A step, written down by hand."""
    return Step(name, tuple(arguments.items()))


@dataclass(frozen=True, slots=True)
class Action:
    """What a step can do: the function that does it and where its arguments come from."""

    run: Run
    weight: int
    arguments: dict[str, st.SearchStrategy[Any]]


ACTIONS: dict[str, Action] = {}


def action(*keys: ApiKey, weight: int = 2, **arguments: st.SearchStrategy[Any]) -> Callable[[Run], Run]:
    """Register a function as an action, if the broker serves the APIs that it needs."""

    def register(run: Run) -> Run:
        if all(key in SERVED for key in keys):
            ACTIONS[run.__name__] = Action(run, weight, arguments)
        return run

    return register


def versions(key: ApiKey, *, at_least: int = 0, at_most: int = 99) -> st.SearchStrategy[int]:
    """Any version of an API that the broker serves."""
    served = SERVED.get(key)
    if served is None:
        return st.just(at_least)
    return st.integers(max(served.min, at_least), min(served.max, at_most))


def mostly(usual: Any, *others: Any) -> st.SearchStrategy[Any]:
    """The usual value in about two of three cases, else one of the others."""
    return st.sampled_from([usual] * (2 * len(others)) + list(others))


def steps_of(name: str) -> st.SearchStrategy[Step]:
    """Steps with one action."""
    arguments = ACTIONS[name].arguments
    return st.tuples(*arguments.values()).map(lambda values: Step(name, tuple(zip(arguments, values, strict=True))))


def scripts(length: int, names: frozenset[str] | None = None) -> st.SearchStrategy[list[Step]]:
    """Scripts of so many steps with the named actions (all by default)."""
    chosen = [name for name, a in ACTIONS.items() if names is None or name in names for _ in range(a.weight)]
    return st.lists(st.sampled_from(chosen).flatmap(steps_of), min_size=length, max_size=length)
