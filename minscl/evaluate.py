"""Command: gold + predictions → a table, one column per system, with 95% intervals and paired differences; or JSON.

    python -m minscl.evaluate --gold gold.jsonl --pred a.jsonl [--pred b.jsonl] [--train train.jsonl]
                              [--spans spans.jsonl] [--edition 2026] [--json] [--plot scores.png]
                              [--gold-notes-only] [--calibrate ADAPTER]

Gold and predictions are coded documents with the same ids, or MDACE's own JSON: a chart with its notes' text, or a
folder of charts. `--gold-notes-only` scores a batch of which only some notes are in gold.
`--train` adds scores of seen and unseen codes, `--spans` of unseen codes by the source of their span pairs (Figure 4).
`--calibrate` fits a calibration of the scores and a threshold, and writes both beside the weights.

Read next: evaluate_config.py for the flags; score/codes.py, evidence.py and code_groups.py, which define the scores;
score/systems.py.
"""

import dataclasses
import sys
from collections import Counter
from pathlib import Path

from minscl.cli import parse_flags, require
from minscl.collection import collection_paused
from minscl.command import print_json, run_command, warn
from minscl.data.calibration import PASSAGE, decoding_name, settings_to_calibrate, write_calibration
from minscl.data.corpora.mdace_charts import read_charts
from minscl.data.icd import CodeBook
from minscl.data.jsonl import read_jsonl
from minscl.data.record_checks import show_id
from minscl.data.types import CodedDocument, Pair
from minscl.edition_flags import load_codebook
from minscl.errors import InputError
from minscl.evaluate_config import EvaluateConfig
from minscl.figures import check_figure_path
from minscl.files import path_kind, read_text
from minscl.score.bootstrap import bootstrap, bootstrap_rows
from minscl.score.calibration import fit
from minscl.score.code_groups import Group, GroupName, code_groups
from minscl.score.codes import read_code
from minscl.score.plots import plot
from minscl.score.report import Report, system_names, system_report
from minscl.score.rule_counts import rule_counts
from minscl.score.systems import System, count_system
from minscl.score.table import table


def read_documents(path: str, flag: str, codebook: CodeBook) -> list[CodedDocument]:
    """Coded documents of a JSONL file, or of MDACE's charts. Raises InputError for a file without documents."""
    source = require(path, flag)
    if path_kind(source) == "folder" or source.suffix.lower() == ".json":
        documents = read_charts(source, codebook)
    else:
        documents = read_jsonl(source, CodedDocument)
    if not documents:
        raise InputError(f"{flag} {path}: contains no document; give coded documents, one per line")
    return documents


def read_fixed(path: str) -> frozenset[str]:
    """The canonical codes of a text file, one per line; PCS codes are dropped. Raises InputError for any other line."""
    text = read_text(require(path, "--fixed"), "give a text file with one code per line")
    lines = enumerate(text.split("\n"), 1)
    codes = {number: read_code(line) for number, line in lines if line.strip()}
    malformed = [number for number, (kind, _) in codes.items() if kind == "malformed"]
    if malformed or not codes:
        fault = f"line {malformed[0]} is no code" if malformed else "contains no code"
        raise InputError(f"--fixed {path}: {fault}; write one code per line")
    return frozenset(code for kind, code in codes.values() if kind == "cm")


def read_groups(config: EvaluateConfig, gold: list[CodedDocument]) -> dict[GroupName, Group]:
    """Seen and unseen codes by --train and --spans; none without --train."""
    if not config.train:
        return {}
    train = read_jsonl(require(config.train, "--train"), CodedDocument)
    pairs = read_jsonl(require(config.spans, "--spans"), Pair) if config.spans else None
    if not train:
        raise InputError(f"--train {config.train}: contains no document; give the training documents")
    if pairs == []:
        raise InputError(f"--spans {config.spans}: contains no span pair; give the training pairs")
    return code_groups(gold, train, pairs)


