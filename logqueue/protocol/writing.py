"""Compiles the writer of a (message, version): one straight-line function `write(message) -> segments`.

Fixed-width neighbours, and the length that follows them, are packed by one pre-bound `pack`. Segments are bytes in wire
order; records are segments of their own, never copied. A value that does not fit its wire type is a bug of the caller
and raises whatever Python raises. Knows nothing of headers and sockets.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import pack
from typing import Any

from logqueue.protocol.schema import ARRAY, RECORDS, STRING, STRUCT, Field, Kind, Message, Struct
from logqueue.protocol.source import Source
from logqueue.protocol.wire import Segment

Writer = Callable[[Any], list[Segment]]

ONE_BYTE_MAX = 127  # the largest varint of one byte


def compile_writer(message: type[Message], version: int) -> Writer:
    """The writer of one version of a message; fields that the version lacks are left out."""
    return _WriterCompiler(message, version).compile()


class _WriterCompiler:
    def __init__(self, message: type[Message], version: int) -> None:
        self._message = message
        self._version = version
        self._flexible = version >= message.flexible_since
        self._source = Source()
        self._pending: list[tuple[str, str]] = []  # struct code, expression
        self._tag_writers: list[tuple[str, type[Struct]]] = []

    def compile(self) -> Writer:
        source = self._source
        with source.block("def write(o):"):
            source.line("segments = []")
            source.line("out = []")
            self._struct(self._message, "o")
            self._flush()
            source.line("segments.append(b''.join(out))")
            source.line("return segments")
        while self._tag_writers:
            self._tag_writer(*self._tag_writers.pop())
        return source.compile("write", f"{self._message.__name__} v{self._version} writer")

    # -- runs of fixed-width values

    def _later(self, code: str, expression: str = "") -> None:
        self._pending.append((code, expression))

    def _packed(self, *more: tuple[str, str]) -> str:
        """An expression for the bytes of everything pending and of `more`."""
        run = [*self._pending, *more]
        codes = "".join(code for code, _ in run)
        if set(codes) == {"x"}:
            return repr(bytes(len(codes)))
        values = ", ".join(expression for _, expression in run if expression)
        return f"{self._source.packer(codes)}({values})"

    def _flush(self) -> None:
        if self._pending:
            self._source.line(f"out.append({self._packed()})")
            self._pending = []

    def _flush_with_uvarint(self, name: str) -> None:
        source = self._source
        with source.block(f"if {name} <= {ONE_BYTE_MAX}:"):
            source.line(f"out.append({self._packed(('B', name))})")
        with source.block("else:"):
            before = f"{self._packed()} + " if self._pending else ""
            source.line(f"out.append({before}uvarint({name}))")
        self._pending = []

    # -- structs

    def _struct(self, struct: type[Struct], value: str) -> None:
        tagged = False
        for field in struct.fields:
            if field.is_in(self._version):
                if field.tag is None:
                    self._value(field, f"{value}.{field.name}")
                else:
                    tagged = True
        if not self._flexible:
            return
        if tagged:
            self._tags(struct, value)
        else:
            self._later("x")

    def _tags(self, struct: type[Struct], value: str) -> None:
        source = self._source
        active = [f for f in struct.fields if f.tag is not None and f.is_in(self._version)]
        name = source.fresh("write_tags")
        self._tag_writers.append((name, struct))
        with source.block("if " + " and ".join(f"not ({self._is_sent(f, value)})" for f in active) + ":"):
            source.line(f"out.append({self._packed(('x', ''))})")
        with source.block("else:"):
            if self._pending:
                source.line(f"out.append({self._packed()})")
            source.line(f"{name}({value}, out)")
        self._pending = []

    def _is_sent(self, field: Field, value: str) -> str:
        attribute = f"{value}.{field.name}"
        if field.default is None:
            return f"{attribute} is not None"
        if field.default == [] and field.nullable is None:
            return attribute
        return f"{attribute} != {self._source.name_of('d', field.default)}"

    def _tag_writer(self, name: str, struct: type[Struct]) -> None:
        source = self._source
        active = [f for f in struct.fields if f.tag is not None and f.is_in(self._version)]
        with source.block(f"def {name}(o, parent):"):
            source.line("count = 0; sent = []")
            for field in sorted(active, key=lambda f: f.tag or 0):
                with source.block(f"if {self._is_sent(field, 'o')}:"):
                    source.line("out = []")
                    self._value(field, f"o.{field.name}")
                    self._flush()
                    source.line("data = b''.join(out)")
                    source.line(f"sent += (uvarint({field.tag}), uvarint(len(data)), data)")
                    source.line("count += 1")
            source.line("parent.append(uvarint(count))")
            source.line("parent.extend(sent)")

    # -- values

    def _value(self, field: Field, value: str) -> None:
        if field.kind.format:
            self._later(field.kind.format, value)
        elif field.kind is STRUCT:
            self._nested(field, value)
        elif field.kind is ARRAY:
            self._array(field, value)
        else:
            self._sized(field.kind, value, null_length=self._null_length(field))

    def _null_length(self, field: Field) -> int | None:
        """What stands for None on the wire: null, or empty in versions before the field could be null."""
        if field.nullable is None:
            return None
        null = 0 if self._flexible else -1
        return null if field.is_nullable(self._version) else null + 1

    def _length(self, code: str, length: str) -> None:
        if self._flexible:
            self._flush_with_uvarint(length)
        else:
            self._later(code, length)
            self._flush()

    def _sized(self, kind: Kind[Any], value: str, *, null_length: int | None) -> None:
        source = self._source
        data = source.fresh("s")
        length = source.fresh("n")
        taken = f"{data}.encode()" if kind is STRING else data
        extra = " + 1" if self._flexible else ""
        source.line(f"{data} = {value}")
        if null_length is not None:
            with source.block(f"if {data} is None:"):
                source.line(f"{data} = b''; {length} = {null_length}")
            with source.block("else:"):
                source.line(f"{data} = {taken}; {length} = len({data}){extra}")
        elif kind is STRING:
            source.line(f"{data} = {taken}; {length} = len({data}){extra}")
        else:
            source.line(f"{length} = len({data}){extra}")
        self._length("h" if kind is STRING else "i", length)
        if kind is RECORDS:
            with source.block(f"if {length} > {1 if self._flexible else 0}:"):
                source.line(f"segments.append(b''.join(out)); segments.append({data}); out.clear()")
        else:
            source.line(f"out.append({data})")

    def _nested(self, field: Field, value: str) -> None:
        source = self._source
        nested = source.fresh("o")
        source.line(f"{nested} = {value}")
        if not field.is_nullable(self._version):
            self._struct(field.item, nested)
            return
        with source.block(f"if {nested} is None:"):
            source.line(f"out.append({self._packed(('b', '-1'))})")
        with source.block("else:"):
            self._later("b", "1")
            self._struct(field.item, nested)
            self._flush()

    def _array(self, field: Field, value: str) -> None:
        source = self._source
        items = source.fresh("items")
        length = source.fresh("n")
        extra = " + 1" if self._flexible else ""
        source.line(f"{items} = {value}")
        null_length = self._null_length(field)
        if null_length is not None:
            with source.block(f"if {items} is None:"):
                source.line(f"{items} = (); {length} = {null_length}")
            with source.block("else:"):
                source.line(f"{length} = len({items}){extra}")
        else:
            source.line(f"{length} = len({items}){extra}")
        self._length("i", length)
        self._elements(field.item, items)

    def _elements(self, item: Any, items: str) -> None:
        source = self._source
        if isinstance(item, Kind) and item.format:
            source.names["pack"] = pack
            if item.width == 16:
                source.line(f"out.extend({items})")
            else:
                source.line(f"if {items}: out.append(pack('>%d{item.format}' % len({items}), *{items}))")
            return
        element = source.fresh("o")
        with source.block(f"for {element} in {items}:"):
            if isinstance(item, Kind):
                self._sized(item, element, null_length=None)
            else:
                self._struct(item, element)
            self._flush()
