"""What is checked of a coded document before a coder sees it: the Tabular List's rules, and what the note asserts.

    document → codes in code-first order → rules per code, assertion per evidence → warnings

Nothing here drops a code: rules and assertions inform.

Read next: icd/rules/, the rules; assertion/, denied and family evidence.
"""

import dataclasses
import re
from collections.abc import Iterable, Iterator

from minscl.data.assertion import assertions, speaks_against
from minscl.data.icd import CodeBook
from minscl.data.icd.rules import RULES, check, order_by_code_first
from minscl.data.icd.rules.finding import (
    CODE_ALSO,
    EXCLUDES1,
    EXCLUDES1_SIDES,
    EXCLUDES2,
    INVALID,
    USE_ADDITIONAL,
    Finding,
)
from minscl.data.types import Assignment, CodedDocument, Evidence

# The warnings of an earlier check, perhaps with another edition. The last is that of versions before 0.3.0.
_FROM_CHECKS = re.compile(
    rf"({'|'.join(map(re.escape, RULES))}): |ICD-10-CM edition |\S+ rests on (denied|family) evidence alone$|"
    r"\S+ is not a billable code of the Tabular List$"
)


def check_document(document: CodedDocument, codebook: CodeBook) -> CodedDocument:
    """`document` with its codes in code-first order, `rules` per code, `assertion` per located evidence, and warnings.

    The order changes only where a code-first note asks for it. What was checked before is checked again.
    """
    order = order_by_code_first([item.code for item in document.codes], codebook)
    codes = sorted(document.codes, key=lambda item: order.index(item.code))
    findings = check(order, codebook)
    codes = [
        dataclasses.replace(
            item,
            evidence=assert_evidence(document.text, item.evidence),
            rules=tuple(str(finding) for finding in findings if canonical(item.code, codebook) in finding.codes),
        )
        for item in codes
    ]
    code_set = [codebook.label] if codebook.out_of_range else []
    warnings = (*own_warnings(document), *code_set, *rule_warnings(findings), *assertion_warnings(codes))
    return dataclasses.replace(
        document,
        codes=tuple(codes),
        warnings=tuple(dict.fromkeys(warnings)),
        edition=codebook.edition.id,
        date=str(codebook.date) if codebook.date else None,
    )


def own_warnings(document: CodedDocument) -> list[str]:
    """The warnings of `document` that check_document did not write: what was left out or could not be read."""
    return [warning for warning in document.warnings or () if not _FROM_CHECKS.match(warning)]


def canonical(code: str, codebook: CodeBook) -> str:
    """`code` as findings name it."""
    return codebook.normalise(code) or code


def assert_evidence(text: str, evidence: tuple[Evidence, ...]) -> tuple[Evidence, ...]:
    """The evidence of a code, each that is located in `text` with its assertion."""
    places = [(item.start, item.end) for item in evidence if item.start is not None and item.end is not None]
    statuses: dict[tuple[int | None, int | None], str] = dict(zip(places, assertions(text, places), strict=True))
    return tuple(dataclasses.replace(item, assertion=statuses.get((item.start, item.end))) for item in evidence)


def rule_warnings(findings: Iterable[Finding]) -> Iterator[str]:
    """The findings that a coder must act on."""
    return (str(finding) for finding in findings if not finding.informational)


def assertion_warnings(codes: Iterable[Assignment]) -> Iterator[str]:
    """A line for each code whose evidence the note denies, or has of someone else, without any other evidence."""
    for item in codes:
        status = speaks_against(item.code, [evidence.assertion for evidence in item.evidence if evidence.assertion])
        if status:
            yield f"{item.code} rests on {status} evidence alone"


def breaks_rules(document: CodedDocument) -> bool:
    """Whether a checked document breaks an Excludes1 note or has an invalid code (`generate --strict`)."""
    rules = [rule for item in document.codes for rule in item.rules or ()]
    return any(rule.startswith((f"{EXCLUDES1}:", f"{INVALID}:")) for rule in rules)


def is_informational(rule: str) -> bool:
    """Whether a sentence of Assignment.rules only informs, as an Excludes2 note does."""
    return rule.startswith(tuple(f"{name}:" for name in (EXCLUDES1_SIDES, EXCLUDES2, USE_ADDITIONAL, CODE_ALSO)))
