"""Compiles the writer of a (message, version): one straight-line function `write(message) -> segments`.

Fixed-width neighbours, and the length that follows them, are packed by one pre-bound `pack`. Three shortcuts take their
place where they can: `_struct` packs a tail of fields that are usually all empty at once, `_shaped` packs several
arrays of numbers at once, and lengths up to 127 come from a table. A function's text is its attribute `source`.

Segments are bytes in wire order; records are segments of their own, never copied. A value that does not fit its wire
type is a bug of the caller and raises whatever Python raises. Knows nothing of headers and sockets.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import pack
from typing import Any

from logqueue.protocol.packing import ONE_BYTE, ONE_BYTE_MAX, ShapePackers
from logqueue.protocol.schema import ARRAY, RECORDS, STRING, STRUCT, Field, Kind, Message, Struct
from logqueue.protocol.source import Source
from logqueue.protocol.wire import Segment

Writer = Callable[[Any], list[Segment]]


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
            has_records = _holds_records(self._message)
            source.line("out = []")
            if has_records:
                source.line("segments = []")
            self._struct(self._message, "o")
            self._flush()
            if has_records:
                source.line("segments.append(b''.join(out))")
                source.line("return segments")
            else:
                source.line("return [b''.join(out)]")
        while self._tag_writers:
            self._tag_writer(*self._tag_writers.pop())
        return source.compile("write", f"{self._message.__name__} v{self._version} writer")

    # -- runs of fixed-width values

    def _later(self, code: str, expression: str = "") -> None:
        """Put a value into the pending run."""
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
        if not self._pending:
            source.names["ONE_BYTE"] = ONE_BYTE
            source.line(f"out.append(ONE_BYTE[{name}] if {name} <= {ONE_BYTE_MAX} else uvarint({name}))")
            return
        with source.block(f"if {name} <= {ONE_BYTE_MAX}:"):
            source.line(f"out.append({self._packed(('B', name))})")
        with source.block("else:"):
            source.line(f"out.append({self._packed()} + uvarint({name}))")
        self._pending = []

    # -- structs

    def _struct(self, struct: type[Struct], value: str) -> None:
        fields = [f for f in struct.fields if f.is_in(self._version)]
        plain = [f for f in fields if f.tag is None]
        tagged = [f for f in fields if f.tag is not None]
        start = self._quick_start(plain)
        rest = plain[start:]
        if sum(map(self._is_often_empty, rest)) + bool(tagged) < 2:
            self._tail(struct, plain, value, tagged=tagged)
            return
        # Mostly these are all empty: then everything from here to the end of the struct is one pack.
        self._values(plain[:start], value)
        pending = self._pending
        checks = [f"{value}.{f.name}" for f in rest if self._is_often_empty(f)]
        checks += [self._is_sent(f, value) for f in tagged]
        with self._source.block(f"if {' or '.join(checks)}:"):
            self._pending = list(pending)
            self._tail(struct, rest, value, tagged=tagged)
            self._flush()
        with self._source.block("else:"):
            self._pending = list(pending)
            for field in rest:
                self._later(*self._when_empty(field, f"{value}.{field.name}"))
            if self._flexible:
                self._later("x")
            self._flush()

    def _tail(self, struct: type[Struct], fields: list[Field], value: str, *, tagged: list[Field]) -> None:
        self._values(fields, value)
        if tagged:
            self._tags(struct, tagged, value)
        elif self._flexible:
            self._later("x")

    def _is_often_empty(self, field: Field) -> bool:
        if field.kind.format or field.kind is STRUCT or field.kind is RECORDS:
            return False
        return field.nullable is not None or (field.kind is ARRAY and field.since > self._message.versions.min)

    def _quick_start(self, plain: list[Field]) -> int:
        """Where the tail begins that holds nothing but fixed-width fields and fields that are often empty."""
        start = len(plain)
        while start and (plain[start - 1].kind.format or self._is_often_empty(plain[start - 1])):
            start -= 1
        return start

    def _when_empty(self, field: Field, value: str) -> tuple[str, str]:
        if field.kind.format:
            return field.kind.format, value
        null = self._null_length(field)
        empty = 1 if self._flexible else 0
        code = "B" if self._flexible else ("h" if field.kind is STRING else "i")
        if null is None or null == empty:
            return code, str(empty)
        return code, f"{null} if {value} is None else {empty}"

    def _tags(self, struct: type[Struct], active: list[Field], value: str) -> None:
        source = self._source
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

    def _values(self, fields: list[Field], value: str) -> None:
        """Emit fields in order; two or more arrays of numbers with only fixed-width fields between them go together."""
        numbers = [i for i, field in enumerate(fields) if self._is_numbers(field)]
        if len(numbers) < 2 or not all(f.kind.format or self._is_numbers(f) for f in fields[numbers[0] : numbers[-1]]):
            for field in fields:
                self._value(field, f"{value}.{field.name}")
            return
        first, last = numbers[0], numbers[-1] + 1
        self._values(fields[:first], value)
        self._shaped(fields[first:last], value)
        self._values(fields[last:], value)

    def _is_numbers(self, field: Field) -> bool:
        if field.kind is not ARRAY or field.is_nullable(self._version) or not isinstance(field.item, Kind):
            return False
        return bool(field.item.format) and field.item.width < 16

    def _shaped(self, fields: list[Field], value: str) -> None:
        """Several arrays of numbers in a row are one pack, by a packer for their lengths."""
        source = self._source
        start = "".join(code for code, _ in self._pending)
        expressions = [expression for _, expression in self._pending if expression]
        extra = " + 1" if self._flexible else ""
        lengths = []
        template = []
        for field in fields:
            attribute = f"{value}.{field.name}"
            if field.kind is not ARRAY:
                template.append(field.kind.format)
                expressions.append(attribute)
                continue
            name = source.fresh("a")
            source.line(f"{name} = {attribute}")
            lengths.append(f"len({name})")
            template.append(("B" if self._flexible else "i") + "%d" + field.item.format)
            expressions += [f"len({name}){extra}", f"*{name}"]
        packers = source.name_of("shapes", ShapePackers(start + "".join(template)))
        packer = source.fresh("p")
        source.line(f"{packer} = {packers}[{', '.join(lengths)}]")
        with source.block(f"if {packer}:"):
            source.line(f"out.append({packer}({', '.join(expressions)}))")
        with source.block("else:"):
            for field in fields:
                self._value(field, f"{value}.{field.name}")
            self._flush()

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


def _holds_records(struct: type[Struct]) -> bool:
    return any(
        field.kind is RECORDS or (isinstance(field.item, type) and _holds_records(field.item))
        for field in struct.fields
    )
