"""What an abbreviation stands for, as far as the books tell.

Printed in brackets after its words: "Chronic kidney disease (CKD)", "Human immunodeficiency virus [HIV] disease". Or
the initials of a phrase of four words or more, between function words or a line's ends, in nearly all lines where these
initials stand so: "Chronic obstructive pulmonary disease". Three initials are no evidence: of the abbreviations that
are printed in brackets, they would give another phrase for one in five (PSA, RTA, BMR). What clinicians write and the
books do not print is in CLINICAL, written by hand; abbreviations that they use for two things are not in it (MS, RF).

Read next: search.py.
"""

import re
from collections import Counter
from collections.abc import Sequence

from minscl.data.icd.index_phrases import CONNECTIVE
from minscl.data.icd.lookup.words import FUNCTION_WORDS, split_words

_BRACKETED = re.compile(r"[\[(]([A-Z][A-Za-z]{1,6})[\])]")
INITIALS = range(4, 7)  # letters
_REACH = 400  # characters before a bracket in which its words stand, eight at most
_DOMINANT = 5  # times as many lines as for any other phrase
# In the books' words, so that they lead to the code that a coder means.
CLINICAL = {
    "aaa": "abdominal aortic aneurysm",
    "aki": "acute kidney failure",
    "af": "atrial fibrillation",
    "afib": "atrial fibrillation",
    "als": "amyotrophic lateral sclerosis",
    "bph": "benign prostatic hyperplasia",
    "bppv": "benign paroxysmal vertigo",
    "cad": "coronary artery disease",
    "cabg": "presence aortocoronary bypass graft",
    "chf": "congestive heart failure",
    "cva": "cerebral infarction",
    "dka": "diabetes with ketoacidosis",
    "djd": "osteoarthritis",
    "dm": "diabetes mellitus",
    "dm1": "diabetes type 1",
    "dm2": "diabetes type 2",
    "dvt": "deep vein thrombosis",
    "esrd": "end stage renal disease",
    "gib": "gastrointestinal hemorrhage",
    "hfpef": "diastolic heart failure",
    "hfref": "systolic heart failure",
    "hld": "hyperlipidemia",
    "htn": "hypertension",
    "ibs": "irritable bowel syndrome",
    "lbp": "low back pain",
    "luts": "lower urinary tract symptoms",
    "mdd": "major depressive disorder",
    "mi": "myocardial infarction",
    "nstemi": "non-ST elevation myocardial infarction",
    "oa": "osteoarthritis",
    "osa": "obstructive sleep apnea",
    "pad": "peripheral vascular disease",
    "pna": "pneumonia",
    "pud": "peptic ulcer",
    "pvd": "peripheral vascular disease",
    "rls": "restless legs syndrome",
    "sah": "subarachnoid hemorrhage",
    "sdh": "subdural hemorrhage",
    "sle": "systemic lupus erythematosus",
    "sob": "shortness of breath",
    "stemi": "ST elevation myocardial infarction",
    "svt": "supraventricular tachycardia",
    "t1dm": "diabetes type 1",
    "t2dm": "diabetes type 2",
    "tia": "transient ischemic attack",
    "vfib": "ventricular fibrillation",
}


class Abbreviations:
    """`learn` all texts of the List, then `expand` words."""

    def __init__(self) -> None:
        self._printed: dict[str, Counter[tuple[str, ...]]] = {}

    def learn(self, text: str) -> None:
        """Take in what is printed in brackets after the words whose initials it is."""
        for match in _BRACKETED.finditer(text):
            if sum(map(str.isupper, match[1])) < 2:
                continue
            abbreviation, before = match[1].lower(), split_words(text[max(0, match.start() - _REACH) : match.start()])
            for length in range(2, 9):
                words = before[-length:]
                initials = "".join(word[0] for word in words if word not in FUNCTION_WORDS)
                if len(words) == length and words[0] not in FUNCTION_WORDS and initials == abbreviation:
                    self._printed.setdefault(abbreviation, Counter())[tuple(words)] += 1
                    break

    def expand(self, word: str, phrases: Counter[tuple[str, ...]]) -> Sequence[str]:
        """The words that a folded word stands for; () if nothing tells. `phrases`: those with its INITIALS."""
        printed = self._printed.get(word)
        if printed:
            return printed.most_common(1)[0][0]
        if word in CLINICAL:
            return split_words(CLINICAL[word])
        nouns = Counter({words: phrases[words] for words in phrases if not any(map(CONNECTIVE.fullmatch, words))})
        if not nouns:
            return ()
        (phrase, number), *others = nouns.most_common(2)
        return phrase if not others or number >= _DOMINANT * others[0][1] else ()
