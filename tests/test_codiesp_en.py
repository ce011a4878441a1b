"""CodiEsp's evidence in English: the projection on invented sentence pairs."""

import random
import re
from itertools import product

import pytest

from minscl.errors import InputError
from study.codiesp_en.carry import Carrier, overlap, widen
from study.codiesp_en.corpus import Annotation, Case, read_annotations, read_cases
from study.codiesp_en.lexicon import Lexicon, Neighbours
from study.codiesp_en.phrases import Categories, Translations, complete, joined
from study.codiesp_en.projection import Projection, best_window, make_pair
from study.codiesp_en.sentences import ENGLISH_END, SPANISH_END, align_sentences, rarity, split_sentences, stem_counts
from study.codiesp_en.words import ENGLISH_FUNCTION_WORDS, SPANISH_FUNCTION_WORDS, cognates, root, stem, words

# Invented sentence pairs with their links, as eflomal gives them: Spanish word - English word.
SENTENCES = [
    ("dolor abdominal intenso", "severe abdominal pain", "0-2 1-1 2-0"),
    ("dolor abdominal", "abdominal pain", "0-1 1-0"),
    ("dolor torácico", "chest pain", "0-1 1-0"),
    ("fiebre y dolor abdominal", "fever and abdominal pain", "0-0 1-1 2-3 3-2"),
    ("insuficiencia cardíaca", "heart failure", "0-1 1-0"),
    ("insuficiencia renal", "renal failure", "0-1 1-0"),
    ("lesión del riñón", "lesion of the kidney", "0-0 1-1 1-2 2-3"),
    ("lesión hepática", "liver lesion", "0-1 1-0"),
    ("fiebre", "fever", "0-0"),
    ("hipertensión arterial y fiebre", "hypertension and fever", "0-0 2-1 3-2"),
    ("hiperemia conjuntival", "conjunctival hyperemia", "0-1 1-0"),
    ("conjuntival", "conjunctival redness", "0-0"),
]


def links(text, votes=1.0):
    """{(i, j): votes} of "i-j i-j"."""
    return {tuple(map(int, link.split("-"))): votes for link in text.split()}


def pair_of(spanish, english, text):
    """A pair of one case that is one sentence long."""
    pair = make_pair(Case("invented", "train", spanish, english), (0, len(spanish)), (0, len(english)))
    pair.links = links(text)
    return pair


@pytest.fixture(scope="module")
def carrier():
    """A carrier that learned its words from SENTENCES, each seen five times."""
    pairs = [pair_of(*sentence) for sentence in SENTENCES] * 5
    lexicon = Lexicon(([w.text for w in pair.spanish], [w.text for w in pair.english], pair.links) for pair in pairs)
    neighbours = Neighbours([(w.text, joined(pair, j + 1)) for j, w in enumerate(pair.english)] for pair in pairs)
    categories = Categories(SPANISH_FUNCTION_WORDS)
    for phrase, code in (("hipertensión", "I10"), ("fiebre", "R50.9"), ("lesión hepática", "K76.9")):
        categories.add(phrase, code)
    index = Categories(ENGLISH_FUNCTION_WORDS)
    index.add("weight gain", "R63.5")
    return Carrier(lexicon, neighbours, categories, index)


def carried(carrier, sentence, code, *phrases):
    """The English texts of an annotation whose parts are `phrases` of the Spanish sentence."""
    pair = pair_of(*sentence)
    places = [(sentence[0].index(phrase), sentence[0].index(phrase) + len(phrase)) for phrase in phrases]
    spans, _ = carrier.carry([pair], Annotation(code, " ".join(phrases), tuple(places)))
    return [sentence[1][start:end] for start, end in spans]


def test_an_adjective_before_its_noun_is_carried_whole(carrier):
    """Guards: "failure" alone for "insuficiencia cardíaca", whose words change places."""
    assert carried(carrier, ("Sufre insuficiencia cardíaca.", "He has heart failure.", "0-1 1-3 2-2"), "I50.9",
                   "insuficiencia cardíaca") == ["heart failure"]  # fmt: skip


def test_a_second_finding_is_not_swallowed(carrier):
    """Guards: a span that runs over "and" into the neighbouring finding."""
    sentence = ("fiebre y dolor abdominal intenso", "fever and severe abdominal pain", "0-0 1-1 2-4 3-3 4-2")
    assert carried(carrier, sentence, "R50.9", "fiebre") == ["fever"]
    assert carried(carrier, sentence, "R10.9", "dolor abdominal") == ["abdominal pain"]


