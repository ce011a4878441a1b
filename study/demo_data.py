"""What the embedded model learns: its tokenizer's corpus, the stream of its pretraining, the data of its adapter.

Trained on: CodiEsp's training split with evidence; its background texts, most of them coded by a large language model;
ACI-Bench's training notes as text; notes and case reports written by a large language model, invented notes, phrases,
and the code set's own words. Never on CodiEsp's dev and test splits, ACI-Bench's other splits, or the written notes
after HELD_OUT, which calibrate it.

Read next: stream.py; build_demo.py.
"""

import dataclasses
import random
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from minscl.data.icd import CodeBook
from minscl.data.jsonl import write_jsonl
from minscl.data.packing import Step
from minscl.data.prompts import render_document_prompt, render_span_prompt
from minscl.data.samples import document_sample, encode_sample
from minscl.data.spans.gold import gold_pairs
from minscl.data.types import CodedDocument, Pair
from minscl.infer.passages import split_passages
from study.augment import part
from study.corpus import (
    aci_bench_train,
    annotated_background,
    background,
    codiesp,
    common_phrases,
    for_coding_today,
    invented,
    written,
)
from study.prepared import pack_whole
from study.pretrain import STEP
from study.stream import PairPool, Source, Stream

HELD_OUT = re.compile(r"E-0(2[5-9]|[3-9])")  # written notes that calibrate the scores
LATER_ENCOUNTERS = re.compile(r"sequela|subsequent encounter|fetus \d|initial encounter for open")
LONGEST_DESCRIPTION = 60  # characters, of a description as a span
ACI_WEIGHT = 6  # how often an ACI-Bench note stands for one CodiEsp text
HELD_OUT_DOCUMENTS = 40  # of each origin
CALIBRATION_CASES = 60  # of CodiEsp's dev split: the scores are to fit other notes as well
ADAPTER_DOCUMENTS = {"codiesp": 500, "notes": 700, "cases": 60, "invented": 150}  # drawn from each origin
ADAPTER_SPANS = 4000
PASSAGE = 100  # tokens of a passage, in the adapter's training and in `generate`, chosen on CodiEsp's dev split
SEED = 0


def shares(progress: float) -> dict[str, float]:
    """The share of each kind in a step's tokens: more text at first, from which new tokens get their meaning."""
    text = max(0.05, 0.3 - 4 * progress)
    return {"text": text, "document": 0.6 - text / 2, "span": 0.4 - text / 2}


def training_documents(codebook: CodeBook) -> dict[str, list[CodedDocument]]:
    """{origin: documents}."""
    return {
        "codiesp": [for_coding_today(document, codebook) for document in codiesp("train", codebook)],
        "annotated": [for_coding_today(document, codebook) for document in annotated_background(codebook)],
        "cases": written("cases", codebook),
        "notes": [note for note in written("notes", codebook) if not HELD_OUT.match(note.id)],
        "invented": invented("train"),
    }


def evidence_pairs(documents: Iterable[CodedDocument]) -> list[Pair]:
    """Each annotated span as a pair."""
    return [
        Pair(" ".join(evidence.text.split()), code.code, "gold", origin=document.id)
        for document in documents
        for code in document.codes
        for evidence in code.evidence
    ]


def pretraining_stream(tokenizer, seed: int = SEED, step_tokens: int = STEP["cpu"].tokens) -> Stream:
    """The samples of the base's pretraining."""
    codebook = CodeBook.load()
    documents = training_documents(codebook)
    texts = [document.text for document in documents["codiesp"]]
    texts += [note.text for note in background()] + aci_bench_train() * ACI_WEIGHT
    with_evidence = [document for name in ("codiesp", "annotated", "cases", "notes") for document in documents[name]]
    phrases, gold = common_phrases(codebook), gold_pairs(codebook)
    first_encounters = [pair for pair in gold if not LATER_ENCOUNTERS.search(pair.evidence)]
    sources = [
        Source("annotated", documents["annotated"], weight=5.5, replaced=0.4),
        Source("codiesp", documents["codiesp"], weight=3.0, replaced=0.5),
        Source("cases", documents["cases"], weight=1.3, replaced=0.5),
        Source("notes", documents["notes"], weight=4.0, replaced=0.4),
        Source("invented", documents["invented"], weight=1.2, replaced=0.4),
    ]
    described = [(code, codebook.description(code) or "") for code in codebook.billable]
    pairs = PairPool(
        [
            (evidence_pairs(with_evidence), 0.35),
            (phrases, 0.3),
            (first_encounters, 0.25),
            ([Pair(text, code, "gold") for code, text in described if len(text) < LONGEST_DESCRIPTION], 0.1),
        ]
    )
    names = frozenset(pair.evidence.lower() for pair in phrases)
    return Stream(tokenizer, texts, sources, pairs, shares, seed, phrases=names, step_tokens=step_tokens)


