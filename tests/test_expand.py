"""Synthetic pairs and what they are checked against; the local LLM. test_silver.py has silver pairs."""

import pytest

from minscl.data import Pair
from minscl.data.answer_log import AnswerLog
from minscl.data.icd import CodeBook
from minscl.data.spans.answers import StageOneAnswer, SyntheticAnswer
from minscl.data.spans.coverage import coverage
from minscl.data.spans.silver import run_stage_one
from minscl.data.spans.synthetic import (
    PhraseIndex,
    template_pairs,
    write_synthetic,
)
from minscl.data.spans.templates import reword, simplify_description
from minscl.data.types import Assignment, CodedDocument
from minscl.infer import llm as llm_module
from minscl.infer.llm import LocalLLM

BOOK = CodeBook.load()


def document(id, text, *codes):
    return CodedDocument(id, text, tuple(Assignment(code, BOOK.description(code)) for code in codes))


class Scripted:
    """Answers by the code that the prompt names."""

    name, step = "scripted", 1  # -1: the last prompt is answered first

    def ask(self, prompts):
        yield from [(number, self.answers[prompt.split()[2]]) for number, prompt in enumerate(prompts)][:: self.step]


def test_synthetic_answers_are_checked(tmp_path, monkeypatch):
    """Guards: an empty phrase, another code's description or phrase, the same phrase for two codes; an answer asked for
    again, or used for another prompt; pairs that depend on which answer came first."""
    import minscl.data.spans.synthetic as module

    gold = [Pair("HTN", "I10", "gold"), Pair("pneumonia", "J18.9", "gold")]
    covered = frozenset(pair.code for pair in gold)
    codes = ["I11.9", "I11.0"]
    monkeypatch.setattr(
        module, "uncovered_codes", lambda pairs, book: [(code, book.nearest(code, covered)) for code in codes]
    )
    llm = Scripted()

    def write(pairs, name):
        with AnswerLog(tmp_path / name, SyntheticAnswer) as log:
            return write_synthetic(pairs, BOOK, llm, log)

    llm.answers = {
        "I11.9": "hypertensive cardiac disease\nEssential (primary) hypertension\nhtn\n" + "long " * 60,
        "I11.0": "hypertensive cardiac disease\nHypertensive heart disease\nHTN with CHF\n",
    }
    for llm.step in (1, -1):
        pairs, rejected = write(gold, f"w{llm.step}.jsonl")
        assert [(pair.evidence, pair.code) for pair in pairs] == [
            ("hypertensive cardiac disease", "I11.9"),
            ("HTN with CHF", "I11.0"),
        ]
        assert {(pair.source, pair.origin) for pair in pairs} == {("synthetic", "nearest: I10")}
        assert rejected == {
            "the description of another code": 2,
            "a phrase of another code": 2,
            "too long for a phrase": 1,
        }
    llm.answers = {}
    assert write(gold, "w1.jsonl") == (pairs, rejected)
    llm.answers = dict.fromkeys(codes, "")
    # the nearest code has another phrase, so the prompts are others
    assert write([*gold, Pair("high blood pressure", "I10", "gold")], "w1.jsonl") == ([], {"empty": 2})
    assert write(gold, "empty.jsonl") == ([], {"empty": 2})


@pytest.fixture(scope="module")
def description_index():
    return PhraseIndex([], BOOK)


@pytest.mark.parametrize(
    "phrase, code, reason",
    [
        ("type 2 diabetes mellitus", "E11.65", "the description of another code"),
        ("Diseases of the circulatory system", "I10", "the description of another code"),
        ("malignant neoplasm of esophagus", "C15.3", "the description of another code"),
        ("malignant neoplasm of esophagus", "C15.9", None),
        ("Essential (primary) hypertension", "I10", None),
    ],
)
def test_a_headings_description_is_evidence_only_of_the_code_it_determines(description_index, phrase, code, reason):
    """Guards: a heading's description, which fits all codes below it, as evidence of one of them."""
    assert description_index.conflict(phrase, code) == reason


@pytest.mark.parametrize(
    "phrase, before, after, expected",
    [
        ("fracture of right hand", "Fracture of right wrist", "Fracture of left wrist", "fracture of left hand"),
        (
            "thigh frostbite, initial encounter",
            "Frostbite of thigh, initial encounter",
            "Frostbite of thigh, sequela",
            None,
        ),  # a deletion, not a replacement
        ("bruise of hand", "Contusion of right hand", "Contusion of left hand", None),
        ("right right hand", "Right hand", "Left hand", None),
    ],
)
def test_a_neighbours_phrase_is_reworded_or_left(phrase, before, after, expected):
    """Guards: a phrase that keeps the neighbour's side or encounter."""
    reworded = reword(phrase, before, after)
    assert reworded == expected or (
        expected is None and reworded is not None and "initial" not in reworded and "right" not in reworded
    )


@pytest.mark.slow
@pytest.mark.long
def test_templates_cover_every_code(gold):
    """Guards: a code without a pair, a phrase that belongs to two codes or is another code's description."""
    gold_pairs, _ = gold
    pairs = template_pairs(gold_pairs, BOOK)
    assert coverage([*gold_pairs, *pairs], BOOK).covered == 74_879
    assert {pair.source for pair in pairs} == {"synthetic-template"}
    assert len(pairs) == 74_879 - len({pair.code for pair in gold_pairs})
    assert len(pairs) == len({pair.code for pair in pairs}) == len({pair.evidence.casefold() for pair in pairs})
    index = PhraseIndex(gold_pairs, BOOK)
    assert not [pair for pair in pairs if index.conflict(pair.evidence, pair.code)]
    assert all(pair.evidence == " ".join(pair.evidence.split()) for pair in pairs)


def test_a_description_is_simplified():
    """Guards: words that no note holds in a phrase made by rule."""
    description = "Unspecified fracture of shaft of humerus, unspecified arm (closed)"
    assert simplify_description(description) == "fracture of shaft of humerus, arm"


def test_a_note_is_read_once_for_all_its_codes(embedded, tmp_path, monkeypatch):
    """Guards: the note computed for each of its codes."""
    monkeypatch.setattr(llm_module, "MAX_ANSWER_TOKENS", 32)
    model, tokenizer = embedded
    text = "HISTORY OF PRESENT ILLNESS\n" + "He came with pneumonia and atrial fibrillation. Hypertension. " * 6
    llm = LocalLLM(model, tokenizer, "demo", batch_size=4)
    note = document("a", text, *("I10", "J18.9", "I48.91", "E11.9", "K21.9", "N18.9"))
    with AnswerLog(tmp_path / "quoted.jsonl", StageOneAnswer) as log:
        run_stage_one([note], BOOK, llm, log)
    note_tokens = len(tokenizer.encode(text))
    assert llm.prompt_tokens > 6 * note_tokens and llm.computed_tokens < llm.prompt_tokens - 5 * note_tokens
    answers = dict(llm.ask(["short", "word " * 5000, "brief"]))
    assert answers[1] is None and isinstance(answers[0], str) and isinstance(answers[2], str)
