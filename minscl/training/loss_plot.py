"""loss.png of a run: the loss of each step and the smoothed loss over the steps, drawn with Pillow.

matplotlib would search the machine for fonts, start fc-list and write caches under HOME. Pillow brings its own font and
touches no file, so a run writes to --out only.

Read next: metrics_log.py, which reads the losses.
"""

import io
import math
import sys
from collections.abc import Sequence
from typing import Any

WIDTH, HEIGHT = 960, 480  # pixels of the picture
OVERSAMPLING = 3  # it is drawn so many times larger and reduced, which smooths the edges
LEFT, RIGHT, TOP, BOTTOM = 76, 24, 20, 58  # pixels between the axes and the edges
FONT_SIZE = 15
BLACK, GRID, STEP_COLOUR, SMOOTHED_COLOUR = "#222222", "#e8e8e8", "#adadad", "#1f6fb4"
Point = tuple[float, float]  # (step, loss), in their own units


def draw_losses(losses: Sequence[Point], smoothed: Sequence[Point]) -> bytes:
    """A PNG of two lines over (step, loss) points in order of steps. All numbers are finite; there may be no points.

    Raises ImportError where Pillow is not installed.
    """
    from PIL import Image, ImageDraw, ImageFont

    picture = Image.new("RGB", (WIDTH * OVERSAMPLING, HEIGHT * OVERSAMPLING), "white")
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(FONT_SIZE * OVERSAMPLING)
    first, last = (losses[0][0], losses[-1][0]) if losses else (0, 1)
    highest = max((loss for _, loss in losses), default=0.0)
    top = min(1.1 * highest, sys.float_info.max) if highest > 0 else 1.0  # with some space above the highest loss
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM

    def place(step: float, loss: float) -> Point:
        """The pixels of a point."""
        x = LEFT + (step - first) / max(1, last - first) * (right - LEFT)
        return x, bottom - loss / top * (bottom - TOP)

    def line(points: Sequence[Point], colour: str, width: float) -> None:
        """Straight lines between pixels; a dot for a single one."""
        scaled = [(x * OVERSAMPLING, y * OVERSAMPLING) for x, y in points]
        if len(scaled) == 1:
            draw.circle(scaled[0], 2 * width * OVERSAMPLING, colour)
        elif scaled:
            draw.line(scaled, colour, round(width * OVERSAMPLING), joint="curve")

    def text(x: float, y: float, words: str, anchor: str, on: Any = draw) -> None:
        on.text((x * OVERSAMPLING, y * OVERSAMPLING), words, BLACK, font, anchor)

    upright = Image.new("RGB", ((bottom - TOP) * OVERSAMPLING, 24 * OVERSAMPLING), "white")
    text((bottom - TOP) / 2, 12, "loss, nats per target token", "mm", ImageDraw.Draw(upright))
    picture.paste(upright.transpose(Image.Transpose.ROTATE_90), (4 * OVERSAMPLING, TOP * OVERSAMPLING))
    for loss in round_ticks(0, top):
        _, y = place(first, loss)
        line([(LEFT, y), (right, y)], GRID, 1)
        text(LEFT - 8, y, f"{loss:g}", "rm")
    for step in round_ticks(first, last, smallest=1):
        x, _ = place(step, 0)
        line([(x, bottom), (x, bottom + 5)], BLACK, 1)
        text(x, bottom + 9, f"{step:,.0f}", "ma")
    line([(LEFT, TOP), (LEFT, bottom), (right, bottom)], BLACK, 1)
    draw.rectangle([(side * OVERSAMPLING) for side in (right - 140, TOP, right, TOP + 50)], "white")
    for row, (label, colour, width) in enumerate([("each step", STEP_COLOUR, 1.5), ("smoothed", SMOOTHED_COLOUR, 2.5)]):
        y = TOP + 14 + 22 * row
        line([(right - 130, y), (right - 100, y)], colour, width)
        text(right - 92, y, label, "lm")
    text((LEFT + right) / 2, HEIGHT - 8, "optimiser step", "mb")
    line([place(*point) for point in losses], STEP_COLOUR, 1.5)
    line([place(*point) for point in smoothed], SMOOTHED_COLOUR, 2.5)

    file = io.BytesIO()
    picture.reduce(OVERSAMPLING).save(file, "PNG")
    return file.getvalue()


def round_ticks(low: float, high: float, smallest: float = 0.0) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten from `low` to `high`, three to eight of them where they fit."""
    rough = max((high - low) / 7, smallest) or 1.0
    power = 10.0 ** math.floor(math.log10(rough))
    distance = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    return [number * distance for number in range(math.ceil(low / distance), math.floor(high / distance) + 1)]
