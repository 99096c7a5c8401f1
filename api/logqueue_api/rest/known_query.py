"""Query parameters that a route does not know are refused: a misspelt filter must not list everything."""

from __future__ import annotations

from fastapi import Request
from fastapi.routing import APIRoute

from logqueue_api.rest.problems import FieldFault, Problem

_TOLD_CHARS = 80  # of an unknown name
_MAX_TOLD = 20  # unknown names in one answer


async def only_known_query(request: Request) -> None:
    """Raises a Problem (400) that names what is unknown and lists what the route knows. Only for GET under /v1.

    Async, or each request would wait for a thread to answer this.
    """
    route = request.scope.get("route")
    if request.method != "GET" or not isinstance(route, APIRoute) or not route.path.startswith("/v1/"):
        return
    known = [parameter.alias for parameter in route.dependant.query_params]
    unknown = [name for name in dict.fromkeys(request.query_params.keys()) if name not in known][:_MAX_TOLD]
    if not unknown:
        return
    told = f"known are {', '.join(known)}" if known else f"{request.url.path} takes none"
    faults = [FieldFault(name[:_TOLD_CHARS], f"unknown query parameter; {told}") for name in unknown]
    names = ", ".join(repr(fault.field) for fault in faults)
    raise Problem(400, f"unknown query parameter {names}; {told}", faults=faults)
