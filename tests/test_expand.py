"""Synthetic pairs and what they are checked against; the LLM of this machine. test_silver.py has silver pairs, test_endpoint.py other servers."""

import pytest

from minscl.config import DEMO
from minscl.data import Pair
from minscl.data.answer_log import AnswerLog
from minscl.data.icd import CodeBook
from minscl.data.spans.coverage import coverage
from minscl.data.spans.gold import gold_pairs
from minscl.data.spans.silver import StageOneAnswer, mine
from minscl.data.spans.synthetic import Taken, Written, reworded, spoken, synthesise, template_pairs
from minscl.data.types import Assignment, CodedDocument
from minscl.infer.llm import LocalLLM
from minscl.pretrained import load_pretrained

BOOK = CodeBook.load()


def document(id, text, *codes):
    return CodedDocument(id, text, tuple(Assignment(code, BOOK.description(code)) for code in codes))


class Writer:
    name, step = "writer", 1  # -1: the last question is answered first

    def ask(self, prompts):
        yield from [(number, self.answers[prompt.split()[2]]) for number, prompt in enumerate(prompts)][:: self.step]


def test_synthetic_answers_are_checked(tmp_path, monkeypatch):
    """Guards: an empty phrase, another code's description or phrase, the same phrase for two codes; an answer asked again, or used for another question;
    pairs that depend on which answer came first."""
    import minscl.data.spans.synthetic as module

    given = [Pair("HTN", "I10", "gold"), Pair("pneumonia", "J18.9", "gold")]
    targets = ["I11.9", "I11.0"]
    monkeypatch.setattr(
        module,
        "neighbours",
        lambda pairs, book: [(code, book.nearest(code, frozenset(one.code for one in given))) for code in targets],
    )
    llm = Writer()
    llm.answers = {
        "I11.9": "hypertensive cardiac disease\nEssential (primary) hypertension\nhtn\n" + "long " * 60,
        "I11.0": "hypertensive cardiac disease\nHypertensive heart disease\nHTN with CHF\n",
    }
    for llm.step in (1, -1):
        with AnswerLog(tmp_path / f"w{llm.step}.jsonl", Written) as journal:
            pairs, rejected = synthesise(given, BOOK, llm, journal)
        assert [(one.evidence, one.code) for one in pairs] == [
            ("hypertensive cardiac disease", "I11.9"),
            ("HTN with CHF", "I11.0"),
        ]
        assert {(one.source, one.origin) for one in pairs} == {("synthetic", "nearest: I10")}
        assert rejected == {
            "the description of another code": 2,
            "a phrase of another code": 2,
            "too long for a phrase": 1,
        }
    llm.answers = {}
    with AnswerLog(tmp_path / "w1.jsonl", Written) as journal:
        assert synthesise(given, BOOK, llm, journal) == (pairs, rejected)
    llm.answers = dict.fromkeys(targets, "")
    with AnswerLog(
        tmp_path / "w1.jsonl", Written
    ) as journal:  # the neighbour has another phrase, so the questions are others
        assert synthesise([*given, Pair("high blood pressure", "I10", "gold")], BOOK, llm, journal) == (
            [],
            {"empty": 2},
        )
    with AnswerLog(tmp_path / "empty.jsonl", Written) as journal:
        assert synthesise(given, BOOK, llm, journal) == ([], {"empty": 2})


@pytest.mark.parametrize(
    "phrase, code, fault",
    [
        ("type 2 diabetes mellitus", "E11.65", "the description of another code"),
        ("Diseases of the circulatory system", "I10", "the description of another code"),
        ("malignant neoplasm of esophagus", "C15.3", "the description of another code"),
        ("malignant neoplasm of esophagus", "C15.9", None),
        ("Essential (primary) hypertension", "I10", None),
    ],
)
def test_a_headings_words_are_evidence_of_no_code_but_the_one_it_determines(phrase, code, fault):
    """Guards: descriptions of billable codes alone looked at, so that a heading's words, which fit all codes below, become evidence of one of them."""
    assert Taken([], BOOK).fault(phrase, code) == fault


@pytest.mark.parametrize(
    "phrase, before, after, expected",
    [
        ("fracture of right hand", "Fracture of right wrist", "Fracture of left wrist", "fracture of left hand"),
        (
            "thigh frostbite, initial encounter",
            "Frostbite of thigh, initial encounter",
            "Frostbite of thigh, sequela",
            None,
        ),  # words go, none replaces them alone
        ("bruise of hand", "Contusion of right hand", "Contusion of left hand", None),
        ("right right hand", "Right hand", "Left hand", None),
    ],
)
def test_a_neighbours_phrase_is_reworded_or_left(phrase, before, after, expected):
    """Guards: a phrase that keeps the neighbour's side or encounter."""
    found = reworded(phrase, before, after)
    assert found == expected or (
        expected is None and found is not None and "initial" not in found and "right" not in found
    )


def test_templates_cover_every_code():
    """Guards: a code without a pair, a phrase that belongs to two codes or is another code's description."""
    gold = gold_pairs(BOOK)
    pairs = template_pairs(gold, BOOK)
    assert coverage([*gold, *pairs], BOOK).covered == 74_719 and {one.source for one in pairs} == {"synthetic-template"}
    assert (
        len(pairs)
        == len({one.code for one in pairs})
        == len({one.evidence.casefold() for one in pairs})
        == 74_719 - len({one.code for one in gold})
    )
    taken = Taken(gold, BOOK)
    assert not [one for one in pairs if taken.fault(one.evidence, one.code)]
    assert all(one.evidence == " ".join(one.evidence.split()) for one in pairs)
    assert (
        spoken("Unspecified fracture of shaft of humerus, unspecified arm (closed)")
        == "fracture of shaft of humerus, arm"
    )


def test_a_note_is_read_once_for_all_its_codes(tmp_path):
    """Guards: the note computed for each of its codes."""
    model, tokenizer = load_pretrained(DEMO)
    text = "HISTORY OF PRESENT ILLNESS\n" + "He came with pneumonia and atrial fibrillation. Hypertension. " * 6
    llm = LocalLLM(model, tokenizer, "demo", slots=4)
    with AnswerLog(tmp_path / "m.jsonl", StageOneAnswer) as journal:
        mine([document("a", text, *("I10", "J18.9", "I48.91", "E11.9", "K21.9", "N18.9"))], BOOK, llm, journal)
    one = len(tokenizer.encode(text))
    assert llm.asked > 6 * one and llm.computed < llm.asked - 5 * one
    answers = dict(llm.ask(["short", "word " * 5000, "brief"]))
    assert answers[1] is None and isinstance(answers[0], str) and isinstance(answers[2], str)
