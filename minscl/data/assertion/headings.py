"""Headings of a clinical note: which section a line opens, or that it opens some other one.

A heading that gives its section a status must be on a list. Any short line that looks like a heading ends such a
section, so that a status does not leak: what is marked as a relative's by mistake is a patient's diagnosis lost.

Read next: layout.py.
"""

import re

from minscl.data.assertion.cues import FAMILY, HISTORICAL, HYPOTHETICAL
from minscl.data.assertion.words import word_set

# Headings that give their section a status.
STATUS_HEADINGS = {
    FAMILY: """family history|family medical history|family hx|fam hx|famhx|fhx|fh|relevant family history|
        pertinent family history""",
    HYPOTHETICAL: """return precautions|precautions|differential diagnosis|differential diagnoses|differential|ddx|
        reasons to return|reasons to call|when to call|when to seek care""",
    HISTORICAL: """resolved problems|past resolved problems|inactive problems|past surgical history|surgical history|
        psh|pshx""",
}
# Headings that only end the section before.
OTHER_HEADINGS = """
    chief complaint|cc|reason for visit|reason for consultation|history of present illness|hpi|present illness|
    interval history|subjective|past medical history|past history|medical history|pmh|pmhx|
    past medical/surgical history|birth history|obstetric history|gynecologic history|
    social history|social hx|shx|sh|soc hx|allergies|allergy|medications|current medications|home medications|meds|
    immunizations|health maintenance|review of systems|review of symptoms|ros|vitals|vital signs|vitals reviewed|
    physical exam|physical examination|exam|examination|pe|objective|results|labs|laboratory data|laboratory|imaging|
    radiology|studies|data|procedure|procedures|pathology|ekg|ecg|assessment|assessment and plan|assessment & plan|
    assessment/plan|a/p|a&p|impression|impression and plan|diagnosis|diagnoses|discharge diagnosis|problem list|
    problems|active problems|plan|recommendations|instructions|follow-up|follow up|followup|disposition|
    hospital course|pertinent positives|positives|patient agreements|general|constitutional|findings|mdm|s|o|a|p
"""
# Words with which a heading that is not on the lists ends: "ED Course", "Final Diagnosis", "Mental Status Exam".
HEADING_NOUNS = word_set("""
    history hx exam examination course diagnosis diagnoses dx assessment assessments plan plans impression impressions
    problem problems list use status medications meds allergies performed making decision decisions consults consult
    consultation directives output codes code factors comorbidities visit note notes summary labs results findings
    studies review systems vitals signs data report orders instructions procedure procedures services education goals
    complaint illness imaging immunizations disposition hospitalization conclusion recommendations prophylaxis
    interpretation management evaluation discussion measurements appearance background situation time
""")  # fmt: skip
_SMALL_WORDS = word_set("of and the in for on to with & / -")
HEADING_WORDS, HEADING_LENGTH = 6, 50  # a heading that is not on the lists has no more words and characters

SPACE = r"[^\S\r\n]"
RELATIVE = re.compile(
    r"\b(?:(?:grand|step|half-)?(?:mother|father|brother|sister|son|daughter|parent)|grandma|grandpa|aunt|uncle|cousin|"
    r"sibling|niece|nephew|mom|mum|dad|fob|mg[mf]|pg[mf]|family|relative|maternal|paternal)s?\b",
    re.IGNORECASE,
)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split("|")]


STATUS_OF_HEADING = {name: status for status, text in STATUS_HEADINGS.items() for name in _names(text)}
_HEADING_NAMES = sorted([*STATUS_OF_HEADING, *_names(OTHER_HEADINGS)], key=len, reverse=True)
# "**Family history**:" → name "Family history", colon ":"; also a name alone on its line, or before a spaced dash.
HEADING = re.compile(
    rf"[#*_]{{0,4}}{SPACE}?(?P<name>{'|'.join(map(re.escape, _HEADING_NAMES))})[*_]{{0,2}}{SPACE}?"
    rf"(?:(?P<colon>:)|(?=[-–—](?:{SPACE}|$))|$)",
    re.IGNORECASE,
)


def looks_like_heading(line: str, after_blank: bool, is_capitals: bool) -> bool:
    """Whether a line that is on no list is a heading: a few words, none of them a relative.

    They end with a colon; or, after an empty line, are in capitals; or are capitalised and end with a heading's noun,
    or are two or more in capitals. In a note in capitals (`is_capitals`) these say nothing.
    """
    line = line.strip("*_# |")
    words = line.rstrip(": ").split()
    if not (words and 1 < len(line) <= HEADING_LENGTH and len(words) <= HEADING_WORDS) or RELATIVE.search(line):
        return False
    in_capitals = line.isupper() and not is_capitals
    if line.endswith(":") or (after_blank and in_capitals):
        return True
    if not all(word in _SMALL_WORDS or not word[:1].islower() for word in words) or not words[0][0].isalpha():
        return False
    last = re.split(r"[/-]", words[-2] if words[-1].startswith("#") and len(words) > 1 else words[-1])[-1].lower()
    return last in HEADING_NOUNS or (in_capitals and len(words) > 1)
