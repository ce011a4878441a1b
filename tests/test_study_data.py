"""The study's data: notes with marked evidence, augmentation, quoting tasks, the files of study/resources/."""

import itertools
import random
import re
from pathlib import Path

import pytest

from minscl.data.icd import CodeBook
from minscl.data.prompts import parse_document
from minscl.data.types import Assignment, CodedDocument, Evidence, Pair
from minscl.errors import InputError
from study import corpus, quoting
from study.augment import (
    evidence_spans,
    excerpt,
    join_documents,
    join_lines,
    mentions,
    replace_findings,
    with_case_of,
)
from study.marked_notes import read_marked, read_marked_notes, read_phrase_lists


@pytest.fixture(scope="module")
def codebook():
    return CodeBook.load()


@pytest.fixture(scope="module")
def written(codebook):
    """{name: documents} of both files. Reading them checks that every mark reads and every code is billable."""
    return {name: corpus.written(name, codebook) for name in ("notes", "cases")}


def coded(text, *findings):
    """A document; `findings`: (code, phrase) with the phrase at its first place in the text."""
    evidence_of = {}
    for code, phrase in findings:
        start = text.index(phrase)
        evidence_of.setdefault(code, []).append(Evidence(phrase, start, start + len(phrase)))
    return CodedDocument("x", text, tuple(Assignment(code, "", tuple(items)) for code, items in evidence_of.items()))


def assert_slices(document):
    """Every quotation is the text at its offsets."""
    for assignment in document.codes:
        assert assignment.evidence
        for evidence in assignment.evidence:
            assert document.text[evidence.start : evidence.end] == evidence.text


def test_marks(codebook):
    """Guards: offsets in the marked text instead of the note, a second code or a second mark of a code that is lost."""
    marked = "Has [[DM2 with CKD|E11.22;N18.9]].\n[[CKD|N18.9]] [sic] is stable."
    document = read_marked("a", marked, codebook, "f.txt")
    assert document.text == "Has DM2 with CKD.\nCKD [sic] is stable."
    assert [(item.code, [(e.start, e.end) for e in item.evidence]) for item in document.codes] == [
        ("E11.22", [(4, 16)]),
        ("N18.9", [(4, 16), (18, 21)]),
    ]
    assert_slices(document)
    assert document.codes[1].description == "Chronic kidney disease, unspecified"


@pytest.mark.parametrize(
    "content, words",
    [
        ("=== a\nHas [[secret|E11]].", ["note a", "E11", "not billable"]),
        ("=== a\nHas [[secret|I10] and more.", ["note a", "[[phrase|CODE]]"]),
        ("=== a\nHas [[secret [[pain|R52]]|I10]].", ["note a", "[[phrase|CODE]]"]),
        ("secret\n=== a\nText.", ["before the first heading", "=== ID"]),
        ("=== a\nOne.\n=== a\nTwo.", ["note a", "two notes have this id"]),
        ("=== a\nOne.\n=== b secret\nTwo.", ["note a", "=== ID"]),
    ],
)
def test_wrong_marks(content, words, codebook, tmp_path):
    """Guards: a note that is silently lost or joined to another, brackets left in a text; messages with note text."""
    path = tmp_path / "notes.txt"
    path.write_text(content)
    with pytest.raises(InputError) as error:
        read_marked_notes(path, codebook)
    message = str(error.value)
    assert message.startswith(f"{path}: ") and all(word in message for word in words)
    assert "secret" not in message.removeprefix(str(path))


def test_phrase_lists(codebook, tmp_path):
    """Guards: a place inside a word, the first place alone for a star, a second code that is lost, evidence twice."""
    path = tmp_path / "phrases.txt"
    path.write_text("=== a\nCKD | N18.9\n* pain | R52;I10\npain | R52\n\n=== b\n", encoding="utf-8")
    first, second = read_phrase_lists(path, {"a": "NoCKD, CKD. Pain, pain or pain.", "b": "Well."}, codebook)
    assert [(item.code, [(e.start, e.end) for e in item.evidence]) for item in first.codes] == [
        ("N18.9", [(7, 10)]),
        ("R52", [(18, 22), (26, 30)]),
        ("I10", [(18, 22), (26, 30)]),
    ]
    assert_slices(first)
    assert not second.codes and second.text == "Well."


