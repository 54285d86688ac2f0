"""Which source a result depends on: files of this package, and modules a plug-in brings in.

Files are found by following import statements without running them, so that a module counts
whether it is imported at the top of a file, inside a function or not yet at all. What is imported
under a name made at run time is found only if importing the plug-in already loads it.
"""

from __future__ import annotations

import ast
import hashlib
import re
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from functools import cache
from importlib import metadata
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

_PACKAGE = __name__.partition(".")[0]
_ROOT = Path(__file__).resolve().parent
_IMPORT = re.compile(
    rf"^[ \t]*(?:from[ \t]+({_PACKAGE}[\w.]*)[ \t]+import[ \t]+(\([^)]*\)|[^\n]*)"
    rf"|import[ \t]+({_PACKAGE}[\w.]*))",
    re.M,
)
# Modules that keep, name and describe results; none of them computes one.
_CLERKS = frozenset({"errors", "provenance", "registry", "schema", "source_code", "store"})
# Every row records the versions of these; they are not part of a plug-in's own source.
_RECORDED = frozenset({"numpy", "spikingjelly", "torch"})
_brought_in: dict[str, frozenset[str]] = {}


def own_modules() -> dict[str, Path]:
    """Every module of this package without the package's name (``attacks.apgd``), and its file."""
    return {_name(path.relative_to(_ROOT)): path for path in _ROOT.rglob("*.py")}


def _name(path: Path) -> str:
    return ".".join(part for part in path.with_suffix("").parts if part != "__init__")


def _own_imports(text: str) -> set[str]:
    found = set()
    for base, names, plain in _IMPORT.findall(text):
        home = (base or plain).removeprefix(_PACKAGE).lstrip(".")
        found |= {home, *(f"{home}.{name}".lstrip(".") for name in re.findall(r"\w+", names))}
    return found


@cache
def _own_closure(roots: frozenset[str], spared: str) -> dict[str, str]:
    """Files below the package to sha256: ``roots``, what they import, and compiled sources."""
    modules, todo, found = own_modules(), list(roots), {}
    seen: set[str] = set()
    while todo:
        name = todo.pop()
        if name in seen or name in _CLERKS or not name or name not in modules:
            continue
        seen.add(name)
        if spared and name.partition(".")[0] == spared:
            continue
        path = modules[name]
        content = path.read_bytes()
        for file in [path, *path.parent.glob("*.cpp")]:
            found[file.relative_to(_ROOT).as_posix()] = hashlib.sha256(
                content if file == path else file.read_bytes()
            ).hexdigest()
        todo += _own_imports(content.decode())
    return found


def own_source_sha256(roots: Iterable[str], spared: str = "") -> str:
    """sha256 over the files of this package that modules ``roots`` depend on.

    Args:
        roots: names without the package's own, for example ``worker`` or ``models.adapters``.
        spared: a part of the package that is known to take no part, for example ``corruptions``.
    """
    return _listing(_own_closure(frozenset(roots), spared))


def _listing(entries: dict[str, str]) -> str:
    text = "\n".join(f"{name} {value}" for name, value in sorted(entries.items()))
    return hashlib.sha256(text.encode()).hexdigest()


def note_brought_in(module: str, others: Iterable[str]) -> None:
    """Remember that importing the plug-in ``module`` loaded ``others`` (names in sys.modules).

    Only the user's own modules are kept: which libraries were loaded before differs between the
    driver and its workers.
    """
    _brought_in[module] = frozenset(name for name in others if _is_users(name))


def _is_users(name: str) -> bool:
    top = name.partition(".")[0]
    if top in {_PACKAGE, *_RECORDED} or top in sys.stdlib_module_names:
        return False
    path = _file_of(name)
    return path is not None and not _is_installed(path)


def foreign_source_sha256(kind: object) -> str:
    """sha256 of the code that a class or function of another package or plug-in depends on.

    Empty for those of this package. Covers the file that defines it, every module outside the
    standard library and site-packages that this file leads to, and name and version of every
    installed distribution it leads to, but for torch, NumPy and spikingjelly, whose versions
    stand in each row.
    """
    module = _module(kind)
    return "" if module.partition(".")[0] in (_PACKAGE, "") else _foreign(module)[0]


