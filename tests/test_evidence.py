"""Evidence scores against independent counting: scipy's matching, scikit-learn on key sets, and the corner cases by hand."""

import random

import pytest

from minscl.data.types import Assignment, CodedDocument, Evidence
from minscl.score.evidence import (
    MDACE,
    OVERLAP,
    document_counts,
    evidence_scores,
    maximum_matching,
    overlaps,
    spans_of,
    words,
)

TEXT = "Pt with acute on chronic systolic heart failure, DM2; A1c 9.4, and 12 kg gain. The end (CKD)."


def document(*spans, text=TEXT, id="1"):
    """(code, quotation) pairs, each at its first place; a quotation that is not there gets no offsets."""
    codes = {}
    for code, quotation in spans:
        start = text.find(quotation)
        place = (start, start + len(quotation)) if start >= 0 else (None, None)
        codes.setdefault(code, []).append(Evidence(quotation, *place))
    return CodedDocument(id, text, tuple(Assignment(code, "", tuple(found)) for code, found in codes.items()))


def scores(gold, found, **options):
    return {name: one["f1"] for name, one in evidence_scores([gold], [found] if found else [], **options).items()}


def test_the_same_evidence_scores_one_and_another_zero():
    """Guards: a metric that cannot reach 1, or one that gives points for nothing."""
    gold = document(("I50.23", "acute on chronic systolic heart failure"), ("E11.65", "DM2"))
    assert all(value == pytest.approx(1, abs=1e-5) for value in scores(gold, gold).values())
    assert set(scores(gold, document(("I10", "weight"))).values()) == set(scores(gold, None).values()) == {0.0}
    assert set(evidence_scores([gold], [gold])) == {*MDACE, *OVERLAP}


def test_mdace_keys_by_hand():
    """Guards: the code left out of a key, offsets of tokens counted from the span, numbers above 10 counted."""
    gold, found = (
        document(("E11.65", "A1c 9.4"), ("R63.5", "12 kg gain")),
        document(("E11.65", "A1c"), ("R63.5", "12 kg gain"), ("E11.9", "A1c 9.4")),
    )
    counts = document_counts(gold, found)
    assert counts["span_exact_match"] == (1, 2, 1, 3)
    assert (
        counts["token_exact_match"] == counts["token_position_independent"] == (3, 5, 3, 6)
    )  # a1c 9 4 kg gain against a1c kg gain a1c 9 4
    ratio = evidence_scores([gold], [found])["span_exact_match"]
    assert ratio["precision"] == 1 / (3 + 1e-6) and ratio["recall"] == 1 / (2 + 1e-6)


def test_position_independent_forgets_place_and_case():
    """Guards: a quotation at another of its places called wrong where place does not count, and right where it does."""
    text = "DM2 today. Later dm2 again."
    gold = CodedDocument("1", text, (Assignment("E11.9", "", (Evidence("DM2", 0, 3),)),))
    found = CodedDocument("1", text, (Assignment("E11.9", "", (Evidence("dm2", 17, 20),)),))
    result = scores(gold, found)
    assert result["span_exact_match"] == result["token_exact_match"] == 0 and result[
        "span_position_independent"
    ] == pytest.approx(1, abs=1e-5)
    lost = CodedDocument("1", text, (Assignment("E11.9", "", (Evidence("dm2", None, None, grounded=False),)),))
    assert scores(gold, lost)["span_exact_match"] == 0 and scores(gold, lost)[
        "span_position_independent"
    ] == pytest.approx(1, abs=1e-5)


def test_merge_and_trim():
    """Guards: adjacent spans of one code kept apart, of two codes joined, a nested span that shortens its parent, a bracket left at the wrong end."""

    def at(code, *places):
        return Assignment(code, "", tuple(Evidence(TEXT[a:b], a, b) for a, b in places))

    one = CodedDocument("1", TEXT, (at("A00", (8, 24), (25, 33), (14, 16)), at("B00", (34, 39))))
    assert [TEXT[a:b] for a, b, _, _ in spans_of(one, merge=True)] == ["acute on chronic systolic", "heart"]
    start = TEXT.index(" (CKD).")
    [trimmed] = spans_of(CodedDocument("1", TEXT, (at("N18.9", (start, start + 7)),)), trim=True)
    assert trimmed[2] == "(CKD)" and TEXT[trimmed[0] : trimmed[1]] == "(CKD)"
    [empty] = spans_of(CodedDocument("1", TEXT, (at("N18.9", (7, 8)),)), trim=True)
    assert empty[2] == "" and empty[0] == empty[1]  # stays an item