def read_system(
    path: str,
    name: str,
    config: EvaluateConfig,
    gold: list[CodedDocument],
    groups: dict[GroupName, Group],
    codebook: CodeBook,
    gold_rules: dict[str, int],
) -> System:
    """The counts of one --pred file."""
    predicted = read_predictions(path, config, gold, codebook)
    others = Counter(item.edition for item in predicted if item.edition not in (None, codebook.edition.id))
    for edition, number in others.items():
        of_edition = f"{number} of {len(predicted)} documents were coded with edition {show_id(edition or '')}"
        warn(f"{path}: {of_edition} and are judged by edition {codebook.edition.id}; see --edition and --date")
    fixed = read_fixed(config.fixed) if config.fixed else None
    try:
        return count_system(
            gold,
            predicted,
            groups,
            name=name,
            evidence=path not in config.codes_only,
            merge=config.merge,
            trim=config.trim,
            unlisted=config.unlisted == "keep",
            fixed=fixed,
            f1_of_averages=config.f1_of_averages,
            codebook=codebook,
            gold_rules=gold_rules,
        )
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def read_predictions(
    path: str, config: EvaluateConfig, gold: list[CodedDocument], codebook: CodeBook
) -> list[CodedDocument]:
    """A --pred file; with --gold-notes-only without the notes that gold lacks, of which a warning says the number."""
    predicted = read_documents(path, "--pred", codebook)
    if not config.gold_notes_only:
        return predicted
    ids = {document.id for document in gold}
    remaining = [document for document in predicted if document.id in ids]
    if not remaining:
        raise InputError(f"{path}: has no prediction for a note of gold; name the file that was made for its notes")
    if number := len(predicted) - len(remaining):
        warn(f"{path}: {number} of {len(predicted)} predictions are left out; gold does not have their notes")
    return remaining


@collection_paused()
def evaluate(config: EvaluateConfig) -> tuple[list[Report], dict[GroupName, Group]]:
    """(reports, groups): one report per --pred file."""
    codebook = load_codebook(config)
    gold = sorted(read_documents(config.gold, "--gold", codebook), key=lambda document: document.id)
    groups, gold_rules = read_groups(config, gold), rule_counts(gold, codebook)
    systems = [
        read_system(path, name, config, gold, groups, codebook, gold_rules)
        for path, name in zip(config.pred, system_names(config.pred), strict=True)
    ]
    if not config.rounds:
        return [system_report(system, groups) for system in systems], groups
    samples = bootstrap(systems, bootstrap_rows(len(gold), config.rounds, config.seed))
    reports = [system_report(system, groups, drawn, samples[0]) for system, drawn in zip(systems, samples, strict=True)]
    return reports, groups


def calibrate(config: EvaluateConfig) -> str:
    """Write the calibration that is fitted on the predictions into --calibrate; returns a line about it.

    Raises InputError where the predictions were made by other weights than the folder's, or cannot be calibrated.
    """
    from minscl.pretrained import made_by  # loads torch, which no other evaluation needs

    if path_kind(config.calibrate) != "folder":
        raise InputError(
            f"--calibrate {config.calibrate}: no such folder; name that of the adapter that coded {config.pred[0]}, "
            "or of the model if it has none"
        )
    codebook, path = load_codebook(config), config.pred[0]
    gold = read_documents(config.gold, "--gold", codebook)
    predicted = read_predictions(path, config, gold, codebook)
    try:
        made = settings_to_calibrate(predicted)
        calibration = dataclasses.replace(
            fit(gold, predicted, Path(config.gold).absolute().name), passage=int(made.get(PASSAGE, 0))
        )
    except InputError as error:
        raise InputError(f"--calibrate: {path}: {error}") from error
    if not made_by(made, config.calibrate):
        weights = f"adapter {made['adapter']}" if made["adapter"] != "none" else f"model {made['model']}"
        raise InputError(f"--calibrate {config.calibrate}: {path} was made by {weights}; name its folder")
    decoding = decoding_name(made["system"], made["grounded"] == "True")
    written = write_calibration(config.calibrate, decoding, calibration)
    codes = f"{calibration.codes:,} codes of {calibration.documents:,} documents"
    return f"written to {written}: {decoding}, fitted on {codes}; threshold {calibration.min_score:g}"


def main(argv: list[str] | None = None) -> int:
    """Parse the flags, score the predictions, print the table or JSON, draw the plot; returns the exit status."""
    config = parse_flags(EvaluateConfig, "evaluate", "Score predictions against gold.", argv)
    if config.plot:
        check_figure_path(config.plot)
    reports, groups = evaluate(config)
    calibrated = calibrate(config) if config.calibrate else ""  # last: it writes, and what comes before may fail
    if config.json:
        print_json(reports[0] if len(reports) == 1 else reports)
    else:
        print(table(reports, groups), flush=True)
        if len(reports) > 1 and config.rounds:
            print(
                f"* differs from {reports[0]['system']}: the 95% interval of the paired difference leaves out 0",
                file=sys.stderr,
            )
    if config.plot:
        plot(reports, config.plot, groups)
    if calibrated:
        print(calibrated, file=sys.stderr)
    return 0


if __name__ == "__main__":
    run_command(main)
