"""Invented notes: offsets, codes and conventions hold, held-out codes stay out of training notes, the two template tables share nothing."""

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
from study.phrases import KINDS, normal
from study.plan import Distractors, consistent, family, make_plan


def bare(shape: str) -> str:
    """A shape as far as a reader sees it: case, punctuation and white space aside."""
    return " ".join(re.sub(r"[^\w{}]+", " ", shape.lower()).split())


def test_test_templates_are_not_training_templates():
    """Guards: test notes that are training notes with other words, so that the score measures memory."""
    shapes = {
        name: {bare(one) for table in module.SHAPES.values() for one in table}
        for name, module in (("train", templates_train), ("test", templates_heldout))
    }
    assert not {one for one in shapes["train"] & shapes["test"] if not re.fullmatch(r"\{\w+\}", one)}
    assert len(shapes["test"]) >= 150
    fragments = [
        {bare(one) for table in module.FRAGMENTS.values() for one in table if one}
        for module in (templates_train, templates_heldout)
    ]
    assert not fragments[0] & fragments[1]
    assert len(set(templates_heldout.LAYOUTS)) >= 10 and not set(templates_train.LAYOUTS) & set(
        templates_heldout.LAYOUTS
    )
    headings = [
        {one.lower() for table in module.HEADINGS.values() for one in table if one}
        for module in (templates_train, templates_heldout)
    ]
    assert len(headings[0] & headings[1]) <= len(headings[1]) / 6, (
        headings[0] & headings[1]
    )  # plain names that every hospital uses


def test_every_phrase_class_can_be_said_where_the_training_table_can():
    """Guards: a class of phrase that the test table has no shape for, so that its codes would vanish from test notes."""
    train, test = template_table("train"), template_table("test")
    assert train.shapes.keys() == test.shapes.keys() and train.headings.keys() == test.headings.keys()
    for table, kind in itertools.product(train.shapes, KINDS):
        assert test.serving(table, kind) or not train.serving(table, kind), (table, kind)
    for kind in KINDS:
        assert any(
            len(one.needs) == 1 and len(one.needs[0].replace("aR", "R")) == 1 for one in test.serving("state", kind)
        ), kind


def test_test_templates_name_no_disease_of_their_own():
    """Guards: a shape that says "colon cancer screening" or "fall precautions", a coded phrase that no evidence points at."""
    phrases = {normal(one.text) for known in phrase_book().hand.values() for one in known if len(one.text) > 2} - {
        "all"
    }  # ALL, the leukemia
    tables = [*templates_heldout.SHAPES.values(), *templates_heldout.FRAGMENTS.values()]
    for shape in itertools.chain.from_iterable(tables):
        words = re.findall(r"[\w/'-]+|§", re.sub(r"\{\w+\}", " § ", shape.lower()))
        runs = {" ".join(words[a:b]) for a in range(len(words)) for b in range(a + 1, min(len(words), a + 7) + 1)}
        assert runs.isdisjoint(phrases), (shape, runs & phrases)


@pytest.mark.parametrize("split", SPLITS)
def test_a_note_a_chart_with_its_codes_and_offsets(split):
    """Guards: codes without evidence, offsets that are off by one after line wrapping, charts or codes left out."""
    charts = read_charts(split)
    found = documents(split)
    assert len(found) == len(charts) == {"train": 181, "val": 60, "test": 61}[split]
    for chart, note in zip(charts, found, strict=True):
        assert {one.code for one in note.codes} == set(consistent(code for code, _ in chart.codes))
        for one in note.codes:
            assert one.description == codebook().description(one.code) and one.evidence
            assert all(note.text[e.start : e.end] == e.text for e in one.evidence)
        first = [one.evidence[0].start for one in note.codes]
        assert first == sorted(first)


def test_marks_stand_where_the_phrase_stands():
    """Guards: offsets shifted by wrapping, capitals or shorthand: the text there would be quoted, whatever it is."""
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
            assert long(normal(text[start:end])) == long(normal(mention.text))


def test_notes_are_a_function_of_the_seed():
    """Guards: a gold standard that changes between runs."""
    assert documents("test", 0)[:5] == documents("test", 0)[:5] != documents("test", 1)[:5]


