"""clh, mac and --verify, with an LLM that answers as a script says: each stage's prompt, what is made of its replies,
and that no reply brings in a code from outside the list."""

import random

import pytest

from minscl.data.icd import CodeBook
from minscl.data.types import Assignment, CodedDocument, Evidence, Note
from minscl.infer.systems.clh import CANDIDATES, GUIDELINES, MAX_QUOTATIONS, code_like_humans
from minscl.infer.systems.mac import MAX_CODES, multi_agent_coding
from minscl.infer.systems.questions import CHOICE, introduce
from minscl.infer.systems.verify import MAX_SIBLINGS, siblings, verify_dialogue, verify_documents
from tests.scripted_asker import Scripted, converse

BOOK = CodeBook.load()
NOTE = Note("n", "Pt with HTN and DM2, A1c 9.4. Obesity. No chest pain.")
CODES = {"HTN": ["I15.9", "I10"], "DM2": ["E11.9", "E11.65"], "A1c 9.4": ["R73.09"], "Obesity": ["E66.9"]}
EXTRACTED = "Evidence:\n1. HTN\n2. DM2\n3. A1c 9.4\n4. hypertension\n5. HTN"


class Lookup:
    """A retriever that knows CODES and remembers what it was asked."""

    def __init__(self):
        self.asked = []

    def codes(self, phrase, limit):
        """See clh.CodeSource."""
        self.asked.append((phrase, limit))
        return CODES.get(phrase, [])


def clh(answer, note=NOTE):
    """(document, asker, retriever)."""
    retriever = Lookup()
    [document], asker = converse(lambda item: code_like_humans(item, BOOK, retriever), [note], answer)
    return document, asker, retriever


def test_clh_from_quotations_to_verified_codes():
    """Guards a stage that is not asked, a quotation that is not in the note, a candidate's number off by one, evidence
    lost between the stages, and a code that the last stage refused."""

    def answer(question):
        if question.stage == "extract":
            return EXTRACTED
        if question.stage == "assign":
            return "2" if "HTN" in question.asks or "DM2" in question.asks else "0"
        return "no" if "Does E11.65" in question.asks else "yes"

    document, asker, retriever = clh(answer)
    assert asker.stages == [["extract"], ["assign"] * 3, ["verify"] * 2]
    assert retriever.asked == [(phrase, CANDIDATES) for phrase in ("HTN", "DM2", "A1c 9.4")]
    assert document.codes == (
        Assignment("I10", "Essential (primary) hypertension", (Evidence("HTN", 8, 11, grounded=True),), score=0.25),
    )
    assert all(question.prompt.startswith(introduce(NOTE)) for questions in asker.rounds for question in questions)
    assert document.output.count("--- step ") == 6 and "\n> 2\n--- step 3: assign" in document.output


def test_clh_shows_candidates_with_their_notes_and_the_list_with_its_rules():
    """Guards: a choice without what the Tabular List says, and a verification that sees one code alone."""
    reply = {"extract": EXTRACTED, "verify": "yes"}
    _, asker, _ = clh(lambda question: reply.get(question.stage, "1"))
    hypertension = asker.rounds[1][0]
    assert hypertension.options == ("0", "1", "2")
    assert '"HTN"' in hypertension.asks and "\n0. none of these\n1. I15.9 Secondary hypertension" in hypertension.asks
    assert "\n2. I10 Essential (primary) hypertension (includes: high blood pressure;" in hypertension.asks
    verify = [question.asks for question in asker.rounds[2]]
    assert len(verify) == 3 and all(sentence in asks for sentence in GUIDELINES for asks in verify)
    assert all("I15.9 Secondary hypertension, unspecified\nE11.9 Type 2" in asks for asks in verify)
    assert "The Tabular List on E11.9" in verify[1] or "The Tabular List on R73.09" in verify[2]  # Excludes1 at R73


def test_clh_without_quotations_or_candidates():
    """Guards: a question about nothing, and a phrase that no one can code left unsaid."""
    document, asker, _ = clh(lambda question: "Evidence:\nnone")
    assert asker.stages == [["extract"]] and document.codes == () and document.output.endswith("> Evidence:\nnone")
    document, asker, _ = clh(lambda question: "Evidence:\n1. chest pain")
    assert asker.stages == [["extract"]] and document.warnings == ("no code was located for: chest pain",)


