"""The modules of the package with their files, and what they import."""

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

from checkout import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
FOLDERS: dict[str, str] = PROJECT["tool"]["setuptools"]["package-dir"]


def sources() -> Iterator[tuple[str, Path]]:
    """Every module of the package with its file."""
    for package, folder in FOLDERS.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            inside = path.relative_to(ROOT / folder).with_suffix("").parts
            yield ".".join([package, *inside]).removesuffix(".__init__"), path


SOURCES = dict(sources())


def imports(code: str) -> Iterator[str]:
    """Every name that the code imports, in full."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