@pytest.mark.parametrize(
    "line, words",
    [
        ("secret", ["note a: phrase 1", "PHRASE | CODE"]),
        ("secret | I10", ["note a: phrase 1", "does not have this phrase"]),
        ("pain | R52;E11", ["note a: phrase 1", "E11 is not billable"]),
    ],
)
def test_wrong_phrase_lists(line, words, codebook, tmp_path):
    """Guards: an annotation that is silently lost, messages with note text."""
    path = tmp_path / "phrases.txt"
    path.write_text(f"=== a\n{line}\n", encoding="utf-8")
    with pytest.raises(InputError) as error:
        read_phrase_lists(path, {"a": "Has pain."}, codebook)
    message = str(error.value)
    assert all(word in message for word in words) and "secret" not in message.removeprefix(str(path))


def test_written_notes(written):
    """Guards: files cut short, ids that two files share, a mark that takes in white space, a note without a code."""
    assert len(written["notes"]) > 400 and len(written["cases"]) > 280
    documents = [document for part in written.values() for document in part]
    assert len({document.id for document in documents}) == len(documents)
    for document in documents:
        assert document.codes and document.text.strip() == document.text
        assert_slices(document)
        for start, end, _ in evidence_spans(document):
            assert document.text[start:end].strip() == document.text[start:end], document.id


def test_common_phrases(codebook):
    """Guards: a code that an edition has removed, a phrase twice, white space at a phrase's edge."""
    pairs = corpus.common_phrases(codebook)
    assert len(pairs) > 20_000 and {pair.origin for pair in pairs} == {
        "phrases_common.txt",
        "phrases_written_1.txt",
        "phrases_written_2.txt",
    }
    assert all(pair.evidence == " ".join(pair.evidence.split()) != "" for pair in pairs)


@pytest.mark.parametrize("line, words", [("E11 diabetes", ["E11", "not billable"]), ("I10 HTN | ", ["I10", "empty"])])
def test_wrong_phrases(line, words, codebook, tmp_path, monkeypatch):
    """Guards: an empty phrase as a training pair; a message without file and line."""
    (tmp_path / "phrases_x.txt").write_text(f"# hand-written\n{line}\n")
    monkeypatch.setattr(corpus, "RESOURCES", tmp_path)
    with pytest.raises(InputError) as error:
        corpus.common_phrases(codebook)
    assert all(word in str(error.value) for word in ["phrases_x.txt:2:", *words])


def test_invented_notes():
    """Guards: a damaged file, a note in two splits, a file whose bytes change when it is written again."""
    splits = {split: corpus.invented(split) for split in ("train", "val", "test")}  # reading them checks offsets
    assert {split: len(documents) for split, documents in splits.items()} == {"train": 1400, "val": 60, "test": 61}
    texts = [document.text for documents in splits.values() for document in documents]
    assert len(set(texts)) == len(texts)
    packed = sorted(corpus.RESOURCES.glob("*.gz"))
    assert len(packed) >= 4
    for path in packed:
        with open(path, "rb") as file:
            header = file.read(10)
        assert header[:2] == b"\x1f\x8b" and header[4:8] == bytes(4), f"{path.name} has a time stamp"
        assert not header[3] & 8, f"{path.name} has a file name"


def test_texts_without_codes():
    """Guards: notes of examples/ among the training texts, background texts that are missing."""
    notes, examples = corpus.aci_bench_train(), Path(corpus.__file__).parents[1] / "examples"
    assert len(notes) == 64 and len({note.id for note in corpus.background()}) == 2751 - len(corpus.REPEATED_CASES)
    assert not {" ".join(note.split()) for note in notes} & {
        " ".join(path.read_text(encoding="utf-8").split()) for path in examples.glob("*.txt")
    }


def test_for_coding_today(codebook):
    """Guards: headings as training answers, codes of denied findings or of relatives, a merged code's evidence lost."""
    text = "He has headache and cephalea. Denies chest pain. Mother with hypertension. Fever and old code; he has gout."
    document = coded(
        text,
        ("R51", "headache"),
        ("R51.9", "cephalea"),
        ("R07.9", "chest pain"),
        ("I10", "hypertension"),
        ("R50.9", "Fever"),
        ("W19.XXX", "old code"),
        ("M10", "gout"),
    )
    bare = Assignment("E11.9", "", ())
    today = corpus.for_coding_today(CodedDocument(document.id, text, (*document.codes, bare)), codebook)
    assert [(item.code, [e.text for e in item.evidence]) for item in today.codes] == [
        ("R51.9", ["headache", "cephalea"]),
        ("R50.9", ["Fever"]),
        ("M10.9", ["gout"]),
    ]
    assert all(item.description == codebook.description(item.code) for item in today.codes)
    assert_slices(today)


