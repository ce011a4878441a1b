"""Calibration of scores: a model's score of a code → how often codes with such a score were right on coded notes.

    calibration.json, beside the adapter's weights:  {"format": 1, "grounded": {...}, "free": {...}}

A score is a product of token probabilities; "0.9" is right 90% of the time only by chance. The function is fitted on
development notes (score/calibration.py, `evaluate --calibrate`) and non-descending, so the order of codes stays.
Scores of grounded and free decoding, and of a baseline, mean different things: each has an entry of its own, under the
name of the decoding. With an entry, `generate` shows calibrated scores and leaves out the codes below `min_score`.

Read next: ../score/calibration.py, which fits it.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from minscl.data.record_checks import show_id
from minscl.data.types import CodedDocument
from minscl.errors import InputError
from minscl.files import path_kind, replace_file
from minscl.settings import Settings, read_settings

FILE = "calibration.json"
FORMAT = 1
DECODINGS = ("grounded", "free", "sft", "cot", "cot-sc", "clh", "mac")  # decoding_name of what has scores of a model
DIGITS = 6  # of scores before and after; how many notes are decoded together changes the seventh
SETTING = "calibration"  # the key of CodedDocument.coded_with: "none", or a Calibration as text
NONE = "none"
PASSAGE = "passage"  # the key of coded_with that says how long passages are; not there for whole notes
VERIFIED = "verified"  # the setting of documents that generate --verify has gone over
REMEDY = "write it again with evaluate --calibrate, or remove it"


@dataclass(frozen=True)
class Calibration:
    """The calibration of one decoding of one model.

    `points`: (score, calibrated score) from 0 to 1, scores ascending, calibrated ones not descending; linear in
    between, constant outside. `min_score`: the calibrated score below which codes are left out. `fitted_on`: a name of
    the notes; `documents` and `codes`: how many of them, and of the codes predicted for them. `passage`: the notes were
    coded in passages of at most that many tokens; 0: at once.
    """

    points: tuple[tuple[float, float], ...]
    min_score: float
    fitted_on: str
    documents: int
    codes: int
    passage: int = 0

    def __call__(self, score: float) -> float:
        """The calibrated score."""
        scores, calibrated = zip(*self.points, strict=True)
        return float(np.interp(round(score, DIGITS), scores, calibrated))

    def __str__(self) -> str:
        """What it was fitted on, and a digest of its values: the setting of documents whose scores it made."""
        digest = hashlib.sha256(json.dumps(_to_dict(self)).encode()).hexdigest()[:16]
        return f"{self.fitted_on} ({self.documents:,} documents) {digest}"

    def apply(self, document: CodedDocument) -> CodedDocument:
        """`document` with calibrated scores."""
        codes = tuple(
            item if item.score is None else dataclasses.replace(item, score=self(item.score)) for item in document.codes
        )
        return dataclasses.replace(document, codes=codes)


def threshold(calibration: Calibration | None, min_score: float | None = None) -> float:
    """The score below which codes are left out: `min_score` if it is set, else the calibration's, 0 without one."""
    return min_score if min_score is not None else calibration.min_score if calibration else 0.0


def passage_length(calibration: Calibration | None, passage: int | None = None) -> int:
    """The tokens of a passage, 0 for whole notes: `passage` if it is set, else the calibration's, 0 without one.

    Raises InputError where both differ: scores of other passages mean something else.
    """
    of_calibration = calibration.passage if calibration else 0
    if calibration and passage not in (None, of_calibration):
        fitted = f"passages of {of_calibration} tokens" if of_calibration else "whole notes"
        raise InputError(
            f"--passage {passage}: the model's {FILE} was fitted on {fitted}; leave out --passage, or add "
            "--no-calibration"
        )
    return of_calibration if passage is None else passage


def read_calibrations(folder: str | Path) -> dict[str, Calibration]:
    """{decoding: its calibration} of the adapter or model `folder`; {} where it has no file.

    Raises InputError naming the file, the key and the value.
    """
    path = Path(folder) / FILE
    if path_kind(path) == "missing":
        return {}
    settings = read_settings(path, REMEDY)
    if settings.values.get("format") != FORMAT:
        raise settings.error("format", str(FORMAT))
    _refuse_unknown(settings, ("format", *DECODINGS))
    return {name: _read_entry(settings.section(name)) for name in settings.values if name != "format"}