@pytest.mark.parametrize("size, number", [("sentence", 300), ("paragraph", 200), ("note", 120)])
def test_training_notes_never_hold_a_held_out_code(size, number):
    """Guards: the question whether spans alone teach a code, answered by a leak."""
    assert len(held_out()) > 100
    for note in itertools.islice(random_documents(random.Random(7), size), number):
        assert held_out().isdisjoint(one.code for one in note.codes)
        assert all(note.text[e.start : e.end] == e.text for one in note.codes for e in one.evidence)


def test_sizes_differ():
    """Guards: a curriculum whose steps are all alike."""
    means = [
        sum(len(one.text) for one in itertools.islice(random_documents(random.Random(1), size), 60)) / 60
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
    """Guards: notes that teach I10 beside heart failure, against the Official Guidelines."""
    assert consistent(codes) == expected


@pytest.mark.parametrize("split, varied", [("test", False), ("train", False), ("train", True)])
def test_what_is_denied_is_not_coded(split, varied, monkeypatch):
    """Guards: a denied, ruled-out or relative's disease among the evidence, or one of a family that the same note affirms."""
    drafts, known = (
        [],
        {normal(one.text): one.code for phrases in phrase_book().hand.values() for one in phrases if one.kind in "nc"},
    )

    class Recorder(Draft):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.refused = []
            drafts.append(self)

        def denied(self, slot):
            text = super().denied(slot)
            self.refused.append((self.length, self.length + len(text)))
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
        affirmed = {normal(e.text) for one in note.codes for e in one.evidence}
        refused = drafts[-1].refused  # of the try that was kept
        assert not [
            (e, a, b) for one in note.codes for e in one.evidence for a, b in refused if e.start < b and a < e.end
        ]
        assert not affirmed & {normal(note.text[a:b]) for a, b in refused}
    assert len(drawn) > 200
    for families, text in drawn:
        assert normal(text) not in known or family(known[normal(text)]) not in families, text


def test_foreign_words_neither_deny_nor_name_a_disease():
    """Guards: variety that turns an affirmed disease into a denied one, adds words to its name, or slips an uncoded one in."""
    phrases = notes.coded_words()
    found = vary.source(phrases)
    assert len(found.runs) > 1000 and len(found.sentences) > 500
    words = {word for phrase in phrases for word in vary.WORD.findall(phrase)} - vary.COMMON
    assert not [run for run in found.runs if any(word.lower() in vary.CUES or word.lower() in words for word in run)]
    for sentence in found.sentences:
        lower = [word.lower() for word in vary.WORD.findall(sentence)]
        assert phrases.isdisjoint(" ".join(lower[a:b]) for a in range(len(lower)) for b in range(a + 1, a + 8)), (
            sentence
        )


def test_varied_notes_keep_what_denies():
    """Guards: "No pneumonia" that becomes "Room pneumonia": a sentence with a distractor keeps its words."""
    table, rng = template_table("train"), random.Random(3)
    variety = vary.Variety(
        rng, vary.source(notes.coded_words()), words=1.0, runs=1.0, fillers=1.0, headings=1.0, shuffled=True
    )
    for shape in table.shapes["neg"][:20]:
        draft = Draft(Facts.draw(random.Random(0)), table, Fixed(), ["gout"], variety=variety)
        draft.shape(shape)
        plain = Draft(Facts.draw(random.Random(0)), table, Fixed(), ["gout"])
        plain.shape(shape)
        assert "".join(draft.parts) == "".join(plain.parts)
    draft = Draft(Facts.draw(rng), table, Fixed(), ["gout"], variety=variety)
    mention = next(iter(make_plan(["I10"], phrase_book(), rng, repeats=0).mentions))
    shape = next(one for one in table.serving("state", mention.kind) if one.needs == ("X",) and len(one.text) > 20)
    draft.shape(shape, {mention.kind: [mention]})
    text = "".join(draft.parts)
    assert mention.text.lower() in text.lower() and text.replace(mention.text, "{X}") != shape.text


class Fixed:
    """A distractor that is always the same."""

    def draw(self):
        return "pneumonia"


def test_a_note_without_codes_is_not_empty():
    """Guards: an empty note, or codes for denied diseases alone, where nothing is affirmed."""
    note = invent_note([], phrase_book(), template_table("test"), random.Random(3), "x", "paragraph")
    assert note.codes == () and note.text.strip()