CODED = "Evidence:\n1. HTN\n2. DM2\nCodes:\n[1] I10 x\n[2] E11.9 x\n[2] E11 x\n[9] E66.9 x\n[1] I10 x"


def mac(verdicts, note=NOTE, coded=CODED):
    """`verdicts`: {(role, code): yes or no}, yes where it is not there."""

    def answer(question):
        if question.stage == "physician: SOAP note":
            return "S: tired. O: A1c 9.4. A: DM2, HTN. P: none."
        if question.stage == "coder":
            return coded
        [code] = [code for code in ("I10", "E11.9", "E66.9") if f"assigned {code} " in question.asks]
        return verdicts.get((question.stage, code), "yes")

    return converse(lambda item: multi_agent_coding(item, BOOK), [note], answer)


def test_mac_hands_over_in_a_fixed_order_and_the_adjuster_settles_what_is_contested():
    """Guards: a role that is not asked or does not learn what the others said; an adjuster who is asked where all
    agree, or overruled."""
    verdicts = {("patient", "I10"): "no", ("physician", "E11.9"): "no", ("adjuster", "E11.9"): "no"}
    [document], asker = mac(verdicts)
    assert asker.stages == [
        ["physician: SOAP note"],
        ["coder"],
        ["reviewer"] * 3,
        ["physician"] * 3 + ["patient"] * 3,
        ["adjuster"] * 2,
    ]
    assert [item.code for item in document.codes] == ["I10", "E66.9"]
    assert document.codes[0].evidence == (Evidence("HTN", 8, 11, grounded=True),) and document.codes[1].evidence == ()
    assert document.warnings == ("the coder's codes are not billable and left out: E11",)
    assert "S: tired. O: A1c 9.4" in asker.rounds[1][0].asks
    assert all("the reviewer says yes" in question.asks for question in asker.rounds[3])
    assert "The reviewer says yes, the physician says yes, the patient says no" in asker.rounds[4][0].asks


def test_what_is_over_a_limit_is_said():
    """Guards: quotations or codes that are left out without a word."""
    text = " ".join(f"finding{number}." for number in range(45))
    quoted = "Evidence:\n" + "\n".join(f"{number}. finding{number - 1}." for number in range(1, 46))
    document, asker, retriever = clh(lambda question: quoted, Note("n", text))
    assert len(retriever.asked) == MAX_QUOTATIONS
    assert document.warnings[-1] == "5 quotations after the first 40 were not looked up"
    codes = BOOK.billable[: MAX_CODES + 2]
    coded = "Evidence:\n1. HTN\nCodes:\n" + "\n".join(f"[1] {code} x" for code in codes)
    answer = {"coder": coded, "physician: SOAP note": "S: tired."}
    [document], _ = converse(lambda item: multi_agent_coding(item, BOOK), [NOTE], lambda q: answer.get(q.stage, "yes"))
    assert [item.code for item in document.codes] == list(codes[:MAX_CODES])
    assert document.warnings == (f"the coder's codes after the first 40 are left out: {codes[40]}, {codes[41]}",)


def test_mac_drops_what_all_refuse_and_needs_no_adjuster():
    """Guards: a code kept although no one supports it."""
    refused = {(role, "I10"): "no" for role in ("reviewer", "physician", "patient")}
    [document], asker = mac(refused)
    assert len(asker.rounds) == 4 and [item.code for item in document.codes] == ["E11.9", "E66.9"]
    [document], asker = mac({}, coded="I cannot tell.")
    assert document.codes == () and len(asker.rounds) == 2


@pytest.mark.parametrize(
    "code, expected",
    [
        ("I70.1", ["I70.0", "I70.1", "I70.8"]),
        ("I10", ["I10"]),  # no heading of its own
        ("E11.64", ["E11.641", "E11.649"]),  # a heading
        ("E11.659", ["E11.65"]),  # not listed: the longest beginning that is
        ("S72.001A", ["S72.001A", "S72.001B", "S72.001C", "S72.001D"]),
        ("XYZ", []),
    ],
)
def test_a_code_is_expanded_to_its_siblings(code, expected):
    """Guards: cousins or headings among the candidates, an invented code that stays."""
    assert siblings(code, BOOK)[: len(expected) or None] == expected
    assert all(map(BOOK.is_billable, siblings(code, BOOK)))


