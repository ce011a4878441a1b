"""The study's data files: CodiEsp English in the roles that the paper gives to MDACE and MIMIC-IV, and the spans.

    evidence.jsonl    180 training cases with evidence            labels.jsonl     the other 320, codes only
    all-codes.jsonl   all 500, codes only                         annotators.jsonl the 320's evidence, as spans
    gold.jsonl        a sample of the gold pairs                  synthetic.jsonl  phrases by hand and by an LLM
    miner.jsonl       both prompts of silver.py, answered from the 180: they train the miner
    dev.jsonl, test.jsonl                                         silver.jsonl is mined by run.py

Read next: run.py.
"""

import dataclasses
import random
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from minscl.data.icd import CodeBook
from minscl.data.jsonl import write_jsonl
from minscl.data.sample_types import TextSample
from minscl.data.samples import encode_sample
from minscl.data.spans.gold import gold_pairs
from minscl.data.spans.silver import MAX_CHOSEN, Candidate, stage_one_prompt, stage_two_prompt
from minscl.data.types import CodedDocument, Pair
from study.corpus import codiesp, common_phrases
from study.rows import EVIDENCE_CASES

SEED = 0
CODES_A_CASE = 4  # of a case whose evidence the miner is trained to quote
CHOICES = 600  # codes for which it is trained to choose


def write_data_files(out: Path, tokenizer, sizes: dict[str, int]) -> None:
    """Write every file that is not there yet. `sizes`: records of "gold", "synthetic", "dev" and "test" at most."""
    codebook, rng = CodeBook.load(), random.Random(SEED)
    train = codiesp("train", codebook)
    with_evidence = {document.id for document in rng.sample(train, EVIDENCE_CASES)}
    first = [with_located_codes(document) for document in train if document.id in with_evidence]
    rest = [document for document in train if document.id not in with_evidence]
    files: dict[str, Sequence[CodedDocument | Pair]] = {
        "evidence": [document for document in first if document.codes],
        "all-codes": [without_evidence(document) for document in train],
        "labels": [without_evidence(document) for document in rest],
        "annotators": spans_of(rest, codebook, "silver"),
        "gold": rng.sample(gold_pairs(codebook), sizes["gold"]),
        "synthetic": at_most(sizes["synthetic"], common_phrases(codebook), rng),
        "dev": codiesp("dev", codebook)[: sizes["dev"]],
        "test": codiesp("test", codebook)[: sizes["test"]],
    }
    out.mkdir(parents=True, exist_ok=True)
    for name, records in files.items():
        if not (out / f"{name}.jsonl").exists():
            write_jsonl(str(out / f"{name}.jsonl"), records)
    if not (out / "miner.jsonl").exists():
        samples = [encode_sample(tokenizer, text) for text in miner_samples(first, codebook, rng)]
        write_jsonl(str(out / "miner.jsonl"), samples)


def at_most(number: int, pairs: list[Pair], rng: random.Random) -> list[Pair]:
    """`number` of the pairs, or all where there are no more."""
    return rng.sample(pairs, min(number, len(pairs)))


def with_located_codes(document: CodedDocument) -> CodedDocument:
    """The document without the codes whose evidence could not be projected."""
    return dataclasses.replace(document, codes=tuple(code for code in document.codes if code.evidence))


def without_evidence(document: CodedDocument) -> CodedDocument:
    """The document with its codes alone."""
    codes = tuple(dataclasses.replace(code, evidence=()) for code in document.codes)
    return dataclasses.replace(document, codes=codes)


def spans_of(documents: list[CodedDocument], codebook: CodeBook, source: str) -> list[Pair]:
    """Each annotated (text, code) once, with its count; codes that the Tabular List lacks are left out."""
    cases: dict[tuple[str, str], list[str]] = defaultdict(list)
    for document in documents:
        for code in document.codes:
            if codebook.description(code.code):
                for evidence in code.evidence:
                    cases[evidence.text, code.code].append(document.id)
    return [
        Pair(" ".join(text.split()), code, source, len(ids), "notes: " + ", ".join(dict.fromkeys(ids)))
        for (text, code), ids in cases.items()
    ]


def miner_samples(documents: list[CodedDocument], codebook: CodeBook, rng: random.Random) -> list[TextSample]:
    """The prompts of silver.py's two stages with the annotators' answers; a code that a case lacks gives `none`."""
    samples: list[TextSample] = []
    candidates: dict[str, dict[str, None]] = defaultdict(dict)  # code → its evidence, each text once
    every_code = sorted({code.code for document in documents for code in document.codes})
    for document in documents:
        known = [code for code in document.codes if codebook.description(code.code)]
        asked = {code.code: code.evidence for code in rng.sample(known, min(CODES_A_CASE, len(known)))}
        own = {code.code for code in document.codes}
        asked[rng.choice([code for code in every_code if code not in own])] = ()
        for code, evidence in asked.items():
            texts = list(dict.fromkeys(" ".join(item.text.split()) for item in evidence))
            if texts:
                candidates[code].update(dict.fromkeys(texts))
            if description := codebook.description(code):
                prompt = stage_one_prompt(document.text, code, description)
                samples.append(TextSample(prompt, "\n".join(texts) or "none", "document"))
    every_text = sorted({text for texts in candidates.values() for text in texts})
    for code in rng.sample(sorted(candidates), min(CHOICES, len(candidates))):
        chosen = list(candidates[code])[:MAX_CHOSEN]
        others = rng.sample([text for text in every_text if text not in candidates[code]], 3)
        shown = [Candidate(text, rng.choice((1, 1, 2, 3)), ()) for text in chosen + others]
        rng.shuffle(shown)
        shown.sort(key=lambda candidate: -candidate.count)
        prompt = stage_two_prompt(code, codebook.description(code) or "", shown)
        samples.append(TextSample(prompt, "\n".join(item.text for item in shown if item.text in chosen), "span"))
    return samples
