"""The rules of the Tabular List for the codes of one document: `check` quotes every note that speaks against them.

    Invalid              not in the edition, not valid on the date of service, or not billable     validity.py
    Excludes1, 2         a note at one code, or above it, names the other                          exclusions.py
    Code first           a manifestation without its cause, or before it                           sequencing.py
    Use additional code, Code also                                                                 additional.py
    Unspecified, Encounters, Not alone: rules of the Official Guidelines without a note            specificity.py

Rules inform: they never drop a code. Texts that name no code are counted (references.count_references), not guessed.
Codes are compared as the edition has them, headings included, each once. ICD-10-PCS codes are left out.

Read next: references.py, how a note is read; note_index.py, how notes are found.
"""

from minscl.data.icd.codebook import CodeBook
from minscl.data.icd.rules.additional import additional_codes
from minscl.data.icd.rules.exclusions import excludes1_and_sides, excludes2
from minscl.data.icd.rules.finding import CODE_ALSO, RULES, USE_ADDITIONAL, Finding
from minscl.data.icd.rules.sequencing import code_first
from minscl.data.icd.rules.specificity import contradictions, encounters, not_alone, unspecified
from minscl.data.icd.rules.validity import invalid


def check(codes: list[str], codebook: CodeBook | None = None) -> list[Finding]:
    """What the Tabular List says against `codes`, in the order of RULES; informational findings last.

    `codes`: those of one document in its order, as people write them. `codebook`: the edition and date of service to
    check against; CodeBook.load() if None.
    """
    book = codebook or CodeBook.load()
    exclusions = excludes1_and_sides(codes, book)
    conflicts = {frozenset(finding.codes) for finding in exclusions}
    findings = [
        *invalid(codes, book),
        *exclusions,
        *code_first(codes, book),
        *unspecified(codes, book, conflicts),
        *contradictions(codes, book, conflicts),
        *encounters(codes, book),
        *not_alone(codes, book),
        *additional_codes(codes, book, USE_ADDITIONAL),
        *additional_codes(codes, book, CODE_ALSO),
        *excludes2(codes, book, conflicts),
    ]
    return sorted(findings, key=lambda finding: RULES.index(finding.rule))
