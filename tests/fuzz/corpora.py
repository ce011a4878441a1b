"""Kinds of inputs: the public corpora in their published columns, with invented text.

Read next: editions.py.
"""

import csv
import gzip
import io
import json
import zipfile
from pathlib import Path

from minscl.data.corpora.aci_bench import aci_documents, aci_notes
from minscl.data.corpora.codiesp import codiesp_documents, codiesp_notes
from minscl.data.corpora.codiesp_english import codiesp_english_documents
from minscl.data.corpora.counts import Counts
from minscl.data.corpora.folder import folder_notes
from minscl.data.corpora.mdace import read_mdace
from minscl.data.corpora.mdace_charts import read_charts
from minscl.data.corpora.mimic_iv import mimic_iv_documents, split_of
from tests.fuzz.kinds import MARK, NOTE, FileKind
from tests.fuzz.records import book

SUBJECT = next(number for number in range(1, 99) if split_of(number) == "train")


def table(*rows) -> bytes:
    """CSV as MIMIC has it: text in quotation marks, newlines unchanged."""
    text = io.StringIO(newline="")
    csv.writer(text, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def write_mimic_iv(folder: Path) -> None:
    """Two admissions with their codes, packed and not."""
    notes = table(
        ["note_id", "subject_id", "hadm_id", "note_type", "text"],
        [f"{SUBJECT}-DS-1", SUBJECT, 501, "DS", NOTE],
        [f"{SUBJECT}-DS-2", SUBJECT, 502, "DS", f'"{MARK}",\n'],
    )
    codes = table(
        ["subject_id", "hadm_id", "seq_num", "icd_code", "icd_version"],
        [SUBJECT, 501, 1, "I10", 10],
        [SUBJECT, 501, 2, "E1165", 10],
        [SUBJECT, 502, 1, "4019", 9],
        [SUBJECT, 502, 2, "R059 ", 10],
    )
    (folder / "discharge.csv").write_bytes(notes)
    (folder / "diagnoses_icd.csv.gz").write_bytes(gzip.compress(codes, mtime=0))


def read_mimic_iv(folder: Path) -> None:
    """All documents of the split, and the warnings."""
    counts = Counts()
    list(mimic_iv_documents(folder / "discharge.csv", folder / "diagnoses_icd.csv.gz", "train", book(), counts))
    counts.print_warnings()


def _annotations(text: str) -> list[dict]:
    spans = [
        ("Hypertension", "I10", "ICD-10-CM"),
        ("pneumonia", "J18.9", "ICD-10-CM"),
        ("fever", "0BJ08ZZ", "ICD-10-PCS"),
    ]
    return [
        {
            "begin": text.index(phrase),
            "end": text.index(phrase) + len(phrase),
            "code": code,
            "code_system": system,
            "description": "x",
            "covered_text": phrase,
        }
        for phrase, code, system in spans
    ]


def write_mdace(folder: Path) -> None:
    """MDACE's chart and split, and NOTEEVENTS with its text; a chart with the text put in."""
    notes = [{"note_id": 11, "category": "Discharge summary", "description": "x", "annotations": _annotations(NOTE)}]
    charts = folder / "mdace" / "data" / "Inpatient" / "ICD-10" / "1.0"
    charts.mkdir(parents=True)
    (charts / "100-ICD-10.json").write_text(json.dumps({"hadm_id": 100, "comment": "", "notes": notes}))
    splits = folder / "mdace" / "splits" / "Inpatient"
    splits.mkdir(parents=True)
    for split in ("train", "val", "test"):
        (splits / f"MDace-ev-{split}.csv").write_text("100\n" if split == "train" else "")
    notes[0]["text"] = NOTE
    (folder / "charts").mkdir()
    (folder / "charts" / "100.json").write_text(json.dumps({"hadm_id": 100, "notes": notes}))
    header = ["ROW_ID", "SUBJECT_ID", "HADM_ID", "CATEGORY", "TEXT"]
    events = table(header, [10, 5, "", "Nursing", MARK], [11, 5, 100, "Discharge summary", NOTE])
    (folder / "NOTEEVENTS.csv.gz").write_bytes(gzip.compress(events, mtime=0))


def read_noteevents(folder: Path) -> None:
    """As `expand documents mdace`."""
    _, counts = read_mdace(folder / "mdace", folder / "NOTEEVENTS.csv.gz", book())
    counts.print_warnings()


def write_aci_bench(folder: Path) -> None:
    """Notes as CSV and as JSON Lines, tables of codes in two layouts."""
    (folder / "notes.csv").write_bytes(
        table(
            ["dataset", "encounter_id", "dialogue", "note"],
            ["aci", "D2N1", "[doctor] hi", NOTE],
            ["aci", "D2N2", "", MARK],
        )
    )
    (folder / "notes.jsonl").write_text(json.dumps({"id": "D2N1", "note": NOTE}) + "\n")
    (folder / "codes.tsv").write_text("D2N1\tI10\nD2N1\tE1165\nD2N2\tR05.9\n")
    start = NOTE.index("Hypertension")
    header = ["Document ID", "ICD-10-cm code", "Coordinate", "Supporting Evidence Text", "Start", "End"]
    row = ["D2N1", "I10", "x", "Hypertension", start, start + 12]
    (folder / "evidence.csv").write_bytes(table(header, row, ["D2N1", "J18.9", "", "pneumonia", "", ""]))


def read_aci_bench(folder: Path) -> None:
    """As `expand documents aci-bench` with both tables, and `expand notes aci-bench`."""
    aci_notes(folder / "notes.jsonl")
    counts = Counts()
    aci_documents(aci_notes(folder / "notes.csv"), [folder / "codes.tsv", folder / "evidence.csv"], book(), counts)
    counts.print_warnings()


def _codiesp_files() -> dict[str, bytes]:
    start = NOTE.index("Hypertension")
    rows = [
        ["S1", "DIAGNOSTICO", "i10", "Hypertension", f"{start} {start + 12}"],
        ["S1", "DIAGNOSTICO", "j18.9", "pneumonia DM2", "76 85;100 103"],
        ["S1", "PROCEDIMIENTO", "bw03zzz", MARK, "17 29"],
    ]
    return {
        "train/text_files/S1.txt": NOTE.encode(),
        "train/text_files_en/S1.txt": NOTE.encode(),
        "train/trainX.tsv": "".join("\t".join(row) + "\n" for row in rows).encode(),
        "train/trainD.tsv": b"S1\ti10\nS1\tj18.9\n",
    }


def write_codiesp(folder: Path) -> None:
    """A case as a folder and as an archive, and its evidence carried over to English."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in _codiesp_files().items():
            archive.writestr(zipfile.ZipInfo(name), content)
            (folder / "codiesp" / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / "codiesp" / name).write_bytes(content)
    (folder / "codiesp.zip").write_bytes(packed.getvalue())
    start = NOTE.index("Hypertension")
    span = {"text": "Hypertension", "start": start, "end": start + 12}
    codes = [{"code": "I10", "evidence": [span]}, {"code": "J18.9", "evidence": []}]
    record = {"id": "S1", "split": "train", "text": NOTE, "codes": codes}
    (folder / "carried.jsonl.gz").write_bytes(gzip.compress((json.dumps(record) + "\n").encode(), mtime=0))


def read_codiesp(folder: Path) -> None:
    """As `expand documents codiesp` in Spanish and English, from the folder and the archive."""
    counts = Counts()
    codiesp_documents(folder / "codiesp", "train", book(), counts)
    codiesp_notes(folder / "codiesp.zip", "train", "en")
    codiesp_english_documents(folder / "codiesp.zip", "train", folder / "carried.jsonl.gz", book(), counts)
    counts.print_warnings()


def write_texts(folder: Path) -> None:
    """A folder of texts."""
    for name in ("a.txt", "b.TXT"):
        (folder / name).write_text(NOTE, newline="")


KINDS = [
    FileKind("MIMIC-IV", write_mimic_iv, read_mimic_iv, share=2),
    FileKind("NOTEEVENTS and MDACE", write_mdace, read_noteevents, ("mdace/*", "NOTEEVENTS*"), share=2),
    FileKind("MDACE's charts", write_mdace, lambda folder: read_charts(folder / "charts", book()), ("charts/*",)),
    FileKind("ACI-Bench and codes", write_aci_bench, read_aci_bench, share=2),
    FileKind("CodiEsp", write_codiesp, read_codiesp, share=2),
    FileKind("folder of texts", write_texts, folder_notes),
]
