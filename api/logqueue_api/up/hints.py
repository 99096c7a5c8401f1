"""What to try next: lines that can be copied into another terminal and work as they stand. Strings only."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from logqueue_api.up.app_card import AppCard, JobCard

if TYPE_CHECKING:
    from logqueue.jobs.settings import Settings

DEFAULT_BOOTSTRAP = "127.0.0.1:9092"


@dataclass(frozen=True, slots=True)
class Hint:
    """A thing to try: what it does, and the line."""

    what: str
    line: str


def hints(
    *,
    card: AppCard | None,
    bootstrap: str,
    api: str,
    logqueue: str,
    python: str,
    settings: Settings | None = None,
) -> list[Hint]:
    """The lines for an app, shortest way first; `logqueue` and `python` are how this installation calls them.

    `settings` are those of a log that wants TLS or a login; then what the other lines need comes first. A password is
    never shown: the shell asks for it.
    """
    kcat = f"kcat -b {bootstrap}" + (_kcat_security(settings) if settings else "")
    found = [Hint("what the lines below need to know", _export(settings))] if settings else []
    if card is None or not card.jobs:
        return [*found, Hint("look at the log", f"{logqueue} topic ls"), Hint("the same from kcat", f"{kcat} -L")]
    job = card.jobs[0]
    found += [
        Hint("submit a job and wait for it", _submit(job, logqueue)),
        Hint("the same over HTTP", _curl(job, api)),
        Hint("from any Kafka client", _kcat(job, kcat)),
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


def _export(settings: Settings) -> str:
    """The settings as environment variables, secrets asked for."""
    names = ["security_protocol", "ssl_cafile", "ssl_certfile", "ssl_keyfile"]
    secrets = ["ssl_key_password"]
    if settings.security_protocol.startswith("SASL"):
        names += ["sasl_mechanism", "sasl_username"]
        secrets.append("sasl_password")
    given = [(f"LOGQUEUE_{name.upper()}", getattr(settings, name)) for name in names]
    lines = ["export " + " ".join(f"{name}={shlex.quote(value)}" for name, value in given if value is not None)]
    for name in secrets:
        if getattr(settings, name) is not None:
            variable = f"LOGQUEUE_{name.upper()}"
            lines.append(f"read -rsp '{name}: ' {variable}; export {variable}")
    return "\n".join(lines)


def _kcat_security(settings: Settings) -> str:
    """The same for librdkafka."""
    options = {
        "security.protocol": settings.security_protocol,
        "ssl.ca.location": settings.ssl_cafile,
        "ssl.certificate.location": settings.ssl_certfile,
        "ssl.key.location": settings.ssl_keyfile or settings.ssl_certfile,  # one file may hold both
    }
    secrets = {"ssl.key.password": "ssl_key_password"}
    if settings.security_protocol.startswith("SASL"):
        options |= {"sasl.mechanism": settings.sasl_mechanism, "sasl.username": settings.sasl_username}
        secrets["sasl.password"] = "sasl_password"
    words = [f" -X {shlex.quote(f'{name}={value}')}" for name, value in options.items() if value is not None]
    for name, field in secrets.items():
        if getattr(settings, field) is not None:
            words.append(f' -X {name}="$LOGQUEUE_{field.upper()}"')
    return "".join(words)


PARTITIONER = "-X topic.partitioner=murmur2_random"
"""librdkafka's own choice of partitions is another than Kafka's: a tenant's jobs would lie in two of them."""


def _kcat(job: JobCard, kcat: str) -> str:
    value = shlex.quote(json.dumps(job.example, ensure_ascii=False))
    header = "" if job.is_default else f" -H ce_type={shlex.quote(job.type)}"
    return f"echo {value} | {kcat} -P {PARTITIONER} -t jobs.{job.queue} -k acme{header}"


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
