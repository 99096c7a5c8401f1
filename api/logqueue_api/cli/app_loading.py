"""APP on the command line -> the App object, or a message that says what is wrong with it and where.

`package.module:name`, `package.module`, `path/to/file.py:name` and `path/to/file.py` are understood; the name may be
left out when the module holds exactly one App.
"""

from __future__ import annotations

import importlib
import importlib.util
import linecache
import sys
import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from logqueue_api.cli.exits import CommandError, ExitCode

if TYPE_CHECKING:
    from logqueue.jobs.app import App

_EXAMPLE = "APP is package.module:name or path/to/file.py:name"


class AppError(CommandError):
    """APP cannot be used."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message, code=ExitCode.APP, hint=hint)


def load_app(text: str) -> App:
    """Import the module of APP and find its App; raises AppError with the user's own file and line where it can."""
    target, _, name = text.partition(":")
    if not target or (":" in text and not name):
        raise AppError(f"{text!r} names no app", hint=_EXAMPLE)
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    module = _import_file(Path(target)) if _is_path(target) else _import_module(target)
    return _named(module, name, text) if name else _only_app(module, text)


def _is_path(target: str) -> bool:
    return target.endswith(".py") or "/" in target


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise AppError(f"there is no file {path}", hint=f"looked from {Path.cwd()}")
    file = path.resolve()
    root, parts = file.parent, [file.stem]
    while (root / "__init__.py").is_file():  # a file of a package is imported as a part of it
        parts.insert(0, root.name)
        root = root.parent
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    if not all(part.isidentifier() for part in parts):
        return _import_unnamed(file)
    module = _import_module(".".join(parts))
    if Path(module.__file__ or "").resolve() != file:
        raise AppError(
            f"{path} has the name of another module ({module.__file__ or 'built in'})",
            hint="rename the file; Python knows only one module of a name",
        )
    return module


def _import_unnamed(file: Path) -> ModuleType:
    """A file whose name is no Python name (my-app.py) is a module that nobody else can import."""
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None and spec.loader is not None, "a .py file has a loader"
    module = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = module
    with _UserErrors(str(file)):
        spec.loader.exec_module(module)
    return module


def _import_module(name: str) -> ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        raise AppError(f"{name!r} is no module name", hint=_EXAMPLE)
    with _UserErrors(name):
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                raise
            missing = error.name
    as_file = Path(*name.split(".")).with_suffix(".py")
    hint = f"there is a file {as_file}: try {as_file}" if as_file.is_file() else f"looked in {Path.cwd()} and sys.path"
    raise AppError(f"there is no module {missing!r}", hint=hint)


def _named(module: ModuleType, name: str, text: str) -> App:
    found: object = module
    for part in name.split("."):
        if not hasattr(found, part):
            names = _names(module)
            hint = f"its Apps are: {', '.join(names)}" if names else ""
            raise AppError(f"module {module.__name__} has no {name!r}", hint=hint)
        found = getattr(found, part)
    if not _is_app(found):
        raise AppError(f"{text} is a {type(found).__name__}, not a logqueue App", hint='app = App("name") makes one')
    return found  # type: ignore[return-value]


def _only_app(module: ModuleType, text: str) -> App:
    names = _names(module)
    if not names:
        raise AppError(f"module {module.__name__} holds no App", hint='app = App("name") makes one')
    if len({id(getattr(module, name)) for name in names}) > 1:
        raise AppError(
            f"module {module.__name__} holds {len(names)} Apps: {', '.join(names)}",
            hint=f"say which: {text}:{names[0]}",
        )
    app: App = getattr(module, names[0])
    return app


def _names(module: ModuleType) -> list[str]:
    return [name for name, value in vars(module).items() if _is_app(value)]


def _is_app(value: object) -> bool:
    from logqueue.jobs.app import App

    return isinstance(value, App)


class _UserErrors:
    """Turns whatever the user's module raises while it is imported into an AppError with its file and line."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None or isinstance(error, (AppError, KeyboardInterrupt)):
            return
        if isinstance(error, SystemExit):
            what = f"importing {self._name} ended the program (exit code {error.code})"
        else:
            what = f"importing {self._name} raised {type(error).__name__}: {_text(error)}"
        raise AppError(what, hint=_where(error)) from None


def _text(error: BaseException) -> str:
    return error.msg if isinstance(error, SyntaxError) else str(error)


def _where(error: BaseException) -> str:
    """The place in the user's code: of the syntax error, else the innermost frame that is not a library's.

    Frames without a file (`<string>`: what dataclasses generate, exec) tell nobody anything: they come last.
    """
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}\n    {(error.text or '').strip()}"
    users = list(_user_frames(error))
    frames = [frame for frame in users if not frame.filename.startswith("<")] or users
    frames = frames or traceback.extract_tb(error.__traceback__)[-1:]
    if not frames:
        return ""
    frame = frames[-1]
    line = linecache.getline(frame.filename, frame.lineno or 0).strip()
    return f"{frame.filename}:{frame.lineno} in {frame.name}" + (f"\n    {line}" if line else "")


def _user_frames(error: BaseException) -> Iterator[traceback.FrameSummary]:
    libraries = tuple({sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
    ours = {Path(__file__).parent.parent, *_homes()}
    for frame in traceback.extract_tb(error.__traceback__):
        is_library = frame.filename.startswith((*libraries, "<frozen"))
        if not is_library and not any(Path(frame.filename).is_relative_to(home) for home in ours):
            yield frame


def _homes() -> Iterator[Path]:
    for name in ("logqueue", "logqueue_consumers", "logqueue_schemas"):
        module = sys.modules.get(name)
        if module is not None and module.__file__:
            yield Path(module.__file__).parent
