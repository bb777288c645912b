"""The tree keeps its own promises: who imports whom, what is pure, what is documented, that maps name what exists.

Each promise is a function from sources (path -> text) to the ways in which they break it, so that every one is also
tried on a small tree that does break it. A promise that finds nothing there would find nothing anywhere.
"""

import ast
import configparser
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NO_SOURCE = {"build", "dist", "ringkeeper-data"}
"""Folders that tools make; so do those whose name begins with a dot or an underscore or ends in .egg-info."""

Sources = Mapping[str, str]


def words(text: str) -> frozenset[str]:
    return frozenset(text.split())


ROOMS = ("actors/rules", "actors", "runtime", "scenarios", "cli")
MAY_IMPORT = {
    "actors/rules": {"actors/rules"},
    "runtime": {"runtime"},
    "actors": {"actors", "actors/rules", "runtime"},
    "scenarios": {"scenarios", "actors", "actors/rules", "runtime"},
    "cli": {"cli", "scenarios", "actors", "actors/rules", "runtime", "the front door"},
    "the front door": {"cli", "scenarios", "actors", "actors/rules", "runtime", "the front door"},
}
"""Imports run one way: cli -> scenarios -> actors -> runtime, and actors -> actors/rules. ``version`` is for all but
the rules."""

PURE = words(
    "__future__ abc binascii bisect collections contextlib copy dataclasses enum fractions functools hashlib heapq "
    "ipaddress itertools json math operator re reprlib statistics string struct textwrap types typing zlib"
)
"""What actors/rules may import from the standard library: nothing with a thread, socket, clock, file or dice in it."""
IMPURE_CALLS = {"open", "input", "print", "exec", "eval", "compile", "__import__", "breakpoint"}

WORLD = words(
    "socket asyncio time select selectors threading multiprocessing concurrent subprocess signal random secrets uuid "
    "ssl uvloop kazoo rocksdict queue sched"
)
"""What an actor must be handed instead of importing it."""
Wiring = Mapping[str, tuple[set[str], str]]
WIRING: Wiring = {
    "actors/async_client.py": ({"asyncio", "socket", "time"}, "lives in the program that uses it, on that one's loop"),
    "actors/client.py": ({"threading"}, "lives in the program that uses it, on that one's threads"),
    "actors/client_engine.py": ({"random", "threading", "time"}, "is what both clients have in common"),
    "actors/client_links.py": ({"select", "socket", "threading", "time"}, "that program's connections, which block it"),
    "actors/client_pacing.py": ({"threading", "time"}, "times that program's calls, and budgets its threads"),
    "actors/local.py": ({"signal", "socket", "threading", "time"}, "an edge: a program's thread that blocks"),
    "actors/node_folder.py": ({"secrets"}, "makes a directory's id and a life's before there is any actor"),
    "actors/cluster_folder.py": ({"secrets"}, "makes the cluster's secret before there is any actor"),
}
"""Files in actors/ that are no actors: what of the world each imports all the same, and why."""

HOMES = {"kazoo": "runtime/watches.py"}
"""Libraries that one file alone may import, so that the simulation has one thing to stand in for."""


# ---- reading


def files(root: Path, *endings: str) -> dict[str, str]:
    """Every text file of the project with one of these endings, by its path from root."""
    found = {}
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(
            name
            for name in folders
            if name not in NO_SOURCE and name[0] not in "_" and (name[0] != "." or name == ".ci")
            if not name.endswith(".egg-info") and not os.path.islink(os.path.join(folder, name))
        )
        for name in sorted(names):
            path = Path(folder, name)
            if name.endswith(endings) and not path.is_symlink():
                found[path.relative_to(root).as_posix()] = path.read_text()
    return found


def product(sources: Sources) -> dict[str, str]:
    return {path: text for path, text in sources.items() if path.endswith(".py") and not path.startswith("tests/")}


def room(path: str) -> str:
    """The room of a file, or of what an import names once its dots are slashes."""
    return next((each for each in ROOMS if f"{path}/".startswith(f"{each}/")), "the front door")


def imports(path: str, text: str) -> Iterator[tuple[int, str]]:
    """Line and absolute dotted name of everything a file imports, wherever in it: ``from a import b`` is a.b."""
    package = ["ringkeeper", *path.split("/")[:-1]]
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else []
            start = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{start}.{alias.name}") for alias in node.names)