def test_merge_and_trim_reach_the_summed_scores():
    """Guards: options that change spans_of and no score; a quotation without a place left untrimmed."""

    def coded(*places, id="1", lost=()):
        evidence = [Evidence(TEXT[a:b], a, b) for a, b in places] + [
            Evidence(text, None, None, grounded=False) for text in lost
        ]
        return CodedDocument(id, TEXT, (Assignment("I50.23", "", tuple(evidence)),))

    gold = [coded((8, 24), (25, 33)), coded((34, 48), id="2")]  # "heart failure,"
    found = [coded((8, 33)), coded((34, 47), id="2", lost=("(heart failure)",))]
    options = ({}, {"merge": True}, {"merge": True, "trim": True})
    plain, merged, both = (evidence_scores(gold, found, **one)["span_exact_match"]["recall"] for one in options)
    assert [plain, merged, both] == pytest.approx([0, 1 / 2, 1], abs=1e-5)
    places = evidence_scores(gold, found, merge=True, trim=True)
    assert places["span_exact_match"]["precision"] == pytest.approx(2 / 3, abs=1e-5)
    lost = CodedDocument("1", "", (Assignment("I10", "", (Evidence("- HTN.", None, None, grounded=False),)),))
    assert spans_of(lost, trim=True) == [(None, None, "HTN", "I10")]


def test_codes_of_evidence_are_normalised():
    """Guards: e1165 and E11.65 as two codes, in a key and when merging; evidence of procedures counted; a code given twice counted twice."""
    gold = document(("E11.65", "DM2"), ("0BH17EZ", "12 kg gain"))
    found = CodedDocument(
        "1",
        TEXT,
        tuple(Assignment(code, "", (Evidence("DM2", *place),)) for code in ("e1165", "E11.65") for place in [(49, 52)]),
    )
    assert TEXT[49:52] == "DM2"
    for name, counts in document_counts(gold, found).items():
        assert counts == (1, 1, 1, 1), name
    parts = CodedDocument(
        "1",
        TEXT,
        (
            Assignment("I50.23", "", (Evidence(TEXT[8:24], 8, 24),)),
            Assignment("i5023", "", (Evidence(TEXT[25:33], 25, 33),)),
        ),
    )
    assert [one[:2] for one in spans_of(parts, merge=True)] == [(8, 33)]


