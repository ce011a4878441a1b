"""Command: note(s) → evidence + codes, each quotation located in the note.

    python -m minscl.generate note.txt [more.txt | notes.jsonl] [--model DIR] [--adapter DIR] [--evidence FILE] [--grounded]
                              [--min-score P] [--system scl | sft | cot | cot-sc] [--json | --html FILE | --out FILE]

With --out, coded notes are appended as they are finished, and a run that was stopped goes on where it was. Nothing leaves the machine: the
model is a local folder, and no module that this command uses opens a connection.

Read next: infer/coder.py.
"""

import argparse
import contextlib
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from minscl.cli import add_flags, flag, require, run_command
from minscl.config import DEMO
from minscl.data.answer_log import AnswerLog
from minscl.data.icd import CodeBook
from minscl.data.jsonl import read_jsonl, read_text
from minscl.data.locate import line_and_column
from minscl.data.types import CodedDocument, Note
from minscl.errors import InputError, replace_file
from minscl.hardware import choose_device, free_memory, memory_errors
from minscl.infer.coder import BATCH_SIZE, code_notes, filter_by_score
from minscl.infer.linear import pack_weights
from minscl.infer.report import html_page
from minscl.infer.systems import SYSTEMS, System
from minscl.pretrained import load_pretrained


@dataclass(frozen=True)
class GenerateConfig:
    """Settings of `generate`; each is a flag."""

    model: str = flag(str(DEMO), "model folder; the embedded model is a demonstration, not for clinical use")
    adapter: str = flag("", "LoRA adapter folder (the embedded model brings its own); none: the model alone")
    evidence: str = field(
        default="",
        metadata={
            "help": "human evidence in place of the model's: for one note a text file with a quotation "
            "a line, in document order; for several a JSONL of coded documents with the same ids"
        },
    )
    grounded: bool = flag(False, "only what stands in the note can be quoted, only billable codes with evidence given")
    min_score: float = flag(
        0.0, "leave out codes that score less (a warning names them); choose it on notes coded by hand"
    )
    system: str = flag("scl", f"{', '.join(SYSTEMS)}: SCL, or a baseline that names no evidence (infer/systems.py)")
    chains: int = flag(
        System.chains, "cot-sc: answers drawn for a note; a code stands if at least half of them give it"
    )
    temperature: float = flag(System.temperature, "cot-sc: of the draws")
    top_p: float = flag(System.top_p, "cot-sc: draw from the likeliest tokens that reach this probability together")
    seed: int = flag(System.seed, "cot-sc: of the draws")
    batch_size: int = flag(BATCH_SIZE, "answers written together, at most")
    memory: float = flag(
        0.0, "GB for keys and values, which may mean fewer notes together (default: three quarters of what is free)"
    )
    compile: bool = flag(
        False,
        "prepare a token's pass, in place of guesses: a CUDA graph on a GPU, compiled on a CPU (one answer at a time)",
    )
    dtype: str = flag("auto", "float32, bfloat16 or float16 (default: bfloat16 on a GPU, float32 on a CPU)")
    device: str = flag("auto", "cpu, cuda, cuda:1 ... (default: the GPU where there is one)")
    json: bool = flag(False, "print one coded document a line, as JSON")
    out: str = flag(
        "", "append one coded document a line to this file; notes that it holds already are not coded again"
    )
    html: str = flag("", "write one self-contained page with the evidence marked in the notes")

    def __post_init__(self):
        if self.batch_size < 1 or not self.memory >= 0:
            raise InputError(f"--batch-size {self.batch_size}, --memory {self.memory}: at least 1; at least 0")
        if not 0 <= self.min_score <= 1:
            raise InputError(f"--min-score {self.min_score}: a probability, 0 to 1")


def read_notes(paths, skip=None) -> list[Note]:
    """The notes of all files: a .jsonl file holds many, any other file is one, with its path as id. One of several text files that cannot be read is handed
    to `skip(note, error)`."""
    notes = []
    for path in map(Path, paths):
        if path.suffix == ".jsonl":
            notes += read_jsonl(path, Note)
            continue
        try:
            notes.append(Note(str(path), read_text(path)))
        except InputError as error:
            if skip is None:
                raise
            skip(Note(str(path), ""), error)
    seen = set()
    for note in notes:
        if note.id in seen:
            raise InputError(f"{note.id}: two notes have this id; name each file once and give each note its own id")
        seen.add(note.id)
    if not notes:
        raise InputError(
            f'{", ".join(map(str, paths))}: no note in there; a notes JSONL has one {{"id", "text"}} a line'
        )
    return notes