def test_excerpts_cut_no_span(written):
    """Guards: a span cut at a sentence end inside it, also where it overlaps another; an empty excerpt; offsets."""
    text = "First one. Has pain e.g. of knee. Then fever. Of\nunknown origin. Last.\n"
    spans = ("R52", "pain e.g. of"), ("M25.569", "of knee"), ("R50.9", "fever. Of"), ("R51.9", "Of\nunknown origin")
    crafted = coded(text, *spans)
    assert len(mentions(crafted)) == 2  # two overlap others
    cases = itertools.product([crafted], (1, 2, 3), range(20))
    for document, sentences, seed in [*cases, *itertools.product(written["cases"][:40], (3,), (0,))]:
        result = excerpt(document, sentences, random.Random(seed))
        start = document.text.index(result.text)
        end = start + len(result.text)
        assert result.text.strip() and len(result.text) < len(document.text)
        assert not any(
            span < place < span_end for span, span_end, _ in evidence_spans(document) for place in (start, end)
        )
        expected = [(a - start, b - start, code) for a, b, code in evidence_spans(document) if start <= a and b <= end]
        assert evidence_spans(result) == expected
        assert_slices(result)
    assert excerpt(crafted, 50, random.Random(0)) == crafted


def test_joined_documents_keep_all_evidence(written):
    """Guards: offsets of the second document in its own text, a code of both that loses the evidence of one."""
    first, second = coded("Has pain.", ("R52", "pain")), coded("Pain and DM2.", ("R52", "Pain"), ("E11.9", "DM2"))
    joined = join_documents(first, second)
    assert joined.text == "Has pain.\nPain and DM2."
    assert evidence_spans(joined) == [(4, 8, "R52"), (10, 14, "R52"), (19, 22, "E11.9")]
    for first, second in itertools.pairwise(written["cases"][:20]):
        joined = join_documents(first, second)
        assert_slices(joined)
        assert len(evidence_spans(joined)) == len(evidence_spans(first)) + len(evidence_spans(second))


def test_joined_lines_keep_offsets(written):
    """Guards: offsets that shift, evidence that still has its line break, other white space changed."""
    crafted = coded("A:\n1. pain\nin knee\t\n\nEnd", ("M25.569", "pain\nin knee"))
    for document in [crafted, *written["notes"][:10]]:
        joined = join_lines(document, 1.0, random.Random(0))
        assert joined.text == document.text.replace("\n", " ") and evidence_spans(joined) == evidence_spans(document)
        assert_slices(joined)
        partly = join_lines(document, 0.5, random.Random(0))
        assert partly.text != document.text and partly.text.replace("\n", " ") == joined.text
        assert_slices(partly)
        assert join_lines(document, 0.0, random.Random(0)) == document


def test_replaced_findings(written, codebook):
    """Guards: offsets after a phrase of another length, a code that stays without its finding, changed words around."""
    pairs = [Pair("gout", "M10.9", "gold"), Pair("acute appendicitis", "K35.80", "gold"), Pair("HTN", "I10", "gold")]
    drawn = {(pair.evidence.lower(), (pair.code,)) for pair in pairs}
    shares, replaced, total = (0.0, 0.5, 1.0), {0.0: 0, 0.5: 0, 1.0: 0}, 0
    for document, share in itertools.product(written["cases"][:15] + written["notes"][:15], shares):
        rng = random.Random(document.id)
        changed = replace_findings(document, share, lambda rng=rng: rng.choice(pairs), codebook.description, rng)
        assert_slices(changed)
        assert all(item.description == codebook.description(item.code) for item in changed.codes)
        for (start, end, codes), (a, b, new_codes) in zip(mentions(document), mentions(changed), strict=True):
            if (document.text[start:end], codes) != (changed.text[a:b], new_codes):
                assert (changed.text[a:b].lower(), new_codes) in drawn
                replaced[share] += 1
            total += share == 1
    assert replaced[0.0] == 0 and replaced[1.0] > 0.9 * total and 0.4 * total < replaced[0.5] < 0.6 * total