def test_half_a_finding_is_left_out_unless_it_names_the_category(carrier):
    """Guards: "lesion" as evidence of a liver disease, where the translation lost the organ."""
    assert carried(carrier, ("lesión hepática", "a lesion", "0-1"), "K76.9", "lesión hepática") == []
    assert carried(carrier, ("hipertensión arterial", "hypertension", "0-0"), "I10", "hipertensión arterial") == [
        "hypertension"
    ]


def test_a_term_of_the_index_needs_no_full_alignment(carrier):
    """Guards: "weight gain" given up because eflomal linked only one of its words."""
    sentence = ("aumento de peso", "a weight gain", "2-1 2-2")
    assert carried(carrier, sentence, "R63.5", "aumento de peso") == ["weight gain"]
    assert carried(carrier, sentence, "E66.9", "aumento de peso") == []


def test_the_noun_phrase_is_completed(carrier):
    """Guards: spans that end before the noun, where the alignment lost it: "conjunctival" for its hyperemia."""
    pair = pair_of("hiperemia conjuntival", "conjunctival hyperemia and fever", "1-0")
    projection = Projection(0, 0, frozenset([1]), 1.0)
    assert complete(pair, projection, [0.0] * 4, carrier.neighbours) == (0, 1)
    other = pair_of("hiperemia conjuntival", "conjunctival pain and fever", "1-0")  # pain belongs to something else
    assert complete(other, projection, [0.0, 1.0, 0.0, 0.0], carrier.neighbours) == (0, 0)


def test_what_is_absent_is_no_evidence(carrier):
    """Guards: "painless" for the annotated "doloroso" of "no doloroso"."""
    assert carried(carrier, ("dolor", "painless", "0-0"), "R52", "dolor") == []
    assert carried(carrier, ("dolor", "pain", "0-0"), "R52", "dolor") == ["pain"]


def test_no_span_crosses_a_sentence_end(carrier):
    """Guards: a window that joins the end of one English sentence with the beginning of the next."""
    sentence = ("dolor abdominal", "He had pain. Abdominal ultrasound was normal.", "0-2 1-3")
    assert carried(carrier, sentence, "R10.9", "dolor abdominal") == []


def test_the_parts_of_a_discontinuous_annotation(carrier):
    """Guards: parts that are far apart joined over a whole text, or parts that are near each other split."""
    near = ("lesión quística del riñón", "cystic lesion of the kidney", "0-1 1-0 2-2 2-3 3-4")
    assert carried(carrier, near, "N28.9", "lesión", "riñón") == ["lesion of the kidney"]
    far = (
        "lesión. Tras un mes de fiebre, riñón",
        "A lesion. After a month of fever, the kidney",
        "0-1 1-2 2-3 3-4 4-5 5-6 6-8",
    )
    assert carried(carrier, far, "N28.9", "lesión", "riñón") == ["lesion", "kidney"]


def test_a_common_translation_is_looked_up_where_the_alignment_fails(carrier):
    """Guards: annotations lost where eflomal linked nothing, though the usual translation stands in the sentence."""
    local = Carrier(carrier.lexicon, carrier.neighbours, carrier.categories, carrier.index)
    learned = pair_of("tiene SDRC", "he has complex regional pain", "0-1 1-2 1-3 1-4")
    for _ in range(2):
        local.translations.add("SDRC", "complex regional pain", whole=True)
    learned.links = {}
    spans, method = local.carry([learned], Annotation("G90.50", "SDRC", ((6, 10),)))
    assert [learned.case.english[a:b] for a, b in spans] == ["complex regional pain"] and method == "look-up"


@pytest.mark.parametrize("seed", range(30))
def test_best_window_equals_trying_all(seed):
    """Guards: the search for the window against a naive one over all windows, without punctuation."""
    draw = random.Random(seed)
    values = [draw.choice([-0.5, -0.02, 0.3, 1.0]) for _ in range(9)]
    pair = pair_of("a", " ".join("wxyz"[k % 4] for k in range(9)), "")
    windows = [(sum(values[a : b + 1]), a, b) for a, b in product(range(9), repeat=2) if a <= b]
    best = max(total for total, _, _ in windows)
    window = best_window(values, pair)
    if best <= 0:
        assert window is None
    else:
        assert sum(values[window[0] : window[1] + 1]) == pytest.approx(best)


