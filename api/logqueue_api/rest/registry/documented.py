"""The registry's paths as a part of our OpenAPI document, which FastAPI cannot see: they are an app of their own."""

from __future__ import annotations

from typing import Any, Final

from logqueue_schemas.evolution import Level
from logqueue_schemas.kinds import KINDS
from logqueue_schemas.schema_records import MODES

from logqueue_api.rest.registry.faults import MEDIA_TYPE
from logqueue_api.rest.registry.routes import PATHS, RegistryRoutes

TAG: Final = "schema registry"

_TEXT: Final = {"type": "string"}
_NUMBER: Final = {"type": "integer"}
_FLAG: Final = {"type": "boolean", "default": False}
_LIST: Final = {"offset": _NUMBER, "limit": _NUMBER}
_LEVEL: Final = {"type": "string", "enum": sorted(Level)}
_MODE: Final = {"type": "string", "enum": list(MODES)}

_QUERIES: Final[dict[str, dict[str, Any]]] = {
    "schemas": {"subjectPrefix": _TEXT, "deleted": _FLAG, "latestOnly": _FLAG, **_LIST},
    "schema_subjects": {"deleted": _FLAG, **_LIST},
    "schema_versions": {"deleted": _FLAG, **_LIST},
    "subjects": {"subjectPrefix": _TEXT, "deleted": _FLAG, "deletedOnly": _FLAG, **_LIST},
    "versions": {"deleted": _FLAG, **_LIST},
    "version": {"deleted": _FLAG},
    "version_text": {"deleted": _FLAG},
    "look_up": {"deleted": _FLAG},
    "delete_subject": {"permanent": _FLAG},
    "delete_version": {"permanent": _FLAG},
    "compatibility": {"verbose": _FLAG},
    "level": {"defaultToGlobal": _FLAG},
    "mode": {"defaultToGlobal": _FLAG},
}
_SCHEMA_BODY: Final = {
    "type": "object",
    "properties": {"schema": _TEXT, "schemaType": {"type": "string", "enum": list(KINDS), "default": KINDS[0]}},
    "required": ["schema"],
}
_BODIES: Final[dict[str, dict[str, Any]]] = {
    "register": _SCHEMA_BODY,
    "look_up": _SCHEMA_BODY,
    "compatibility": _SCHEMA_BODY,
    "set_level": {"type": "object", "properties": {"compatibility": _LEVEL}, "required": ["compatibility"]},
    "set_mode": {"type": "object", "properties": {"mode": _MODE}, "required": ["mode"]},
}
_FAULT: Final = {"type": "object", "properties": {"error_code": _NUMBER, "message": _TEXT}}


def registry_paths(mount: str) -> dict[str, dict[str, Any]]:
    """The `paths` of the document, under where the registry is mounted."""
    found: dict[str, dict[str, Any]] = {}
    for method, path, name in PATHS:
        shown = mount + path.replace(":path}", "}")
        found.setdefault(shown, {})[method.lower()] = _operation(method, shown, name)
    return found


def _operation(method: str, path: str, name: str) -> dict[str, Any]:
    said = getattr(RegistryRoutes, name).__doc__
    in_path = [part[1:-1] for part in path.split("/") if part.startswith("{")]
    parameters = [{"name": each, "in": "path", "required": True, "schema": _TEXT} for each in in_path]
    for query, schema in _QUERIES.get(name, {}).items():
        parameters.append({"name": query, "in": "query", "required": False, "schema": schema})
    operation: dict[str, Any] = {
        "tags": [TAG],
        "summary": said.partition("\n")[0],
        "operationId": f"registry_{name}_{method.lower()}_{len(in_path)}",
        "parameters": parameters,
        "responses": {
            "200": {"description": "As Confluent's registry answers.", "content": {MEDIA_TYPE: {"schema": {}}}},
            "default": {"description": "What is wrong.", "content": {MEDIA_TYPE: {"schema": _FAULT}}},
        },
    }
    if name in _BODIES:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": _BODIES[name]}}}
    return operation
