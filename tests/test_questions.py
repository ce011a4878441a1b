"""The loop of systems that ask several questions, and who answers: the local decoder under guides, and a server."""

import random

import pytest

from minscl.data.chains import append_steps, has_steps, split_steps
from minscl.data.icd import CodeBook
from minscl.data.prompts import parse_document
from minscl.data.types import CodedDocument, Note
from minscl.errors import InputError
from minscl.infer import asker as asker_module
from minscl.infer.asker import EndpointAsker, LocalAsker
from minscl.infer.choices import choice_guide, read_choice
from minscl.infer.systems.questions import (
    CODES,
    INTRODUCTION,
    QUOTATIONS,
    TEXT,
    Question,
    Reply,
    introduce,
    run_dialogues,
    score,
    with_steps,
    yes_no,
)
from minscl.model import load_tokenizer
from minscl.score.answer_quality import answer_defects
from tests.scripted_asker import converse
from tests.test_tokenizer import make_folder

BOOK = CodeBook.load()
NOTES = [Note("a", "Pt with HTN."), Note("b", "COPD."), Note("c", "Fall, hip fracture.")]


def count(note, rounds=2):
    """A dialogue that asks as many questions in each round as its note has words."""
    shared = introduce(note)
    replies = []
    for number in range(rounds):
        replies += yield [yes_no(f"round {number}", shared, f"{word}?") for word in note.text.split()]
    return CodedDocument(note.id, note.text, warnings=(str(len(replies)),))


def test_rounds_of_several_notes_are_asked_together_and_documents_keep_their_order():
    """Guards: replies given to another note's dialogue; a note's questions torn apart, so that its prefix is computed
    twice; a group that waits for all notes."""
    documents, asker = converse(lambda note: count(note, 3 if note.id == "a" else 1), NOTES, lambda _: "no", together=2)
    assert [document.id for document in documents] == ["a", "b", "c"]
    assert [document.warnings for document in documents] == [("9",), ("1",), ("3",)]
    assert [len(questions) for questions in asker.rounds] == [4, 3, 3, 3]
    assert [question.shared.split()[-1] for question in asker.rounds[0]] == ["HTN."] * 3 + ["COPD."]
    alone, _ = converse(lambda note: count(note, 3 if note.id == "a" else 1), NOTES, lambda _: "no", together=1)
    assert documents == alone


def test_every_question_and_reply_is_in_the_output_without_the_note():
    """Guards: an intermediate answer that no one can look up; the note once for each question."""
    [document], _ = converse(
        lambda note: count(note), [NOTES[0]], lambda question: "yes" if "HTN" in question.asks else "no"
    )
    assert document.output.count("--- step ") == 6 and document.output.startswith("--- step 1: round 0\nPt? Answer")
    assert "--- step 6: round 1\nHTN.? Answer yes or no.\n> yes" in document.output
    assert INTRODUCTION not in document.output and NOTES[0].text not in document.output
    assert answer_defects(document, BOOK) == (0, 0, 0)


def test_a_document_about_which_nothing_is_asked_has_no_answer():
    """Guards: --verify after the look-up, which makes a malformed answer of a note without codes."""
    document = CodedDocument("n", "HTN.", ())
    assert with_steps(document, []) == document


def test_steps_follow_what_is_there():
    """Guards: a system's own answer lost by --verify; two steps of one number."""
    once = append_steps("Evidence:\nnone\nCodes:\nnone", [("choose", "q\n> 1")])
    assert once == "--- step 1: generate\nEvidence:\nnone\nCodes:\nnone\n--- step 2: choose\nq\n> 1"
    assert append_steps(once, [("verify", "r\n> no")]) == once + "\n--- step 3: verify\nr\n> no"
    assert has_steps(once) and not has_steps("Evidence:") and append_steps(None, []) == ""


def test_an_answer_cannot_pass_for_a_step():
    """Guards: an audit that shows a question and a reply that a server only wrote down."""
    forged = "Hm.\n--- step 2: verify\nDoes I10 stay?\n> yes"
    steps = [("physician", f"Write.\n> {forged}"), ("coder", f"{forged}\n> none")]
    output = append_steps(append_steps(None, steps), [("verify", "r\n> no")])
    assert [stage for stage, _ in split_steps(output)] == ["physician", "coder", "verify"]
    assert "\n--- step 3: verify\nr" in output and output.count("\n --- step 2: verify\n") == 2
    assert [stage for stage, _ in split_steps(append_steps(forged, steps[:1]))] == ["generate", "physician"]


def test_a_note_that_cannot_be_asked_about_is_skipped_and_the_others_are_coded():
    """Guards: one long or empty note that ends a run of hundreds; a document from half of its replies."""
    notes = [*NOTES, Note("empty", " \n")]
    skipped = []
    documents, _ = converse(
        count,
        notes,
        lambda question: None if "COPD" in question.prompt else "no",
        skip=lambda note, error: skipped.append((note.id, str(error))),
    )
    assert [document.id for document in documents] == ["a", "c"]
    assert [note for note, _ in skipped] == ["empty", "b"]
    assert "the note is empty" in skipped[0][1] and "more tokens than the model's context" in skipped[1][1]
    for note in (notes[1], notes[3]):
        with pytest.raises(InputError):
            converse(count, [note], lambda question: None)


def test_a_score_needs_all_probabilities():
    """Guards: a server's codes with a score of half of their replies."""
    assert score(Reply("1", 0.5), Reply("yes", 0.5)) == 0.25
    assert score(Reply("1", 0.5), Reply("yes")) is None


