"""What to try next: lines that can be copied into another terminal and work as they stand. Strings only."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from logqueue_api.up.app_card import AppCard, JobCard

DEFAULT_BOOTSTRAP = "127.0.0.1:9092"


@dataclass(frozen=True, slots=True)
class Hint:
    """A thing to try: what it does, and the line."""

    what: str
    line: str


def hints(*, card: AppCard | None, bootstrap: str, api: str, logqueue: str, python: str) -> list[Hint]:
    """The lines for an app, shortest way first; `logqueue` and `python` are how this installation calls them."""
    if card is None or not card.jobs:
        return [Hint("look at the log", f"{logqueue} topic ls"), Hint("the same from kcat", f"kcat -b {bootstrap} -L")]
    job = card.jobs[0]
    found = [
        Hint("submit a job and wait for it", _submit(job, logqueue)),
        Hint("the same over HTTP", _curl(job, api)),
        Hint("from any Kafka client", _kcat(job, bootstrap)),
    ]
    if job.function and job.module != "__main__":
        found.append(Hint("from Python", _python(job, bootstrap, python)))
    return [
        *found,
        Hint("what failed, and why", f"{logqueue} dlq ls {job.queue} --limit 5"),
        Hint("run history again, apart", f"{logqueue} replay jobs.{job.queue} --from 0 --to 100 --group audit {{app}}"),
    ]


def _submit(job: JobCard, logqueue: str) -> str:
    return f"{logqueue} submit {shlex.quote(job.type)} --tenant acme{_assignments(job.example)} --wait"


def _assignments(example: Mapping[str, Any]) -> str:
    """`k=v` as `logqueue submit` reads it: JSON where it is JSON, else text."""
    words = ""
    for name, value in example.items():
        text = value if isinstance(value, str) and not _is_json(value) else json.dumps(value, ensure_ascii=False)
        words += " " + shlex.quote(f"{name}={text}")
    return words


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _curl(job: JobCard, api: str) -> str:
    body = json.dumps({"type": job.type, "tenant": "acme", "args": job.example}, ensure_ascii=False)
    return f"curl -s {api}/v1/jobs -H 'content-type: application/json' -d {shlex.quote(body)}"


def _kcat(job: JobCard, bootstrap: str) -> str:
    value = shlex.quote(json.dumps(job.example, ensure_ascii=False))
    header = "" if job.is_default else f" -H ce_type={shlex.quote(job.type)}"
    return f"echo {value} | kcat -b {bootstrap} -P -t jobs.{job.queue} -k acme{header}"


def _python(job: JobCard, bootstrap: str, python: str) -> str:
    arguments = "".join(f", {name}={value!r}" for name, value in job.example.items())
    where = "" if bootstrap == DEFAULT_BOOTSTRAP else f"LOGQUEUE_BOOTSTRAP={bootstrap} "
    return f"""{where}{python} - <<'END'
import asyncio
from {job.module} import {job.function} as job
async def main():
    async with job.app:
        sent = await job.send(tenant="acme"{arguments})
        state = await sent.wait(timeout=30)
        print(state.state, state.result)
asyncio.run(main())
END"""
