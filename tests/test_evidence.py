"""Evidence scores against independent counts: scipy's matching, scikit-learn on key sets, and corner cases by hand."""

import random

import pytest

from minscl.data.types import Assignment, CodedDocument, Evidence
from minscl.score.evidence import METRICS, document_counts, evidence_scores
from minscl.score.evidence_spans import spans_of
from minscl.score.overlap import maximum_matching, tokens_of, tokens_overlap

TEXT = "Pt with acute on chronic systolic heart failure, DM2; A1c 9.4, and 12 kg gain. The end (CKD)."


def document(*spans, text=TEXT, id="1"):
    """A document of (code, quotation) pairs, each at its first occurrence; one that does not occur has no offsets."""
    codes = {}
    for code, quotation in spans:
        start = text.find(quotation)
        place = (start, start + len(quotation)) if start >= 0 else (None, None)
        codes.setdefault(code, []).append(Evidence(quotation, *place))
    return CodedDocument(id, text, tuple(Assignment(code, "", tuple(evidence)) for code, evidence in codes.items()))


def f1_scores(gold, predicted, **options):
    """{metric: F1} of one document; `predicted` may be None."""
    scores = evidence_scores([gold], [predicted] if predicted else [], **options)
    return {name: columns["f1"] for name, columns in scores.items()}


def test_the_same_evidence_scores_one_and_another_zero():
    """Guards: a metric that cannot reach 1, or that rewards evidence without any match."""
    gold = document(("I50.23", "acute on chronic systolic heart failure"), ("E11.65", "DM2"))
    assert all(value == pytest.approx(1, abs=1e-5) for value in f1_scores(gold, gold).values())
    assert set(f1_scores(gold, document(("I10", "weight"))).values()) == {0.0}
    assert set(f1_scores(gold, None).values()) == {0.0}
    assert set(evidence_scores([gold], [gold])) == {*METRICS}


def test_mdace_keys_by_hand():
    """Guards: a key without its code, token offsets relative to the span, numbers above 10 counted."""
    gold = document(("E11.65", "A1c 9.4"), ("R63.5", "12 kg gain"))
    predicted = document(("E11.65", "A1c"), ("R63.5", "12 kg gain"), ("E11.9", "A1c 9.4"))
    counts = document_counts(gold, predicted)
    assert counts["span_exact_match"] == (1, 2, 1, 3)
    # tokens: a1c 9 4 kg gain against a1c kg gain a1c 9 4
    assert counts["token_exact_match"] == counts["token_position_independent"] == (3, 5, 3, 6)
    columns = evidence_scores([gold], [predicted])["span_exact_match"]
    assert columns["precision"] == 1 / (3 + 1e-6) and columns["recall"] == 1 / (2 + 1e-6)


def test_position_independent_ignores_offsets_and_case():
    """Guards: another occurrence of the quotation scored as FP where offsets do not count, and as TP where they do."""
    text = "DM2 today. Later dm2 again."
    gold = CodedDocument("1", text, (Assignment("E11.9", "", (Evidence("DM2", 0, 3),)),))
    elsewhere = CodedDocument("1", text, (Assignment("E11.9", "", (Evidence("dm2", 17, 20),)),))
    scores = f1_scores(gold, elsewhere)
    assert scores["span_exact_match"] == scores["token_exact_match"] == 0
    assert scores["span_position_independent"] == pytest.approx(1, abs=1e-5)
    unlocated = CodedDocument("1", text, (Assignment("E11.9", "", (Evidence("dm2", None, None, grounded=False),)),))
    scores = f1_scores(gold, unlocated)
    assert scores["span_exact_match"] == 0
    assert scores["span_position_independent"] == pytest.approx(1, abs=1e-5)


def test_merge_and_trim():
    """Guards: adjacent spans of one code not merged, of two codes merged, a nested span that shortens its parent, the
    wrong bracket trimmed."""

    def at(code, *places):
        return Assignment(code, "", tuple(Evidence(TEXT[a:b], a, b) for a, b in places))

    adjacent = CodedDocument("1", TEXT, (at("A00", (8, 24), (25, 33), (14, 16)), at("B00", (34, 39))))
    assert [TEXT[a:b] for a, b, _, _ in spans_of(adjacent, merge=True)] == ["acute on chronic systolic", "heart"]
    start = TEXT.index(" (CKD).")
    [trimmed] = spans_of(CodedDocument("1", TEXT, (at("N18.9", (start, start + 7)),)), trim=True)
    assert trimmed[2] == "(CKD)" and TEXT[trimmed[0] : trimmed[1]] == "(CKD)"
    [empty] = spans_of(CodedDocument("1", TEXT, (at("N18.9", (7, 8)),)), trim=True)
    assert empty[2] == "" and empty[0] == empty[1]  # stays a span