def test_findings_beside_and_inside_a_replaced_one(codebook):
    """Guards: a code whose words were replaced, and a code that is lost though its words are still there."""
    document = coded("Severe chest pain, fever.", ("R07.9", "chest pain"), ("R52", "pain"), ("R50.9", "fever"))
    draws = iter([Pair("gout", "M10.9", "gold"), Pair("flu", "J11.1", "gold")])
    changed = replace_findings(document, 1.0, lambda: next(draws), codebook.description, random.Random(0))
    assert changed.text == "Severe gout, flu." and [code.code for code in changed.codes] == ["M10.9", "J11.1"]
    same = replace_findings(document, 0.0, lambda: next(draws), codebook.description, random.Random(0))
    assert [code.code for code in same.codes] == ["R07.9", "R52", "R50.9"]


@pytest.mark.parametrize(
    "text, phrase, expected",
    [("Fever", "gout", "Gout"), ("fever", "Gout", "gout"), ("HTN", "gout", "gout"), ("fever", "HTN", "HTN")],
)
def test_replaced_findings_have_the_case_of_the_text(text, phrase, expected):
    """Guards: a sentence that begins small where a finding was replaced; an abbreviation in small."""
    assert with_case_of(text, phrase) == expected


def naive_findings(text, phrases):
    """Longest match by trying every pair of words as the ends of a finding, from the left, longest first."""
    words, spans, index = list(quoting.WORD.finditer(text)), [], 0
    while index < len(words):
        ends = [
            end
            for end in range(index + 1, len(words) + 1)
            if " ".join(word[0].lower() for word in words[index:end]) in phrases
        ]
        if ends:
            spans.append((words[index].start(), words[max(ends) - 1].end()))
        index = max(ends, default=index + 1)
    return spans


def test_findings_are_the_longest_phrases():
    """Guards: a shorter phrase where a longer one matches, overlapping findings, common words and short ones taken."""
    phrases = ["pain", "chest pain", "acute chest pain", "pain, acute", "flu", "Crohn's disease", "heart", "the"]
    texts = ["the heart", "the lung", "the heart of it", "a pain"]
    vocabulary = quoting.Vocabulary(phrases, texts)
    several = {"chest pain", "acute chest pain", "pain acute", "crohn's disease"}
    assert {" ".join(words) for words in vocabulary.phrases} == {"pain", *several}  # "heart" is in half of the texts
    rng = random.Random(0)
    for _ in range(300):
        text = " ".join(rng.choices(["acute", "Chest", "pain", "pain,", "Crohn's", "disease.", "flu", "\n"], k=12))
        assert vocabulary.findings(text) == naive_findings(text, {"pain", *several})


def test_quoting_tasks_are_answered_from_the_text(written):
    """Guards: a quotation that is not in the text or out of order, another number of passages than asked for."""
    vocabulary = quoting.Vocabulary(["hypertension", "type 2 diabetes mellitus", "fever", "abdominal pain"], [])
    vocabulary.phrases |= {("fever",), ("hypertension",)}  # without texts no single word is rare
    for number, document in enumerate(written["cases"][:30]):
        task = quoting.quote_any(document.text, random.Random(number))
        passages = parse_document(task.target + "\nCodes:\nnone").evidence
        asked = int(re.search(r"\d+", task.prompt)[0])
        flat = " ".join(document.text.split())
        assert task.prompt.endswith(f"\n\n{document.text}") and 1 <= len(passages) <= asked <= 8
        assert all(passage in flat for passage in passages)
        findings = parse_document(quoting.quote_findings(document.text, vocabulary).target + "\nCodes:\nnone").evidence
        spans = vocabulary.findings(document.text)
        assert list(findings) == list(dict.fromkeys(" ".join(document.text[a:b].split()) for a, b in spans))
    assert quoting.quote_any("…", random.Random(0)).target == "Evidence:\n1. …"
    assert quoting.quote_findings("Well.", vocabulary).target == "Evidence:\nnone"


def test_identifiers_are_sorted_and_drawn_alike_everywhere():
    """Guards: an answer that the prompt does not have, an order that differs from process to process (sets)."""
    task = quoting.sort_identifiers(random.Random(3))
    listed = task.prompt.split("\n\n")[1].split(", ")
    answer = [line.split(". ", 1)[1] for line in task.target.split("\n")[1:]]
    assert answer == sorted(listed) and len(set(listed)) == len(listed) >= 3
    assert listed[0] == "T60.53"
