"""Invented notes: offsets, codes and conventions are right; no held-out code in training notes; disjoint templates."""

import itertools
import random
import re

import pytest

from study import notes, templates_heldout, templates_train, vary
from study.charts import SPLITS, read_charts
from study.codes import codebook, held_out, phrase_book, random_codes
from study.draft import Draft
from study.lexicon import Facts
from study.notes import documents, invent_note, random_documents, template_table
from study.phrases import KINDS, normalise
from study.plan import Distractors, consistent, family, make_plan

pytestmark = pytest.mark.usefixtures("study_phrases")


def bare(shape: str) -> str:
    """A shape without the differences that do not count: case, punctuation and white space."""
    return " ".join(re.sub(r"[^\w{}]+", " ", shape.lower()).split())


def test_test_templates_are_not_training_templates():
    """Guards: test notes that are training notes with other words, so that the score measures memorisation."""
    shapes = {
        name: {bare(shape) for table in module.SHAPES.values() for shape in table}
        for name, module in (("train", templates_train), ("test", templates_heldout))
    }
    assert not {shape for shape in shapes["train"] & shapes["test"] if not re.fullmatch(r"\{\w+\}", shape)}
    assert len(shapes["test"]) >= 150
    fragments = [
        {bare(fragment) for table in module.FRAGMENTS.values() for fragment in table if fragment}
        for module in (templates_train, templates_heldout)
    ]
    assert not fragments[0] & fragments[1]
    assert len(set(templates_heldout.LAYOUTS)) >= 10
    assert not set(templates_train.LAYOUTS) & set(templates_heldout.LAYOUTS)
    headings = [
        {heading.lower() for table in module.HEADINGS.values() for heading in table if heading}
        for module in (templates_train, templates_heldout)
    ]
    shared = headings[0] & headings[1]  # common names that every hospital uses
    assert len(shared) <= len(headings[1]) / 6, shared


def test_test_templates_have_a_slot_for_every_phrase_class():
    """Guards: a class of phrase without a shape in the test table, so that its codes would be missing in test notes."""
    train, test = template_table("train"), template_table("test")
    assert train.shapes.keys() == test.shapes.keys() and train.headings.keys() == test.headings.keys()
    for table, kind in itertools.product(train.shapes, KINDS):
        assert test.serving(table, kind) or not train.serving(table, kind), (table, kind)
    for kind in KINDS:
        single_slots = [shape.needs[0] for shape in test.serving("state", kind) if len(shape.needs) == 1]
        assert any(len(slot.replace("aR", "R")) == 1 for slot in single_slots), kind


def test_test_templates_mention_no_disease():
    """Guards: a shape with "colon cancer screening" or "fall precautions", a coded phrase without a code."""
    hand = [phrase.text for phrases in phrase_book().hand.values() for phrase in phrases]
    phrases = {normalise(text) for text in hand if len(text) > 2} - {"all"}  # ALL, the leukemia
    tables = [*templates_heldout.SHAPES.values(), *templates_heldout.FRAGMENTS.values()]
    for shape in itertools.chain.from_iterable(tables):
        words = re.findall(r"[\w/'-]+|§", re.sub(r"\{\w+\}", " § ", shape.lower()))
        runs = {" ".join(words[a:b]) for a in range(len(words)) for b in range(a + 1, min(len(words), a + 7) + 1)}
        assert runs.isdisjoint(phrases), (shape, runs & phrases)


@pytest.mark.parametrize("split", SPLITS)
def test_a_note_per_chart_with_its_codes_and_offsets(split):
    """Guards: codes without evidence, offsets off by one after line wrapping, missing charts or codes."""
    charts = read_charts(split)
    invented = documents(split)
    assert len(invented) == len(charts) == {"train": 181, "val": 60, "test": 61}[split]
    for chart, note in zip(charts, invented, strict=True):
        assert {code.code for code in note.codes} == set(consistent(code for code, _ in chart.codes))
        for code in note.codes:
            assert code.description == codebook().description(code.code) and code.evidence
            assert all(note.text[e.start : e.end] == e.text for e in code.evidence)
        first = [code.evidence[0].start for code in note.codes]
        assert first == sorted(first)


def test_marks_are_the_offsets_of_the_phrase():
    """Guards: offsets shifted by wrapping, capitals or shorthand, so that other text would be quoted."""
    rng = random.Random(2)

    def long(text):
        for short, words in ((" w/ ", " with "), (" d/t ", " due to "), (" 2/2 ", " secondary to "), (" & ", " and ")):
            text = text.replace(short, words)
        return text

    for chart in read_charts("test"):
        text, marks, plan = notes._compose(
            consistent(code for code, _ in chart.codes), phrase_book(), template_table("test"), rng, "note"
        )
        assert len(marks) == len(plan.mentions)
        for start, end, mention in marks:
            assert long(normalise(text[start:end])) == long(normalise(mention.text))


def test_notes_are_a_function_of_the_seed():
    """Guards: gold that changes between runs."""
    assert documents("test", 0)[:5] == documents("test", 0)[:5] != documents("test", 1)[:5]


@pytest.mark.parametrize("size, number", [("sentence", 300), ("paragraph", 200), ("note", 120)])
def test_training_notes_have_no_held_out_code(size, number):
    """Guards: a leak into the experiment whether spans alone teach a code."""
    assert len(held_out()) > 100
    for note in itertools.islice(random_documents(random.Random(7), size), number):
        assert held_out().isdisjoint(code.code for code in note.codes)
        assert all(note.text[e.start : e.end] == e.text for code in note.codes for e in code.evidence)