# ---- promises


def imports_against_the_direction(sources: Sources) -> Iterator[str]:
    for path, text in product(sources).items():
        for line, name in imports(path, text):
            top, _, inside = name.partition(".")
            if top != "ringkeeper":
                continue
            if inside.split(".")[0] == "version" and room(path) != "actors/rules":
                continue
            if room(inside.replace(".", "/")) not in MAY_IMPORT[room(path)]:
                yield f"{path}:{line} imports {name}"


def impurities_in_rules(sources: Sources) -> Iterator[str]:
    for path, text in product(sources).items():
        if room(path) != "actors/rules":
            continue
        for line, name in imports(path, text):
            top = name.split(".")[0]
            if top not in PURE | {"ringkeeper"}:
                yield f"{path}:{line} imports {name}"
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in IMPURE_CALLS:
                yield f"{path}:{node.lineno} calls {node.func.id}()"


def actors_that_reach_for_the_world(sources: Sources, wiring: Wiring = WIRING) -> Iterator[str]:
    for path, text in product(sources).items():
        if room(path) == "actors":
            allowed, _ = wiring.get(path, (set(), ""))
            used = {name.split(".")[0]: line for line, name in imports(path, text)}
            yield from (f"{path}:{used[top]} imports {top}" for top in sorted(WORLD & used.keys() - allowed))


def exceptions_that_nobody_needs(sources: Sources, wiring: Wiring = WIRING) -> Iterator[str]:
    for path, (allowed, _) in wiring.items():
        used = {name.split(".")[0] for _, name in imports(path, sources.get(path, ""))}
        yield from (f"{path} may import {top} and does not" for top in sorted(allowed - used))


def libraries_away_from_home(sources: Sources) -> Iterator[str]:
    for path, text in product(sources).items():
        for line, name in imports(path, text):
            top = name.split(".")[0]
            if HOMES.get(top, path) != path:
                yield f"{path}:{line} imports {name}"


def messages_without_a_way(sources: Sources) -> Iterator[str]:
    """A message is a frozen dataclass; its docstring says what it says and ``Sender -> Receiver``."""
    for path, text in product(sources).items():
        for node in ast.walk(ast.parse(text)):
            if not isinstance(node, ast.ClassDef):
                continue
            decorators = {ast.unparse(each).split("(")[0].split(".")[-1]: each for each in node.decorator_list}
            if "message" not in decorators:
                continue
            if "->" not in (ast.get_docstring(node) or ""):
                yield f"{path}:{node.lineno} {node.name} does not say Sender -> Receiver"
            if "frozen=True" not in ast.unparse(decorators.get("dataclass", node.decorator_list[0])):
                yield f"{path}:{node.lineno} {node.name} is not a frozen dataclass"


def modules_without_a_docstring(sources: Sources) -> Iterator[str]:
    for path, text in sources.items():
        if path.endswith(".py") and not ast.get_docstring(ast.parse(text)):
            yield path


CAMEL = re.compile(r"[A-Z][a-z0-9]+(?:[A-Z][a-z0-9]*)*")
FILE = re.compile(r"(?:[\w-]+/)*[\w-]+\.(?:py|md|cfg|toml|sh)")


def map_names_that_do_not_exist(sources: Sources) -> Iterator[str]:
    """In the docstring of a package every `CamelCase` name in backticks is a class, a function or a constant somewhere,
    and every `file.py` is one, or the end of one's path."""
    defined = {name for text in product(sources).values() for name in _definitions(text)}
    for path, text in product(sources).items():
        if path.split("/")[-1] != "__init__.py":
            continue
        for quoted in re.findall(r"`+([^`]+)`+", ast.get_docstring(ast.parse(text)) or ""):
            if CAMEL.fullmatch(quoted) and quoted not in defined:
                yield f"{path} names {quoted}, which is defined nowhere"
            if FILE.fullmatch(quoted) and not any(f"/{known}".endswith(f"/{quoted}") for known in sources):
                yield f"{path} names {quoted}, which does not exist"


def _definitions(text: str) -> Iterator[str]:
    for node in ast.parse(text).body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node.name
        elif isinstance(node, ast.Assign):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id


