"""The pack's own imports, read from its sources without running them.

Sources are {path below the pack: text}, e.g. {"samplers/windows.py": "import math"}, so that a rule can be tried on a
wrong example of three lines. The pack's modules are named as the tests import them (longtake.samplers.windows), others
by their own names; `nodes` alone is ComfyUI's.
"""

import ast
import functools
import graphlib
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from .paths import ROOT

PACK = "longtake"
ROOMS = ("samplers", "backbone", "nodes", "benchmarks", "tools")


@dataclass(frozen=True)
class Import:
    """`name` is what line `line` of `path` imports: a module of the pack, or module and name of another."""

    path: str
    line: int
    name: str
    relative: bool

    def __str__(self):
        return f"{self.path}:{self.line} imports {self.name}"


def read(*folders) -> dict[str, str]:
    """Every Python file below the folders, or of the pack with its tests."""
    tops = [ROOT / name for name in folders or (*ROOMS, "tests")]
    paths = sorted(path for top in tops for path in top.rglob("*.py"))
    if not folders:
        paths = [*ROOT.glob("*.py"), *paths]
    return {path.relative_to(ROOT).as_posix(): path.read_text("utf-8") for path in paths}


def module_name(path) -> str:
    """longtake.samplers.windows of samplers/windows.py; longtake.samplers of samplers/__init__.py."""
    parts = path.removesuffix(".py").split("/")
    return ".".join([PACK, *(parts[:-1] if parts[-1] == "__init__" else parts)])


def inside(name, *places) -> bool:
    """Whether a module is one of the places or below one."""
    return any(name == place or name.startswith(place + ".") for place in places)


def running(node) -> Iterator[ast.AST]:
    """Everything that can run, functions included; not what type checkers alone read."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for other in child.orelse:
                yield from (other, *running(other))
        else:
            yield child
            yield from running(child)


def is_import(node) -> bool:
    called = getattr(node, "func", None)
    return isinstance(node, (ast.Import, ast.ImportFrom)) or "import_module" in (
        getattr(called, "id", ""), getattr(called, "attr", "")
    )  # fmt: skip


@functools.cache
def importing(text) -> tuple[ast.AST, ...]:
    """Where a source imports something."""
    return tuple(filter(is_import, running(ast.parse(text))))


def imports(sources) -> list[Import]:
    """Every import of the sources, those inside functions and by importlib.import_module of a fixed name as well. An
    __init__ that imports by a name it makes up imports every module of its folder."""
    modules = {module_name(path) for path in sources}
    found = []

    def known(name, item=None):
        """The module that `from name import item` needs."""
        return f"{name}.{item}" if item and f"{name}.{item}" in modules else name

    def absolute(name, item, folder):
        """A module of the pack by the pack's name, a room's, or the importing file's own folder; or another's."""
        if inside(name, PACK):
            return known(name, item)
        if name.split(".")[0] in ROOMS and (name != "nodes" or item and f"{PACK}.nodes.{item}" in modules):
            return known(f"{PACK}.{name}", item)
        if name.split(".")[0] not in sys.stdlib_module_names and f"{folder}.{name}" in modules:
            return known(f"{folder}.{name}", item)
        return f"{name}.{item}" if item else name

    for path, text in sources.items():
        own = module_name(path)
        folder = own if path.endswith("__init__.py") else own.rpartition(".")[0]

        def add(node, name, relative, path=path, own=own):
            if name != own:
                found.append(Import(path, node.lineno, name, relative))

        for node in importing(text):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    add(node, absolute(alias.name, None, folder), False)
            elif isinstance(node, ast.ImportFrom):
                parts = folder.split(".")
                base = ".".join([*parts[: len(parts) - node.level + 1], *(node.module or "").split(".")]).rstrip(".")
                for alias in node.names:
                    name = known(base, alias.name) if node.level else absolute(node.module, alias.name, folder)
                    add(node, name, node.level > 0)
            else:
                name = node.args[0].value if isinstance(node.args[0], ast.Constant) else None
                if name:
                    add(node, folder + name if name.startswith(".") else absolute(name, None, folder), name[0] == ".")
                elif path.endswith("__init__.py"):
                    for other in sorted(modules):
                        if other.rpartition(".")[0] == own:
                            add(node, other, True)
    return found


def circle(sources) -> list[str]:
    """Modules that import each other in a ring, in order; none: []."""
    edges = {module_name(path): set() for path in sources}
    for one in imports(sources):
        if one.name in edges:
            edges[module_name(one.path)].add(one.name)
    try:
        graphlib.TopologicalSorter(edges).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return []


def crossings(sources, of, never, but=()) -> list[str]:
    """Imports of what modules below `of` (`but` some) may never import."""
    return [
        str(one)
        for one in imports(sources)
        if inside(module_name(one.path), *of) and not inside(module_name(one.path), *but) and inside(one.name, *never)
    ]


def strangers(sources, of, allowed, but=()) -> list[str]:
    """Imports from outside the standard library and `allowed`."""
    return [
        str(one)
        for one in imports(sources)
        if inside(module_name(one.path), *of)
        and not inside(module_name(one.path), *but)
        and not inside(one.name, *allowed)
        and one.name.split(".")[0] not in sys.stdlib_module_names
    ]


def absolutes(sources, but=()) -> list[str]:
    """Imports of the pack's own modules that are not relative."""
    return [str(one) for one in imports(sources) if inside(one.name, PACK) and not one.relative and one.path not in but]


def misshapen(sources, most=400) -> list[str]:
    """Files that are too long, or have letters beyond ASCII."""
    return [
        f"{path}: {len(text.splitlines())} lines" if text.isascii() else f"{path}: not ASCII"
        for path, text in sources.items()
        if len(text.splitlines()) > most or not text.isascii()
    ]


def without_docstring(sources) -> list[str]:
    """Public modules that do not open with what they are."""
    return [
        path
        for path, text in sources.items()
        if not re.search(r"(^|/)_(?!_init__)", path) and not ast.get_docstring(ast.parse(text))
    ]


def defined(text) -> set[str]:
    """Functions and classes of a module, and functions of its classes as Class.function."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    found = set()
    for node in ast.parse(text).body:
        if isinstance(node, kinds):
            found.add(node.name)
            if isinstance(node, ast.ClassDef):
                found |= {f"{node.name}.{part.name}" for part in node.body if isinstance(part, kinds)}
    return found


NAME = re.compile(r"`(\w+(?:\.\w+)*\.(?!py`)\w+)[`(]")
CHOSEN = "the sampler that the user chose"


def algorithm(sources, package) -> tuple[list[str], list[str]]:
    """(names, what is wrong) of the table in a paper's __init__, a Markdown one: every row of it names in backticks the
    `module.function` that does this line of the paper's algorithm, or says that it is the sampler that the user chose.
    Modules are those of the package, or of the folder around it."""
    lines = (ast.get_docstring(ast.parse(sources[f"{package}/__init__.py"])) or "").splitlines()
    rows = [line.strip() for line in lines if line.strip().startswith("|")][2:]  # below the head and its rule
    names = [name for line in lines for name in NAME.findall(line)]
    wrong = [f"no `module.function`: {row}" for row in rows if CHOSEN not in row and not NAME.search(row)]
    for name in names:
        parts = name.split(".")
        places = [
            (sources[path], ".".join(parts[i:]))
            for folder in (package, package.rpartition("/")[0])
            for i in range(1, len(parts))
            if (path := "/".join([folder, *parts[:i]]) + ".py") in sources
        ]
        if not any(item in defined(module) for module, item in places):
            wrong.append(f"`{name}` is no function of the pack")
    return names, wrong
