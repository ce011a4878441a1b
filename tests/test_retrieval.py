"""BM25 against its formula, written out word by word, and against bm25s; what the retrieval makes of the Index."""

import math
import random

import numpy as np
import pytest

from minscl.data.icd import CodeBook
from minscl.data.icd.cache import write_cache
from minscl.data.types import Assignment, CodedDocument, Evidence
from minscl.infer.systems import retrieval
from minscl.infer.systems.retrieval import BM25, Retriever, words_of

BOOK = CodeBook.load()
WORDS = ["heart", "failure", "acute", "chronic", "kidney", "stage", "left", "of"]


def random_texts(number, seed=0):
    chooser = random.Random(seed)
    return [[chooser.choice(WORDS) for _ in range(chooser.randint(1, 9))] for _ in range(number)]


def naive_score(query, text, texts, k1=1.5, b=0.75):
    """The formula of retrieval.py for one text."""
    mean = sum(map(len, texts)) / len(texts)
    total = 0.0
    for word in query:
        containing = sum(word in other for other in texts)
        idf = math.log(1 + (len(texts) - containing + 0.5) / (containing + 0.5))
        total += idf * text.count(word) / (text.count(word) + k1 * (1 - b + b * len(text) / mean))
    return total


def test_scores_are_the_formula_s():
    """Guards: a wrong length norm, a word of the query or of the text counted once."""
    texts = random_texts(50)
    index = BM25(texts)
    for query in (["heart"], ["heart", "heart", "failure"], ["unknown"], ["kidney", "of", "unknown"], []):
        expected = [naive_score(query, text, texts) for text in texts]
        np.testing.assert_allclose(index.scores(query), expected, atol=1e-12)


def test_scores_are_those_of_bm25s():
    """Guards: a formula that only we call BM25."""
    bm25s = pytest.importorskip("bm25s", reason="the teacher extra is not installed")
    texts, query = random_texts(80, seed=1), ["heart", "failure", "left"]
    teacher = bm25s.BM25(k1=1.5, b=0.75)
    teacher.index(texts, show_progress=False)
    np.testing.assert_allclose(BM25(texts).scores(query), teacher.get_scores(query), rtol=1e-5, atol=1e-6)


def test_equal_scores_keep_the_order_of_the_texts():
    """Guards: candidates in another order from run to run; texts without any word of the query."""
    index = BM25([["edema"], ["heart", "failure"], ["edema"], ["edema"], ["cough"]])
    assert [number for number, _ in index.best(["edema"], 2)] == [0, 2]
    assert [number for number, _ in index.best(["edema"], 9)] == [0, 2, 3] and index.best(["fever"], 3) == []
    assert BM25([]).best(["edema"], 3) == []


def test_words_are_compared_in_the_singular_without_function_words():
    """Guards: "Crohn's" and "crohns" as two words, "of" as evidence."""
    assert words_of("Fractures of the Femur, Crohn's") == ["fracture", "femur", "crohn"]


@pytest.mark.slow
@pytest.mark.long
def test_phrases_lead_to_their_codes(index_entries):
    """Guards: headings among the candidates, the same code twice, abbreviations of the books not looked up, a code of
    the Index that the Tabular List does not word so."""
    retriever = Retriever(BOOK, index_entries)
    for phrase, code in (
        ("mitral regurgitation", "I34.0"),
        ("type 2 diabetes with hyperglycemia", "E11.65"),
        ("CKD stage 3", "N18.30"),
        ("HYPERTENSION", "I10"),
        ("Wegener's granulomatosis", "M31.30"),
    ):
        codes = retriever.codes(phrase, 10)
        assert code in codes and len(codes) == len(set(codes)) <= 10 and all(map(BOOK.is_billable, codes)), phrase
    assert retriever.codes("xyzzy", 10) == [] and retriever.codes("", 10) == []
    assert retriever.codes("heart failure", 3) == retriever.codes("heart failure", 10)[:3]


def test_recall_counts_ranks_from_one():
    """Guards: recall@1 that looks at two codes; a phrase with two codes counted once."""
    from study.retrieval import evidence_pairs, recall

    pairs = [("a", "I10"), ("a", "E11.9"), ("b", "J18.9"), ("c", "N39.0")]
    answers = {"a": ["I10", "R05.9", "E11.65", "E11.9"], "b": ["J18.8"], "c": []}
    shares = recall(pairs, lambda phrase, limit: answers[phrase])
    assert shares[1] == (0.25, 0.5) and shares[5] == shares[50] == (0.5, 0.75)
    text = "DM2. No cough."
    evidence = {"E11.9": Evidence("DM2", 0, 3), "R05.9": Evidence("cough", 8, 13), "R52": Evidence("pain", None, None)}
    document = CodedDocument("n", text, tuple(Assignment(code, "", (item,)) for code, item in evidence.items()))
    assert evidence_pairs([document], BOOK) == [("DM2", "E11.9")]


def test_texts_are_kept_in_the_cache_folder(index_entries, tmp_path, monkeypatch):
    """Guards: the Index parsed at every start, another edition's or a damaged cache used."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    reads = []

    def read(book):
        reads.append(book)
        return index_entries[:1000]

    monkeypatch.setattr(retrieval, "read_entries", read)
    monkeypatch.setattr(retrieval, "descriptions", lambda book: [("I10", "Essential (primary) hypertension")])
    first = retrieval.load_texts(BOOK)
    assert retrieval.load_texts(BOOK) == first == retrieval.indexed_texts(BOOK, index_entries[:1000])
    assert len(reads) == 1 and first[1][-1] == "essential primary hypertension"
    [path] = (tmp_path / "minscl").iterdir()
    assert BOOK.edition.digest in path.name
    path.write_bytes(path.read_bytes()[:-9])
    assert retrieval.load_texts(BOOK) == first and len(reads) == 2
    write_cache(path, [["I10"], []])
    assert retrieval.load_texts(BOOK) == first and len(reads) == 3
