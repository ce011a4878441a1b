"""The texts that the embedded model and the study learn from, all in resources/ (its README has sources and licences).

    codiesp         case reports with codes and projected evidence (docs/codiesp_en.md)
    background      more case reports, texts alone; annotated_background: those that a large language model coded
    aci_bench_train outpatient notes, texts alone
    written         invented outpatient notes and case reports with marked evidence, by a large language model
    invented        notes around MDACE's code lists, by templates (as of version 0.2)
    common_phrases  how clinicians say it: span pairs, by hand and by a large language model

Read next: augment.py, stream.py.
"""

import dataclasses
import gzip
import json
from pathlib import Path

from minscl.data.assertion import assertions
from minscl.data.corpora.codiesp_english import SHIPPED, read_carried
from minscl.data.icd import CodeBook
from minscl.data.icd.lookup.default_codes import default_below
from minscl.data.jsonl import read_jsonl
from minscl.data.types import Assignment, CodedDocument, Evidence, Note, Pair
from minscl.errors import InputError
from study.augment import evidence_spans
from study.marked_notes import read_marked_notes, read_phrase_lists

RESOURCES = Path(__file__).parent / "resources"
# Background texts that report a case of CodiEsp's dev or test split again: they share a twentieth or more of its
# sequences of 12 words. Two journals published one case, or an abstract and its article.
REPEATED_CASES = {
    "S0004-06142006000200010-1": "S0004-06142006000600014-1",
    "S1130-05582011000200007-1": "S1130-05582010000200006-1",
    "S0210-48062007001000004-2": "S0004-06142007000200017-1",
    "S1130-63432013000300009-1": "S1130-63432013000500014-1",
    "S1887-85712013000200013-2": "S1887-85712013000200013-1",  # of dev, the others of test
}
NOT_OF_THE_PATIENT_NOW = frozenset({"denied", "family"})


def codiesp(split: str, codebook: CodeBook) -> list[CodedDocument]:
    """CodiEsp's "train", "dev" or "test" in English: gold codes, also those not billable or without evidence."""
    documents = []
    for _, case in read_carried(SHIPPED, split).values():
        codes = tuple(
            Assignment(code, codebook.description(code) or "", evidence) for code, evidence in case.evidence.items()
        )
        documents.append(CodedDocument(id=case.id, text=case.text, codes=codes))
    return documents


def for_coding_today(document: CodedDocument, codebook: CodeBook) -> CodedDocument:
    """A training document as a coder of today wants it.

    A code that is a heading in this edition becomes the billable code below that says no more (R51: R51.9); codes
    without one, codes without evidence and evidence that the note denies or has of a relative (7% of CodiEsp's) go.
    """
    spans = sorted({(start, end) for start, end, _ in evidence_spans(document)})
    status = dict(zip(spans, assertions(document.text, spans), strict=True))
    spans_of: dict[str, set[tuple[int, int]]] = {}
    for start, end, annotated in evidence_spans(document):
        code = default_below(codebook, annotated) if codebook.description(annotated) else ""
        if code and status[start, end] not in NOT_OF_THE_PATIENT_NOW:
            spans_of.setdefault(code, set()).add((start, end))
    codes = tuple(
        Assignment(
            code,
            codebook.description(code) or "",
            tuple(Evidence(document.text[start:end], start, end) for start, end in sorted(code_spans)),
        )
        for code, code_spans in spans_of.items()
    )
    return dataclasses.replace(document, codes=codes)


def background() -> list[Note]:
    """CodiEsp's background texts in English, without codes, but for the REPEATED_CASES."""
    return [note for note in gzip_records("codiesp_background_en.jsonl.gz", Note) if note.id not in REPEATED_CASES]


def annotated_background(codebook: CodeBook) -> list[CodedDocument]:
    """The background texts that a large language model coded, in the manner of CodiEsp's coders."""
    texts = {note.id: note.text for note in background()}
    return read_phrase_lists(RESOURCES / "background_annotations.txt", texts, codebook)


def aci_bench_train() -> list[str]:
    """ACI-Bench's training notes, without the three in examples/."""
    return [note.text for note in read_jsonl(RESOURCES / "aci_bench_train.jsonl", Note)]


def written(name: str, codebook: CodeBook) -> list[CodedDocument]:
    """The written "notes" or "cases"."""
    return read_marked_notes(RESOURCES / f"written_{name}.txt", codebook)


def invented(split: str) -> list[CodedDocument]:
    """The template notes of "train", "val" or "test"."""
    return gzip_records(f"invented_{split}.jsonl.gz", CodedDocument)


def common_phrases(codebook: CodeBook) -> list[Pair]:
    """Lines `CODE phrase | phrase` of phrases_*.txt as span pairs.

    Raises InputError naming the line of a code that is not billable and of an empty phrase.
    """
    pairs = []
    for path in sorted(RESOURCES.glob("phrases_*.txt")):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            code, _, phrases = line.strip().partition(" ")
            if not code or code.startswith("#"):
                continue
            if not codebook.is_billable(code):
                raise InputError(f"{path}:{number}: {code} is not billable in {codebook.label}; correct the line")
            for phrase in map(str.strip, phrases.split("|")):
                if not phrase:
                    raise InputError(f"{path}:{number}: {code}: a phrase is empty; write CODE phrase | phrase")
                pairs.append(Pair(phrase, code, "synthetic", origin=path.name))
    return pairs


def gzip_records(name: str, record_type) -> list:
    """The records of a gzip JSON Lines file in resources/."""
    with gzip.open(RESOURCES / name, "rt", encoding="utf-8") as lines:
        return [record_type.from_dict(json.loads(line)) for line in lines]
