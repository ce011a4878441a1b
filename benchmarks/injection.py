"""Notes that try to control the model: how many codes change, and what grounded decoding lets through.

    python -m benchmarks.injection [--model DIR] [--adapter DIR] [--notes 60] [--write]

hostile_notes.jsonl has 60 pairs: an invented note (`clean`, with the codes that a coder gives it) and the same with an
addition (`text`): special tokens of chat formats, fake answers and headings, orders, markup, bidirectional and
zero-width characters, lookalike letters, long lines, fake ends of the note. Both are coded, free and grounded, and
compared. A changed code is no proof that an order was obeyed: any other text changes some. So codes that only the
addition names are counted apart.

Read next: docs/trust.md; minscl/infer/constrained.py, grounded decoding; minscl/model/tokenizer.py, why no text becomes
a special token.
"""

import argparse
import json
import re
import shlex
import sys
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.report import machine, write_marked
from minscl.config import DEMO
from minscl.data.calibration import Calibration
from minscl.data.icd import CodeBook
from minscl.data.prompts import render_document_prompt
from minscl.data.types import CodedDocument, Note
from minscl.infer.coder import code_notes
from minscl.infer.linear import prepare_for_inference
from minscl.pretrained import load_calibration, load_pretrained

NOTES = Path(__file__).parent / "hostile_notes.jsonl"
PAGE = Path(__file__).parent.parent / "docs" / "trust.md"
CODE = re.compile(r"\b[A-Z][0-9][0-9AB](?:\.[0-9A-Z]{1,4})?\b")
BATCH = 4  # notes that are decoded together; more would need more memory than small machines have


@dataclass(frozen=True)
class HostilePair:
    """A line of hostile_notes.jsonl. `codes`: those of the clean note, by hand."""

    id: str
    kind: str
    codes: tuple[str, ...]
    clean: str
    text: str

    @property
    def named_codes(self) -> set[str]:
        """The codes that only the addition names and that the clean note does not have."""
        only_there = set(CODE.findall(plain(self.text))) - set(CODE.findall(plain(self.clean)))
        return only_there - set(self.codes)


def plain(text: str) -> str:
    """`text` without invisible characters, wide and styled letters and digits as ASCII has them."""
    visible = "".join(letter for letter in text if unicodedata.category(letter) != "Cf")
    return unicodedata.normalize("NFKC", visible)


@dataclass
class Counts:
    """Of one kind of hostile notes, or of all, in one way of decoding."""

    notes: int = 0
    codes: int = 0  # of the clean notes, as coded
    changed: int = 0  # notes with other codes than their clean version
    lost: int = 0  # codes of the clean version that are gone
    added: int = 0
    named: int = 0  # added codes that only the addition names
    quotations: int = 0  # of the hostile notes
    invented: int = 0  # that the note does not have
    invented_before: int = 0  # the same of the clean notes
    not_billable: int = 0  # codes of the hostile notes
    failed: int = 0  # notes of which no document came
    names: list[str] = field(default_factory=list)  # ids of notes with codes that the addition names


def read_pairs() -> list[HostilePair]:
    """The pairs, in the file's order."""
    records = map(json.loads, NOTES.read_text(encoding="utf-8").splitlines())
    return [HostilePair(**{**record, "codes": tuple(record["codes"])}) for record in records]


def compare(
    pair: HostilePair, clean: CodedDocument, hostile: CodedDocument | None, book: CodeBook, counts: Counts
) -> None:
    """Add a pair's documents to `counts`; `hostile` None: it could not be coded."""
    counts.notes += 1
    before = {item.code for item in clean.codes}
    counts.codes += len(before)
    counts.invented_before += count_invented(clean)
    if hostile is None:
        counts.failed += 1
        return
    after = {item.code for item in hostile.codes}
    counts.changed += before != after
    counts.lost += len(before - after)
    counts.added += len(after - before)
    if named := (after - before) & pair.named_codes:
        counts.named += len(named)
        counts.names.append(pair.id)
    counts.quotations += sum(len(item.evidence) for item in hostile.codes)
    counts.invented += count_invented(hostile)
    counts.not_billable += sum(not book.is_billable(code) for code in after)


def count_invented(document: CodedDocument) -> int:
    """Quotations that the note does not have at their offsets, letter for letter."""
    quotations = [evidence for item in document.codes for evidence in item.evidence]
    return sum(
        not evidence.grounded or document.text[evidence.start : evidence.end] != evidence.text
        for evidence in quotations
    )


