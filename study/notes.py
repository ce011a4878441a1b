"""Invented clinical notes with known codes and evidence: what the embedded model learns document coding from.

A note is built around a list of ICD-10-CM codes that stood together in a real chart (charts.py): each code is mentioned by a phrase a
clinician would use (phrases.py), in a sentence shape, list or heading of a template table (templates_train.py, templates_heldout.py), among
diseases that are denied, ruled out, warned of or a relative's, which are not to be coded. No text comes from any real note.

Which mentions are evidence: every affirmed mention of a disease, once for each wording (case and white space aside), where it first stands;
a combination code (I11-I13; E11.22 beside chronic kidney disease) is supported by the first mention of each of its parts too. Codes are
ordered by their first evidence, then by code. An affirmed disease is always coded and a denied one never.

Interface: `documents(split, seed)` one note per chart; `random_documents(rng, size)` endless notes for pretraining; `invent_note` one.

    python -m study.notes --split test --out FILE      coded documents, one per chart
    python -m study.notes --show 3                     a few notes, evidence marked

Read next: codes.py, plan.py, draft.py, paragraphs.py, render.py.
"""

import argparse
import functools
import random
import sys

from minscl.cli import run_command
from minscl.data.jsonl import write_jsonl
from minscl.data.types import Assignment, CodedDocument, Evidence
from study import templates_heldout, templates_train
from study.charts import SPLITS, read_charts
from study.codes import held_out, phrase_book, random_codes
from study.draft import Draft, remaining
from study.grammar import Templates
from study.lexicon import Facts
from study.paragraphs import items, problems, prose, sentence
from study.phrases import PhraseBook, normal
from study.plan import Distractors, consistent, make_plan
from study.render import wrap, write_note
from study.vary import Variety

SIZES = ("sentence", "paragraph", "note")
VARIED = 0.65  # of the training notes
# Diseases a relative may have; never coded.
FAMILY = [
    "I25.10",
    "E11.9",
    "I10",
    "Z85.3",
    "C50.919",
    "C18.9",
    "C34.90",
    "C61",
    "I63.9",
    "F03.90",
    "G30.9",
    "E78.5",
    "I21.4",
    "J44.9",
    "J45.909",
    "G20.A1",
    "N18.6",
    "F31.9",
    "F10.10",
    "I50.9",
    "C25.9",
    "M81.0",
    "K74.60",
    "I48.91",
    "H40.9",
    "E03.9",
    "G35.D",
    "C90.00",
    "M32.9",
    "I71.40",
]


@functools.cache
def template_table(name: str) -> Templates:
    """The compiled templates "train" or "test"."""
    return Templates(templates_heldout if name == "test" else templates_train)


@functools.cache
def _distractor_pool(everything: bool):
    hidden = frozenset() if everything else held_out()
    return tuple(
        phrase
        for code, phrases in phrase_book().hand.items()
        if code not in hidden
        for phrase in phrases
        if phrase.kind in "nc" and len(phrase.text) < 40
    )


@functools.cache
def _family_words():
    return tuple(
        phrase.text
        for code in FAMILY
        for phrase in phrase_book().hand.get(code, ())
        if phrase.kind in "nc" and len(phrase.text) < 28
    )


@functools.cache
def coded_words() -> frozenset[str]:
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
    """A note that mentions exactly `codes` (made consistent first), with evidence offsets; `size` is one of SIZES, `varied` as in vary.py.

    Tries a few times for a note in which every evidence text stands first where its offsets say; keeps the last try otherwise.
    """
    codes = consistent(code for code in codes if phrases.described(code))
    for _ in range(4):
        text, marks, plan = _compose(codes, phrases, templates, rng, size, varied)
        assigned = _evidence(text, marks, plan)
        if _unambiguous(text, assigned):
            break
    return CodedDocument(
        id=id,
        text=text,
        codes=tuple(
            Assignment(
                code=code,
                description=phrases.codebook.description(code),
                evidence=tuple(Evidence(text=text[a:b], start=a, end=b) for a, b in places),
            )
            for code, places in assigned
        ),
    )


