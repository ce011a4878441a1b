"""Which relatives in a sentence are the patient: children in their own notes, mothers in obstetric ones.

"32 yo mother with gestational diabetes" is the patient, "her mother" and "infant of a 32 yo mother" are not. Where it
is in doubt, the finding is the patient's, as what is marked as a relative's by mistake is a diagnosis lost.

Read next: matching.py, which reads such a relative as "patient".
"""

import re
from collections.abc import Sequence

from minscl.data.assertion.words import (
    BABIES,
    CARERS,
    CHILDREN,
    MOTHERS,
    NEUTRAL_ADJECTIVES,
    OWNERS,
    PATIENT_ADJECTIVES,
    SOURCES,
    WORD_CLASSES,
)

ADULT = 13  # years: "8 yo mother with asthma" is a child's note
_AGE = re.compile(r"(\d{1,2})(?:-?(?:yo|yrs?|years?(?:-old)?)|[fm])?")
_GRAVIDA = re.compile(r"g\d{1,2}(?:p[\d-]+)?|gravida|primigravida|multigravida")
_EVENT = (
    r"postpartum|post-partum|intrapartum|antepartum|peripartum|deliver(?:ed|y)|labou?r|c-section|ca?esarean|nsvd|svd|"
    r"epidural|lochia|breastfeeding|weeks pregnant|weeks'? gestation"
)
_OBSTETRIC = re.compile(rf"\b(?:{_EVENT}|g\d{{1,2}} ?p\d+|gravida)\b", re.IGNORECASE)
_EVENT_WORDS = re.compile(_EVENT)
# The patient is a child; a delivery note may have an infant too.
_CHILDS = re.compile(
    r"\b(?:born (?:at|via|by|to)|\d[ -](?:hour|hr|day|week|wk|month|mo)s?[ -]old|day of life|dol|neonatology|"
    r"well[ -]child|birth history|p(?:a)?ediatric\w*|year[ -]old (?:boy|girl)|yo (?:boy|girl)|"
    r"(?:infant|baby|newborn|neonate)(?: boy| girl)? of)\b",
    re.IGNORECASE,
)
_PHRASES = (["stay", "at", "home"], ["first", "time"], ["post", "partum"])
# After a number: "32 yo", "32 y/o", "32 years old".
_YEARS = [["yo"], ["y", ".", "o", "."], ["y", ".", "o"], ["y", "/", "o"], ["year-old"], ["years-old"]]
_YEARS += [[years, "old"] for years in ("year", "years", "yr", "yrs")]
_WORDS_NEAR = 12  # how many words before and after a mother say who she is
# After the first of these or near the others she is someone else's, with an age too: "raised by a single mother".
_NOT_THE_PATIENT = OWNERS | SOURCES | {"with"}
_CHILD_BEFORE = BABIES | CHILDREN | {"boy", "girl", "born", "product", "fetus"}
_CARING = {"cares", "caring", "care", "cared", "caregiver", "carer", "lives", "living", "visits", "family"}
_FAMILY_OF_MOTHERS = CHILDREN | {"children", "daughters", "sons", "husband", "spouse", "partner", "fob", "twin"}
_OTHERS = WORD_CLASSES["RELATIVE"] - _FAMILY_OF_MOTHERS


def is_obstetric_note(text: str) -> bool:
    """Whether a note tells of a pregnancy or a delivery and its patient is not the child."""
    return bool(_OBSTETRIC.search(text)) and not _CHILDS.search(text)


def with_patients(words: list[str], is_obstetric: bool) -> list[str]:
    """`words` with "patient" for each relative who is the patient; `is_obstetric` is what `is_obstetric_note` says.

    A child is the patient unless it is said whose child it is; not even then where its mother tells.
    """
    result = words
    carers = [index for index, word in enumerate(words) if word in CARERS]
    others = {word for word in words if word in _OTHERS}
    for index in carers:
        if len(others) == 1 and _is_patient(words, index, is_obstetric):
            result = [*words] if result is words else result
            result[index] = "patient"
    for index, word in enumerate(words):
        if word in CHILDREN or word in BABIES:
            before = words[max(0, index - 3) : index]
            is_owned = word in CHILDREN or not OWNERS.isdisjoint(before)
            is_joined = before[-1:] in (["and"], ["or"]) or before[-2:-1] == ["as"]  # "mother and son", "as a child"
            if ((carers and carers[0] < index) or not is_owned) and not is_joined:
                result = [*words] if result is words else result
                result[index] = "patient"
    return result


def _is_patient(words: Sequence[str], index: int, is_obstetric: bool) -> bool:
    """Whether the mother, father or grandparent at `words[index]` is the patient."""
    start, is_described = index, False
    while start > max(0, index - _WORDS_NEAR) and (length := _adjective_before(words, start)):
        is_described |= words[start - 1] not in NEUTRAL_ADJECTIVES
        start -= length
    has_article = start > 0 and words[start - 1] in ("a", "an", "the", "this")
    earlier = words[max(0, start - _WORDS_NEAR) : start]
    before = earlier[-1 - has_article] if len(earlier) > has_article else ""
    if before in _NOT_THE_PATIENT or not OWNERS.isdisjoint(earlier[-2:]):
        return False
    if not _CARING.isdisjoint(earlier[-4:]) or not _CHILD_BEFORE.isdisjoint(earlier):
        return False
    if is_described:
        return True
    if words[index] not in MOTHERS or (before and before not in (".", ":", ";")) or not is_obstetric:
        return False
    is_the = has_article and words[start - 1] == "the"
    near = words[max(0, index - _WORDS_NEAR) : index + _WORDS_NEAR]
    return is_the or any(_GRAVIDA.fullmatch(word) or _EVENT_WORDS.fullmatch(word) for word in near)


def _adjective_before(words: Sequence[str], end: int) -> int:
    """How many words before `end` are an adjective of a patient: an age, "G2P1", "postpartum", "stay at home"; or 0."""
    word = words[end - 1]
    is_adjective = not PATIENT_ADJECTIVES.isdisjoint([word, *word.split("-")])
    if is_adjective or word in NEUTRAL_ADJECTIVES or _GRAVIDA.fullmatch(word):
        return 1
    for phrase in _PHRASES:
        if words[max(0, end - len(phrase)) : end] == phrase:
            return len(phrase)
    for unit in _YEARS:
        if words[max(0, end - len(unit)) : end] == unit:
            is_adult = end > len(unit) and _is_adult(words[end - len(unit) - 1])
            return len(unit) + 1 if is_adult else 0
    if word[:1].isdigit() and not word.isdigit() and _is_adult(word):
        return 1
    return 0


def _is_adult(word: str) -> bool:
    age = _AGE.fullmatch(word)
    return age is not None and int(age[1]) >= ADULT