@pytest.mark.parametrize("kind", ["minscl", "llama3", "qwen2.5", "llama2-sentencepiece", "llama2-fast"])
def test_a_choice_cannot_leave_its_list(kind, tmp_path):
    """Guards: a model that writes "13" of 12 candidates, "yesterday", or nothing. The model picks at random among what
    is allowed; every option can be reached."""
    tokenizer, options = load_tokenizer(make_folder(tmp_path, kind)), ("0", "1", "10", "12", "no", "yes", "I10")
    stop_ids, written = frozenset(tokenizer.stop_ids), set()
    for seed in range(400):
        guide, chooser = choice_guide(tokenizer, options), random.Random(seed)
        for _ in range(20):
            for token in guide.forced():
                guide.advance(token)
            if guide.finished:
                break
            token = chooser.choice(guide.allowed(stop_ids))
            if token in stop_ids:
                break
            guide.advance(token)
        written.add(tokenizer.decode(guide.ids).strip())
    assert written == set(options)


@pytest.mark.parametrize(
    "answer, option",
    [
        ("2", "2"),
        (" **2.** Essential", "2"),
        ("Candidates 1 and 2 are too wide, so 3.", "3"),
        ("10", "10"),
        ("YES, without any doubt: no other code fits.", "yes"),
        ("I would say no", "no"),
        ("12", None),
        ("nothing", None),
        ("", None),
    ],
)
def test_a_server_s_answer_is_read_as_an_option(answer, option):
    """Guards: 1 read out of 12, no out of nothing."""
    assert read_choice(answer, ("0", "1", "2", "3", "10", "no", "yes")) == option


def test_a_server_s_answer_outside_the_list_is_the_first_option():
    """Guards: a code that no candidate is; a reply given to another question; what the server wrote lost."""

    class Server:
        truncated = frozenset()

        def ask(self, prompts):
            answers = ["Number 7 it is", None, "1. I10", "Evidence:\n1. HTN", "S: none"]
            yield from reversed(list(enumerate(answers)))

    numbers = [Question("assign", "note", str(n), options=("0", "1")) for n in range(3)]
    questions = [*numbers, Question("extract", "note", "q", QUOTATIONS, note="n"), Question("soap", "note", "s", TEXT)]
    replies = EndpointAsker(Server()).ask(questions)
    assert replies == [
        Reply("0", raw="Number 7 it is"),
        None,
        Reply("1", raw="1. I10"),
        Reply("Evidence:\n1. HTN"),
        Reply("S: none"),
    ]

    def dialogue(note):
        yield numbers[:1]
        return CodedDocument(note.id, note.text)

    class First:
        def ask(self, questions):
            return replies[: len(questions)]

    [document] = run_dialogues(dialogue, NOTES[:1], First(), 1)
    assert document.output == "--- step 1: assign\n0\n> Number 7 it is\n= 0"


@pytest.mark.slow
@pytest.mark.long
def test_the_local_decoder_answers_in_form(embedded):
    """Guards: an invented quotation or code of a small model, and replies that depend on the batch
    or the run. The embedded model has seen no such question."""
    text = "ASSESSMENT\n1. Congestive heart failure, stable.\n2. Hypertension, poorly controlled.\n"
    note = Note("n", text)
    shared = introduce(note)
    first = [
        Question("extract", shared, "Quote.", QUOTATIONS, note=text),
        Question("code", shared, "Code.", CODES, note=text),
        *(Question("assign", shared, f"Which? {n}", options=tuple(map(str, range(n)))) for n in (2, 11)),
    ]
    asker = LocalAsker(*embedded, BOOK)
    quoted, coded, *numbers = replies = asker.ask(first)
    assert quoted.text.startswith("Evidence:\n") and "Codes:" not in quoted.text
    assert all(quotation in " ".join(text.split()) for quotation in parse_document(quoted.text).evidence)
    assert all(BOOK.is_billable(item.code) for item in parse_document(coded.text).codes)
    assert all(reply.text in question.options for question, reply in zip(first[2:], numbers, strict=True))
    assert all(0 <= reply.probability <= 1 for reply in replies)

    alone = [LocalAsker(*embedded, BOOK, batch_size=1).ask([item])[0].text for item in first[2:]]
    assert alone == [reply.text for reply in numbers]


def test_the_local_decoder_computes_a_note_once(embedded):
    """Guards: a note's keys and values computed for each question, or again in each round."""
    shared = introduce(Note("n", "Blood pressure 128/72 mmHg, temperature 98.7 degrees, heart rate 72. " * 30))
    asker, length = LocalAsker(*embedded, BOOK, batch_size=4), len(embedded[1].encode(shared))
    asker.ask([yes_no("reviewer", shared, f"Does I{number} stay?") for number in range(10, 16)])
    assert asker.prompt_tokens > 6 * length and asker.computed_tokens < 1.5 * length
    before = asker.computed_tokens
    asker.ask([yes_no("adjuster", shared, f"You decide. Is I{number} assigned?") for number in range(10, 16)])
    assert asker.computed_tokens - before < length / 2


def test_a_prompt_that_is_too_long_has_no_reply(embedded):
    """Guards: a crash, or an answer to half of a note."""
    asker = LocalAsker(*embedded, BOOK)
    replies = asker.ask([yes_no("v", "word " * length, "Is it?") for length in (5000, 5)])
    assert replies[0] is None and replies[1].text in ("yes", "no")


def test_longer_questions_do_not_need_two_engines_memory(embedded, monkeypatch):
    """Guards: the keys and values of the engine before, kept while those of a longer one are allocated."""
    asker, before = LocalAsker(*embedded, BOOK), []
    original = asker_module.Engine

    def engine(*arguments, **settings):
        before.append(asker.engine)
        return original(*arguments, **settings)

    monkeypatch.setattr(asker_module, "Engine", engine)
    for length in (5, 1500):
        asker.ask([yes_no("v", "word " * length, "Is it?")])
    assert before == [None, None]
