"""The command that builds `study/resources/codiesp_en.jsonl.gz` from the corpus as published.

    pip install eflomal==2.0.0
    python -m study.codiesp_en.build --codiesp FOLDER --out study/resources/codiesp_en.jsonl.gz

FOLDER holds `train`, `dev`, `test` and `background` as unpacked. The output is the same bytes every time. Eight minutes
on one idle core.

Read next: judge.py.
"""

import argparse
import gzip
import hashlib
import json
from collections import Counter, defaultdict
from pathlib import Path

from minscl.command import format_counts, run_command
from minscl.data.icd import CodeBook
from minscl.data.spans import gold_pairs
from minscl.files import replace_file
from study.codiesp_en.alignment import align_words
from study.codiesp_en.carry import Carrier, Span
from study.codiesp_en.corpus import ANNOTATED, Annotation, Case, read_annotations, read_cases
from study.codiesp_en.lexicon import Lexicon, Neighbours
from study.codiesp_en.phrases import Categories, joined
from study.codiesp_en.projection import Pair, make_pair
from study.codiesp_en.sentences import (
    ENGLISH_END,
    SPANISH_END,
    align_sentences,
    rarity,
    split_sentences,
    stem_counts,
)
from study.codiesp_en.words import ENGLISH_FUNCTION_WORDS, SPANISH_FUNCTION_WORDS, stem

PUBLIC = 0o644  # the file is part of the repository
OUT = Path(__file__).parent.parent / "resources" / "codiesp_en.jsonl.gz"


def align_corpus(cases: list[Case]) -> list[Pair]:
    """Pairs of passages of all cases, in order, with their word links."""
    sides = []
    for case in cases:
        for text, boundary in ((case.spanish, SPANISH_END), (case.english, ENGLISH_END)):
            spans = split_sentences(text, boundary)
            sides.append((spans, [(stem_counts(text, span), span[1] - span[0]) for span in spans]))
    both = list(zip(sides[::2], sides[1::2], strict=True))
    weight = rarity([{key for _, side in sentences for counts, _ in side for key in counts} for sentences in both])
    pairs = []
    for case, ((spanish, counts_s), (english, counts_e)) in zip(cases, both, strict=True):
        for (i, a), (j, b) in align_sentences(counts_s, counts_e, weight):
            pair = make_pair(case, (spanish[i][0], spanish[a - 1][1]), (english[j][0], english[b - 1][1]))
            if pair.spanish and pair.english:
                pairs.append(pair)
    texts = [[" ".join(stem(word.text) for word in side) for side in (pair.spanish, pair.english)] for pair in pairs]
    for pair, links in zip(pairs, align_words(*map(list, zip(*texts, strict=True))), strict=True):
        pair.links = links
    return pairs


def make_carrier(pairs: list[Pair], annotations: list[Annotation], book: CodeBook) -> Carrier:
    """A carrier that knows the words of all pairs; it has learned no phrase yet."""
    sentences = (
        ([word.text for word in pair.spanish], [word.text for word in pair.english], pair.links) for pair in pairs
    )
    texts = ([(word.text.lower(), joined(pair, j + 1)) for j, word in enumerate(pair.english)] for pair in pairs)
    categories = Categories(SPANISH_FUNCTION_WORDS)
    for annotation in annotations:
        categories.add(annotation.phrase, annotation.code)
    index = Categories(ENGLISH_FUNCTION_WORDS)
    for term in gold_pairs(book):
        index.add(term.evidence, term.code)
    return Carrier(Lexicon(sentences), Neighbours(texts), categories, index)


def carry_all(
    pairs: list[Pair], annotations: dict[str, list[Annotation]], book: CodeBook
) -> dict[str, list[tuple[list[Span], str]]]:
    """What became of each case's annotations, in order: spans, and how they were found."""
    carrier = make_carrier(pairs, [annotation for rows in annotations.values() for annotation in rows], book)
    of_case: dict[str, list[Pair]] = defaultdict(list)
    for pair in pairs:
        of_case[pair.case.id].append(pair)
    for case, rows in annotations.items():
        for row in rows:
            carrier.learn(of_case[case], row)
    return {case: [carrier.carry(of_case[case], row) for row in rows] for case, rows in annotations.items()}


def make_record(case: Case, annotations: list[Annotation], spans: list[list[Span]], book: CodeBook) -> dict:
    """The JSON record: a coded document with `split`, and `annotations` as the corpus has them with their `spans`.

    Codes are in order of their first evidence, those without any at the end.
    """
    evidence: dict[str, set[Span]] = {annotation.code: set() for annotation in annotations}
    for annotation, places in zip(annotations, spans, strict=True):
        evidence[annotation.code].update(places)
    codes = sorted(evidence, key=lambda code: (min(evidence[code], default=(len(case.english),) * 2), code))
    return {
        "id": case.id,
        "split": case.split,
        "text": case.english,
        "codes": [
            {
                "code": code,
                "description": book.description(code) or "",
                "evidence": [{"text": case.english[a:b], "start": a, "end": b} for a, b in sorted(evidence[code])],
            }
            for code in codes
        ],
        "annotations": [
            {"code": annotation.code, "spanish": annotation.phrase, "parts": annotation.parts, "spans": places}
            for annotation, places in zip(annotations, spans, strict=True)
        ],
    }


def build(folder: Path, out: Path) -> Counter:
    """Write the records of the annotated splits; returns counts of how each annotation was carried."""
    cases = read_cases(folder)
    annotations = {id: rows for split in ANNOTATED for id, rows in read_annotations(folder, split).items()}
    book = CodeBook.load()
    outcomes = carry_all(align_corpus(cases), annotations, book)
    lines = []
    for case in cases:
        if case.split in ANNOTATED:
            spans = [places for places, _ in outcomes.get(case.id, [])]
            lines.append(json.dumps(make_record(case, annotations.get(case.id, []), spans, book), ensure_ascii=False))
    content = "".join(line + "\n" for line in lines).encode()
    with replace_file(out, "wb", permissions=PUBLIC) as handle:
        handle.write(gzip.compress(content, 9, mtime=0))
    counts = Counter(reason for rows in outcomes.values() for _, reason in rows)
    carried = sum(bool(places) for rows in outcomes.values() for places, _ in rows)
    print(format_counts(sorted(counts.items())))
    print(f"{carried} of {counts.total()} annotations carried ({carried / counts.total():.1%})")
    print(f"{out}: {len(lines)} records, sha256 of the unpacked file {hashlib.sha256(content).hexdigest()}")
    return counts


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m study.codiesp_en.build", description="Build codiesp_en.jsonl.gz.")
    parser.add_argument("--codiesp", required=True, type=Path, metavar="FOLDER", help="the corpus, unpacked")
    parser.add_argument("--out", default=OUT, type=Path, metavar="FILE")
    flags = parser.parse_args()
    build(flags.codiesp, flags.out)
    return 0


if __name__ == "__main__":
    run_command(main)
