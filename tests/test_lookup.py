"""The baseline without a model: phrases against regular expressions and counts by hand, documents, the command."""

import json
import random
import re
import time
from collections import Counter

import pytest

from minscl.data.icd import CodeBook
from minscl.data.jsonl import write_jsonl
from minscl.data.types import Assignment, CodedDocument, Evidence, Note, Pair
from minscl.infer.systems.lookup import PhraseTable, tokenize

BOOK = CodeBook.load()
WORDS = ("fever", "chest", "pain", "Pain", "of", "an", "x2", ",", "-", "café")


def document(text, *spans, id="1"):
    """A document of (code, quotation[, number of the occurrence from 0]), each evidence at that place."""
    codes = {}
    for code, quotation, *number in spans:
        start = [match.start() for match in re.finditer(re.escape(quotation), text)][number[0] if number else 0]
        codes.setdefault(code, []).append(Evidence(quotation, start, start + len(quotation)))
    return CodedDocument(id, text, tuple(Assignment(code, "", tuple(places)) for code, places in codes.items()))


def table(*phrases):
    """A table of `phrases`, each with R69."""
    return PhraseTable({tuple(tokenize(phrase).keys): {"R69": 1.0} for phrase in phrases})


def quotations(phrases, text):
    """What of `text` a table of `phrases` matches."""
    return [text[match.start : match.end] for match in table(*phrases).matches(text)]


def naive_pattern(phrase):
    """A regular expression for the words of `phrase` between word boundaries, any white space between two words."""
    words = phrase.split()
    gaps = [r"\s+" if f"{a}{b}".isalnum() else r"\s*" for a, b in zip(words, words[1:], strict=False)]
    inner = re.escape(words[0]) + "".join(gap + re.escape(word) for gap, word in zip(gaps, words[1:], strict=True))
    return (r"(?<!\w)" if words[0].isalnum() else "") + inner + (r"(?!\w)" if words[-1].isalnum() else "")


def random_phrase(generator, longest):
    return " ".join(generator.choice(WORDS) for _ in range(generator.randint(1, longest)))


def test_matches_are_those_of_a_regular_expression():
    """Guards: a shorter phrase before a longer one, overlaps, a match that begins or ends inside a word, lost case."""
    generator, matched = random.Random(0), 0
    for _ in range(300):
        phrases = {random_phrase(generator, 4) for _ in range(6)}
        text = "".join(
            generator.choice(WORDS) + generator.choice([" ", "  ", "\n", "", "."])
            for _ in range(generator.randint(0, 40))
        )
        by_length = sorted(phrases, key=lambda phrase: -len(phrase.split()))
        naive = re.compile("|".join(map(naive_pattern, by_length)), re.IGNORECASE)
        expected = [match.span() for match in naive.finditer(text)]
        assert [(match.start, match.end) for match in table(*phrases).matches(text)] == expected
        matched += len(expected)
    assert matched > 500


@pytest.mark.parametrize(
    "phrases, text, expected",
    [
        (["heart failure", "acute heart failure"], "Acute  heart\nfailure.", ["Acute  heart\nfailure"]),
        (["AF"], "Afebrile, AF-like, AF.", ["AF", "AF"]),
        (["chest pain", "pain in arm"], "chest pain in arm", ["chest pain"]),  # the first from the left, no overlap
        (["cafe\u0301"], "CAFÉ cafe", ["CAFÉ"]),  # an accent is part of its letter, in either form
        (["cafe"], "cafe\u0301", []),
        (["DM, type 2"], "DM , Type 2; DM type 2", ["DM , Type 2"]),
        (["a b c"], "a b", []),
    ],
)
def test_matching_by_hand(phrases, text, expected):
    """Guards: what counts as the same words."""
    assert quotations(phrases, text) == expected


def scores_of(documents, *phrases, pairs=(), **options):
    """The codes with scores of each of `phrases`, {} where it is not in the table of `documents` and `pairs`."""
    built = PhraseTable.build(documents, pairs, **options)
    return [
        {code: score for match in built.matches(phrase) for code, score in match.scores.items()} for phrase in phrases
    ]


def test_a_phrase_needs_its_share_of_occurrences():
    """Guards: a word that is rarely evidence coded wherever it stands, a share without the unannotated occurrences."""
    text = "fever, no fever, fever, fever, fever. Cough, cough, no cough."
    train = [document(text, ("R50.9", "fever"), ("R50.9", "fever", 2), ("R05.9", "cough"))]
    assert scores_of(train, "Fever", "cough") == [{"R50.9": 0.4}, {}]
    assert scores_of(train, "Fever", "cough", min_share=0.3) == [{"R50.9": 0.4}, {"R05.9": 1 / 3}]
    assert scores_of(train, "fever", min_share=0.41) == [{}]


