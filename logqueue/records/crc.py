"""CRC-32C, from the C extension of the `crc32c` package. Knows nothing of batches."""

from __future__ import annotations

from collections.abc import Callable
from importlib.machinery import PathFinder
from typing import cast

CrcFunction = Callable[[bytes | bytearray | memoryview], int]


def _load() -> CrcFunction:
    # The package's __init__ imports importlib.metadata and argparse: 28 of the 30 ms that importing it costs, which is
    # half of a broker's start. The extension inside it needs neither.
    package = PathFinder.find_spec("crc32c")
    if package is not None and package.submodule_search_locations is not None:
        spec = PathFinder.find_spec("_crc32c", list(package.submodule_search_locations))
        if spec is not None and spec.loader is not None:
            module = spec.loader.create_module(spec)
            if module is not None:
                spec.loader.exec_module(module)
                return cast(CrcFunction, module.crc32c)
    from crc32c import crc32c

    return cast(CrcFunction, crc32c)


crc32c: CrcFunction = _load()
"""CRC-32C (Castagnoli, RFC 3720 appendix B.4) of a buffer."""
