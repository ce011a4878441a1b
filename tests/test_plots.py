"""Pictures: loss.png of a run, and --plot's matplotlib figures."""

import io
import json
import math
import os
import sys

import pytest

from minscl.errors import InputError
from minscl.figures import check_figure_path, figure
from minscl.training.loss_plot import (
    BOTTOM,
    CODE_F1,
    F1_AXIS,
    HEIGHT,
    HELD_OUT,
    LEFT,
    LINES,
    RIGHT,
    TOP,
    WIDTH,
    draw_losses,
    round_ticks,
)
from minscl.training.metrics_log import plot_losses, read_validation

Image = pytest.importorskip("PIL.Image")


def pixels(png):
    return Image.open(io.BytesIO(png)).convert("RGB")


def rgb(colour):
    return tuple(int(colour[start : start + 2], 16) for start in (1, 3, 5))


def test_the_curves_lie_where_the_axes_say():
    """Guards: a picture upside down, or lines that do not fit their axes. The loss is 2 throughout, the top 2.2."""
    points = [(step, 2.0) for step in range(1, 11)]
    picture = pixels(draw_losses(points, points))
    assert picture.size == (WIDTH, HEIGHT)
    y = round(BOTTOM - (BOTTOM - TOP) * 2 / 2.2)
    for x in (LEFT + 5, (LEFT + RIGHT) // 2, RIGHT - 5):
        assert picture.getpixel((x, y)) == rgb(LINES[1][1])
        assert picture.getpixel((x, y + 10)) == (255, 255, 255)


@pytest.mark.parametrize(
    "losses",
    [[], [(1, 2.3)], [(1, 0.0), (2, 0.0)], [(1, sys.float_info.max), (2, 1.0)], [(1, 5e-324), (10**9, 1e-320)]],
)
def test_odd_losses_are_drawn(losses):
    """Guards: a run that ends in a traceback because its picture has no points, one point, or no height."""
    assert pixels(draw_losses(losses, losses)).size == (WIDTH, HEIGHT)


def test_losses_that_are_not_finite_are_left_out(tmp_path, monkeypatch):
    """Guards: a smoothed line that is NaN from the first NaN on; a torn line."""
    lines = ['{"step": 1, "loss": 2.0}', '{"step": 2, "loss": NaN}', '{"step": 3, "loss": 1.0}', '{"step": 4, "lo']
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
    drawn = []
    monkeypatch.setattr("minscl.training.metrics_log.draw_losses", lambda *lines: drawn.extend(lines) or b"png")
    plot_losses(tmp_path)
    assert [step for step, _ in drawn[0]] == [step for step, _ in drawn[1]] == [1, 3]
    assert all(math.isfinite(loss) for _, loss in drawn[1])
    assert (tmp_path / "loss.png").read_bytes() == b"png"


def test_without_pillow_the_line_says_so(tmp_path, monkeypatch):
    """Guards: a finished run that ends in ImportError."""
    monkeypatch.setitem(sys.modules, "PIL", None)
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\n')
    assert plot_losses(tmp_path) == "loss.png: not drawn; pip install 'minscl[plots]' for it"


def test_ticks_are_round():
    """Guards: ticks such as 0.3428571, and hundreds of them."""
    assert round_ticks(0, 2.2) == pytest.approx([0, 0.5, 1, 1.5, 2])
    assert round_ticks(1, 21, smallest=1) == [5, 10, 15, 20] and round_ticks(1, 2, smallest=1) == [1, 2]
    for high in (1e-9, 0.7, 3, 42, 999, 1e6, 1e300):
        assert 3 <= len(round_ticks(0, high)) <= 8


@pytest.mark.parametrize("name", ["a.doc", "a", "a.png.gz"])
def test_a_figure_of_an_unknown_kind_is_refused(name, tmp_path):
    """Guards: hours of bootstrap before a ValueError."""
    with pytest.raises(InputError, match="--plot .*: name a .png, .svg or .pdf file"):
        check_figure_path(str(tmp_path / name))


@pytest.mark.parametrize("suffix, start", [("png", b"\x89PNG"), ("SVG", b"<?xml"), ("pdf", b"%PDF")])
def test_a_figure_is_written_whole_and_nothing_else(suffix, start, tmp_path, monkeypatch):
    """Guards: half a picture in place of the old one; a font cache under HOME; a $ in a name read as mathematics."""
    pytest.importorskip("matplotlib")
    monkeypatch.delenv("MPLCONFIGDIR", raising=False)
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError), figure(str(path)):
        raise RuntimeError
    assert path.read_bytes() == b"old"
    with figure(str(path), figsize=(2, 2)) as picture:
        picture.add_subplot().set(title="cost_$_{")
    assert path.read_bytes().startswith(start) and os.listdir(tmp_path) == [path.name]
    assert "MPLCONFIGDIR" not in os.environ


def test_a_figure_without_matplotlib_is_refused_in_one_line(tmp_path, monkeypatch):
    """Guards: ImportError."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"matplotlib is not installed; pip install 'minscl\[plots\]'"):
        check_figure_path(str(tmp_path / "a.png"))


def test_a_figure_over_a_folder_is_refused(tmp_path):
    """Guards: IsADirectoryError after the work."""
    (tmp_path / "a.png").mkdir()
    with pytest.raises(InputError, match="a.png: a folder; name a regular file"):
        check_figure_path(str(tmp_path / "a.png"))


def test_held_out_scores_have_lines_and_an_axis_of_their_own():
    """Guards: an F1 of 0.5 drawn as a loss, under a loss of 2; a held-out loss above the top edge; a torn value."""
    losses, held_out = [(step, 2.0) for step in range(1, 11)], [(5, 4.0), (10, 4.0)]
    picture = pixels(draw_losses(losses, losses, held_out, [(1, 0.5), (10, 0.5)]))
    top = BOTTOM - TOP
    x = (LEFT + RIGHT - F1_AXIS) // 2 + 60
    for share, style in ((2 / 4.4, LINES[1]), (4 / 4.4, HELD_OUT), (0.5, CODE_F1)):
        assert picture.getpixel((x, round(BOTTOM - top * share))) == rgb(style[1])
    assert picture.getpixel((RIGHT - F1_AXIS, (TOP + BOTTOM) // 2 + 9))[0] < 150  # the axis of F1
    scores = {"loss": 4.0, "code_f1": 0.5}
    for changes, expected in (
        ({}, (1, 4.0, 0.5)),
        ({"code_f1": None}, (1, 4.0, None)),
        ({"code_f1": "0.5"}, (1, 4.0, None)),
        ({"loss": float("nan")}, None),
    ):
        line = {"step": 1, "loss": 2.0, "validation": scores | changes}
        assert read_validation(json.dumps(line).encode()) == expected
    for line in (b'{"step": 1, "loss": 2.0, "validation": 7}', b'{"step": 1, "loss": 2.0}', b"torn"):
        assert read_validation(line) is None


def test_a_picture_of_a_validated_run_has_all_lines(tmp_path, monkeypatch):
    """Guards: scores that are written and never drawn."""
    lines = [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.5, "validation": {"loss": 1.8, "code_f1": 0.25}}]
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    drawn = []
    monkeypatch.setattr("minscl.training.metrics_log.draw_losses", lambda *lines: drawn.extend(lines) or b"png")
    plot_losses(tmp_path)
    assert drawn[0] == [(1, 2.0), (2, 1.5)] and drawn[2:] == [[(2, 1.8)], [(2, 0.25)]]