def test_an_occurrence_in_a_longer_annotation_does_not_count():
    """Guards: "fever" thrown out because "fever of unknown origin" is evidence of another code."""
    text = "fever. fever of unknown origin. Fever of unknown origin. fever of unknown origin"
    spans = [("R50.9", "fever"), ("R50.8", "fever of unknown origin"), ("R50.8", "Fever of unknown origin")]
    assert scores_of([document(text, *spans)], "fever", "fever of unknown origin") == [{"R50.9": 0.5}, {"R50.8": 2 / 3}]


def test_codes_of_one_span_stay_together_and_others_compete():
    """Guards: one of two codes of a span lost, and two meanings of a phrase assigned at once."""
    both = document("diabetic kidney", ("N18.9", "diabetic kidney"), ("E11.22", "diabetic kidney"))
    other = document("Diabetic kidney", ("E10.22", "Diabetic kidney"), id="2")
    assert scores_of([both], "diabetic kidney") == [{"E11.22": 1.0, "N18.9": 1.0}]
    assert scores_of([both, both, other], "diabetic kidney") == [{"E11.22": 2 / 3, "N18.9": 2 / 3}]
    assert scores_of([both, other], "diabetic kidney") == [{"E10.22": 0.5}]  # of equals, the first of the alphabet
    assert scores_of([both, other, other], "diabetic kidney") == [{"E10.22": 2 / 3}]


def test_counts_are_those_of_a_naive_version():
    """Guards: occurrences counted twice or not at all, in random documents with nested annotations."""
    generator, kept = random.Random(1), 0
    for _ in range(60):
        documents, annotated, total = [], Counter(), Counter()
        for number in range(4):
            words = [generator.choice(WORDS[:6]) for _ in range(25)]
            text = " ".join(words)
            places = {(first := generator.randrange(22), first + generator.randint(1, 3)) for _ in range(6)}
            offsets = [0]
            for word in words:
                offsets.append(offsets[-1] + len(word) + 1)
            evidence = tuple(
                Evidence(text[offsets[first] : offsets[last] - 1], offsets[first], offsets[last] - 1)
                for first, last in places
            )
            documents.append(CodedDocument(f"{number}", text, (Assignment("R69", "", evidence),)))
            lower = text.lower().split()
            for first in range(25):
                for last in range(first + 1, min(first + 4, 26)):
                    if (first, last) in places:
                        annotated[tuple(lower[first:last])] += 1
                    elif any(a <= first and last <= b for a, b in places):
                        continue
                    total[tuple(lower[first:last])] += 1
        scores = PhraseTable.build(documents)
        expected = {phrase for phrase in annotated if annotated[phrase] >= 0.4 * total[phrase]}
        assert len(scores) == len(expected)
        for phrase in expected:
            [match] = scores.matches(" ".join(phrase))
            assert match.scores == {"R69": annotated[phrase] / total[phrase]}
        kept += len(expected)
    assert kept > 400


def test_evidence_that_is_no_phrase_is_left_out():
    """Guards: a quotation without offsets, white space at its ends or nothing else, one that begins inside a word."""
    text = " low fever, headache"
    evidence = (Evidence("fever", None, None, grounded=False), Evidence("ache", 16, 20), Evidence(" low ", 0, 5))
    evidence += (Evidence(" ", 4, 5),)
    assert scores_of([CodedDocument("1", text, (Assignment("R69", "", evidence),))], "fever", "ache", "low") == [
        {},
        {},
        {"R69": 1.0},
    ]


def test_documents_are_located_and_valid():
    """Guards: offsets that are not the note's, a code twice, the lower score of two phrases."""
    note = Note("n", "HTN and\nhigh  blood pressure; DM2.")
    built = PhraseTable({("htn",): {"I10": 0.9}, ("high", "blood", "pressure"): {"I10": 0.5}, ("dm2",): {"E11.9": 0.7}})
    coded = built.code(note, BOOK)
    assert [(item.code, item.score) for item in coded.codes] == [("I10", 0.9), ("E11.9", 0.7)]
    assert [item.text for item in coded.codes[0].evidence] == ["HTN", "high  blood pressure"]
    assert all(item.grounded for code in coded.codes for item in code.evidence)
    assert coded.codes[0].description == "Essential (primary) hypertension"
    assert CodedDocument.from_dict(json.loads(json.dumps(coded.to_dict()))) == coded


