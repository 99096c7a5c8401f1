"""What an app is: its jobs and an example of each one's arguments. Run as a process of its own: it imports user code.

python -m logqueue_api.up.app_card APP  ->  one JSON line: {"card": {...}} or {"error": {...}}
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

DEEPEST_EXAMPLE = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class JobCard:
    """One job type, where its function is (`function` empty: nowhere), and example arguments as JSON."""

    type: str
    queue: str
    is_default: bool
    module: str
    function: str
    example: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class AppCard:
    """An app as `up` needs it."""

    name: str
    group: str
    queues: tuple[str, ...]
    jobs: tuple[JobCard, ...]

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        return cls(
            name=value["name"],
            group=value["group"],
            queues=tuple(value["queues"]),
            jobs=tuple(JobCard(**job) for job in value["jobs"]),
        )


def example_of(schema: Mapping[str, Any], definitions: Mapping[str, Any] | None = None, depth: int = 0) -> Any:
    """A value that a JSON Schema describes: its example or default where it has one, else the plainest of its type.

    Only properties that are required or have an example are filled in: the shortest one that makes sense.
    """
    known = definitions if definitions is not None else schema.get("$defs", {})
    if "$ref" in schema:
        return example_of(known.get(schema["$ref"].rsplit("/", 1)[-1], {}), known, depth + 1)
    if schema.get("examples"):
        return schema["examples"][0]
    for key in ("const", "default"):
        if key in schema:
            return schema[key]
    if schema.get("enum"):
        return schema["enum"][0]
    for key in ("anyOf", "oneOf"):
        if schema.get(key):
            return example_of(schema[key][0], known, depth + 1)
    return _plainest(schema, known, depth)


_FORMATS = {
    "date-time": "2026-01-31T12:00:00Z",
    "date": "2026-01-31",
    "time": "12:00:00",
    "uuid": "01890a5d-ac96-774b-bcce-b302099a8057",
    "email": "someone@example.org",
    "decimal": "1.0",
}


def _plainest(schema: Mapping[str, Any], known: Mapping[str, Any], depth: int) -> Any:
    kind = schema.get("type")
    match kind[0] if isinstance(kind, list) else kind:
        case "object" if depth < DEEPEST_EXAMPLE:
            properties = schema.get("properties", {})
            required = schema.get("required", ())
            told = [name for name, part in properties.items() if name in required or part.get("examples")]
            return {name: example_of(properties[name], known, depth + 1) for name in told}
        case "array" if depth < DEEPEST_EXAMPLE and schema.get("minItems"):
            return [example_of(schema.get("items") or {}, known, depth + 1)] * schema["minItems"]
        case "array":
            return []
        case "integer" | "number":
            return schema.get("minimum", 1)
        case "boolean":
            return True
        case "null":
            return None
        case "string":
            return _FORMATS.get(schema.get("format", ""), "x" * max(schema.get("minLength", 0), 0) or "text")
        case _:
            return {}


def main(argument: str) -> int:
    """Print the card of APP, or why there is none."""
    from logqueue_api.cli.exits import CommandError, ExitCode

    try:
        sys.stdout.write(json.dumps({"card": _card(argument)}) + "\n")
    except CommandError as error:
        sys.stdout.write(json.dumps({"error": {"message": error.message, "hint": error.hint}}) + "\n")
        return error.code
    return ExitCode.OK


def _card(argument: str) -> dict[str, Any]:
    from logqueue.errors import LogqueueError
    from logqueue_api.cli.app_loading import AppError, load_app

    app = load_app(argument)
    try:
        app.check()
    except LogqueueError as error:
        raise AppError(f"APP {argument}: {error}") from None
    jobs = []
    for job in app.jobs.values():
        told = job.describe()
        module = sys.modules.get(job.handler.__module__)
        jobs.append(
            {
                "type": told["type"],
                "queue": told["queue"],
                "is_default": told["is_default"],
                "module": job.handler.__module__,
                "function": _name_in(module, job),
                "example": example_of(told["args_schema"]),
            }
        )
    return {"name": app.name, "group": app.group, "queues": list(app.queues), "jobs": jobs}


def _name_in(module: object, job: object) -> str:
    """What the job is called in its module; empty where it has no name there."""
    return next((name for name, value in vars(module).items() if value is job), "") if module is not None else ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