def test_mdaces_metrics_equal_a_naive_count():
    """Guards all four keys: on random documents they are counted again by walking over lists, a code under any spelling. Tolerance 1e-9."""
    rng, text = random.Random(8), "Dm2 and 12 kg, DM2; hf: HF 9 and dm2."
    ends = [place for place in range(len(text) + 1)]
    spellings = {"E11.9": ["E11.9", "e119"], "I50.9": ["I50.9", " i50.9"]}

    def side():
        return [(rng.choice(list(spellings)), *sorted(rng.sample(ends, 2))) for _ in range(rng.randrange(6))]

    def coded(id, spans):
        return CodedDocument(
            id,
            text,
            tuple(Assignment(rng.choice(spellings[code]), "", (Evidence(text[a:b], a, b),)) for code, a, b in spans),
        )

    def tokens(a, b):
        """(begin, token) of the words of text[a:b], letter by letter."""
        found, place = [], a
        while place < b:
            end = place
            while end < b and (text[end].isalnum() or text[end] == "_"):
                end += 1
            token = text[place:end].lower()
            if token and not (token.isdigit() and int(token) > 10):
                found.append((place, token))
            place = max(end, place + 1)
        return found

    naive = {
        "span_exact_match": lambda code, a, b: [(a, b, code)],
        "span_position_independent": lambda code, a, b: [(text[a:b].lower(), code)],
        "token_exact_match": lambda code, a, b: [(begin, code) for begin, _ in tokens(a, b)],
        "token_position_independent": lambda code, a, b: [(token, code) for _, token in tokens(a, b)],
    }
    for _ in range(300):
        pairs = [(side(), side()) for _ in range(3)]
        scores_ = evidence_scores(
            [coded(str(n), gold) for n, (gold, _) in enumerate(pairs)],
            [coded(str(n), found) for n, (_, found) in enumerate(pairs)],
        )
        for name, keys in naive.items():
            right = wrong = missed = 0
            for gold, found in pairs:
                expected, answered = [], []
                for spans, listed in ((gold, expected), (found, answered)):
                    for key in (key for span in spans for key in keys(*span)):
                        listed += [key] if key not in listed else []
                right += sum(key in expected for key in answered)
                wrong += sum(key not in expected for key in answered)
                missed += sum(key not in answered for key in expected)
            p, r = right / (right + wrong + 1e-6), right / (right + missed + 1e-6)
            assert scores_[name] == pytest.approx(
                {"precision": p, "recall": r, "f1": 2 * p * r / (p + r + 1e-6)}, abs=1e-9
            ), name


def test_unicode_does_not_move_tokens():
    """Guards: `İ`, two letters once lower-cased, which moves every later offset; `²`, a digit that int() refuses."""
    text = "İstanbul fever 9² m²"
    gold = document(("R50.9", "İstanbul fever 9² m²"), text=text)
    assert scores(gold, gold)["token_exact_match"] == pytest.approx(1, abs=1e-5)
    assert scores(gold, document(("R50.9", "fever"), text=text))["token_exact_match"] > 0.3


def test_overlap_needs_more_than_half_and_a_content_word():
    """Guards: a match on half of the tokens, on function words or numbers alone, on tokens that are not next to one another."""
    for a, b, expected in [
        ("heart failure", "heart failure", True),
        ("systolic heart failure", "heart failure", True),
        ("heart failure", "heart attack", False),
        ("acute heart failure", "heart block", False),
        ("history of the", "of the", False),
        ("9.4 12", "9.4 12 13", False),
        ("acute renal failure", "acute failure renal", False),
        ("Heart-Failure", "heart failure", True),
        ("of", "of", True),
        ("pain", "chest pain on exertion", True),
    ]:
        assert overlaps(words(a), words(b)) == overlaps(words(b), words(a)) == expected, (a, b)


def naive_overlaps(a, b):
    n = min(len(a), len(b)) // 2 + 1
    plain = {
        "a",
        "an",
        "and",
        "at",
        "by",
        "due",
        "for",
        "in",
        "is",
        "of",
        "on",
        "or",
        "p",
        "s",
        "the",
        "to",
        "was",
        "with",
    }
    for i in range(len(a)):
        for j in range(len(b)):
            run = a[i : i + n]
            if (
                len(run) == n
                and run == b[j : j + n]
                and any(t not in plain and any(c.isalpha() for c in t) for t in run)
            ):
                return True
    return a == b


def test_overlap_counts_equal_scipys_matching():
    """Guards a greedy matching: on thousands of random documents the one-to-one counts are those of scipy's maximum matching."""
    sparse = pytest.importorskip("scipy.sparse")
    csgraph = pytest.importorskip("scipy.sparse.csgraph")
    rng, vocabulary = random.Random(3), ["heart", "failure", "acute", "of", "the", "12", "renal"]
    for number in range(1500):

        def side():
            return [
                (rng.choice(["I10", "N17.9"]), " ".join(rng.choice(vocabulary) for _ in range(rng.randint(1, 5))))
                for _ in range(rng.randrange(7))
            ]

        gold, found = side(), side()
        counts = document_counts(document(*gold, text=""), document(*found, text=""))
        for who in ("agnostic", "per_code"):
            sides = [
                sorted({(words(text), code if who == "per_code" else "") for code, text in one})
                for one in (gold, found)
            ]
            graph = [[int(c == d and naive_overlaps(a, b)) for b, d in sides[1]] for a, c in sides[0]]
            size = 0
            if graph and graph[0]:
                size = sum(csgraph.maximum_bipartite_matching(sparse.csr_matrix(graph), perm_type="column") >= 0)
            assert counts[f"overlap_{who}_one_to_one"] == (size, len(sides[0]), size, len(sides[1]))
            rows, columns = sum(map(any, graph)), sum(map(any, zip(*graph))) if graph else 0
            assert counts[f"overlap_{who}_many_to_one"] == (rows, len(sides[0]), columns, len(sides[1]))