def held_out(tokenizer) -> dict[str, Step]:
    """Whole documents that pretraining's loss is also computed on, by origin: some of those that calibrate the model.

    They tell when a longer run learns its documents by heart.
    """
    codebook = CodeBook.load()
    documents = {
        "codiesp": [for_coding_today(document, codebook) for document in codiesp("dev", codebook)],
        "notes": held_out_notes(codebook),
        "invented": invented("val"),
    }
    return {
        name: pack_whole(
            [encode_sample(tokenizer, document_sample(document)) for document in items[:HELD_OUT_DOCUMENTS]]
        )
        for name, items in documents.items()
    }


def held_out_notes(codebook: CodeBook) -> list[CodedDocument]:
    """The written notes that are not trained on."""
    return [note for note in written("notes", codebook) if HELD_OUT.match(note.id)]


def tokenizer_texts() -> Iterator[str]:
    """The tokenizer's corpus."""
    codebook = CodeBook.load()
    yield from (document.text for document in codiesp("train", codebook))
    yield from (note.text for note in background())
    yield from aci_bench_train() * 4
    yield from (codebook.description(code) or "" for code in codebook.billable[::3])
    yield from (pair.evidence for pair in gold_pairs(codebook)[::2])
    for document in invented("train"):
        yield document.text
        yield "\n".join(f" {code.code} {code.description}" for code in document.codes)
    yield from [render_document_prompt(""), render_span_prompt("")] * 2000


def in_passages(documents: Iterable[CodedDocument], tokenizer) -> Iterator[CodedDocument]:
    """The passages of the documents, as `generate --passage PASSAGE` codes them."""
    for document in documents:
        for number, (start, text) in enumerate(split_passages(document.text, tokenizer, PASSAGE), 1):
            passage = part(document, start, start + len(text))
            yield dataclasses.replace(passage, id=f"{document.id} passage {number}")


def adapter_documents(codebook: CodeBook, rng: random.Random | None = None) -> list[CodedDocument]:
    """The documents of the adapter, whole; `rng` draws them, by default as write_adapter_data does.

    Without the background texts, so that CodiEsp's own coders have the last word on what is coded.
    """
    documents, rng = training_documents(codebook), rng or random.Random(SEED)
    return [
        document
        for name, number in ADAPTER_DOCUMENTS.items()
        for document in rng.sample(documents[name], min(number, len(documents[name])))
    ]


def write_adapter_data(folder: Path, tokenizer) -> None:
    """documents.jsonl and spans.jsonl for minscl.train: passages of the documents, and a sample of the spans."""
    codebook, rng = CodeBook.load(), random.Random(SEED)
    chosen = adapter_documents(codebook, rng)
    write_jsonl(folder / "documents.jsonl", list(in_passages(chosen, tokenizer)))
    spans = rng.sample(gold_pairs(codebook), ADAPTER_SPANS // 2) + rng.sample(
        common_phrases(codebook), ADAPTER_SPANS // 2
    )
    write_jsonl(folder / "spans.jsonl", spans)


def write_evaluation_data(folder: Path) -> None:
    """calibration.jsonl, codiesp-test.jsonl and invented-test.jsonl: gold documents."""
    codebook = CodeBook.load()
    cases = random.Random(SEED).sample(codiesp("dev", codebook), CALIBRATION_CASES)
    write_jsonl(folder / "calibration.jsonl", [*cases, *invented("val"), *held_out_notes(codebook)])
    write_jsonl(folder / "codiesp-test.jsonl", codiesp("test", codebook))
    write_jsonl(folder / "invented-test.jsonl", invented("test"))
