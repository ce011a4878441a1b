"""The flags of `evaluate`, and the only place where their defaults are set.

Read next: evaluate.py.
"""

from dataclasses import dataclass

from minscl.cli import flag, path_flag
from minscl.edition_flags import date_flag, edition_flag
from minscl.errors import InputError
from minscl.score.bootstrap import ROUNDS


@dataclass(frozen=True)
class EvaluateConfig:
    """Settings of `evaluate`; each is a flag."""

    gold: str = path_flag("coded documents, JSONL; or MDACE's JSON", role="input")
    pred: tuple[str, ...] = flag(
        (), "predictions for them; repeat the flag to compare others with the first", metavar="PATH", role="input"
    )
    codes_only: tuple[str, ...] = flag(
        (),
        "a --pred file coded from gold's evidence: its evidence is not scored; repeat the flag for several",
        metavar="PATH",
    )
    gold_notes_only: bool = flag(
        False, "leave out predictions for notes that gold does not have, as of a batch that is reviewed in part"
    )
    train: str = flag(
        "", "the training documents, which tell seen codes from unseen ones", metavar="FILE", role="input"
    )
    spans: str = flag(
        "", "the training span pairs, which tell covered unseen codes from uncovered ones", metavar="FILE", role="input"
    )
    merge: bool = flag(False, "evidence: join spans of a code that have only punctuation between them")
    trim: bool = flag(False, "evidence: strip punctuation off both ends of spans")
    unlisted: str = flag("keep", "predicted codes that the Tabular List lacks", choices=("keep", "drop"))
    fixed: str = flag(
        "",
        "a file with one code per line: add macro_fixed, the macro over these codes, as in older work",
        metavar="FILE",
        role="input",
    )
    f1_of_averages: bool = flag(
        False, "add macro_f1_of_averages, the F1 of macro_union's precision and recall, as in older work"
    )
    edition: str = edition_flag()
    date: str = date_flag()
    rounds: int = flag(ROUNDS, "bootstrap rounds for 95% intervals; 0: no intervals", minimum=0, maximum=100_000)
    seed: int = flag(0, "seed of the bootstrap", minimum=0, maximum=2**32 - 1)
    json: bool = flag(False, "print JSON: an object, or a list of them for several predictions")
    plot: str = flag(
        "",
        "draw the groups, the chapters and the reliability of scores to this file (png, pdf, svg)",
        metavar="FILE",
        role="output",
    )
    calibrate: str = flag(
        "",
        "fit calibration.json and its threshold on the --pred file, made by generate --no-calibration, and write it to "
        "this folder: the adapter that coded them, or the model where it has none",
        metavar="FOLDER",
        role="output folder",
    )

    def __post_init__(self):
        if not self.pred:
            raise InputError("--pred is missing: predictions for the gold documents; give --pred PATH")
        if self.spans and not self.train:
            raise InputError(
                f"--spans {self.spans}: needs --train, the documents that were trained on, "
                "to know which codes are unseen"
            )
        for path in self.codes_only:
            if path not in self.pred:
                raise InputError(f"--codes-only {path}: not one of the --pred files; name it there too")
        if self.calibrate and len(self.pred) > 1:
            raise InputError(f"--calibrate {self.calibrate}: fitted on one --pred file; leave out the others")