def test_merge_and_trim_reach_the_summed_scores():
    """Guards: options that change spans_of but no score; an unlocated quotation left untrimmed."""

    def coded(*places, id="1", unlocated=()):
        evidence = [Evidence(TEXT[a:b], a, b) for a, b in places]
        evidence += [Evidence(text, None, None, grounded=False) for text in unlocated]
        return CodedDocument(id, TEXT, (Assignment("I50.23", "", tuple(evidence)),))

    gold = [coded((8, 24), (25, 33)), coded((34, 48), id="2")]  # "heart failure,"
    predicted = [coded((8, 33)), coded((34, 47), id="2", unlocated=("(heart failure)",))]
    recalls = [
        evidence_scores(gold, predicted, **options)["span_exact_match"]["recall"]
        for options in ({}, {"merge": True}, {"merge": True, "trim": True})
    ]
    assert recalls == pytest.approx([0, 1 / 2, 1], abs=1e-5)
    scores = evidence_scores(gold, predicted, merge=True, trim=True)
    assert scores["span_exact_match"]["precision"] == pytest.approx(2 / 3, abs=1e-5)
    unlocated = CodedDocument("1", "", (Assignment("I10", "", (Evidence("- HTN.", None, None, grounded=False),)),))
    assert spans_of(unlocated, trim=True) == [(None, None, "HTN", "I10")]


def test_codes_of_evidence_are_normalised():
    """Guards: e1165 and E11.65 as two codes, in a key and when merging; evidence of PCS codes counted; a repeated code
    counted twice."""
    gold = document(("E11.65", "DM2"), ("0BH17EZ", "12 kg gain"))
    predicted = CodedDocument(
        "1", TEXT, tuple(Assignment(code, "", (Evidence("DM2", 49, 52),)) for code in ("e1165", "E11.65"))
    )
    assert TEXT[49:52] == "DM2"
    for name, counts in document_counts(gold, predicted).items():
        assert counts == (1, 1, 1, 1), name
    parts = CodedDocument(
        "1",
        TEXT,
        (
            Assignment("I50.23", "", (Evidence(TEXT[8:24], 8, 24),)),
            Assignment("i5023", "", (Evidence(TEXT[25:33], 25, 33),)),
        ),
    )
    assert [span[:2] for span in spans_of(parts, merge=True)] == [(8, 33)]


def test_mdaces_metrics_equal_a_naive_count():
    """Guards all four keys: random documents, with codes in two spellings, are counted again with lists. 1e-9."""
    rng, text = random.Random(8), "Dm2 and 12 kg, DM2; hf: HF 9 and dm2."
    ends = list(range(len(text) + 1))
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
        """(begin, token) of the tokens of text[a:b], character by character."""
        pairs, place = [], a
        while place < b:
            end = place
            while end < b and (text[end].isalnum() or text[end] == "_"):
                end += 1
            token = text[place:end].lower()
            if token and not (token.isdigit() and int(token) > 10):
                pairs.append((place, token))
            place = max(end, place + 1)
        return pairs

    naive = {
        "span_exact_match": lambda code, a, b: [(a, b, code)],
        "span_position_independent": lambda code, a, b: [(text[a:b].lower(), code)],
        "token_exact_match": lambda code, a, b: [(begin, code) for begin, _ in tokens(a, b)],
        "token_position_independent": lambda code, a, b: [(token, code) for _, token in tokens(a, b)],
    }
    for _ in range(300):
        pairs = [(side(), side()) for _ in range(3)]
        scores = evidence_scores(
            [coded(str(n), gold) for n, (gold, _) in enumerate(pairs)],
            [coded(str(n), predicted) for n, (_, predicted) in enumerate(pairs)],
        )
        for name, keys in naive.items():
            tp = fp = fn = 0
            for gold, predicted in pairs:
                gold_keys, predicted_keys = [], []
                for spans, side_keys in ((gold, gold_keys), (predicted, predicted_keys)):
                    for key in (key for span in spans for key in keys(*span)):
                        side_keys += [key] if key not in side_keys else []
                tp += sum(key in gold_keys for key in predicted_keys)
                fp += sum(key not in gold_keys for key in predicted_keys)
                fn += sum(key not in predicted_keys for key in gold_keys)
            p, r = tp / (tp + fp + 1e-6), tp / (tp + fn + 1e-6)
            assert scores[name] == pytest.approx(
                {"precision": p, "recall": r, "f1": 2 * p * r / (p + r + 1e-6)}, abs=1e-9
            ), name


def test_unicode_does_not_move_tokens():
    """Guards: `İ`, two characters when lower-cased, which moves later offsets; `²`, a digit that int() refuses."""
    text = "İstanbul fever 9² m²"
    gold = document(("R50.9", "İstanbul fever 9² m²"), text=text)
    assert f1_scores(gold, gold)["token_exact_match"] == pytest.approx(1, abs=1e-5)
    assert f1_scores(gold, document(("R50.9", "fever"), text=text))["token_exact_match"] > 0.3


