"""APP on the command line: what is found, and what is said where nothing can be."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from logqueue_api.cli.app_loading import AppError, load_app
from logqueue_api.cli.exits import ExitCode

SHOP = "from logqueue import App\napp = App('shop')\n"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A current directory of its own; what is imported from it is forgotten again."""
    monkeypatch.chdir(tmp_path)
    path, modules = sys.path[:], set(sys.modules)
    yield tmp_path
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if (getattr(sys.modules[name], "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize("text", ["shop:app", "shop", "shop.py:app", "shop.py", "./shop.py"])
def test_a_module_or_a_file_with_or_without_the_name(home: Path, text: str) -> None:
    write(home / "shop.py", SHOP)
    assert load_app(text).name == "shop"


def test_a_file_of_a_package_is_imported_as_a_part_of_it(home: Path) -> None:
    write(home / "lib/pack/__init__.py", "")
    write(home / "lib/pack/names.py", "NAME = 'inner'\n")
    write(home / "lib/pack/jobs.py", "from logqueue import App\nfrom .names import NAME\napp = App(NAME)\n")
    assert load_app("lib/pack/jobs.py").name == "inner"
    assert "pack.jobs" in sys.modules


def test_a_dotted_module_below_the_current_directory(home: Path) -> None:
    write(home / "work/shop/jobs.py", SHOP)
    assert load_app("work.shop.jobs:app").name == "shop"


def test_a_file_whose_name_is_no_python_name(home: Path) -> None:
    write(home / "my-shop.py", SHOP)
    assert load_app("my-shop.py").name == "shop"


def test_an_attribute_of_an_object_can_be_named(home: Path) -> None:
    write(home / "shop.py", SHOP + "class Holder:\n    inner = app\n")
    assert load_app("shop:Holder.inner").name == "shop"


def test_two_names_for_one_app_are_one_app(home: Path) -> None:
    write(home / "shop.py", SHOP + "application = app\n")
    assert load_app("shop").name == "shop"


@pytest.mark.parametrize(
    ("text", "source", "message", "hint"),
    [
        ("shop", None, "there is no module 'shop'", "looked in"),
        ("shop.jobs", SHOP, "there is no module 'shop.jobs'", ""),
        ("shop.py", None, "there is no file shop.py", "looked from"),
        ("shop:", SHOP, "names no app", "package.module:name"),
        (":app", SHOP, "names no app", "package.module:name"),
        ("not-a-module", None, "is no module name", "package.module:name"),
        ("shop:other", SHOP, "module shop has no 'other'", "its Apps are: app"),
        ("shop:app", "app = 3\n", "shop:app is a int, not a logqueue App", "App("),
        ("shop", "x = 3\n", "module shop holds no App", "App("),
        ("shop", SHOP + "two = App('two')\n", "module shop holds 2 Apps: app, two", "shop:app"),
        (
            "shop",
            "import nonexistent_library\n",
            "ModuleNotFoundError: No module named 'nonexistent_library'",
            "shop.py:1",
        ),
        ("shop", "def f():\n    raise KeyError('DB')\nf()\n", "importing shop raised KeyError: 'DB'", "shop.py:2 in f"),
        ("shop", "app = App(\n", "SyntaxError: '(' was never closed", "shop.py:1"),
        ("shop", "raise SystemExit(4)\n", "importing shop ended the program (exit code 4)", "shop.py:1"),
        ("json.py", SHOP, "json.py has the name of another module", "rename the file"),
        (
            "shop",
            "from logqueue import App\napp = App('bad name')\n",
            "importing shop raised InvalidDefinition",
            "shop.py:2",
        ),
        (
            "shop",
            SHOP + "from logqueue import Unique\n\nUnique(on_conflict='ask')\n",
            "on_conflict 'ask' is not one of",
            f"shop.py:{SHOP.count(chr(10)) + 3} in <module>",
        ),
    ],
)
def test_what_is_wrong_is_said_with_its_place(
    home: Path, text: str, source: str | None, message: str, hint: str
) -> None:
    if source is not None:
        write(home / ("json.py" if text == "json.py" else "shop.py"), source)
    with pytest.raises(AppError) as caught:
        load_app(text)
    assert message in caught.value.message
    assert hint in caught.value.hint
    assert caught.value.code is ExitCode.APP


def test_code_without_a_file_is_told_by_the_place_that_runs_it(home: Path) -> None:
    write(home / "shop.py", SHOP + "exec('import logqueue; logqueue.Queue')\n")
    with pytest.raises(AppError) as caught:
        load_app("shop")
    assert caught.value.hint.startswith(f"{home / 'shop.py'}:3 in <module>")


def test_a_module_path_that_is_a_file_path_is_pointed_out(home: Path) -> None:
    write(home / "shop.py", SHOP)
    with pytest.raises(AppError) as caught:
        load_app("shop.app")
    assert "there is no module 'shop.app'" in caught.value.message