def test_sizes_differ():
    """Guards: a curriculum whose stages do not differ."""
    means = [
        sum(len(note.text) for note in itertools.islice(random_documents(random.Random(1), size), 60)) / 60
        for size in ("sentence", "paragraph", "note")
    ]
    assert means[0] * 1.5 < means[1] and means[1] * 1.5 < means[2]


@pytest.mark.parametrize(
    "codes, expected",
    [
        (["I10", "I50.9"], ("I11.0", "I50.9")),
        (["I10", "N18.9"], ("I12.9", "N18.9")),
        (["I10", "N18.6", "I50.22"], ("I13.2", "I50.22", "N18.6")),
        (["E11.9", "N18.30"], ("E11.22", "N18.30")),
        (["E11.9", "R73.9"], ("E11.65",)),
        (["I10"], ("I10",)),
    ],
)
def test_combination_codes_follow_the_guidelines(codes, expected):
    """Guards: notes that teach I10 with heart failure, against the Official Guidelines."""
    assert consistent(codes) == expected


@pytest.mark.parametrize("split, varied", [("test", False), ("train", False), ("train", True)])
def test_what_is_denied_is_not_coded(split, varied, monkeypatch):
    """Guards: a denied, ruled-out or relative's disease as evidence, or denied although the note affirms its family."""
    drafts = []
    code_of = {
        normalise(phrase.text): phrase.code
        for phrases in phrase_book().hand.values()
        for phrase in phrases
        if phrase.kind in "nc"
    }

    class Recorder(Draft):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.denials = []  # offsets
            drafts.append(self)

        def denied(self, slot):
            text = super().denied(slot)
            self.denials.append((self.length, self.length + len(text)))
            return text

    drawn, draw = [], Distractors.draw
    monkeypatch.setattr(notes, "Draft", Recorder)
    monkeypatch.setattr(Distractors, "draw", lambda self: drawn.append((self.families, draw(self))) or drawn[-1][1])
    rng = random.Random(5)
    if split == "test":
        lists = [([code for code, _ in chart.codes], "note") for chart in read_charts("test")]
    else:
        lists = [(random_codes(rng, size), size) for size in ("note", "paragraph", "sentence") for _ in range(50)]
    for codes, size in lists:
        note = invent_note(codes, phrase_book(), template_table(split), rng, "x", size, varied)
        evidence = [quotation for code in note.codes for quotation in code.evidence]
        denials = drafts[-1].denials  # of the attempt that was kept
        assert not [(e, a, b) for e in evidence for a, b in denials if e.start < b and a < e.end]
        assert not {normalise(e.text) for e in evidence} & {normalise(note.text[a:b]) for a, b in denials}
    assert len(drawn) > 200
    for families, text in drawn:
        assert normalise(text) not in code_of or family(code_of[normalise(text)]) not in families, text


def test_foreign_words_neither_negate_nor_name_a_disease():
    """Guards: variety that negates an affirmed disease, adds words to its name, or inserts an uncoded disease."""
    phrases = notes.coded_phrases()
    source = vary.source(phrases)
    assert len(source.runs) > 1000 and len(source.sentences) > 500
    words = {word for phrase in phrases for word in vary.WORD.findall(phrase)} - vary.COMMON
    assert not [run for run in source.runs if any(word.lower() in vary.CUES or word.lower() in words for word in run)]
    for sentence in source.sentences:
        lower = [word.lower() for word in vary.WORD.findall(sentence)]
        assert phrases.isdisjoint(" ".join(lower[a:b]) for a in range(len(lower)) for b in range(a + 1, a + 8)), (
            sentence
        )


def test_varied_notes_keep_denials():
    """Guards: "No pneumonia" changed to "Room pneumonia": a sentence with a distractor keeps its words."""
    table, rng = template_table("train"), random.Random(3)
    variety = vary.Variety(
        rng, vary.source(notes.coded_phrases()), words=1.0, runs=1.0, fillers=1.0, headings=1.0, shuffled=True
    )
    for shape in table.shapes["neg"][:20]:
        draft = Draft(Facts.draw(random.Random(0)), table, FixedDistractor(), ["gout"], variety=variety)
        draft.shape(shape)
        plain = Draft(Facts.draw(random.Random(0)), table, FixedDistractor(), ["gout"])
        plain.shape(shape)
        assert "".join(draft.parts) == "".join(plain.parts)
    draft = Draft(Facts.draw(rng), table, FixedDistractor(), ["gout"], variety=variety)
    mention = next(iter(make_plan(["I10"], phrase_book(), rng, repeats=0).mentions))
    shape = next(
        shape for shape in table.serving("state", mention.kind) if shape.needs == ("X",) and len(shape.text) > 20
    )
    draft.shape(shape, {mention.kind: [mention]})
    text = "".join(draft.parts)
    assert mention.text.lower() in text.lower() and text.replace(mention.text, "{X}") != shape.text


class FixedDistractor:
    """Distractors that are all the same."""

    def draw(self):
        return "pneumonia"


def test_a_note_without_codes_is_not_empty():
    """Guards: an empty note, or codes of denied diseases, where nothing is affirmed."""
    note = invent_note([], phrase_book(), template_table("test"), random.Random(3), "x", "paragraph")
    assert note.codes == () and note.text.strip()
