"""Compiles the reader of a (message, version): a straight-line `read(memoryview, pos) -> (message, end)`.

Fixed-width neighbours, and the first byte of whatever length follows them, are unpacked by one pre-bound `unpack_from`.
Positions only grow, so a string cut short by the end of the frame is noticed by the next read or by the check at the
end. Arrays are bounded by the bytes left before anything is built, and the elements of a frame by ELEMENTS_MAX;
compact strings, whose lengths could say more, by what plain ones can have, as in Kafka.
Knows nothing of headers and sockets.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import unpack_from
from typing import Any

from logqueue.protocol.packing import packing
from logqueue.protocol.schema import ARRAY, BYTES, RECORDS, STRING, STRUCT, Field, Kind, Message, Struct
from logqueue.protocol.source import Source
from logqueue.protocol.wire import STRING_BYTES_MAX

ELEMENTS_MAX = 1_000_000  # structs and strings in the arrays of one frame: what a hostile frame may cost in memory

Reader = Callable[[Any, int], tuple[Any, int]]


def compile_reader(message: type[Message], version: int) -> Reader:
    """The reader of one version of a message. It raises MalformedFrame, and nothing else, for bytes that do not fit."""
    return _ReaderCompiler(message, version).compile()


def smallest_size(item: Kind[Any] | type[Struct], version: int, flexible: bool) -> int:
    """The fewest bytes that a value may take: what bounds the length of an array before it is read."""
    if isinstance(item, Kind):
        if item.format:
            return item.width
        return 1 if flexible else (2 if item is STRING else 4)
    total = 1 if flexible else 0
    for field in item.fields:
        if not field.is_in(version) or field.tag is not None:
            continue
        if field.kind is STRUCT:
            total += 1 if field.is_nullable(version) else smallest_size(field.item, version, flexible)
        else:
            total += smallest_size(field.kind, version, flexible)
    return total


class _ReaderCompiler:
    def __init__(self, message: type[Message], version: int) -> None:
        self._message = message
        self._version = version
        self._flexible = version >= message.flexible_since
        self._source = Source()
        self._pending: list[tuple[str, str]] = []  # struct code, target
        self._tag_readers: list[tuple[str, type[Struct]]] = []

    def compile(self) -> Reader:
        label = f"{self._message.__name__} v{self._version} reader"
        source = self._source
        with source.block("def read(buf, pos):"):
            source.line(f"size = len(buf); room = {ELEMENTS_MAX}")
            with source.block("try:"):
                target = self._struct(self._message)
                self._flush()
            with source.block("except (StructError, IndexError, ValueError, OverflowError) as problem:"):
                source.line(f"raise MalformedFrame(f'{label}: {{problem}}') from None")
            with source.block("if pos > size:"):
                source.line(f"raise MalformedFrame(f'{label}: {{pos - size}} bytes are missing at the end')")
            source.line(f"return {target}, pos")
        while self._tag_readers:
            self._tag_reader(*self._tag_readers.pop())
        return source.compile("read", label)

    # -- runs of fixed-width values

    def _later(self, code: str, target: str) -> None:
        self._pending.append((code, target))

    def _flush(self, *, keep: int = 0) -> None:
        """Emit the pending run; `pos` stays `keep` bytes before its end."""
        pending, self._pending = self._pending, []
        source = self._source
        if not pending:
            return
        codes = "".join(code for code, _ in pending)
        if codes == "B":
            source.line(f"{pending[0][1]} = buf[pos]")
        else:
            targets = "".join(f"{target}, " for _, target in pending)
            source.line(f"{targets.strip()} = {source.unpacker(codes)}(buf, pos)")
        if packing(codes).size > keep:
            source.line(f"pos += {packing(codes).size - keep}")

    # -- structs

    def _struct(self, struct: type[Struct]) -> str:
        source = self._source
        target = source.fresh("o")
        source.line(f"{target} = new({source.name_of('C_' + struct.__name__, struct)})")
        tagged: list[Field] = []
        for field in struct.fields:
            if not field.is_in(self._version):
                self._default(field, target)
            elif field.tag is not None:
                tagged.append(field)
                self._default(field, target)
            else:
                self._value(field, f"{target}.{field.name}")
        if self._flexible:
            self._tags(struct, target, is_known=bool(tagged))
        return target

    def _default(self, field: Field, target: str) -> None:
        fresh = field.fresh_default(self._source.names)
        value = field.default
        simple = value is None or isinstance(value, bool | int | str | bytes)
        text = fresh or (repr(value) if simple else self._source.name_of("d", value))
        self._source.line(f"{target}.{field.name} = {text}")

    def _tags(self, struct: type[Struct], target: str, *, is_known: bool) -> None:
        source = self._source
        rest = "skip_tags(buf, pos)"
        if is_known:
            name = source.fresh("read_tags")
            self._tag_readers.append((name, struct))
            rest = f"{name}(buf, pos, {target})"
        count = "buf[pos]"
        if self._pending:
            count = "n"
            self._later("B", count)
            self._flush(keep=1)
        source.line(f"if {count}: pos = {rest}")
        source.line("else: pos += 1")

    def _tag_reader(self, name: str, struct: type[Struct]) -> None:
        source = self._source
        with source.block(f"def {name}(buf, pos, o):"):
            source.line(f"size = len(buf); room = {ELEMENTS_MAX}")
            source.line("count, pos = read_uvarint(buf, pos)")
            with source.block("for _ in range(count):"):
                source.line("tag, pos = read_uvarint(buf, pos)")
                source.line("length, pos = read_uvarint(buf, pos)")
                source.line("stop = pos + length")
                for field in struct.fields:
                    if field.tag is not None and field.is_in(self._version):
                        with source.block(f"if tag == {field.tag}:"):
                            self._value(field, f"o.{field.name}")
                            self._flush()
                            source.line("if pos != stop: raise MalformedFrame(f'tag {tag} is not as long as it says')")
                source.line("pos = stop")
            source.line("return pos")

    # -- values

    def _value(self, field: Field, target: str) -> None:
        nullable = field.is_nullable(self._version)
        if field.kind.format:
            self._later(field.kind.format, target)
        elif field.kind is STRUCT:
            self._nested(field, target, nullable=nullable)
        elif field.kind is ARRAY:
            self._array(field, target, nullable=nullable)
        else:
            self._sized(field.kind, target, nullable=nullable)

    def _sized(self, kind: Kind[Any], target: str, *, nullable: bool) -> None:
        source = self._source
        length = source.fresh("n")
        null = f"{target} = None" if nullable else f"raise MalformedFrame('{_path(target)} must not be null')"
        taken = f"{target} = buf[%s:end]{_TAKEN[kind]}"
        if not self._flexible:
            self._later("h" if kind is STRING else "i", length)
            self._flush()
            source.line(f"end = pos + {length}")
            source.line(f"if {length} >= 0: {taken % 'pos'}; pos = end")
            source.line(f"else: {null}")
            return
        self._later("B", length)
        self._flush(keep=1)
        with source.block(f"if 0 < {length} < 128:"):
            source.line(f"end = pos + {length}")
            source.line(f"{taken % 'pos + 1'}; pos = end")
        with source.block(f"elif {length}:"):
            source.line(f"{length}, pos = read_uvarint(buf, pos)")
            if kind is STRING:
                told = f"raise MalformedFrame(f'{_path(target)}: a string of {{{length} - 1}} bytes')"
                source.line(f"if {length} > {STRING_BYTES_MAX + 1}: {told}")
            source.line(f"end = pos + {length} - 1")
            source.line(f"{taken % 'pos'}; pos = end")
        with source.block("else:"):
            source.line(f"{null}; pos += 1" if nullable else null)

    def _nested(self, field: Field, target: str, *, nullable: bool) -> None:
        source = self._source
        if not nullable:
            source.line(f"{target} = {self._struct(field.item)}")
            return
        self._later("b", "n")
        self._flush()
        with source.block("if n < 0:"):
            source.line(f"{target} = None")
        with source.block("else:"):
            nested = self._struct(field.item)
            self._flush()
            source.line(f"{target} = {nested}")

    def _array(self, field: Field, target: str, *, nullable: bool) -> None:
        source = self._source
        count = source.fresh("n")
        if self._flexible:
            self._later("B", count)
            self._flush(keep=1)
            source.line(f"if {count} > 127: {count}, pos = read_uvarint(buf, pos)")
            source.line("else: pos += 1")
            source.line(f"{count} -= 1")
        else:
            self._later("i", count)
            self._flush()
        width = smallest_size(field.item, self._version, self._flexible)
        assert width > 0, f"{field.name}: elements without bytes cannot be bounded"
        with source.block(f"if {count} <= 0:"):
            if nullable:
                source.line(f"{target} = None if {count} else []")
            else:
                source.line(f"if {count}: raise MalformedFrame('{field.name} must not be null')")
                source.line(f"{target} = []")
        with source.block(f"elif {count} * {width} > size - pos:"):
            source.line(f"raise MalformedFrame(f'{field.name}: {{{count}}} elements in {{size - pos}} bytes')")
        with source.block("else:"):
            self._elements(field.item, target, count)

    def _elements(self, item: Any, target: str, count: str) -> None:
        source = self._source
        if isinstance(item, Kind) and item.format and item.width < 16:
            source.names["unpack_from"] = unpack_from
            source.line(f"{target} = list(unpack_from('>%d{item.format}' % {count}, buf, pos))")
            source.line(f"pos += {count} * {item.width}")
            return
        source.line(f"room -= {count}")
        source.line(f"if room < 0: raise MalformedFrame('more than {ELEMENTS_MAX} elements')")
        items = source.fresh("items")
        source.line(f"{target} = {items} = []")
        with source.block(f"for _ in range({count}):"):
            if isinstance(item, Kind):
                element = source.fresh("e")
                if item.format:
                    self._later(item.format, element)
                else:
                    self._sized(item, element, nullable=False)
            else:
                element = self._struct(item)
            self._flush()
            source.line(f"{items}.append({element})")


_TAKEN: dict[Kind[Any], str] = {STRING: ".tobytes().decode()", BYTES: ".tobytes()", RECORDS: ""}


def _path(target: str) -> str:
    return target.partition(".")[2] or "element"