def test_overlap_needs_more_than_half_and_a_content_token():
    """Guards: a match on half of the tokens, on function words or numbers alone, on tokens that are not contiguous."""
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
        assert tokens_overlap(tokens_of(a), tokens_of(b)) == expected, (a, b)
        assert tokens_overlap(tokens_of(b), tokens_of(a)) == expected, (b, a)


def naive_overlap(a, b):
    n = min(len(a), len(b)) // 2 + 1
    function_words = {"a", "an", "and", "at", "by", "due", "for", "in", "is", "of", "on", "or", "p", "s", "the", "to"}
    function_words |= {"was", "with"}
    for i in range(len(a)):
        for j in range(len(b)):
            run = a[i : i + n]
            if (
                len(run) == n
                and run == b[j : j + n]
                and any(t not in function_words and any(c.isalpha() for c in t) for t in run)
            ):
                return True
    return a == b


def test_overlap_counts_equal_scipys_matching():
    """Guards a greedy matching: on 1,500 random documents the one-to-one counts equal scipy's maximum matching."""
    sparse = pytest.importorskip("scipy.sparse")
    csgraph = pytest.importorskip("scipy.sparse.csgraph")
    rng, vocabulary = random.Random(3), ["heart", "failure", "acute", "of", "the", "12", "renal"]
    for _ in range(1500):

        def side():
            return [
                (rng.choice(["I10", "N17.9"]), " ".join(rng.choice(vocabulary) for _ in range(rng.randint(1, 5))))
                for _ in range(rng.randrange(7))
            ]

        gold, predicted = side(), side()
        counts = document_counts(document(*gold, text=""), document(*predicted, text=""))
        for mode in ("agnostic", "per_code"):
            sides = [
                sorted({(tokens_of(text), code if mode == "per_code" else "") for code, text in spans})
                for spans in (gold, predicted)
            ]
            graph = [[int(c == d and naive_overlap(a, b)) for b, d in sides[1]] for a, c in sides[0]]
            size = 0
            if graph and graph[0]:
                size = sum(csgraph.maximum_bipartite_matching(sparse.csr_matrix(graph), perm_type="column") >= 0)
            assert counts[f"overlap_{mode}_one_to_one"] == (size, len(sides[0]), size, len(sides[1]))
            rows, columns = sum(map(any, graph)), sum(map(any, zip(*graph, strict=True))) if graph else 0
            assert counts[f"overlap_{mode}_many_to_one"] == (rows, len(sides[0]), columns, len(sides[1]))


def test_offset_counts_equal_scipys_matching():
    """Guards: adjacent spans matched, an unlocated quotation matched, a place counted twice."""
    sparse, csgraph = pytest.importorskip("scipy.sparse"), pytest.importorskip("scipy.sparse.csgraph")
    rng, text = random.Random(4), "abcdefghijklmnop"
    for _ in range(500):

        def side():
            spans = [(rng.choice(["I10", "N17.9"]), *sorted(rng.sample(range(17), 2))) for _ in range(rng.randrange(6))]
            return spans + [("I10", None, None)] * rng.randrange(2)

        def coded(spans):
            return CodedDocument(
                "1",
                text,
                tuple(
                    Assignment(code, "", (Evidence(text[a:b] if a is not None else "elsewhere", a, b),))
                    for code, a, b in spans
                ),
            )

        gold, predicted = side(), side()
        counts = document_counts(coded(gold), coded(predicted))
        for mode in ("agnostic", "per_code"):
            sides = [
                sorted({(a, b, code if mode == "per_code" else "") for code, a, b in spans}, key=str)
                for spans in (gold, predicted)
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
            assert counts[f"offset_{mode}_one_to_one"] == (size, len(sides[0]), size, len(sides[1]))
            rows, columns = sum(map(any, graph)), sum(map(any, zip(*graph, strict=True))) if graph else 0
            assert counts[f"offset_{mode}_many_to_one"] == (rows, len(sides[0]), columns, len(sides[1]))


def test_matching_is_maximum_where_greedy_fails():
    """Guards: a match that is never revised."""
    assert maximum_matching([[0, 1], [0]]) == 2 and maximum_matching([[0], [0], []]) == 1 and maximum_matching([]) == 0
    assert maximum_matching([[0, 1], [0, 2], [0], [2, 3]]) == 4


@pytest.mark.slow
def test_mdace_f1_equals_scikit_learn():
    """Guards the sums over documents: all keys as the samples of one binary problem."""
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
        scores = evidence_scores(*pairs)
        in_gold, in_predicted = [], []
        for documents in zip(*pairs, strict=True):
            gold, predicted = (
                {(quotation.start, quotation.end, code.code) for code in side.codes for quotation in code.evidence}
                for side in documents
            )
            for key in gold | predicted:
                in_gold.append(int(key in gold))
                in_predicted.append(int(key in predicted))
        if in_gold:
            p, r, f, _ = metrics.precision_recall_fscore_support(
                in_gold, in_predicted, average="binary", zero_division=0
            )
            assert scores["span_exact_match"] == pytest.approx({"precision": p, "recall": r, "f1": f}, abs=1e-5)