def _compose(codes, phrases, templates, rng, size, varied=False):
    """One try: (text, marks, plan)."""
    plan = make_plan(codes, phrases, rng, repeats=rng.choice((0.0, 0.1, 0.25)) if size == "note" else 0.03)
    mentions = list(plan.mentions)
    rng.shuffle(mentions)
    facts = Facts.draw(rng)
    distractors = Distractors(
        codes, _distractor_pool(templates is template_table("test")), [m.text for m in mentions], rng
    )
    relatives = [
        word
        for word in rng.sample(_family_words(), 30)
        if not any(normal(word) in normal(m.text) or normal(m.text) in normal(word) for m in mentions)
    ]
    draft = Draft(
        facts,
        templates,
        distractors,
        relatives or ["lung disease"],
        terse=rng.random() < 0.25,
        variety=Variety.draw(rng, coded_words()) if varied else None,
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
    """A sentence or two, or a paragraph or list, without the apparatus of a note."""
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
    """[(code, [(start, end), ...]), ...] by the rule of the module's docstring."""
    places: dict[str, dict[str, tuple[int, int]]] = {}
    first: dict[str, tuple[int, int]] = {}
    for start, end, mention in marks:
        for code in mention.codes:
            places.setdefault(code, {}).setdefault(normal(text[start:end]), (start, end))
            first.setdefault(code, (start, end))
    for code, prefix in plan.links:
        part = min(place for other, place in first.items() if other.startswith(prefix))
        places[code].setdefault(normal(text[part[0] : part[1]]), part)
    ordered = [(code, sorted(found.values())) for code, found in places.items()]
    return sorted(ordered, key=lambda item: (item[1][0][0], item[0]))


def _unambiguous(text, assigned) -> bool:
    """Whether each evidence text, as a whole word, first stands at its own offset."""
    lowered = text.lower().replace("\n", " ")
    for _, places in assigned:
        for start, end in places:
            words = lowered[start:end]
            at = lowered.find(words)
            while at < start:
                if (
                    not (at and lowered[at - 1].isalnum())
                    and not lowered[at + len(words) : at + len(words) + 1].isalnum()
                ):
                    return False
                at = lowered.find(words, at + 1)
    return True


def documents(split: str, seed: int = 0, varied: bool = False) -> list[CodedDocument]:
    """One note per chart of "train", "val" or "test". Test notes use the test templates, the others the training templates; `varied` as in vary.py."""
    book, templates = phrase_book(), template_table("test" if split == "test" else "train")
    notes = []
    for chart in read_charts(split):
        rng = random.Random(f"{split}-{seed}-{chart.id}")
        notes.append(
            invent_note([code for code, _ in chart.codes], book, templates, rng, f"{split}-{chart.id}", varied=varied)
        )
    return notes


def random_documents(rng: random.Random, size: str = "note"):
    """Endless training notes from `rng`. Codes as `random_codes` draws them; never a code held out for validation and test charts."""
    book, templates = phrase_book(), template_table("train")
    number = 0
    while True:
        number += 1
        yield invent_note(
            random_codes(rng, size), book, templates, rng, f"invented-{number}", size, varied=rng.random() < VARIED
        )


def show(document: CodedDocument) -> str:
    """A note with its codes below: code, description, evidence with offsets."""
    rows = [
        f"{a.code:9} {a.description[:60]:60} {'; '.join(f'{e.text!r} {e.start}' for e in a.evidence)}"
        for a in document.codes
    ]
    return "\n".join([f"=== {document.id}", document.text, "---", *rows, ""])


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m study.notes", description="Invent coded clinical notes around the code lists of MDACE's charts."
    )
    parser.add_argument("--split", choices=SPLITS, help="write one note per chart of this split")
    parser.add_argument("--out", metavar="FILE", help="coded documents, JSON Lines")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--show", type=int, nargs="?", const=2, metavar="N", help="print N notes of the split, or of training"
    )
    parser.add_argument("--size", choices=SIZES, default="note", help="of the training notes shown")
    args = parser.parse_args()
    if args.show:
        source = (
            iter(documents(args.split, args.seed))
            if args.split
            else random_documents(random.Random(args.seed), args.size)
        )
        for _, document in zip(range(args.show), source):
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