def own_roots(kind: object) -> frozenset[str]:
    """Modules of this package that the code of ``kind`` (class, function or module name) uses."""
    module = _module(kind)
    if module.partition(".")[0] == _PACKAGE:
        return frozenset({module.removeprefix(_PACKAGE).lstrip(".")})
    return _foreign(module)[1] if module else frozenset()


def _module(kind: object) -> str:
    """Where ``kind`` is defined; the plug-in, where importing that is what loaded the module."""
    if isinstance(kind, str):
        module = kind.partition(":")[0]
    else:
        module = str(getattr(kind, "__module__", ""))
    if module.partition(".")[0] == _PACKAGE:
        return module
    return next((name for name, others in _brought_in.items() if module in others), module)


@cache
def _foreign(root: str) -> tuple[str, frozenset[str]]:
    todo, files, installed, own = [root, *_brought_in.get(root, ())], {}, {}, set()
    seen: set[str] = set()
    while todo:
        name = todo.pop()
        top = name.partition(".")[0]
        if name in seen or not top:
            continue
        seen.add(name)
        if top == _PACKAGE:
            own.add(name.removeprefix(_PACKAGE).lstrip("."))
            continue
        if top in _RECORDED or top in sys.stdlib_module_names:
            continue
        path = _file_of(name)
        if path is None:
            continue
        if name != root and _is_installed(path):
            installed[top] = installed_version(top)
            continue
        content = path.read_bytes()
        files[name] = hashlib.sha256(content).hexdigest()
        todo += _imports(content, name, path)
    if set(files) == {root} and not installed:
        return files[root], frozenset(own)
    # A plug-in's module name holds its path, which cannot change a number.
    entries = {"" if name == root else name: value for name, value in files.items()}
    return _listing(entries | installed) if entries else root, frozenset(own)


def _imports(content: bytes, name: str, path: Path) -> Iterator[str]:
    """Names of all modules that a source file may import; attributes among them do no harm."""
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError):
        return
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _parents(alias.name)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".")
                home = ".".join(parts[: len(parts) - node.level + 1])
                base = f"{home}.{base}".strip(".")
            yield from _parents(base)
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _parents(name: str) -> list[str]:
    """``a``, ``a.b`` and ``a.b.c`` of ``a.b.c``: importing the last runs all of them."""
    parts = name.split(".")
    return [".".join(parts[: i + 1]) for i in range(len(parts))]


def _file_of(name: str) -> Path | None:
    """The file of a module, loaded or not; None for built-in ones and for attributes."""
    loaded = sys.modules.get(name)
    origin = getattr(loaded, "__file__", None) if loaded is not None else None
    if origin is None and (spec := _find(name)) is not None:
        origin = spec.origin if spec.has_location else None
    if origin is None:
        return None
    path = Path(origin)
    return path if path.is_file() else None


def _find(name: str) -> ModuleSpec | None:
    """Where a module would be imported from; runs no code, unlike importlib.util.find_spec."""
    places: list[str] | None = None
    spec: ModuleSpec | None = None
    for step in _parents(name):
        try:
            spec = PathFinder.find_spec(step, places)
        except (ImportError, OSError, ValueError):
            return None
        if spec is None:
            return None
        places = list(spec.submodule_search_locations or ())
    return spec


def _is_installed(path: Path) -> bool:
    if {"site-packages", "dist-packages"} & set(path.parts):
        return True
    resolved = path.resolve()
    return any(
        resolved.is_relative_to(Path(sysconfig.get_path(place)).resolve())
        for place in ("stdlib", "purelib", "platlib")
    )


@cache
def installed_version(top: str) -> str:
    """Name and version of the distribution that provides the top-level module ``top``."""
    try:
        return f"{top}=={metadata.version(top)}"
    except metadata.PackageNotFoundError:
        pass
    names = metadata.packages_distributions().get(top)
    if names:
        return ",".join(sorted(f"{name}=={metadata.version(name)}" for name in set(names)))
    path = _file_of(top)
    return hashlib.sha256(path.read_bytes()).hexdigest() if path else "unknown"