def _refuse_unknown(settings: Settings, names: Iterable[str]) -> None:
    """Raises InputError for a key that is none of `names`: misspelt, it would leave scores as they are, silently."""
    if unknown := sorted(settings.values.keys() - set(names)):
        raise InputError(
            f"{settings.source}: unknown key {show_id(unknown[0])}; the keys are {', '.join(names)}; {settings.remedy}"
        )


def _read_entry(entry: Settings) -> Calibration:
    _refuse_unknown(entry, [item.name for item in dataclasses.fields(Calibration)])
    points = entry.values.get("points")
    pairs = points if isinstance(points, list) else []
    valid = bool(pairs) and all(isinstance(pair, list) and len(pair) == 2 for pair in pairs)
    numbers = [number for pair in pairs for number in pair] if valid else []
    valid = valid and all(type(number) in (int, float) and 0 <= number <= 1 for number in numbers)
    scores, calibrated = numbers[::2], numbers[1::2]
    if not valid or scores != sorted(set(scores)) or calibrated != sorted(calibrated):
        raise entry.error("points", "a list of [score, calibrated score] from 0 to 1, both ascending")
    return Calibration(
        tuple(zip(scores, calibrated, strict=True)),
        float(entry.number("min_score", minimum=0, maximum=1)),
        entry.string("fitted_on"),
        entry.integer("documents", minimum=1),
        entry.integer("codes", minimum=1),
        entry.integer(PASSAGE, minimum=1) if PASSAGE in entry.values else 0,
    )


def _to_dict(calibration: Calibration) -> dict:
    """The entry of the file; whole notes, the usual case, are not mentioned."""
    return {name: value for name, value in dataclasses.asdict(calibration).items() if (name, value) != (PASSAGE, 0)}


def write_calibration(folder: str | Path, decoding: str, calibration: Calibration) -> Path:
    """Write the entry `decoding` of the folder's file, whose other entries stay; returns the file.

    Raises InputError for a damaged file, and where it cannot be written.
    """
    entries = read_calibrations(folder) | {decoding: calibration}
    lines = [f'"format": {FORMAT}']
    lines += [f"{json.dumps(name)}: {json.dumps(_to_dict(entry))}" for name, entry in entries.items()]
    path = Path(folder) / FILE
    with replace_file(path) as file:
        file.write("{\n " + ",\n ".join(lines) + "\n}\n")
    return path


def decoding_name(system: str, grounded: bool) -> str:
    """The key of calibration.json: "grounded" or "free" for SCL, a baseline's own name."""
    return system if system != "scl" else "grounded" if grounded else "free"


def settings_to_calibrate(documents: Iterable[CodedDocument]) -> dict[str, str]:
    """The settings (CodedDocument.coded_with) with which `generate` made all of `documents`.

    Raises InputError where a calibration cannot be fitted on them: they do not say how they were made, were made in two
    ways or from human evidence, their scores are calibrated already, or the codes that scored low were left out.
    """
    again = "code the notes again with generate --no-calibration"
    first: dict[str, str] | None = None
    for document in documents:
        made, name = document.coded_with or {}, show_id(document.id)
        if "model" not in made and "system" in made:
            raise InputError(f"{name} was coded by {made['system']}, which has no weights to calibrate")
        if not {"system", "grounded", "model", "adapter"} <= made.keys():
            raise InputError(f"{name} does not say what it was coded with; {again}")
        if made.get(SETTING, NONE) != NONE:
            raise InputError(f"{name} has scores that are calibrated already; {again}")
        if made.get("min_score") != "0.0":
            raise InputError(f"{name} was coded with --min-score; {again} and without --min-score")
        if made["grounded"] not in ("True", "False"):  # a server's grammar
            raise InputError(f"{name} was coded under a server's grammar; {again} and --free")
        if VERIFIED in made:
            raise InputError(f"{name} was verified (--verify); {again} and without --verify")
        if "evidence" in made:
            raise InputError(f"{name} was coded from human evidence; {again} and without --evidence")
        first = first or made
        if made != first:
            raise InputError(f"{name} was coded with other settings than those before it; {again}, into one new file")
    return first or {}