def test_many_siblings_are_cut_around_the_code():
    """Guards: a code that is not among its own candidates, and a list of hundreds."""
    for heading in ("T36", "S00", "M80", "H35.3", "W61"):
        for code in BOOK.billable_below(heading):
            candidates = siblings(code, BOOK)
            assert code in candidates and len(candidates) <= MAX_SIBLINGS and candidates == sorted(candidates)


DOCUMENT = CodedDocument(
    "n",
    NOTE.text,
    (
        Assignment("I10", "Essential (primary) hypertension", (Evidence("HTN", 8, 11, True),), score=0.9),
        Assignment("E11.8", "x", (Evidence("DM2", 16, 19, True),), score=0.8),
        Assignment("E11.9", "x", (Evidence("A1c 9.4", 21, 28, True),), score=0.7),
        Assignment("R07.9", "Chest pain, unspecified", (), score=0.3),
        Assignment("XYZ", "invented", ()),
    ),
    output="Evidence: …",
    warnings=("before",),
)


def test_verify_replaces_drops_and_merges():
    """Guards: a better sibling that is not taken, evidence or a score that goes to another code, two entries of one
    code, a system's own answer lost."""

    def answer(question):
        if question.stage == "verify":
            return "no" if question.asks.startswith("I10") else "yes"
        if '"DM2"' in question.asks or '"A1c 9.4"' in question.asks:
            return next(line.split(".")[0] for line in question.asks.splitlines() if " E11.9 " in line)
        return "0"

    asker = Scripted(answer)
    [document] = verify_documents([DOCUMENT], BOOK, asker, 4)
    assert asker.stages == [["choose"] * 3, ["verify"] * 3]
    [diabetes] = document.codes
    assert diabetes.code == "E11.9" and diabetes.score == 0.7
    assert [item.text for item in diabetes.evidence] == ["DM2", "A1c 9.4"]
    assert document.warnings == ("before", "XYZ is not in the Tabular List and was left out")
    assert document.output.startswith("--- step 1: generate\nEvidence: …\n--- step 2: choose\n")
    assert 'Evidence: "DM2"' in asker.rounds[1][1].asks
    assert "R07.9 Chest pain, unspecified?" in asker.rounds[0][2].asks  # a system without evidence


@pytest.mark.parametrize("seed", range(5))
def test_an_arbitrary_llm_brings_in_no_code_and_the_same_one_gives_the_same_document(seed):
    """Guards: a code from outside the candidates, evidence that is not in the note, and documents that differ from run
    to run. The LLM answers at random among what is allowed, from a generator that the question seeds."""

    def answer(question):
        chooser = random.Random(f"{seed} {question.prompt}")
        if question.form == CHOICE:
            return chooser.choice(question.options)
        phrases = "\n".join(f"{number}. {chooser.choice([*CODES, 'sepsis'])}" for number in range(1, 9))
        codes = "\n".join(f"[{chooser.randint(0, 9)}] {chooser.choice(BOOK.billable)} x" for _ in range(5))
        return f"Evidence:\n{phrases}\nCodes:\n{codes}"

    candidates = {code for codes in CODES.values() for code in codes}
    document, asker, _ = clh(answer)
    assert {item.code for item in document.codes} <= candidates and document == clh(answer)[0]
    [reviewed], asker = converse(lambda item: multi_agent_coding(item, BOOK), [NOTE], answer)
    coded = asker.rounds[1][0]
    assert all(f"] {item.code} x" in answer(coded) for item in reviewed.codes)
    [verified], _ = converse(lambda _: verify_dialogue(DOCUMENT, BOOK), [NOTE], answer)
    allowed = {code for item in DOCUMENT.codes for code in siblings(item.code, BOOK)}
    assert {item.code for item in verified.codes} <= allowed
    for item in (*document.codes, *reviewed.codes, *verified.codes):
        assert all(NOTE.text[evidence.start : evidence.end] == evidence.text for evidence in item.evidence)
