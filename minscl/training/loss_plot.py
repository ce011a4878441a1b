"""loss.png of a run: the loss of each step, smoothed, and of held-out data, and code F1, drawn with Pillow.

matplotlib would search the machine for fonts, start fc-list and write caches under HOME. Pillow brings its own font and
touches no file, so a run writes to --out only.

Read next: metrics_log.py, which reads the losses.
"""

import io
import math
import sys
from collections.abc import Sequence

WIDTH, HEIGHT = 960, 480  # pixels of the picture
OVERSAMPLING = 3  # it is drawn so many times larger and reduced, which smooths the edges
LEFT, RIGHT, TOP, BOTTOM = 76, WIDTH - 24, 44, HEIGHT - 58  # the pixels of the axes
FONT_SIZE = 15
BLACK, WHITE, GRID = "#222222", "#ffffff", "#e8e8e8"
LINES = (("each step", "#adadad", 1.5), ("smoothed", "#1f6fb4", 2.5))  # label, colour, width in pixels
HELD_OUT, CODE_F1 = ("held-out", "#c8501e", 2.5), ("code F1", "#2e8b57", 2.5)
F1_AXIS = 34  # pixels at the right edge for the labels of the axis of F1
Point = tuple[float, float]


class Canvas:
    """A picture of WIDTH by HEIGHT pixels, drawn larger. Raises ImportError where Pillow is not installed."""

    def __init__(self) -> None:
        from PIL import Image, ImageDraw, ImageFont

        self._picture = Image.new("RGB", (WIDTH * OVERSAMPLING, HEIGHT * OVERSAMPLING), WHITE)
        self._draw = ImageDraw.Draw(self._picture)
        self._font = ImageFont.load_default(FONT_SIZE * OVERSAMPLING)

    def line(self, points: Sequence[Point], colour: str = BLACK, width: float = 1) -> None:
        """Straight lines between the points; a dot for a single one."""
        scaled = [(x * OVERSAMPLING, y * OVERSAMPLING) for x, y in points]
        if len(scaled) == 1:
            self._draw.circle(scaled[0], 2 * width * OVERSAMPLING, colour)
        elif scaled:
            self._draw.line(scaled, colour, round(width * OVERSAMPLING), joint="curve")

    def text(self, x: float, y: float, words: str, anchor: str) -> None:
        """One line of text; `anchor`: which point of it lies at (x, y), in Pillow's two letters."""
        self._draw.text((x * OVERSAMPLING, y * OVERSAMPLING), words, BLACK, self._font, anchor)

    def png(self) -> bytes:
        """The picture as a PNG file."""
        file = io.BytesIO()
        self._picture.reduce(OVERSAMPLING).save(file, "PNG")
        return file.getvalue()


def draw_losses(
    losses: Sequence[Point],
    smoothed: Sequence[Point],
    held_out: Sequence[Point] = (),
    code_f1: Sequence[Point] = (),
) -> bytes:
    """A PNG of (step, loss) points in order of steps, and of (step, F1) points on an axis of their own, 0 to 1.

    All numbers are finite; there may be no points. Raises ImportError where Pillow is not installed.
    """
    canvas = Canvas()
    first, last = (losses[0][0], losses[-1][0]) if losses else (0, 1)
    highest = max((loss for _, loss in (*losses, *held_out)), default=0.0)
    top = min(1.1 * highest, sys.float_info.max) if highest > 0 else 1.0  # with some space above the highest loss
    right = RIGHT - F1_AXIS if code_f1 else RIGHT

    def place(step: float, value: float, highest: float = top) -> Point:
        x = LEFT + (step - first) / max(1, last - first) * (right - LEFT)
        return x, BOTTOM - value / highest * (BOTTOM - TOP)

    for loss in round_ticks(0, top):
        _, y = place(first, loss)
        canvas.line([(LEFT, y), (right, y)], GRID)
        canvas.text(LEFT - 8, y, f"{loss:g}", "rm")
    for step in round_ticks(first, last, smallest=1):
        x, _ = place(step, 0)
        canvas.line([(x, BOTTOM), (x, BOTTOM + 5)])
        canvas.text(x, BOTTOM + 9, f"{step:,.0f}", "ma")
    canvas.line([(LEFT, TOP), (LEFT, BOTTOM), (right, BOTTOM)])
    canvas.text(LEFT, TOP - 12, "loss, nats per target token", "lb")
    canvas.text((LEFT + right) / 2, HEIGHT - 8, "optimiser step", "mb")
    lines = [
        (style, [place(*point) for point in points]) for style, points in zip(LINES, (losses, smoothed), strict=True)
    ]
    if held_out:
        lines.append((HELD_OUT, [place(*point) for point in held_out]))
    if code_f1:
        lines.append((CODE_F1, [place(step, value, 1.0) for step, value in code_f1]))
        canvas.line([(right, TOP), (right, BOTTOM)])
        for value in (0, 0.5, 1):
            canvas.text(right + 8, place(last, value, 1.0)[1], f"{value:g}", "lm")
    for number, ((label, colour, width), places) in enumerate(lines):
        x = RIGHT - 110 - 130 * (len(lines) - 1 - number)
        canvas.line([(x, TOP - 20), (x + 30, TOP - 20)], colour, width)
        canvas.text(x + 38, TOP - 20, label, "lm")
        canvas.line(places, colour, width)
    return canvas.png()


def round_ticks(low: float, high: float, smallest: float = 0.0) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten from `low` to `high`, about three to eight; `smallest` apart."""
    rough = max((high - low) / 7, smallest) or 1.0
    power = 10.0 ** math.floor(math.log10(rough))
    distance = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    return [number * distance for number in range(math.ceil(low / distance), math.floor(high / distance) + 1)]
