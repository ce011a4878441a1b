"""Invented clinical notes with known codes and evidence, from which the embedded model learns document coding.

A note is built around the ICD-10-CM codes of a real chart (charts.py): each code is mentioned by a phrase that a
clinician would use (phrases.py), in a sentence shape, list or heading of a template table (templates_train.py,
templates_heldout.py), among diseases that are denied, ruled out, warned of or a relative's, which are not coded. No
text is from a real note.

Evidence is every affirmed mention of a disease, once per wording (ignoring case and white space), at its first
occurrence; a combination code (I11-I13; E11.22 with chronic kidney disease) also has the first mention of each of its
parts. Codes are ordered by their first evidence, then by code. An affirmed disease is always coded, a denied one never.

Interface: `documents(split, seed)`, a note per chart; `random_documents(rng, size)`, an endless stream for pretraining;
`invent_note`, a single note.

    python -m study.notes --split test --out FILE      coded documents, one per chart
    python -m study.notes --show 3                     a few notes, evidence marked

Read next: codes.py, plan.py, draft.py, paragraphs.py, render.py.
"""

import argparse
import functools
import itertools
import random
import sys

from minscl.command import run_command
from minscl.data.jsonl import write_jsonl
from minscl.data.types import Assignment, CodedDocument, Evidence
from study import templates_heldout, templates_train
from study.charts import SPLITS, read_charts
from study.codes import held_out, phrase_book, random_codes
from study.draft import Draft, remaining
from study.grammar import Templates
from study.lexicon import Facts, words
from study.paragraphs import items, problems, prose, sentence
from study.phrases import PhraseBook, normalise
from study.plan import Distractors, consistent, make_plan
from study.render import wrap, write_note
from study.vary import Variety

SIZES = ("sentence", "paragraph", "note")
VARIED_SHARE = 0.65  # of the training notes
# Diseases that a relative may have; never coded.
FAMILY = words(
    """
    I25.10 E11.9 I10 Z85.3 C50.919 C18.9 C34.90 C61 I63.9 F03.90 G30.9 E78.5 I21.4 J44.9 J45.909 G20.A1 N18.6 F31.9
    F10.10 I50.9 C25.9 M81.0 K74.60 I48.91 H40.9 E03.9 G35.D C90.00 M32.9 I71.40
    """
)


@functools.cache
def template_table(name: str) -> Templates:
    """The compiled templates "train" or "test"."""
    return Templates(templates_heldout if name == "test" else templates_train)


@functools.cache
def _distractor_pool(with_held_out: bool):
    """Short noun phrases that a note may deny."""
    hidden = frozenset() if with_held_out else held_out()
    return tuple(
        phrase
        for code, phrases in phrase_book().hand.items()
        if code not in hidden
        for phrase in phrases
        if phrase.kind in "nc" and len(phrase.text) < 40
    )


@functools.cache
def _family_phrases():
    """Short noun phrases for the diseases of relatives."""
    return tuple(
        phrase.text
        for code in FAMILY
        for phrase in phrase_book().hand.get(code, ())
        if phrase.kind in "nc" and len(phrase.text) < 28
    )


@functools.cache
def coded_phrases() -> frozenset[str]:
    """Every hand-written phrase, in lower case."""
    return frozenset(phrase.text.lower() for phrases in phrase_book().hand.values() for phrase in phrases)


def invent_note(
    codes,
    phrases: PhraseBook,
    templates: Templates,
    rng: random.Random,
    id: str,
    size: str = "note",
    varied: bool = False,
) -> CodedDocument:
    """A note that mentions exactly `codes` (made consistent first), with evidence offsets.

    `size`: one of SIZES; `varied`: see vary.py. Up to four attempts are made at a note in which every evidence text
    first occurs at its offsets; else the last one is kept.
    """
    codes = consistent(code for code in codes if phrases.described(code))
    for _ in range(4):
        text, marks, plan = _compose(codes, phrases, templates, rng, size, varied)
        evidence = _evidence(text, marks, plan)
        if _unambiguous(text, evidence):
            break
    return CodedDocument(
        id=id,
        text=text,
        codes=tuple(
            Assignment(
                code=code,
                description=phrases.codebook.description(code),
                evidence=tuple(Evidence(text=text[a:b], start=a, end=b) for a, b in offsets),
            )
            for code, offsets in evidence
        ),
    )


def _compose(codes, phrases, templates, rng, size, varied=False):
    """(text, marks, plan) of an attempt."""
    plan = make_plan(codes, phrases, rng, repeats=rng.choice((0.0, 0.1, 0.25)) if size == "note" else 0.03)
    mentions = list(plan.mentions)
    rng.shuffle(mentions)
    facts = Facts.draw(rng)
    pool = _distractor_pool(templates is template_table("test"))
    distractors = Distractors(codes, pool, [mention.text for mention in mentions], rng)
    relatives = [
        phrase
        for phrase in rng.sample(_family_phrases(), 30)
        if not any(
            normalise(phrase) in normalise(mention.text) or normalise(mention.text) in normalise(phrase)
            for mention in mentions
        )
    ]
    draft = Draft(
        facts,
        templates,
        distractors,
        relatives or ["lung disease"],
        terse=rng.random() < 0.25,
        variety=Variety.draw(rng, coded_phrases()) if varied else None,
    )
    if size == "note":
        write_note(draft, mentions)
    else:
        _write_short(draft, mentions, size)
    text = "".join(draft.parts)
    if size != "sentence" and rng.random() < 0.35:
        text = wrap(text, rng)
    return text, draft.marks, plan