def read_evidence(path: str, notes) -> dict[str, list[str]] | None:
    """Human quotations by note id, in document order (the paper's "+ Evid."); of a JSONL, those of ICD-10-CM codes."""
    if not path:
        return None
    if Path(path).suffix == ".jsonl":
        records, found = {one.id: one for one in read_jsonl(Path(path), CodedDocument)}, {}
        for note in notes:
            if note.id not in records:
                raise InputError(f"{path}: no record with id {note.id!r}; evidence is needed for every note")
            if records[note.id].text != note.text:
                raise InputError(
                    f"{path}: the text of record {note.id!r} is not the note's; give the evidence of the notes that are coded"
                )
            spans = {
                (e.start is None, e.start or 0, e.end or 0, e.text)  # no place: last, as in training
                for code in records[note.id].codes
                if CodeBook.load().normalise(code.code)
                for e in code.evidence
            }
            found[note.id] = [text for *_, text in sorted(spans)]
        return found
    if len(notes) != 1:
        raise InputError(
            f"{path}: a text file holds the evidence of one note, but {len(notes)} notes are given; use a JSONL of coded documents"
        )
    if not Path(path).exists():
        raise InputError(f"--evidence {path}: no such file; write one quotation a line")
    return {notes[0].id: [line.strip() for line in read_text(Path(path)).splitlines() if line.strip()]}


def table(document: CodedDocument) -> str:
    """What a coder reads: code, description, score, and each quotation with its line:column in the note."""
    lines = [document.id, ""]
    for one in document.codes:
        lines.append(
            f"  {one.code:<9} {one.description or '(not in the Tabular List)'}"
            + ("" if one.score is None else f"  [{one.score:.2f}]")
        )
        for evidence in one.evidence:
            quoted = " ".join(evidence.text.split())
            where = "not found in note"
            if evidence.start is not None:
                where = "{}:{}".format(*line_and_column(document.text, evidence.start))
            lines.append(f"            “{quoted}”  {where}")
        if not one.evidence:
            lines.append("            (no evidence named)")
    if not document.codes:
        lines.append("  nothing to code was found")
    lines += [f"  warning: {warning}" for warning in document.warnings or ()]
    return "\n".join(lines) + "\n"


def code(config: GenerateConfig, notes: list[Note], evidence, skip):
    """Yields the coded documents of `notes`, in order."""
    if not notes:
        return
    system = System(config.system, config.chains, config.temperature, config.top_p, config.seed)
    device, _ = choose_device(config.device, config.dtype)
    if config.compile and device.type != "cuda":
        raise InputError(f"--compile: needs a GPU, and the model would be on {device}; leave the flag out")
    model, tokenizer = load_pretrained(config.model, config.adapter, device=config.device, dtype=config.dtype)
    pack_weights(model)
    memory = int(config.memory * 1e9) or free_memory(device) * 3 // 4
    coded = code_notes(
        model,
        tokenizer,
        notes,
        system=system,
        evidence=evidence,
        grounded=config.grounded,
        batch_size=config.batch_size,
        memory=memory,
        cuda_graphs=config.compile,
        skip=skip,
    )
    with memory_errors("a smaller --memory"):
        for document in tqdm(coded, total=len(notes), unit="note", disable=len(notes) == 1):
            yield filter_by_score(document, config.min_score)


def already_coded(records, notes: list[Note], path: str) -> dict[str, CodedDocument]:
    """Documents of an earlier run by id; raises InputError where a note has changed since."""
    known = {note.id: note.text for note in notes}
    for one in records:
        if known.get(one.id, one.text) != one.text:
            raise InputError(
                f"{path}: {one.id} was coded from another text; name another --out, or give the note a new id"
            )
    return {one.id: one for one in records}


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m minscl.generate", description="Code clinical notes in ICD-10-CM, with the evidence."
    )
    parser.add_argument("notes", nargs="+", help="text files, one note each, or .jsonl files of notes")
    add_flags(parser, GenerateConfig)
    given = vars(parser.parse_args(argv))
    paths, skipped = given.pop("notes"), []
    config = GenerateConfig(**given)

    def skip(note: Note, error: InputError) -> None:
        skipped.append(note.id)
        print(f"minscl: skipped: {' '.join(str(error).split())}", file=sys.stderr)

    notes = read_notes(paths, skip if len(paths) > 1 else None)
    evidence = read_evidence(config.evidence, notes)

    with AnswerLog(config.out, CodedDocument) if config.out else contextlib.nullcontext() as journal:
        documents = already_coded(journal.records, notes, config.out) if journal else {}
        rest = [note for note in notes if note.id not in documents]
        for document in code(config, rest, evidence, skip if len(notes) > 1 else None):
            documents[document.id] = document
            if journal:
                journal.append([document])
            if config.json:
                print(json.dumps(document.to_dict(), ensure_ascii=False), flush=True)
            elif not (config.html or config.out):
                print(table(document), flush=True)
    if config.html:
        with replace_file(config.html) as handle:
            handle.write(html_page([documents[note.id] for note in notes if note.id in documents]))
    if skipped:
        print(
            f"minscl: {len(skipped)} of {len({*skipped, *(note.id for note in notes)})} notes were skipped, the first is {skipped[0]}; the others are coded",
            file=sys.stderr,
        )
    return 2 if skipped else 0


if __name__ == "__main__":
    run_command(main)
