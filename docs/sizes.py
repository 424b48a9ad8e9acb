"""Prints how large the rooms are: files, lines of code, public names, and the longest file.

    python docs/sizes.py [folder]    of another checkout's package, to compare

Lines of code are those that are neither blank nor comment nor docstring. Public names are classes, functions, constants and
methods without a leading underscore.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "veilstat"


@dataclass(frozen=True, slots=True)
class Size:
    """A file's lines, its lines of code, and its public names."""

    file: str
    lines: int
    code: int
    names: int

    @staticmethod
    def of(path: Path) -> Size:
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text)
        lines = text.splitlines()
        words = {line for start, end in _docstrings(tree) for line in range(start, end + 1)}
        code = sum(bool(line.strip()) and not line.strip().startswith("#") and n not in words for n, line in enumerate(lines, 1))
        return Size(path.name, len(lines), code, sum(1 for name in _names(tree) if not name.startswith("_")))


def _docstrings(tree: ast.AST) -> Iterator[tuple[int, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.lineno, node.end_lineno or node.lineno


def _names(tree: ast.Module | ast.ClassDef) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from _names(node)


def table(package: Path) -> list[str]:
    """One line for each room, and for all."""
    rooms: dict[str, list[Size]] = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).parts
        rooms.setdefault(parts[0] if len(parts) > 1 else "(top)", []).append(Size.of(path))
    rooms["all"] = [size for sizes in rooms.values() for size in sizes]
    lines = ["| room | files | lines | of code | public names | longest file |", "|---|---|---|---|---|---|"]
    for room, sizes in rooms.items():
        longest = max(sizes, key=lambda size: size.lines)
        sums = [sum(getattr(size, part) for size in sizes) for part in ("lines", "code", "names")]
        lines.append(f"| {room} | {len(sizes)} | {' | '.join(f'{total:,}' for total in sums)} | {longest.file}, {longest.lines} |")
    return lines


if __name__ == "__main__":
    print("\n".join(table(Path(sys.argv[1]) if len(sys.argv) > 1 else PACKAGE)))
