"""Command: note(s) → evidence and codes, each quotation located in the note.

    python -m minscl.generate note.txt [more.txt | notes.jsonl] [--model DIR] [--adapter DIR] [--evidence FILE]
                              [--free] [--passage N] [--min-score P] [--no-calibration]
                              [--system scl | sft | cot | cot-sc] [--verify]
    python -m minscl.generate notes.jsonl --endpoint URL --served-model NAME --model DIR [--grounded] --out FILE
    python -m minscl.generate note.txt --system clh | mac [--verify] [--endpoint URL --served-model NAME]
    python -m minscl.generate note.txt --system plm-icd | plm-ca | gki-icd --heads DIR [--attribution attingrad]
    python -m minscl.generate note.txt --system lookup --documents train.jsonl [--spans spans.jsonl]
                              [--edition 2026] [--date 2026-09-30] [--strict] [--json | --html FILE | --out FILE]

Decoding is grounded: every quotation is the note's, every code billable. --free is the paper's plain generation. Where
the model has a calibration.json, scores are calibrated and codes below its threshold are left out.

On a terminal, the answer to a single note is shown as it is written, above the table.

With --out, coded notes are appended as they finish, and an interrupted run resumes where it stopped; torchrun shares
the notes among several processes. Nothing leaves the machine, unless --endpoint names a server elsewhere and
--allow-remote allows it: only then is a connection opened.

Read next: chosen_system.py, which codes the notes; infer/shards.py, the files of several processes.
"""

import contextlib
import dataclasses
import sys
from collections.abc import Iterable

from tqdm import tqdm

from minscl.chosen_system import ChosenSystem
from minscl.cli import parse_flags
from minscl.command import print_json, run_command
from minscl.data.answer_log import AnswerLog
from minscl.data.checks import breaks_rules, check_document
from minscl.data.notes import read_evidence, read_notes
from minscl.data.record_checks import show_id
from minscl.data.resuming import already_coded, evidence_setting
from minscl.data.types import CodedDocument, Note
from minscl.edition_flags import load_codebook
from minscl.errors import InputError, printable
from minscl.files import replace_file
from minscl.generate_config import GenerateConfig
from minscl.infer.processes import Process, explain_sigterm
from minscl.infer.report import text_table
from minscl.infer.shards import Shards
from minscl.page import page_html


def main(argv=None) -> int:
    """Parse the flags, code the notes, print or write the documents; returns the exit status.

    It is 2 if a note was skipped, 1 if --strict finds a document that breaks rules, else 0.
    """
    config = parse_flags(GenerateConfig, "generate", "Code clinical notes in ICD-10-CM, with the evidence.", argv)
    process = Process.from_environment()
    config = config.for_process(process)
    if process.size > 1:
        explain_sigterm(f"{process.name} is stopped: what is coded is kept; start again, with any number of processes")
    skipped: list[str] = []

    def skip(note: Note, error: InputError) -> None:
        skipped.append(note.id)
        # tqdm.write: a line of its own, above the progress bar
        tqdm.write(f"minscl: skipped: {printable(' '.join(str(error).split()))}", file=sys.stderr)

    notes = read_notes(config.notes, skip if len(config.notes) > 1 else None)
    codebook = load_codebook(config)
    evidence = read_evidence(config.evidence, notes, codebook)
    system = ChosenSystem(config, codebook, evidence)
    settings = system.settings()

    def checked(records: Iterable[CodedDocument], path: str) -> dict[str, CodedDocument]:
        return already_coded(records, notes, path, settings, evidence)

    shards = Shards(config.out, process) if config.out else None
    with AnswerLog(shards.log, CodedDocument) if shards else contextlib.nullcontext() as log:
        documents = shards.start(log, checked) if shards and log else {}
        remaining = [note for note in process.share(notes) if note.id not in documents]
        for coded in system.code(remaining, skip if len(notes) > 1 else None, show_progress=process.rank == 0):
            document = dataclasses.replace(coded, coded_with=settings | evidence_setting(evidence, coded.id))
            documents[document.id] = document
            if log:
                log.append([document])
            if config.json:
                print_json(document.to_dict())
            elif not (config.html or config.out):
                print(text_table(document), flush=True)
    if shards and shards.is_split:
        merged = shards.finish(notes, skipped, checked)
        if merged is None:
            print(f"minscl: {process.name} is done: {shards.promise}", file=sys.stderr)
            return 0
        documents, skipped = merged
    in_order = [documents[note.id] for note in notes if note.id in documents]
    return finish(config, system, in_order, skipped, total=len({*skipped, *(note.id for note in notes)}))


def finish(
    config: GenerateConfig, system: ChosenSystem, documents: list[CodedDocument], skipped: list[str], total: int
) -> int:
    """Write the page, name what was skipped of `total` notes, and return main's exit status."""
    codebook = system.codebook
    # those that a version before 0.3.0 has written to --out were not checked
    documents = [item if item.edition else check_document(item, codebook) for item in documents]
    if config.html:
        with replace_file(config.html) as handle:
            handle.write(page_html(documents, codebook, about=f"{codebook.label}: {codebook.edition.about}"))
    if skipped:
        print(
            f"minscl: {len(skipped)} of {total} notes were skipped, the first is {show_id(skipped[0])}; the others "
            "are coded",
            file=sys.stderr,
        )
        return 2
    return strict_status(documents) if config.strict else 0


def strict_status(documents: list[CodedDocument]) -> int:
    """1, after a line on stderr, if one of `documents` breaks an Excludes1 note or has an invalid code, else 0."""
    breaking = [document.id for document in documents if breaks_rules(document)]
    if not breaking:
        return 0
    number, shown = f"{len(breaking)} of {len(documents)} documents", ", ".join(map(show_id, breaking[:5]))
    print(f"minscl: --strict: {number} break Excludes1 or have an invalid code, first {shown}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    run_command(main)