def test_cognates_and_stems():
    """Guards: spelling rules that separate cognates, or that join words which share a beginning only."""
    for spanish, english in (("leucocitos", "leukocytes"), ("estenosis", "stenosis"), ("fístula", "fistula"),
                             ("hipertrofia", "hypertrophy"), ("13,7", "13.7"), ("quiste", "quiste")):  # fmt: skip
        assert cognates(spanish, english) and stem(spanish) == stem(english)
    for spanish, english in (("cara", "carcinoma"), ("anuria", "anemia"), ("12", "125")):
        assert not cognates(spanish, english)
    assert root("masas") == root("masa") == root("mass") == root("masses")
    assert root("ELA") != root("ella")
    assert all(stem(letter) for letter in "hHáñ1")


def test_words_slice_to_their_text():
    """Guards: offsets that drift after an accent or a decimal comma."""
    text = "Hb 13,7 g/dl; E. coli (niño)"
    found = words(text, 3)
    assert [word.text for word in found] == ["13,7", "g", "dl", "E", "coli", "niño"]
    assert all(text[word.start : word.end] == word.text for word in found)


def test_sentences_are_split_without_loss():
    """Guards: a bacterium's initial or a decimal point taken for the end of a sentence, or text lost between two."""
    text = "Se aisló E. Coli en 1.5 ml. Mejoró.\n\nAlta a los 3 días. "
    spans = split_sentences(text, SPANISH_END)
    assert [text[a:b].strip() for a, b in spans] == ["Se aisló E. Coli en 1.5 ml.", "Mejoró.", "Alta a los 3 días."]
    assert re.sub(r"\s", "", "".join(text[a:b] for a, b in spans)) == re.sub(r"\s", "", text)


def test_sentence_alignment_finds_merged_and_missing_sentences():
    """Guards: pairs that slip by one after "1." for an empty line, or after two sentences became one line."""
    spanish = (
        "Varón de 45 años con tumoración testicular. Fumador de 20 cigarrillos. Glucosa 117 mg.\n\nFue dado de alta."
    )
    english = (
        "A 45-year-old man with testicular tumor.\nSmoker of 20 cigarettes. Glucose 117 mg.\n1.\nHe was discharged."
    )
    sides = [
        [(stem_counts(text, span), span[1] - span[0]) for span in split_sentences(text, boundary)]
        for text, boundary in ((spanish, SPANISH_END), (english, ENGLISH_END))
    ]
    weight = rarity([{key for side in sides for counts, _ in side for key in counts}])
    assert align_sentences(*sides, weight) == [((0, 1), (0, 1)), ((1, 3), (1, 2)), ((3, 4), (3, 4))]


def test_widening_stays_short():
    """Guards: a window over a whole sentence for two words that stand far apart."""
    english = "pain " + "very " * 20 + "abdominal"
    pair = pair_of("dolor abdominal", english, "0-0 1-21")
    within = [{} for _ in pair.english]
    within[0], within[21] = {0: 1.0}, {1: 1.0}
    values = [1.0 if scores else -0.1 for scores in within]
    projection = Projection(0, 0, frozenset([0]), 1.0)
    assert widen(pair, [0, 1], within, values, projection, 12) == projection
    assert widen(pair, [0, 1], within, values, projection, 30).last == 21


def test_translations_rank_and_locate():
    """Guards: a rare translation preferred, and one taken from inside another word."""
    translations = Translations()
    for english in ["fever"] * 5 + ["pyrexia"] * 2 + ["chill"]:
        translations.add("Fiebre", english, whole=True)
    assert translations.common("fiebre") == ["fever", "pyrexia"]
    pair = pair_of("con fiebre", "feverish, then pyrexia", "")
    assert translations.find(pair, Annotation("R50.9", "fiebre", ((4, 10),))) == (15, 22)
    assert overlap((0, 2), (1, 3)) and not overlap((0, 2), (2, 3))


def test_corpus_is_read_with_its_offsets(tmp_path):
    """Guards: newlines translated on reading, procedures read as diagnoses, and a bad row without its line."""
    for name in ("text_files", "text_files_en"):
        (tmp_path / "train" / name).mkdir(parents=True)
        (tmp_path / "train" / name / "a.txt").write_bytes(b"una\r\nfiebre")
    rows = "a\tDIAGNOSTICO\tr50.9\tfiebre\t5 11\na\tPROCEDIMIENTO\tbw03zzz\tRx\t0 1;2 3\n"
    (tmp_path / "train" / "trainX.tsv").write_text(rows)
    (case,) = read_cases(tmp_path, ["train"])
    assert read_annotations(tmp_path, "train") == {"a": [Annotation("R50.9", "fiebre", ((5, 11),))]}
    assert case.spanish[5:11] == "fiebre"
    (tmp_path / "train" / "trainX.tsv").write_text("a\tDIAGNOSTICO\tr50.9\n")
    with pytest.raises(InputError, match="trainX.tsv:1"):
        read_annotations(tmp_path, "train")