def test_offset_counts_equal_scipys_matching():
    """Guards: spans that only touch, a quotation without a place that matches, one place counted twice."""
    sparse, csgraph = pytest.importorskip("scipy.sparse"), pytest.importorskip("scipy.sparse.csgraph")
    rng, text = random.Random(4), "abcdefghijklmnop"
    for _ in range(500):

        def side():
            found = [(rng.choice(["I10", "N17.9"]), *sorted(rng.sample(range(17), 2))) for _ in range(rng.randrange(6))]
            lost = [("I10", None, None)] * rng.randrange(2)
            return found + lost

        def coded(spans):
            return CodedDocument(
                "1",
                text,
                tuple(
                    Assignment(code, "", (Evidence(text[a:b] if a is not None else "elsewhere", a, b),))
                    for code, a, b in spans
                ),
            )

        gold, found = side(), side()
        counts = document_counts(coded(gold), coded(found))
        for who in ("agnostic", "per_code"):
            sides = [
                sorted({(a, b, code if who == "per_code" else "") for code, a, b in one}, key=str)
                for one in (gold, found)
            ]
            graph = [
                [
                    int(a is not None and c is not None and code == other and bool(set(range(a, b)) & set(range(c, d))))
                    for c, d, other in sides[1]
                ]
                for a, b, code in sides[0]
            ]
            size = (
                sum(csgraph.maximum_bipartite_matching(sparse.csr_matrix(graph), perm_type="column") >= 0)
                if graph and graph[0]
                else 0
            )
            assert counts[f"offset_{who}_one_to_one"] == (size, len(sides[0]), size, len(sides[1]))
            rows, columns = sum(map(any, graph)), sum(map(any, zip(*graph))) if graph else 0
            assert counts[f"offset_{who}_many_to_one"] == (rows, len(sides[0]), columns, len(sides[1]))


def test_matching_is_maximum_where_greed_fails():
    """Guards: the first neighbour taken for good."""
    assert maximum_matching([[0, 1], [0]]) == 2 and maximum_matching([[0], [0], []]) == 1 and maximum_matching([]) == 0
    assert maximum_matching([[0, 1], [0, 2], [0], [2, 3]]) == 4


def test_mdace_f1_equals_scikit_learn():
    """Guards the summing over documents: keys as labels of one binary problem."""
    metrics = pytest.importorskip("sklearn.metrics")
    rng, vocabulary = random.Random(5), TEXT.split()
    for _ in range(200):
        pairs = [
            [
                document(
                    *[(rng.choice(["I10", "E11.9"]), rng.choice(vocabulary)) for _ in range(rng.randrange(6))],
                    id=str(n),
                )
                for n in range(4)
            ]
            for _ in range(2)
        ]
        total = evidence_scores(*pairs)
        actual, answer = [], []
        for gold, found in zip(*pairs, strict=True):
            keys = [{(e.start, e.end, c.code) for c in one.codes for e in c.evidence} for one in (gold, found)]
            for key in keys[0] | keys[1]:
                actual.append(int(key in keys[0]))
                answer.append(int(key in keys[1]))
        if actual:
            p, r, f, _ = metrics.precision_recall_fscore_support(actual, answer, average="binary", zero_division=0)
            assert total["span_exact_match"] == pytest.approx({"precision": p, "recall": r, "f1": f}, abs=1e-5)
