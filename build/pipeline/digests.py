"""Digests of files, of settings and of code. A stage's code is its modules and all of ours that they import."""

import ast
import hashlib
import importlib.util
import json
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from newsdesk.build.errors import BuildError

PACKAGES = "newsdesk.build", "newsdesk.clients", "newsdesk.server"
UNREAD = "newsdesk.build.recipe", "newsdesk.build.pipeline.artifacts", "newsdesk.build.pipeline.families"
"""Modules that decide nothing by themselves. A recipe's values are in the key as settings, artifacts as inputs, and the
functions that `families` names are roots of their own."""


def of_file(path: Path) -> str:
    """Return the sha256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def of_json(value: Any) -> str:
    """Return a digest of a JSON value, 16 hexadecimal digits."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


class Code:
    """The modules of some packages, found and read without being imported.

    Args:
        packages: folder of each package, by its name. Modules of other packages have no digest: their versions stand in
            the entry.
        unread: modules, and packages with all that is below them, that no closure goes into
    """

    def __init__(self, packages: Mapping[str, Path] | None = None, unread: Iterable[str] = UNREAD) -> None:
        self._packages = packages or {name: _folder(name) for name in PACKAGES}
        self._unread = tuple(unread)
        self._imports: dict[str, frozenset[str]] = {}
        self.source = cache(self.source)  # type: ignore[method-assign]

    def digest(self, module: str) -> str:
        """Return the digest of a module and of every module that it leads to, 16 hexadecimal digits."""
        return of_json({name: self.source(name) for name in self.closure(module)})

    def closure(self, module: str) -> list[str]:
        """Return the names of a module and of all that it imports of the packages, directly and through others.

        Imports within functions count as well; those for type checkers don't. A package counts where it is imported
        itself, not where it is passed through on the way to a module of it.

        Raises:
            BuildError: `module` is none.
        """
        reached: set[str] = set()
        waiting = [module]
        while waiting:
            name = waiting.pop()
            if name not in reached and not self._is_unread(name):
                reached.add(name)
                waiting += self.imports(name)
        return sorted(reached)

    def source(self, module: str) -> str:
        """Return the digest of what a module's own file does: its docstrings, comments and layout do not count."""
        return hashlib.sha256(ast.unparse(_without_docstrings(self._file(module))).encode()).hexdigest()

    def imports(self, module: str) -> frozenset[str]:
        """Return the names of the packages' modules that a module imports."""
        if module not in self._imports:
            file = self._file(module)
            package = module if file.name == "__init__.py" else module.rpartition(".")[0]
            names = _imported(ast.parse(file.read_bytes()), package)
            self._imports[module] = frozenset(name for name in map(self._module, names) if name)
        return self._imports[module]

    def _module(self, name: str) -> str:
        """Return the module that an imported name is, or stands in; empty where that is none of ours."""
        while name and self._find(name) is None:
            name = name.rpartition(".")[0]
        return name

    def _file(self, module: str) -> Path:
        file = self._find(module)
        if file is None:
            raise BuildError(f"no module {module!r} to take a stage's code from; expected one of {', '.join(PACKAGES)}")
        return file

    def _find(self, module: str) -> Path | None:
        for package, folder in self._packages.items():
            if module == package or module.startswith(f"{package}."):
                place = folder.joinpath(*module.removeprefix(package).split(".")[1:])
                candidates = place / "__init__.py", place.with_suffix(".py")
                return next((file for file in candidates if file.is_file()), None)
        return None

    def _is_unread(self, module: str) -> bool:
        return any(module == name or module.startswith(f"{name}.") for name in self._unread)


def _folder(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.origin:
        raise BuildError(f"no package {package!r} to take the stages' code from; install newsdesk: pip install -e .")
    return Path(spec.origin).parent


def _without_docstrings(file: Path) -> ast.Module:
    tree = ast.parse(file.read_bytes())
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            node.body = [line for line in node.body if not _is_docstring(line)] or [ast.Pass()]
    return tree


def _is_docstring(line: ast.stmt) -> bool:
    """Return whether it is a string that nobody takes: a docstring, also one below an attribute."""
    return isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant) and isinstance(line.value.value, str)


def _imported(node: ast.AST, package: str) -> Iterator[str]:
    """Yield the full names that a module's tree imports; of `from a import b` that is a.b, a module or a name in a."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - child.level + 1] if child.level else []
            base = ".".join([*above, *([child.module] if child.module else [])])
            yield from (f"{base}.{alias.name}" for alias in child.names)
        yield from _imported(child, package)