def test_a_large_table_codes_a_note_in_milliseconds():
    """Guards: a search over all phrases at every word."""
    generator = random.Random(2)
    words = generator.choices([f"w{number}" for number in range(3000)], k=151_000)
    built = PhraseTable({tuple(words[first : first + 1 + first % 8]): {"R69": 1.0} for first in range(150_000)})
    note = Note("n", " ".join(words[-1000:]))
    start = time.process_time()
    for _ in range(5):
        assert built.code(note, BOOK).codes
    assert (time.process_time() - start) / 5 < 0.1


@pytest.fixture
def files(tmp_path):
    """A folder with train.jsonl, spans.jsonl and notes.jsonl."""
    train = [document("HTN. Fever, no fever, fever.", ("I10", "HTN"), ("r509", "Fever"), ("R50.9", "fever", 1))]
    write_jsonl(tmp_path / "train.jsonl", train)
    write_jsonl(tmp_path / "spans.jsonl", [Pair("gout", "M10.9", "gold"), Pair("no fever", "R69", "gold")])
    notes = [Note("a", "Known htn, gout."), Note("b", "No fever.")]
    write_jsonl(tmp_path / "notes.jsonl", notes)
    return tmp_path


def test_the_command(files, generate):
    """Guards the whole of it: phrases of both files, checked documents that say what made them, a run that goes on."""
    arguments = ["notes.jsonl", "--system", "lookup", "--documents", "train.jsonl", "--spans", "spans.jsonl"]
    run = generate(*arguments, "--json", cwd=files)
    assert run.returncode == 0, run.stderr
    first, second = (CodedDocument.from_dict(json.loads(line)) for line in run.stdout.splitlines())
    assert [(item.code, item.score) for item in first.codes] == [("I10", 1.0), ("M10.9", 1.0)]
    assert [(item.code, item.score) for item in second.codes] == [("R50.9", 2 / 3)]
    assert second.warnings == ("R50.9 rests on denied evidence alone",) and second.edition
    assert second.coded_with["documents"].startswith("train.jsonl ") and "model" not in second.coded_with
    assert generate(*arguments, "--out", "out.jsonl", cwd=files).returncode == 0
    again = generate(*arguments, "--out", "out.jsonl", "--html", "page.html", cwd=files)
    assert again.returncode == 0 and "gout" in (files / "page.html").read_text()
    assert len((files / "out.jsonl").read_text().splitlines()) == 2
    (files / "spans.jsonl").write_text(json.dumps(Pair("gout", "M10.00", "gold").to_dict()))
    other = generate(*arguments, "--out", "out.jsonl", cwd=files)
    assert other.returncode == 2 and "was coded with spans spans.jsonl" in other.stderr
    table_run = generate(*arguments[:5], "--min-score", "0.7", cwd=files)
    assert "I10" in table_run.stdout and "left out, score below 0.7: R50.9 (0.67)" in table_run.stdout


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--system", "lookup"], "--system lookup: needs training data to look phrases up; give --documents FILE"),
        (["--documents", "train.jsonl"], "--documents: only --system lookup reads it"),
        (["--system", "lookup", "--spans", "spans.jsonl", "--adapter", "x"], "--system lookup --adapter: no model"),
        (["--system", "lookup", "--documents", "train.jsonl", "--grounded"], "--system lookup --grounded: no model"),
        (["--system", "lookup", "--documents", "x.jsonl"], "x.jsonl: no such file; name a JSON Lines file"),
        (["--system", "lookup", "--documents", "spans.jsonl"], "spans.jsonl:1: CodedDocument"),
        (["--system", "lookup", "--documents", "empty.jsonl"], "empty.jsonl: no phrase to look up; give documents"),
        (["--system", "lookup", "--documents", "wrong.jsonl"], "wrong.jsonl:1: codes[0] is"),
        (["--system", "lookup", "--documents", "train.jsonl", "blank.jsonl"], "c: the note is empty"),
    ],
)
def test_bad_input_is_one_line_and_status_2(files, generate, arguments, words):
    """Guards tracebacks, a flag that is silently ignored, and a table without phrases."""
    write_jsonl(files / "empty.jsonl", [document("HTN")])
    write_jsonl(files / "wrong.jsonl", [document("kidney", ("kidney", "kidney"))])
    write_jsonl(files / "blank.jsonl", [Note("c", " ")])
    notes = [] if "blank.jsonl" in arguments else ["notes.jsonl"]
    run = generate(*notes, *arguments, cwd=files)
    assert run.returncode == 2 and words in run.stderr and run.stderr.count("\n") == 1 and not run.stdout