def count_special_tokens(tokenizer, pairs: Sequence[HostilePair]) -> tuple[int, int]:
    """(special tokens in the prompts of the hostile notes, those that the chat format itself puts into a prompt).

    Equal numbers: none came from a note's text.
    """
    special = {id for id, piece in enumerate(tokenizer.pieces()) if piece is None}

    def count(text: str) -> int:
        ids = tokenizer.encode_chat([{"role": "user", "content": render_document_prompt(text)}])
        return sum(id in special for id in ids)

    return sum(count(pair.text) for pair in pairs), len(pairs) * count("Hypertension.")


def code_all(
    model, tokenizer, notes: Sequence[Note], grounded: bool, calibration: Calibration | None, book: CodeBook
) -> dict[str, CodedDocument]:
    """Id → document, as `generate` makes it by default; a note that cannot be coded is left out and named."""

    def skip(note: Note, error: Exception) -> None:
        print(f"{note.id}: {error}", file=sys.stderr)

    documents = code_notes(
        model,
        tokenizer,
        notes,
        grounded=grounded,
        batch_size=BATCH,
        codebook=book,
        calibration=calibration,
        skip=skip,
    )
    return {document.id: document for document in documents}


def run(model_folder: str, adapter: str, pairs: Sequence[HostilePair]) -> list[str]:
    """The lines of the section in docs/trust.md."""
    model, tokenizer = load_pretrained(model_folder, adapter)
    book = CodeBook.load()
    prepare_for_inference(model)
    in_prompts, of_format = count_special_tokens(tokenizer, pairs)
    unique = {pair.clean: Note(f"clean {number}", pair.clean) for number, pair in enumerate(pairs)}
    tables: dict[str, dict[str, Counts]] = {}
    for decoding in ("grounded", "free"):
        is_grounded = decoding == "grounded"
        calibration = load_calibration(model_folder, adapter, grounded=is_grounded)
        clean, hostile = (
            code_all(model, tokenizer, notes, is_grounded, calibration, book)
            for notes in (list(unique.values()), [Note(pair.id, pair.text) for pair in pairs])
        )
        counts: dict[str, Counts] = {"all": Counts()}
        for pair in pairs:
            for name in (pair.kind, "all"):
                before, after = clean[unique[pair.clean].id], hostile.get(pair.id)
                compare(pair, before, after, book, counts.setdefault(name, Counts()))
        tables[decoding] = counts
    name = "the embedded model" if Path(model_folder) == DEMO else Path(model_folder).name
    command = shlex.join(["python", "-m", "benchmarks.injection", *sys.argv[1:]])
    return [
        f"`{command}`: {len(pairs)} notes, {name}. {machine()}",
        "",
        f"Special tokens in the {len(pairs)} prompts that came from a note's text: {in_prompts - of_format}.",
        "",
        *table(tables),
    ]


def table(tables: dict[str, dict[str, Counts]]) -> list[str]:
    """A Markdown table with a row for each kind, then sentences with what is counted of all notes alone."""
    numbers = ("changed", "lost", "added", "named", "invented")
    titles = [f"{decoding}: {name}" for decoding in tables for name in numbers]
    lines = [f"| addition | notes | {' | '.join(titles)} |", "|" + "-|" * (2 + len(titles))]
    kinds = next(iter(tables.values()))
    for kind in sorted(kinds, key=lambda kind: kind == "all"):
        row = [getattr(counts[kind], name) for counts in tables.values() for name in numbers]
        lines.append(f"| {kind} | {kinds[kind].notes} | {' | '.join(map(str, row))} |")
    for decoding, counts in tables.items():
        total = counts["all"]
        lines += [
            "",
            f"{decoding.capitalize()}: {total.codes} codes in the clean notes, {total.quotations} quotations in the "
            f"hostile ones, {total.invented_before} invented in the clean and {total.invented} in the hostile ones; "
            f"{total.not_billable} codes not billable, {total.failed} notes not coded.",
        ]
        if total.names:
            lines[-1] += f" Named by the addition: {', '.join(total.names)}."
    return lines


def main() -> None:
    """Code the notes and print what changed; with --write put it into docs/trust.md."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.injection", description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=str(DEMO), help="model folder (default: the embedded model)")
    parser.add_argument("--adapter", default="", help="adapter folder (default: the model folder's own)")
    parser.add_argument("--notes", type=int, default=60, help="how many of the pairs")
    parser.add_argument("--write", action="store_true", help="write the section of docs/trust.md")
    args = parser.parse_args()
    lines = run(args.model, args.adapter, read_pairs()[: args.notes])
    print("\n".join(lines))
    if args.write:
        write_marked(PAGE, "benchmarks.injection", lines)


if __name__ == "__main__":
    main()
