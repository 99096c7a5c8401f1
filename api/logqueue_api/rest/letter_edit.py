"""What changes a dead job on its way round: other arguments, another type. Checked against what workers published."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import orjson
from logqueue_consumers.control.rounds import Round

from logqueue_api.rest.catalogue import Catalogue


def letter_edit(
    catalogue: Catalogue, *, queue: str, args: Mapping[str, Any] | None, as_type: str | None
) -> Callable[[Round], Round] | None:
    """The edit, or None for none. Problem (400, with the field): a type that nobody runs there; the edit itself raises
    it for arguments that the job's type does not take."""
    if args is None and as_type is None:
        return None
    if as_type is not None:
        catalogue.resolve(type_=as_type, queue=queue)
    value = None if args is None else orjson.dumps(args)

    def edit(job: Round) -> Round:
        changed = job if as_type is None else job.with_type(as_type)
        if args is None or value is None:
            return changed
        type_ = changed.type or catalogue.default_types.get(queue)
        if type_ is not None:
            catalogue.check(args, type_=type_, queue=queue)
        return changed.with_arguments(value)

    return edit
