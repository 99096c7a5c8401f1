"""Where an App is, so that another process can import it: by its module, or by the file that was run. No IO."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING

from logqueue.jobs.errors import InvalidDefinition

if TYPE_CHECKING:
    from logqueue.jobs.app import App

MAIN_NAME = "__mp_main__"
"""What the module that was run is called in a child (multiprocessing's word): its `if __name__ == "__main__"` rests."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AppPath:
    """An App as `name` in a module; `file` where the module is known by its file only."""

    module: str
    name: str
    file: str | None = None

    @classmethod
    def of(cls, app: App) -> AppPath:
        """Where this App is; InvalidDefinition if no other process could find it."""
        for module_name in dict.fromkeys(_candidates(app)):
            module = sys.modules.get(module_name)
            name = _name_in(module, app) if module is not None else None
            if module is None or name is None:
                continue
            if module_name == "__main__":
                return _path_of_main(module, name, app)
            by_file = module_name.isidentifier() or "." in module_name
            return cls(module=module_name, name=name, file=None if by_file else module.__file__)
        raise InvalidDefinition(
            f'App {app.name!r}: isolation="process" imports the App in another process, so it must be a name of a'
            " module (app = App(...) at the top of a file)"
        )

    def load(self) -> App:
        """Import the module and return the App."""
        module = importlib.import_module(self.module) if self.file is None else _run_file(self.module, self.file)
        app: App = getattr(module, self.name)
        return app


def check_isolation(app: App) -> None:
    """Whether other processes can import the App, where it declares isolated jobs; InvalidDefinition if not."""
    if any(definition.is_isolated for definition in app.jobs.values()):
        AppPath.of(app)


def _candidates(app: App) -> list[str]:
    """Modules that may hold the App: those of its handlers, the one that was run, then all."""
    return [*(job.handler.__module__ for job in app.jobs.values()), "__main__", *list(sys.modules)]


def _name_in(module: ModuleType, app: App) -> str | None:
    return next((name for name, value in list(vars(module).items()) if value is app), None)


def _path_of_main(module: ModuleType, name: str, app: App) -> AppPath:
    spec = getattr(module, "__spec__", None)
    if spec is not None and spec.name != "__main__":  # python -m package.module
        return AppPath(module=spec.name.removesuffix(".__main__"), name=name)
    file = getattr(module, "__file__", None)
    if file is None:
        raise InvalidDefinition(f'App {app.name!r}: isolation="process" needs a file to import the App from')
    sys.modules.setdefault(MAIN_NAME, module)  # so that errors which the child defines in it are known here
    return AppPath(module=MAIN_NAME, name=name, file=file)


def _run_file(name: str, file: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None, "a file that was imported before has a loader"
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    if name == MAIN_NAME:
        sys.modules["__main__"] = module  # what pickle calls the module of its classes
    spec.loader.exec_module(module)
    return module
