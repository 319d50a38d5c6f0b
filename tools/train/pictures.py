"""Line charts as SVG, small enough to read in a diff.

A chart has axes from a range to a range, lines, points and a legend; nothing else is needed here.
"""

from html import escape

COLOURS = ("#1f6f8b", "#c8553d", "#588157", "#7b4b94", "#b08900", "#444444", "#d98cb3", "#5cb8d6")
WIDTH, HEIGHT = 460, 320
LEFT, RIGHT, TOP, BOTTOM = 62, 26, 34, 48
LEGEND_LINE = 16


class Chart:
    """Collects its parts, then `svg()` gives the picture."""

    def __init__(self, title, x_label, y_label, x_range, y_range, percent=""):
        self.title, self.x_label, self.y_label = title, x_label, y_label
        self.x_range, self.y_range = x_range, y_range
        self.percent = percent  # which axes show shares as percent: "x", "y" or "xy"
        self.parts, self.legend = [], []

    def line(self, points, name=None, dashed=False):
        """A line through the points; a named one gets a colour and a place in the legend."""
        colour = self._colour(name)
        path = " ".join(f"{self._x(x):.1f},{self._y(y):.1f}" for x, y in points)
        dash = ' stroke-dasharray="4 4"' if dashed else ""
        self.parts.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.8"{dash}/>'
        )

    def dots(self, points, name):
        """Discs at (x, y, radius)."""
        colour = self._colour(name)
        self.parts += [
            f'<circle cx="{self._x(x):.1f}" cy="{self._y(y):.1f}" r="{radius:.1f}"'
            f' fill="{colour}" fill-opacity="0.7"/>'
            for x, y, radius in points
        ]

    def svg(self):
        """The picture as text."""
        middle = (LEFT + WIDTH - RIGHT) / 2
        height = HEIGHT + LEGEND_LINE * len(self.legend)
        lines = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}"'
            f' width="{WIDTH}" height="{height}" font-family="sans-serif" font-size="11">',
            f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
            _text(middle, 20, self.title, "middle", ' font-size="13" font-weight="bold"'),
            *self._axes(),
            *self.parts,
            _text(middle, HEIGHT - 14, self.x_label, "middle"),
            _text(
                14,
                (TOP + HEIGHT - BOTTOM) / 2,
                self.y_label,
                "middle",
                f' transform="rotate(-90 14 {(TOP + HEIGHT - BOTTOM) / 2:g})"',
            ),
        ]
        for row, name in enumerate(self.legend):
            y = HEIGHT + LEGEND_LINE * row + 6
            colour = self._colour(name)
            lines.append(f'<rect x="{LEFT}" y="{y - 9}" width="12" height="10" fill="{colour}"/>')
            lines.append(_text(LEFT + 18, y, name, "start"))
        return "\n".join([*lines, "</svg>", ""])

    def _axes(self):
        for axis, (low, high) in (("x", self.x_range), ("y", self.y_range)):
            for tick in range(6):
                value = low + (high - low) * tick / 5
                label = f"{value * 100:.4g} %" if axis in self.percent else f"{value:.4g}"
                if axis == "x":
                    x = self._x(value)
                    yield _grid(x, TOP, x, HEIGHT - BOTTOM)
                    yield _text(x, HEIGHT - BOTTOM + 16, label, "middle")
                else:
                    y = self._y(value)
                    yield _grid(LEFT, y, WIDTH - RIGHT, y)
                    yield _text(LEFT - 6, y + 4, label, "end")

    def _x(self, value):
        low, high = self.x_range
        return LEFT + (value - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def _y(self, value):
        low, high = self.y_range
        inside = min(max((value - low) / (high - low), 0), 1)
        return HEIGHT - BOTTOM - inside * (HEIGHT - TOP - BOTTOM)

    def _colour(self, name):
        if name is None:
            return "#999999"
        if name not in self.legend:
            self.legend.append(name)
        return COLOURS[self.legend.index(name) % len(COLOURS)]


def _text(x, y, text, anchor, more=""):
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}"{more}>{escape(text)}</text>'


def _grid(x1, y1, x2, y2):
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="#dddddd"/>'