def packages_that_setup_cfg_forgot_or_invented(sources: Sources) -> Iterator[str]:
    setup = configparser.ConfigParser()
    setup.read_string(sources["setup.cfg"])
    listed = set(setup["options"]["packages"].split())
    there = {".".join(["ringkeeper", *path.split("/")[:-1]]) for path in product(sources)}
    yield from (f"{package} is listed and does not exist" for package in sorted(listed - there))
    yield from (f"{package} exists and is not listed" for package in sorted(there - listed))


SOMEBODYS_PLACE = re.compile(r"(?<![\w./~-])/(?:work|home|root|Users|tmp)/\w+")


def places_on_somebodys_machine(sources: Sources) -> Iterator[str]:
    for path, text in sources.items():
        for line, content in enumerate(text.splitlines(), 1):
            for place in SOMEBODYS_PLACE.findall(content):
                yield f"{path}:{line} names {place}"


Promise = Callable[[Sources], Iterable[str]]
PROMISES: tuple[Promise, ...] = (
    imports_against_the_direction,
    impurities_in_rules,
    actors_that_reach_for_the_world,
    exceptions_that_nobody_needs,
    libraries_away_from_home,
    messages_without_a_way,
    modules_without_a_docstring,
    map_names_that_do_not_exist,
    packages_that_setup_cfg_forgot_or_invented,
    places_on_somebodys_machine,
)


# ---- kept here


@pytest.fixture(scope="module")
def tree() -> dict[str, str]:
    return files(ROOT, ".py", ".md", ".cfg", ".toml", ".sh", "Makefile", "run")


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
def test_this_tree_has_no(promise: Promise, tree: dict[str, str]) -> None:
    assert list(promise(tree)) == []


def test_the_whole_tree_is_looked_at(tree: dict[str, str]) -> None:
    assert {
        "__init__.py",
        "setup.cfg",
        "actors/rules/ring.py",
        "runtime/message.py",
        "tests/test_tree.py",
    } <= tree.keys()
    assert not [path for path in tree if "/." in f"/{path}" and not path.startswith(".ci/")]
    assert {room(path) for path in product(tree)} == {*ROOMS, "the front door"}
    assert PURE.issubset(sys.stdlib_module_names)


# ---- found broken elsewhere


@pytest.mark.parametrize(
    ("promise", "path", "text", "complaint"),
    [
        (imports_against_the_direction, "runtime/a.py", "from ..actors import x", "imports ringkeeper.actors.x"),
        (imports_against_the_direction, "runtime/a.py", "from .. import actors", "imports ringkeeper.actors"),
        (
            imports_against_the_direction,
            "runtime/store/a.py",
            "from ...actors.rules.slots import slot",
            "rules.slots.slot",
        ),
        (
            imports_against_the_direction,
            "runtime/a.py",
            "import ringkeeper.actors.ecs",
            "imports ringkeeper.actors.ecs",
        ),
        (imports_against_the_direction, "actors/a.py", "from ..scenarios import stage", "imports ringkeeper.scenarios"),
        (imports_against_the_direction, "actors/a.py", "from .. import Client", "imports ringkeeper.Client"),
        (
            imports_against_the_direction,
            "actors/rules/a.py",
            "from ..messages import Put",
            "ringkeeper.actors.messages",
        ),
        (
            imports_against_the_direction,
            "actors/rules/a.py",
            "from ...runtime.message import message",
            "runtime.message",
        ),
        (imports_against_the_direction, "actors/rules/a.py", "from ...version import VERSION", "version.VERSION"),
        (
            imports_against_the_direction,
            "scenarios/a.py",
            "def f():\n    from ..cli import main",
            "scenarios/a.py:2 imports",
        ),
        (impurities_in_rules, "actors/rules/a.py", "import time", "imports time"),
        (impurities_in_rules, "actors/rules/a.py", "from random import choice", "imports random.choice"),
        (impurities_in_rules, "actors/rules/a.py", "import os.path", "imports os.path"),
        (impurities_in_rules, "actors/rules/a.py", "import hiredis", "imports hiredis"),
        (impurities_in_rules, "actors/rules/a.py", "open('x')", "calls open()"),
        (actors_that_reach_for_the_world, "actors/a.py", "import time", "actors/a.py:1 imports time"),
        (actors_that_reach_for_the_world, "actors/a.py", "from asyncio import sleep", "imports asyncio"),
        (
            libraries_away_from_home,
            "runtime/election.py",
            "from kazoo.client import KazooClient",
            "imports kazoo.client",
        ),
        (
            messages_without_a_way,
            "actors/m.py",
            "@message\n@dataclass(frozen=True)\nclass Put:\n    '''Puts.'''",
            "Put does",
        ),
        (
            messages_without_a_way,
            "actors/m.py",
            "@message(urgent=True)\n@dataclass(frozen=True)\nclass Put: pass",
            "Put does",
        ),
        (messages_without_a_way, "actors/m.py", "@message\n@dataclass\nclass Put:\n    '''A -> B.'''", "not a frozen"),
        (messages_without_a_way, "actors/m.py", "@message\nclass Put:\n    '''A -> B.'''", "not a frozen"),
        (modules_without_a_docstring, "tests/test_a.py", "import os\n'''late'''", "tests/test_a.py"),
        (modules_without_a_docstring, "actors/a.py", "", "actors/a.py"),
        (map_names_that_do_not_exist, "actors/__init__.py", "'''Then `Gatekeeper` opens.'''", "names Gatekeeper"),
        (map_names_that_do_not_exist, "actors/__init__.py", "'''See ``rules/moon.py``.'''", "names rules/moon.py"),
        (
            packages_that_setup_cfg_forgot_or_invented,
            "moon/__init__.py",
            "",
            "ringkeeper.moon exists and is not listed",
        ),
        (places_on_somebodys_machine, "README.md", "cd " + "/home" + "/ann/ringkeeper", "README.md:1 names"),
        (places_on_somebodys_machine, "tests/test_a.py", "\nopen('" + "/tmp" + "/ring')", "tests/test_a.py:2 names"),
    ],
)
def test_a_broken_promise_is_found(promise: Promise, path: str, text: str, complaint: str) -> None:
    tree = {"setup.cfg": "[options]\npackages =\n    ringkeeper.actors", "actors/b.py": "'''Does.'''", path: text}
    found = list(promise(tree))
    assert len(found) == 1
    assert complaint in found[0]


