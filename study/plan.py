"""From the codes of a chart to the mentions of a note: which phrase stands for which code, and what the note may deny.

Conventions (ICD-10-CM Official Guidelines): hypertension with heart failure and/or chronic kidney disease is coded
I11-I13, never I10 (I.C.9.a); type 2 diabetes with chronic kidney disease is E11.22, with hyperglycemia E11.65, with
hypoglycemia E11.649 ("with", I.A.15); Alzheimer's disease implies F02.80 where the chart has it; septic shock implies
sepsis. `consistent` applies them to a code list, so that the same mentions in two notes never have different codes. A
combination code is supported by several mentions.

Read next: draft.py.
"""

from dataclasses import dataclass

from study.phrases import Phrase, PhraseBook, normalise


@dataclass(slots=True)
class Mention:
    """A phrase to be written in the note, its class, and the codes that it supports."""

    text: str
    kind: str
    codes: tuple[str, ...]


@dataclass(slots=True)
class Plan:
    """The mentions of a note. `links` (code, prefix): the first mention of a code with `prefix` supports `code` too."""

    mentions: list[Mention]
    links: list[tuple[str, str]]
    codes: tuple[str, ...]


# A note that affirms a code of a family never denies another code of it. The longest matching prefix decides.
FAMILIES = {
    prefix: name
    for name, prefixes in {
        "heart-kidney-pressure": "I10 I11 I12 I13 I15 I16 I50 I51 I42 I43 N17 N18 N19 N28 R60 E87.7 J81 I95 R57 R03",
        "sugar": "E08 E09 E10 E11 E13 R73 E16 Z79.4",
        "blood": "D5 D60 D61 D62 D63 D64 D65 D68 D69 D7 K92 K25 K26 K27 K29 R58 K62.5",
        "brain": "I6 G45 Z86.73 R47 G81 R29 H53 G93 G91 S06 R40 R41 F05 G92 F0 G30 G31 R42 R51 G43 R55",
        "coronary": "I20 I21 I22 I24 I25 Z95 R07 Z98.61",
        "rhythm": "I44 I45 I46 I47 I48 I49 R00",
        "lungs": "J1 J2 J4 J69 J8 J9 R05 R06 R09 Z99.81 B59",
        "infection": "A4 R65 R78 A0 B95 B96 R50 N39 N30 N10 N12 R30 D72 R31",
        "liver": "K70 K71 K72 K74 K75 K76 B18 B19 I85 R18 R16 R17 R74 K80 K81 K82 K83 R79",
        "mood": "F1 F2 F3 F4 F5 F6 R45 G47 Z87.891 Z72",
        "cancer": "C D0 D1 D2 D3 D4 Z85 R59 R91 R22",
        "clots": "I26 I82 Z86.71 I80 I81 I74",
        "thyroid": "E0",
        "seizure": "G40 R56",
        "pain": "M G89 R10 R52 R25 R26",
        "volume": "E86 E87 R11 R19 K52 R63 E4 R62 R64",
        "weight": "E66 Z68",
        "skin": "L R21",
        "gut": "K2 K3 K4 K5 K6 R13",
        "urine": "N13 N2 N4 R33 R32 R35",
        "vessels": "I7 I65 I66 I67",
    }.items()
    for prefix in prefixes.split()
}


def family(code: str) -> str:
    """The family of a code, "sugar" for E11.9; its category where no family has it."""
    for length in range(min(len(code), 6), 0, -1):
        if code[:length] in FAMILIES:
            return FAMILIES[code[:length]]
    return code[:3]


def _has(codes, *prefixes) -> bool:
    """Whether any of `codes` begins with any of `prefixes`."""
    return any(code.startswith(prefixes) for code in codes)


def consistent(codes) -> tuple[str, ...]:
    """`codes` changed to follow the conventions above; sorted, without repeats."""
    codes = set(codes)
    heart, kidney, end_stage = _has(codes, "I50"), _has(codes, "N18"), _has(codes, "N18.5", "N18.6")
    hypertension = {code for code in codes if code.startswith(("I10", "I11", "I12", "I13"))}
    if hypertension:
        heart = heart or _has(hypertension, "I11.0", "I13.0", "I13.2")
        kidney = kidney or _has(hypertension, "I12", "I13")
        end_stage = end_stage or (_has(hypertension, "I12.0", "I13.2", "I13.11") and not _has(codes, "N18"))
        if heart and kidney:
            combined = "I13.2" if end_stage else "I13.0"
        elif kidney:
            combined = "I12.0" if end_stage else "I12.9"
        else:
            combined = "I11.0" if heart else "I10"
        codes = codes - hypertension | {combined}
    if _has(codes, "E11"):
        if _has(codes, "N18") and not codes & {"E11.21", "E11.22"}:
            codes.add("E11.22")
        for sign, combined in (("R73.9", "E11.65"), ("E16.2", "E11.649")):
            if sign in codes:
                codes = codes - {sign} | {combined}
        if any(code.startswith("E11") and code != "E11.9" for code in codes):
            codes.discard("E11.9")
    if "R65.21" in codes and not _has(codes, "A4", "T81.44", "B37.7"):
        codes.add("A41.9")
    return tuple(sorted(codes))


