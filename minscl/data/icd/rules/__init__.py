"""What the Tabular List says against the codes of a document. Read checking.py first, then references.py."""

from minscl.data.icd.rules.checking import check
from minscl.data.icd.rules.exclusions import excludes1
from minscl.data.icd.rules.finding import RULES, Finding
from minscl.data.icd.rules.ordering import order_by_code_first
from minscl.data.icd.rules.sequencing import manifestations_without_cause
from minscl.data.icd.rules.validity import invalid

__all__ = ["RULES", "Finding", "check", "excludes1", "invalid", "manifestations_without_cause", "order_by_code_first"]
