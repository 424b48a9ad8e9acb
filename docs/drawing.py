"""Lines, boxes and words as SVG, for the pictures of docs/architecture.md."""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape

INK, GREY, PALE, RED = "#1f2933", "#66727f", "#eef2f6", "#b42318"


@dataclass(slots=True)
class Drawing:
    """Lines, boxes and words on white."""

    width: int
    height: int
    shapes: list[str] = field(default_factory=list)

    def box(self, x: int, y: int, width: int, height: int) -> None:
        self.shapes.append(f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="6" fill="{PALE}" stroke="{GREY}"/>')

    def line(self, x1: int, y1: int, x2: int, y2: int, colour: str = GREY, dashes: str = "") -> None:
        dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
        self.shapes.append(f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="{colour}"{dashed}/>')

    def arrow(self, x1: int, y1: int, x2: int, y2: int, colour: str = INK) -> None:
        """A line with a head; its direction is near enough to one of the axes or a diagonal."""
        self.line(x1, y1, x2, y2, colour)
        length = ((x2 - x1) ** 2 + (y2 - y1) ** 2) ** 0.5
        along, across = ((x2 - x1) / length, (y2 - y1) / length), ((y1 - y2) / length, (x2 - x1) / length)
        corners = [(x2 - 9 * along[0] + side * across[0], y2 - 9 * along[1] + side * across[1]) for side in (4, -4)]
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in ((x2, y2), *corners))
        self.shapes.append(f'<polygon points="{points}" fill="{colour}"/>')

    def words(self, x: int, y: int, text: str, size: int = 13, colour: str = INK, anchor: str = "middle", weight: str = "normal") -> None:
        place = f'<text x="{x}" y="{y}" font-family="sans-serif" font-size="{size}" text-anchor="{anchor}" font-weight="{weight}"'
        # The white behind is an element of its own: not every viewer knows that a stroke may be painted first.
        for paint in ('fill="white" stroke="white" stroke-width="4"', f'fill="{colour}"'):
            self.shapes.append(f"{place} {paint}>{escape(text)}</text>")

    def svg(self) -> str:
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{self.width}" height="{self.height}" viewBox="0 0 {self.width} {self.height}">'
        )
        return "\n".join([head, f'<rect width="{self.width}" height="{self.height}" fill="white"/>', *self.shapes, "</svg>\n"])
