"""Parts of the OpenAPI document that FastAPI cannot see, because bodies are read by hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from logqueue_api.rest.problems import MEDIA_TYPE, ProblemDocument

_REFERENCE: Final = "#/components/schemas/{model}"

_MEANINGS: Final = {
    400: "Something in the request is wrong; `errors` names the fields.",
    403: "The log does not allow it.",
    404: "There is none.",
    409: "It cannot be done in the present state.",
    413: "Too large.",
    415: "Not JSON.",
    503: "The log or the view does not answer; try again.",
}


Responses = dict[int | str, dict[str, Any]]


def answers(model: type[BaseModel], *statuses: int, status: int = 200) -> Responses:
    """The answers of a route: `model` under `status`, and problems."""
    return {status: {"model": model}, **problems(*statuses)}


def problems(*statuses: int) -> Responses:
    """The error answers of a route."""
    reference = {"$ref": _REFERENCE.format(model="ProblemDocument")}
    return {
        status: {"description": _MEANINGS[status], "content": {MEDIA_TYPE: {"schema": reference}}}
        for status in statuses
    }


def body_of(model: type[BaseModel]) -> dict[str, Any]:
    """The request body of a route that reads it by hand."""
    reference = {"$ref": _REFERENCE.format(model=model.__name__)}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": reference}}}}


def install(app: FastAPI, *models: type[BaseModel], paths: Mapping[str, Any] | None = None) -> None:
    """Make the document hold the schemas of `models` too, and the `paths` of apps that are mounted."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(
                title=app.title,
                version=app.version,
                description=app.description,
                routes=app.routes,
            )
            documented: list[type[BaseModel]] = [*models, ProblemDocument]
            _, extra = models_json_schema([(model, "validation") for model in documented], ref_template=_REFERENCE)
            components = schema.setdefault("components", {}).setdefault("schemas", {})
            components |= extra["$defs"]
            _drop_framework_errors(schema)
            schema["paths"] |= paths or {}
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]  # FastAPI's documented way


def _drop_framework_errors(schema: dict[str, Any]) -> None:
    """FastAPI announces 422 for every route with parameters; here they are 400."""
    for path in schema["paths"].values():
        for operation in path.values():
            operation["responses"].pop("422", None)
    for name in ("HTTPValidationError", "ValidationError"):
        schema["components"]["schemas"].pop(name, None)
