"""Which code a lab's numbers come from, so that a study runs again what has changed, and only that."""

from __future__ import annotations

import ast
import hashlib
from importlib.metadata import version
from pathlib import Path

COMMON = Path(__file__).resolve().parent
# modules of common/ that no recorded number depends on
WITHOUT_NUMBERS = {"command_line", "ending", "locking", "plotting", "progress", "study"}


def code_version(script: Path) -> str:
    """A hash of the script, of what it imports from common/, and of the versions of torch and NumPy.

    Comments, Markdown cells, docstrings and layout do not count, nor do sentences for the console (`lab.say` of what is
    computed elsewhere) and figures (a study draws none).

    Raises:
        SyntaxError: one of the files is no Python.
    """
    trees, waiting = {}, [script]
    while waiting:
        path = waiting.pop()
        trees[path] = ast.parse(path.read_text(encoding="utf-8"), str(path))
        modules = {COMMON / f"{name}.py" for name in _imported_from_common(trees[path]) - WITHOUT_NUMBERS}
        waiting += [module for module in modules if module.is_file() and module not in [*trees, *waiting]]
    code = [f"{path.name} {_dump(trees[path])}" for path in sorted(trees)]
    versions = [f"{package} {version(package)}" for package in ("torch", "numpy")]
    return hashlib.sha256("\n".join(code + versions).encode()).hexdigest()


def _imported_from_common(tree: ast.Module) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "common":  # from common import attention
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("common."):
            found.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("common.")}
    return found


def _dump(tree: ast.Module) -> str:
    """The code as text, without positions and without what computes nothing."""
    for node in ast.walk(tree):
        if isinstance(getattr(node, "body", None), list):
            node.body = [statement for statement in node.body if not _is_prose(statement)]
    return ast.dump(tree)


def _is_prose(statement: ast.stmt) -> bool:
    """Whether it is a string that stands alone, or a `….say(…)` that calls nothing."""
    if not isinstance(statement, ast.Expr):
        return False
    calls = [node for node in ast.walk(statement) if isinstance(node, ast.Call)]
    says = [call for call in calls if isinstance(call.func, ast.Attribute) and call.func.attr == "say"]
    return isinstance(statement.value, ast.Constant) or (says == calls == [statement.value])
