"""The rows of the paper's Table 1: how each system codes notes, and what it is trained on.

    zero-shot    cot, cot-sc, mac, clh                  the model without an adapter
    trained      sft, plm-icd, plm-ca, gki-icd, lookup  here, on the documents of SCL's adapter (compare_data.py);
                 sft-int8                               sft with frozen weights in int8
    SCL          scl, scl-evidence, scl-verify          the adapter of --adapter; generate's defaults

Read next: compare.py.
"""

from dataclasses import dataclass
from pathlib import Path

from minscl.config import HEADS

SCL, SFT, SFT_INT8, LOOKUP = "scl", "sft", "sft-int8", "lookup"
OWN, NONE, GOLD = "own", "none", "gold"
NO_ADAPTER = ("--adapter", "none", "--no-calibration")


@dataclass(frozen=True)
class Row:
    """A system. `flags`: generate's. `evidence`: OWN, NONE, or GOLD's in place of the model's ("+ Evid.")."""

    name: str
    title: str
    flags: tuple[str, ...] = ()
    evidence: str = OWN


ROWS = (
    Row("cot", "zero-shot CoT", ("--system", "cot", *NO_ADAPTER), NONE),
    Row("cot-sc", "zero-shot CoT-SC", ("--system", "cot-sc", *NO_ADAPTER), NONE),
    Row("mac", "MAC", ("--system", "mac", *NO_ADAPTER)),
    Row("clh", "CLH", ("--system", "clh", *NO_ADAPTER)),
    Row(SFT, "SFT", ("--system", "sft"), NONE),
    Row(SFT_INT8, "SFT, int8 base", ("--system", "sft", "--weights", "int8"), NONE),
    Row("plm-icd", "PLM-ICD", ("--system", "plm-icd")),
    Row("plm-ca", "PLM-CA", ("--system", "plm-ca")),
    Row("gki-icd", "GKI-ICD", ("--system", "gki-icd")),
    Row(LOOKUP, "look-up", ("--system", "lookup")),
    Row(SCL, "SCL"),
    Row("scl-evidence", "SCL + Evid.", evidence=GOLD),
    Row("scl-verify", "SCL + verify", ("--verify",)),
)


@dataclass(frozen=True)
class Setup:
    """The folder of a comparison, and the model and SCL's adapter; "" is the model's own adapter."""

    out: Path
    model: str
    adapter: str = ""

    @property
    def documents(self) -> Path:
        """What SFT, the heads and the look-up are trained on."""
        return self.out / "data" / "documents.jsonl"

    @property
    def validation(self) -> Path:
        """What their thresholds are chosen on."""
        return self.out / "data" / "calibration.jsonl"

    def trained(self, row: Row) -> Path:
        """The folder of what is trained for a row: SFT's adapter, a head."""
        return self.out / "trained" / row.name


def notes_path(folder: Path) -> Path:
    """The notes of a test that the present row codes."""
    return folder / "notes.jsonl"


def gold_path(folder: Path) -> Path:
    """All coded documents of a test."""
    return folder / "gold.jsonl"


def predictions_path(folder: Path, row: Row) -> Path:
    """What a row made of a test's notes."""
    return folder / f"{row.name}.jsonl"


def generate_command(row: Row, setup: Setup, folder: Path) -> list[str]:
    """The command by which a row codes the notes of the test in `folder`, without "python -m"."""
    command = ["minscl.generate", str(notes_path(folder)), "--out", str(predictions_path(folder, row)), *row.flags]
    if row.name == LOOKUP:
        return [*command, "--documents", str(setup.documents)]
    command += ["--model", setup.model]
    if row.name in HEADS:
        return [*command, "--heads", str(setup.trained(row))]
    if row.name in (SFT, SFT_INT8):
        return [*command, "--adapter", str(setup.trained(row))]
    if row.flags[-len(NO_ADAPTER) :] != NO_ADAPTER and setup.adapter:
        command += ["--adapter", setup.adapter]
    return [*command, "--evidence", str(gold_path(folder))] if row.evidence == GOLD else command
