"""`logqueue`. Imports nothing before Ctrl-C is taken care of: it may come at any moment, the first one included."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and answer its exit code; never raises for bad input or Ctrl-C."""
    try:
        import sys

        from logqueue_api.cli.dispatch import dispatch

        return dispatch(sys.argv[1:] if argv is None else argv)
    except KeyboardInterrupt:
        return INTERRUPTED


if __name__ == "__main__":
    raise SystemExit(main())
