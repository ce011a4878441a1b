"""CodiEsp in English: the corpus's machine translations, with the evidence that was carried over to them.

The corpus has offsets for the Spanish texts alone. A file of carried evidence (JSON Lines, perhaps gzip; the
repository has one of its own making, SHIPPED) says where the same evidence is in the translations:

    {"id", "split", "text", "codes": [{"code", "evidence": [{"text", "start", "end"}]}]}

`evidence` is empty for a code of which no annotation could be carried. Two more keys are accepted and not used: a
code's `description` and a case's `annotations`, how each annotation of the corpus was carried. The gold codes are the
corpus's; the file must have the same ones, and the same texts. In training a code without evidence is left out, because
the answer says which evidence each code is for; in dev and test it stays.

Read next: codiesp.py, where the corpus is read.
"""

import gzip
import io
import zlib
from dataclasses import dataclass
from pathlib import Path

from minscl.data.corpora.codiesp import CODED_SPLITS, Annotation, count_documents, read_codiesp
from minscl.data.corpora.counts import Counts
from minscl.data.corpora.csv_rows import GZIP_MAGIC
from minscl.data.icd import CodeBook
from minscl.data.jsonl import decode_line
from minscl.data.record_checks import checked_record
from minscl.data.types import Assignment, CodedDocument, Evidence, Note
from minscl.errors import InputError
from minscl.files import read_bytes

SHIPPED = Path(__file__).parents[3] / "study" / "resources" / "codiesp_en.jsonl.gz"  # in a clone of the repository
MAX_BYTES = 100_000_000  # unpacked; SHIPPED has under 5 million
REMEDY = "name codiesp_en.jsonl.gz, which is in the repository's study/resources/, as --evidence"


@dataclass(frozen=True)
class CarriedCase:
    """A case with its evidence in the translation: a line of the file."""

    id: str
    split: str
    text: str
    evidence: dict[str, tuple[Evidence, ...]]  # code as written → its quotations, in the file's order

    @classmethod
    def from_dict(cls, record) -> "CarriedCase":
        """The case in `record`; raises InputError, also for evidence that is not the text at its offsets."""
        fields = checked_record(
            record, cls, {"id": str, "split": str, "text": str, "codes": list}, {"annotations": list}
        )
        codes = [{"description": "", **code} if isinstance(code, dict) else code for code in fields["codes"]]
        document = CodedDocument.from_dict({"id": fields["id"], "text": fields["text"], "codes": codes})
        if fields["split"] not in CODED_SPLITS:
            raise InputError(f"{cls.__name__}: split is none of {', '.join(CODED_SPLITS)}; correct it")
        names = [assignment.code.upper().replace(".", "") for assignment in document.codes]
        if len(names) > len(set(names)):
            raise InputError(f"{cls.__name__}: a code appears twice; put its evidence into one entry")
        if any(not evidence.text.strip() for assignment in document.codes for evidence in assignment.evidence):
            raise InputError(f"{cls.__name__}: a piece of evidence is blank; leave it out")
        return cls(
            document.id,
            fields["split"],
            document.text,
            {assignment.code: assignment.evidence for assignment in document.codes},
        )


def codiesp_english_documents(
    path, split: str, evidence_path, codebook: CodeBook, counts: Counts
) -> list[CodedDocument]:
    """The English documents of a split, their codes with the evidence of `evidence_path`, in order of first evidence.

    Raises InputError for what read_codiesp refuses, for a file of evidence that cannot be read, and where it and the
    corpus differ in a text or a code.
    """
    carried = read_carried(evidence_path, split)
    notes, annotations = read_codiesp(path, split, "en", codebook, counts)
    documents = []
    for note in notes:
        if note.id not in carried:
            raise InputError(f"{evidence_path}: has no line with case {note.id} of {split}; {REMEDY}")
        document = _document(note, annotations[note.id], *carried[note.id], codebook)
        bare = [assignment for assignment in document.codes if not assignment.evidence]
        if bare and split == "train":
            counts.numbers["codes without carried evidence, left out"] += len(bare)
            codes = tuple(assignment for assignment in document.codes if assignment.evidence)
            document = CodedDocument(document.id, document.text, codes)
        elif bare:
            counts.numbers["codes without carried evidence, kept"] += len(bare)
        if annotations[note.id] and not document.codes:
            counts.numbers["cases of which no code has carried evidence, left out"] += 1
        else:
            documents.append(document)
    count_documents(documents, codebook, counts)
    return documents


def read_carried(path, split: str) -> dict[str, tuple[str, CarriedCase]]:
    """Case → (file and line for messages, its evidence) of a split. Raises InputError naming the line."""
    cases: dict[str, tuple[str, CarriedCase]] = {}
    for number, line in enumerate(_unpack(path).split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            case = CarriedCase.from_dict(decode_line(line))
        except InputError as error:
            raise InputError(f"{path}:{number}: {error}") from error
        if case.id in cases:
            raise InputError(f"{path}:{number}: the id is also that of {cases[case.id][0]}; {REMEDY}")
        if case.split == split:
            cases[case.id] = f"{path}:{number}", case
    return cases


def _unpack(path) -> bytes:
    """The content of a file that may be gzip. Raises InputError."""
    content = read_bytes(path, REMEDY, MAX_BYTES)
    if content.startswith(GZIP_MAGIC):
        try:
            content = gzip.GzipFile(fileobj=io.BytesIO(content)).read(MAX_BYTES + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(f"{path}: damaged ({error}); {REMEDY}") from error
        if len(content) > MAX_BYTES:
            raise InputError(f"{path}: larger than {MAX_BYTES / 1e6:,.0f} MB when unpacked; {REMEDY}")
    return content


def _document(
    note: Note, annotations: list[Annotation], place: str, case: CarriedCase, codebook: CodeBook
) -> CodedDocument:
    """The case with all its gold codes, in order of first evidence, those without evidence last. Raises InputError."""
    if case.text != note.text:
        raise InputError(f"{place}: its text is not text_files_en/{note.id}.txt of the corpus; {REMEDY}")
    gold = dict.fromkeys(annotation.code for annotation in annotations)
    evidence = {codebook.normalise(code) or code: quotations for code, quotations in case.evidence.items()}
    if gold.keys() != evidence.keys():
        raise InputError(
            f"{place}: lacks {len(gold.keys() - evidence.keys())} of the case's {len(gold)} codes and has "
            f"{len(evidence.keys() - gold.keys())} others; {REMEDY}"
        )
    ordered = sorted(
        gold, key=lambda code: min((quotation.start or 0 for quotation in evidence[code]), default=len(note.text))
    )
    return CodedDocument(
        note.id,
        note.text,
        tuple(Assignment(code, codebook.description(code) or "", evidence[code]) for code in ordered),
    )