def test_what_keeps_the_promises_is_left_alone() -> None:
    tree = {
        "setup.cfg": "[options]\npackages =\n  ringkeeper\n  ringkeeper.actors\n  ringkeeper.actors.rules\n"
        "  ringkeeper.cli\n  ringkeeper.runtime\n  ringkeeper.scenarios\n",
        "__init__.py": "'''Front door.'''\nfrom .actors.gateway import Gateway\nfrom .version import VERSION",
        "version.py": "'''The number.'''\nVERSION = '1'",
        "actors/__init__.py": "'''A `Put` goes to `Gateway` in `gateway.py`, see `runtime/watches.py`; `GET`, `up`.'''",
        "actors/gateway.py": "'''Answers.'''\nfrom ..runtime import watches\nfrom .rules import slots\n"
        "class Gateway: pass",
        "actors/rules/slots.py": "'''Slots.'''\nfrom binascii import crc_hqx\nfrom . import ring\nself.open()",
        "actors/messages.py": "'''Said.'''\n@message(urgent=True)\n@dataclass(frozen=True, slots=True)\n"
        "class Put:\n    '''Gateway -> StorageNode.'''",
        "runtime/watches.py": "'''Watches.'''\nimport kazoo.client\nimport time\nfrom ..version import VERSION",
        "scenarios/dies.py": "'''Story.'''\nfrom ..actors.rules.ring import Ring\nfrom ..runtime.actor import Actor",
        "cli/main.py": "'''Commands.'''\nfrom .. import Client\nfrom ..scenarios import dies\nimport time",
        "tests/test_a.py": "'''Tests.'''\nimport kazoo, random\nimport ringkeeper.cli",
        "README.md": "see https://example.org/home/page and ./work/x",
    }
    for promise in PROMISES:
        if promise is not exceptions_that_nobody_needs:
            assert list(promise(tree)) == []


def test_an_exception_is_for_what_it_names_and_must_be_needed() -> None:
    wiring = {"actors/local.py": ({"threading", "time"}, "an edge"), "actors/gone.py": ({"time"}, "gone")}
    tree = {"actors/local.py": "import threading\nimport socket"}
    assert list(actors_that_reach_for_the_world(tree, wiring)) == ["actors/local.py:2 imports socket"]
    assert list(exceptions_that_nobody_needs(tree, wiring)) == [
        "actors/local.py may import time and does not",
        "actors/gone.py may import time and does not",
    ]
