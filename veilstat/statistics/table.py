"""Tables that a person could publish: the same rows as text, HTML and LaTeX."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

_LATEX = {
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\\": r"\textbackslash{}",
}


def number(value: object, digits: int = 4) -> str:
    """A number for a table: fixed point where that is readable, scientific elsewhere, empty where there is none."""
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if value != value:
        return "nan"
    if isinstance(value, int):
        return f"{value:,}"
    size = abs(value)
    if size >= 1e9 or (0 < size < 10 ** -(digits - 1)):
        return f"{value:.{digits - 1}e}"
    return f"{value:,.{1 if size >= 1e5 else 2 if size >= 1e3 else digits}f}"


def label(name: object) -> str:
    """The name of a row or column, on one line whatever its characters are."""
    text = str(name)
    return text if text.isprintable() else repr(text)


@dataclass(frozen=True, slots=True)
class Table:
    """A header, rows of text, and notes. The first column is left-aligned, the others right."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()

    def text(self) -> str:
        """Fixed-width text."""
        lines = [list(self.header), *map(list, self.rows)]
        widths = [max(len(line[place]) for line in lines) for place in range(len(self.header))]
        drawn = [
            "  ".join(cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True))).rstrip()
            for line in lines
        ]
        rule = "-" * max(len(line) for line in [*drawn, self.title])
        head = [self.title, rule] if self.title else []
        body = [drawn[0], rule, *drawn[1:]] if any(self.header) else drawn[1:]
        return "\n".join([*head, *body, *([rule] if self.notes else []), *self.notes])

    def html(self) -> str:
        """An HTML table without styles of its own, but for alignment."""
        right = ' style="text-align:right"'
        left = ' style="text-align:left"'

        def cells(line: Sequence[str], tag: str) -> str:
            return "".join(f"<{tag}{left if place == 0 else right}>{html.escape(cell)}</{tag}>" for place, cell in enumerate(line))

        head = f"<thead><tr>{cells(self.header, 'th')}</tr></thead>" if any(self.header) else ""
        body = "".join(f"<tr>{cells(line, 'td')}</tr>" for line in self.rows)
        caption = f"<p><b>{html.escape(self.title)}</b></p>" if self.title else ""
        notes = "".join(f"<p>{html.escape(note)}</p>" for note in self.notes)
        return f"{caption}<table>{head}<tbody>{body}</tbody></table>{notes}"

    def latex(self) -> str:
        """A LaTeX tabular with booktabs rules."""
        columns = "l" + "r" * (len(self.header) - 1)
        lines = [r"\begin{tabular}{" + columns + "}", r"\toprule"]
        if any(self.header):
            lines += [" & ".join(map(escape_latex, self.header)) + r" \\", r"\midrule"]
        lines += [" & ".join(map(escape_latex, row)) + r" \\" for row in self.rows]
        return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])


def escape_latex(text: str) -> str:
    """Text as LaTeX prints it."""
    return "".join(_LATEX.get(character, character) for character in text)


@dataclass(frozen=True, slots=True)
class Summary:
    """Tables one below another, as text, HTML or LaTeX."""

    tables: tuple[Table, ...]

    def as_text(self) -> str:
        return "\n\n".join(table.text() for table in self.tables)

    def as_html(self) -> str:
        return "".join(table.html() for table in self.tables)

    def as_latex(self) -> str:
        return "\n\n".join(table.latex() for table in self.tables)

    def __str__(self) -> str:
        return self.as_text()

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return self.as_html()
