"""The rows of the study: what each is trained on and how it codes (Tables 1, 3, 4 and 5, Figure 4).

CodiEsp's 500 training cases play both parts of the paper's data: EVIDENCE_CASES of them, drawn by a fixed seed, have
evidence, as MDACE's (fewer than 200); of the rest only the codes are used, as of MIMIC-IV.

Read next: run.py.
"""

from dataclasses import dataclass

EVIDENCE_CASES = 180


@dataclass(frozen=True)
class Row:
    """A system. `documents`, `spans`: names of files that data_files.py writes; "" for none.

    `codes_only`: documents train codes without evidence (Eq. 2). `trained`: the row whose adapter it uses, "" for its
    own. `given`: gold evidence in place of the model's ("+ Evid."). `size`: the base (base.SIZES), "" for the scale's.
    """

    name: str
    title: str
    documents: str = ""
    spans: tuple[str, ...] = ()
    codes_only: bool = False
    trained: str = ""
    given: bool = False
    size: str = ""

    @property
    def adapter_row(self) -> str:
        """The row that trains this row's adapter; "" for a system without one."""
        return self.trained or (self.name if self.documents or self.spans else "")


ALL_SPANS = ("gold", "silver", "synthetic")
ROWS = (
    Row("lookup", "looking up training evidence word for word"),
    Row("zero-shot", "zero-shot"),
    Row("codes", "+ documents, codes only", "evidence", codes_only=True),
    Row("evidence", "+ evidence", "evidence"),
    Row("gold", "+ gold spans", "evidence", ("gold",)),
    Row("scl", "+ silver and synthetic spans (SCL)", "evidence", ALL_SPANS),
    Row("scl-evidence", "SCL + Evid.", trained="scl", given=True),
    Row("sft", "SFT: codes of all documents", "all-codes", codes_only=True),
    Row(
        "scl-annotators",
        "SCL, annotators' spans for silver (upper bound)",
        "evidence",
        ("gold", "annotators", "synthetic"),
    ),
    Row("gold-silver", "gold and silver spans", "evidence", ("gold", "silver")),
    Row("gold-synthetic", "gold and synthetic spans", "evidence", ("gold", "synthetic")),
    Row("scl-small", "SCL, small base", "evidence", ALL_SPANS, size="small"),
    Row("scl-large", "SCL, large base", "evidence", ALL_SPANS, size="large"),
)
FIGURE_4 = ("evidence", "gold", "gold-silver", "scl")
FAST = ("lookup", "zero-shot", "codes", "evidence", "gold", "scl", "scl-evidence", "sft")