class PhraseChooser:
    """Draws the phrases of a note so that, if possible, no phrase is part of another phrase of the note."""

    def __init__(self, book: PhraseBook, rng):
        self.book, self.rng, self.taken = book, rng, []

    def phrase(self, code: str, kinds: str = "") -> Phrase | None:
        """A phrase of `code`, of the classes `kinds` where it has any; None where the code has no phrase."""
        options = self.book.of(code)
        if kinds:
            options = [phrase for phrase in options if phrase.kind in kinds] or options
        if not options:
            return None
        weights = [phrase.weight for phrase in options]
        for phrase in self.rng.choices(options, weights, k=5):
            if not self.clashes(phrase.text):
                break
        self.taken.append(normalise(phrase.text))
        return phrase

    def clashes(self, text: str) -> bool:
        """Whether `text` contains a phrase of the note or is part of one."""
        key = normalise(text)
        return any(key in other or other in key for other in self.taken)


ALZHEIMER_DEMENTIA = (
    "Alzheimer's dementia",
    "Alzheimer dementia",
    "dementia of the Alzheimer's type",
    "Alzheimers dementia",
    "dementia (Alzheimer's)",
    "Alzheimer-type dementia",
)
COLI_UTI = ("E. coli UTI", "E coli UTI", "E. coli urinary tract infection", "Ecoli UTI")


def make_plan(codes, book: PhraseBook, rng, repeats: float = 0.15) -> Plan:
    """The mentions for `codes`, which are consistent. `repeats`: the probability of mentioning a condition again."""
    chooser, mentions, links = PhraseChooser(book, rng), [], []
    todo = set(codes)

    def mention(phrase, *supported):
        if phrase is not None:
            mentions.append(Mention(phrase.text, phrase.kind, supported))

    def fixed(text, kind, *supported):
        chooser.taken.append(normalise(text))
        mentions.append(Mention(text, kind, supported))

    for code in sorted(todo):
        present = [prefix for prefix in ("I50", "N18") if _has(todo, prefix)]
        parts = {
            "I11.0": ["I50"],
            "I12.9": ["N18"],
            "I12.0": ["N18"],
            "I13.0": ["I50", "N18"],
            "I13.2": ["I50", "N18"],
        }.get(code)
        if parts and present == parts and rng.random() < 0.88:
            mention(chooser.phrase("I10", "n"), code)
            links += [(code, prefix) for prefix in parts]
            todo.discard(code)
    _diabetes(todo, chooser, mention, links, rng)
    if {"G30.9", "F02.80"} <= todo and rng.random() < 0.75:
        fixed(rng.choice(ALZHEIMER_DEMENTIA), "n", "G30.9", "F02.80")
        todo -= {"G30.9", "F02.80"}
    if {"N39.0", "B96.20"} <= todo and rng.random() < 0.4:
        fixed(rng.choice(COLI_UTI), "c", "N39.0", "B96.20")
        todo -= {"N39.0", "B96.20"}
    if {"A41.9", "R65.21"} <= todo and rng.random() < 0.4:
        mention(chooser.phrase("R65.21", "c"), "A41.9", "R65.21")
        todo -= {"A41.9", "R65.21"}
    for code in sorted(todo):
        mention(chooser.phrase(code), code)
    for first in [mention for mention in mentions if mention.kind in "ncha" and rng.random() < repeats]:
        mentions.append(_repeated(first, chooser, rng))
    return Plan(mentions, links, tuple(codes))


def _repeated(first: Mention, chooser: PhraseChooser, rng) -> Mention:
    """A second mention of the condition: by another phrase in up to half of the cases, else by the same."""
    if rng.random() < 0.5 and len(first.codes) == 1:
        options = chooser.book.of(first.codes[0])
        other = rng.choice(options) if options else None
        if (
            other is not None
            and not chooser.clashes(other.text)
            and other.kind in "nch"
            and first.codes[0] not in ("I11.0", "I12.9", "I12.0", "I13.0", "I13.2", "E11.22")
        ):
            chooser.taken.append(normalise(other.text))
            return Mention(other.text, other.kind, first.codes)
    return Mention(first.text, first.kind, first.codes)


def _diabetes(todo, chooser, mention, links, rng) -> None:
    """Mention type 2 diabetes and a complication separately: "DM2 … A1c of 9.4" for E11.65, "DM2 … CKD" for E11.22."""
    plain = []
    if "E11.22" in todo and _has(todo, "N18") and rng.random() < 0.8:
        plain.append("E11.22")
        links.append(("E11.22", "N18"))
    for code, sign in (("E11.65", "R73.9"), ("E11.649", "E16.2")):
        if code in todo and rng.random() < 0.5:
            plain.append(code)
            mention(chooser.phrase(sign, "cl"), code)
    if plain:
        mention(chooser.phrase("E11.9", "n"), *plain)
        todo.difference_update(plain)


class Distractors:
    """Draws phrases for a note to deny: of diseases outside the families of its codes.

    `codes`: the codes of the note; `pool`: the phrases to draw from; `mentioned`: the texts that the note mentions.
    """

    def __init__(self, codes, pool, mentioned, rng):
        self.pool, self.rng = pool, rng
        self.families = {family(code) for code in codes}
        self.taken = list(mentioned)

    def draw(self) -> str:
        """A phrase that was not drawn before and clashes with no mention; a harmless one where 30 tries fail."""
        for _ in range(30):
            phrase = self.rng.choice(self.pool)
            key = normalise(phrase.text)
            if family(phrase.code) not in self.families and not any(
                key in other or other in key for other in self.taken
            ):
                self.taken.append(key)
                return phrase.text
        return "new focal findings"