def _write_short(draft: Draft, mentions, size: str) -> None:
    """Write a sentence or two, a paragraph or a list, without the sections of a note."""
    rng, shapes = draft.rng, draft.templates.shapes
    pools: dict[str, list] = {}
    for mention in mentions:
        pools.setdefault(mention.kind, []).append(mention)
    extra = [
        rng.choice(("neg", "neg", "ros", "family", "risk", "hpi_fill", "plan", "imaging_neg"))
        for _ in range(rng.choice((0, 0, 1, 1, 2) if size == "sentence" else (0, 1, 2, 3, 4)))
    ]
    if not mentions and not extra:
        extra = ["neg", "hpi_fill"]
    style = rng.random()
    if size == "paragraph" and rng.random() < 0.4:
        name = rng.choice(("hpi", "pmh", "ap", "course", "dx", "problems"))
        draft.write(rng.choice(draft.templates.headings[name]) + rng.choice((":\n", ": ", "\n")))
    if remaining(pools) and style < 0.15:
        items(draft, pools, rng.choice(("pmh_item", "dx_item")))
    elif remaining(pools) and style < 0.3:
        problems(draft, pools, "problem_item", "plan")
    elif style < 0.65:
        prose(draft, pools, rng.choice(("state", "course", "assess")), extra, "open")
        return
    else:
        prose(draft, pools, rng.choice(("state", "state", "course", "assess")), extra)
        return
    for name in extra:
        draft.write("\n")
        sentence(draft, rng.choice(shapes[name]))


def _evidence(text, marks, plan):
    """[(code, [(start, end), …]), …] by the rule in the module docstring."""
    places: dict[str, dict[str, tuple[int, int]]] = {}  # code → normalised text → offsets
    first: dict[str, tuple[int, int]] = {}
    for start, end, mention in marks:
        for code in mention.codes:
            places.setdefault(code, {}).setdefault(normalise(text[start:end]), (start, end))
            first.setdefault(code, (start, end))
    for code, prefix in plan.links:
        part = min(place for other, place in first.items() if other.startswith(prefix))
        places[code].setdefault(normalise(text[part[0] : part[1]]), part)
    ordered = [(code, sorted(by_text.values())) for code, by_text in places.items()]
    return sorted(ordered, key=lambda item: (item[1][0][0], item[0]))


def _unambiguous(text, evidence) -> bool:
    """Whether each evidence text first occurs, as whole words, at its offsets."""
    lowered = text.lower().replace("\n", " ")
    for _, offsets in evidence:
        for start, end in offsets:
            phrase = lowered[start:end]
            index = lowered.find(phrase)
            while index < start:
                stop = index + len(phrase)
                before, after = lowered[max(0, index - 1) : index], lowered[stop : stop + 1]
                if not before.isalnum() and not after.isalnum():
                    return False
                index = lowered.find(phrase, index + 1)
    return True


def documents(split: str, seed: int = 0, varied: bool = False) -> list[CodedDocument]:
    """A note per chart of "train", "val" or "test".

    Test notes use the test templates, the others the training templates. A pure function of its arguments. `varied`:
    see vary.py. Raises InputError for another split.
    """
    book, templates = phrase_book(), template_table("test" if split == "test" else "train")
    notes = []
    for chart in read_charts(split):
        rng = random.Random(f"{split}-{seed}-{chart.id}")
        notes.append(
            invent_note([code for code, _ in chart.codes], book, templates, rng, f"{split}-{chart.id}", varied=varied)
        )
    return notes


def random_documents(rng: random.Random, size: str = "note"):
    """An endless stream of training notes, with codes drawn by `random_codes`, which never draws a held-out code."""
    book, templates = phrase_book(), template_table("train")
    number = 0
    while True:
        number += 1
        yield invent_note(
            random_codes(rng, size),
            book,
            templates,
            rng,
            f"invented-{number}",
            size,
            varied=rng.random() < VARIED_SHARE,
        )


def show(document: CodedDocument) -> str:
    """A note with its codes below it: code, description, evidence with start offsets."""
    rows = [
        f"{code.code:9} {code.description[:60]:60} "
        + "; ".join(f"{quotation.text!r} {quotation.start}" for quotation in code.evidence)
        for code in document.codes
    ]
    return "\n".join([f"=== {document.id}", document.text, "---", *rows, ""])


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m study.notes", description="Invent coded clinical notes around the code lists of MDACE's charts."
    )
    parser.add_argument("--split", choices=SPLITS, help="write a note per chart of this split")
    parser.add_argument("--out", metavar="FILE", help="coded documents, JSON Lines")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--show", type=int, nargs="?", const=2, metavar="N", help="print N notes of the split, or training notes"
    )
    parser.add_argument("--size", choices=SIZES, default="note", help="size of the training notes printed")
    args = parser.parse_args()
    if args.show:
        source = (
            iter(documents(args.split, args.seed))
            if args.split
            else random_documents(random.Random(args.seed), args.size)
        )
        for document in itertools.islice(source, args.show):
            print(show(document))
    elif args.split and args.out:
        notes = documents(args.split, args.seed)
        write_jsonl(args.out, notes)
        print(f"{len(notes)} notes written to {args.out}", file=sys.stderr)
    else:
        parser.error("give --split and --out, or --show")
    return 0


if __name__ == "__main__":
    run_command(main)
