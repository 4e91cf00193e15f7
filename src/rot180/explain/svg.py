"""A vector drawing: shapes and text as SVG, in the text colour of the page around it."""

from xml.sax.saxutils import escape

INK = "currentColor"
_COLOURS = """
svg.rot180 { color: #222; }
@media (prefers-color-scheme: dark) { svg.rot180 { color: #e6e6e6; } }
"""
_STYLE = """
svg.rot180 text { font: 15px system-ui, sans-serif; fill: currentColor; white-space: pre; }
svg.rot180 .title { font-size: 19px; font-weight: 600; }
svg.rot180 .bold { font-weight: 600; }
svg.rot180 .mono, svg.rot180 .formula { font: 14px ui-monospace, "DejaVu Sans Mono", monospace; }
svg.rot180 .small { font: 12px ui-monospace, "DejaVu Sans Mono", monospace; }
svg.rot180 .name { font-size: 13px; fill-opacity: 0.65; }
"""


class Drawing:
    """A drawing in pixels, with y pointing down. A notebook displays it.

    Inside a page it takes the page's text colour; as a file it follows the light or dark scheme of
    the reader's system.

    Args:
        width, height: size in pixels.
        title: description of the drawing for screen readers.
    """

    def __init__(self, width: float, height: float, title: str) -> None:
        self.width, self.height, self.title = width, height, title
        self._elements: list[str] = []

    def text(self, x: float, y: float, words: str, kind: str = "", anchor: str = "middle") -> None:
        """Write text, centred vertically on y.

        Args:
            x, y: position in pixels.
            words: the text.
            kind: its style: "", "title", "bold", "mono", "small" or "name".
            anchor: the part of the text that is at x: "start", "middle" or "end".
        """
        self.put(x, y + 5, escape(words), kind, anchor)

    def put(self, x: float, y: float, markup: str, kind: str = "", anchor: str = "start") -> None:
        """Write SVG markup with its base line at y."""
        attributes = f'x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}"'
        self._elements.append(f"<text {attributes}>{markup}</text>")

    def line(
        self,
        start: tuple[float, float],
        end: tuple[float, float],
        colour: str = INK,
        *,
        width: float = 1.5,
        opacity: float = 1.0,
        dashed: bool = False,
    ) -> None:
        """Draw a line between two points (x, y)."""
        (x1, y1), (x2, y2) = start, end
        dashes = ' stroke-dasharray="4 4"' if dashed else ""
        self._elements.append(
            f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" '
            f'stroke-width="{width:g}" stroke-opacity="{opacity:g}"{dashes}/>'
        )

    def arrow(
        self, start: tuple[float, float], end: tuple[float, float], colour: str = INK
    ) -> None:
        """Draw a line with a head at its end."""
        (x1, y1), (x2, y2) = start, end
        length = ((x2 - x1) ** 2 + (y2 - y1) ** 2) ** 0.5
        ux, uy = (x2 - x1) / length, (y2 - y1) / length
        back = (x2 - 8 * ux, y2 - 8 * uy)
        self.line(start, back, colour)
        corners = [(x2, y2), *((back[0] - 4 * s * uy, back[1] + 4 * s * ux) for s in (1, -1))]
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)
        self._elements.append(f'<polygon points="{points}" fill="{colour}"/>')

    def disc(self, x: float, y: float, radius: float, bold: bool = False) -> None:
        """Draw a circle around (x, y) that hides the ends of the lines under it."""
        place = f'cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}"'
        self._elements.append(
            f'<circle {place} style="fill: var(--color-background-primary, Canvas)"/>'
            f'<circle {place} fill="none" stroke="{INK}" stroke-width="{2.5 if bold else 1.2}"/>'
        )

    def box(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        colour: str = "none",
        *,
        bold: bool = False,
        faint: bool = False,
        dashed: bool = False,
    ) -> None:
        """Draw a box whose upper left corner is (x, y)."""
        dashes = ' stroke-dasharray="4 3"' if dashed else ""
        line_width, opacity = (2.5, 1) if bold else (1, 0.25 if faint else 0.7)
        self._elements.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" '
            f'fill="{colour}" fill-opacity="0.38" stroke="{INK}" '
            f'stroke-width="{line_width}" stroke-opacity="{opacity}"{dashes}/>'
        )

    def __str__(self) -> str:
        """Return the text of an SVG file."""
        return self._markup(_COLOURS + _STYLE)

    def _repr_html_(self) -> str:
        return self._markup(_STYLE)

    def _markup(self, style: str) -> str:
        width, height = f"{self.width:.0f}", f"{self.height:.0f}"
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="rot180" width="{width}" '
            f'height="{height}" viewBox="0 0 {width} {height}" role="img" '
            'style="max-width: 100%; height: auto">\n'
            f"<title>{escape(self.title)}</title>\n<style>{style}</style>\n"
            + "\n".join(self._elements)
            + "\n</svg>\n"
        )
