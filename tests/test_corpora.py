"""Public corpora in their published columns, with invented text: MDACE + MIMIC-III, MIMIC-IV, ACI-Bench, folders."""

import csv
import gzip
import json
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from minscl.data.corpora.aci_bench import aci_documents, aci_notes
from minscl.data.corpora.counts import SPLITS, Counts
from minscl.data.corpora.csv_rows import read_rows, whole_number
from minscl.data.corpora.folder import folder_notes
from minscl.data.corpora.mdace import read_mdace
from minscl.data.corpora.mdace_charts import build_document, check_boundaries, read_chart, read_charts
from minscl.data.corpora.mimic_iv import mimic_iv_documents, split_of
from minscl.data.icd import CodeBook
from minscl.data.jsonl import read_jsonl
from minscl.data.types import Assignment, CodedDocument, Evidence, Note
from minscl.errors import InputError

BOOK = CodeBook.load()
MDACE = (
    Path(__file__).parent.parent.parent / "shared" / "data" / "mdace"
)  # the real annotations, where a developer has them
NOTEEVENTS = [
    "ROW_ID",
    "SUBJECT_ID",
    "HADM_ID",
    "CHARTDATE",
    "CHARTTIME",
    "STORETIME",
    "CATEGORY",
    "DESCRIPTION",
    "CGID",
    "ISERROR",
    "TEXT",
]
DISCHARGE = ["note_id", "subject_id", "hadm_id", "note_type", "note_seq", "charttime", "storetime", "text"]
DIAGNOSES = ["subject_id", "hadm_id", "seq_num", "icd_code", "icd_version"]
TEXTS = {  # ROW_ID → (admission, category, text, [(phrase, code, code system)])
    11: (
        100,
        "Discharge summary",
        'He said: "pneumonia", and\r\nhypertension.\n\nNaïve 日本: asthma',
        [
            ("asthma", "J45.909", "ICD-10-CM"),
            ("pneumonia", "J18.9", "ICD-10-CM"),
            ("hypertension", "I10", "ICD-10-CM"),
            ("said", "0BJ08ZZ", "ICD-10-PCS"),
        ],
    ),
    12: (100, "Radiology", "Chest film: pneumonia, left.", [("pneumonia", "J18.9", "ICD-10-CM")]),
    10: (
        100,
        "Discharge summary ",
        "Addendum: pneumonia; R05 cough\n",
        [("pneumonia", "J18.9", "ICD-10-CM"), ("cough", "R05", "ICD-10-CM")],
    ),
    20: (
        200,
        "Discharge summary",
        "Fell; fracture of hip, hip pain.",
        [("fracture of hip", "S72.009A", "ICD-10-CM"), ("hip", "M25.559", "ICD-10-CM"), ("Fell", "E885", "ICD-9-CM")],
    ),
    30: (300, "ECG", "atrial fibrillation", [("atrial fibrillation", "I48.91", "ICD-10-CM")]),
}


def write_csv(path, header, rows):
    """Quoted as MIMIC is: text cells in quotes, a quote inside doubled, newlines unchanged."""
    open_text = gzip.open if str(path).endswith(".gz") else open
    with open_text(path, "wt", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
    return path


def noteevents(path, texts=TEXTS, order=(30, 12, 11, 20, 10)):
    """MIMIC-III's table: a note that MDACE does not have, then those of `texts` in `order`."""
    rows = [[1, 5, "", "2150-01-01", "", "", "Nursing/other", "Report", "", "", 'not annotated,\n"quoted"\n']]
    for id in order:
        admission, category, text, _ = texts[id]
        rows.append([id, 5, admission, "2150-01-01", "", "", category, "Report", "", "", text])
    return write_csv(path, NOTEEVENTS, rows)


def write_mdace(folder, texts=TEXTS):
    """A folder like MDACE's: annotations without text, splits without header."""
    for name in ("Inpatient", "Profee"):
        charts = {}
        for id, (admission, category, text, annotations) in texts.items():
            spans = [
                {
                    "begin": text.index(phrase),
                    "end": text.index(phrase) + len(phrase),
                    "code": code,
                    "code_system": system,
                    "description": f"of {code}",
                    "type": "Human",
                }
                for phrase, code, system in annotations
            ]
            charts.setdefault(admission, []).append(
                {"note_id": id, "category": category, "description": "Report", "annotations": spans}
            )
        (folder / "data" / name / "ICD-10" / "1.0").mkdir(parents=True)
        for admission, notes in charts.items():
            (folder / "data" / name / "ICD-10" / "1.0" / f"{admission}-ICD-10.json").write_text(
                json.dumps({"hadm_id": admission, "comment": "", "notes": notes})
            )
        (folder / "splits" / name).mkdir(parents=True)
        splits = (
            {"train": [200, 100], "val": [], "test": [300]}
            if name == "Inpatient"
            else {"train": [300], "val": [], "test": [100]}
        )
        for split, admissions in splits.items():
            (folder / "splits" / name / f"MDace-ev-{split}.csv").write_text(
                "".join(f"{admission}\n" for admission in admissions)
            )
    return folder


@pytest.fixture
def corpus(tmp_path):
    return write_mdace(tmp_path / "MDACE"), noteevents(tmp_path / "NOTEEVENTS.csv.gz")


def test_mdace_offsets_slice_the_untouched_text(corpus):
    """Guards: newlines converted, offsets not moved by notes before, PCS and ICD-9 as ICD-10-CM, notes in the file's
    order."""
    documents, counts = read_mdace(*corpus, BOOK)
    assert [document.id for document in documents] == ["200", "100"]  # the split's order
    # ascending note id, a blank line between; radiology is not read by default
    text = TEXTS[10][2] + "\n\n" + TEXTS[11][2]
    assert documents[1].text == text and "\r\n" in text
    spans = {code.code: [(span.start, span.end, span.text) for span in code.evidence] for code in documents[1].codes}
    offset = len(TEXTS[10][2]) + 2
    assert spans == {
        "J18.9": [(10, 19, "pneumonia"), (offset + 10, offset + 19, "pneumonia")],
        "R05": [(25, 30, "cough")],
        "I10": [(offset + 27, offset + 39, "hypertension")],
        "J45.909": [(len(text) - 6, len(text), "asthma")],
    }
    assert [code.code for code in documents[1].codes] == ["J18.9", "R05", "I10", "J45.909"]  # by first evidence
    assert {code.code: code.description for code in documents[1].codes}["R05"] == BOOK.description("R05")
    # overlapping spans: both are there
    assert [span.text for code in documents[0].codes for span in code.evidence] == ["fracture of hip", "hip"]
    for document in documents:
        assert CodedDocument.from_dict(document.to_dict()) == document
    numbers = counts.numbers
    assert (numbers["documents written"], numbers["  codes"], numbers["  evidence spans"]) == (2, 6, 7)
    assert (numbers["annotations in ICD-10-PCS"], numbers["annotations in ICD-9-CM"]) == (1, 1)
    assert numbers["  distinct codes that are not billable today, kept"] == 1 and not counts.warnings  # R05


@pytest.mark.parametrize(
    "options, ids, evidence",
    [
        ({"unit": "note"}, ["200-20", "100-10", "100-11"], 7),
        ({"categories": "codeable"}, ["200", "100"], 8),
        ({"split": "test"}, [], 0),
        ({"split": "test", "categories": "all"}, ["300"], 1),
        ({"unit": "note", "categories": "all"}, ["200-20", "100-10", "100-11", "100-12"], 8),
    ],
)
def test_units_categories_and_splits(corpus, options, ids, evidence):
    """Guards: an option that is read and ignored."""
    documents, _ = read_mdace(*corpus, BOOK, **options)
    assert [document.id for document in documents] == ids
    assert sum(len(code.evidence) for document in documents for code in document.codes) == evidence


def test_the_leak_between_the_sets_is_refused(corpus):
    """Guards: a Profee test chart that Inpatient trains on."""
    message = (
        "1 of 1 Profee test admissions are in another of Inpatient's splits .1 in train; the first is 100.*--leak drop"
    )
    with pytest.raises(InputError, match=message):
        read_mdace(*corpus, BOOK, set="profee", split="test")
    assert read_mdace(*corpus, BOOK, set="profee", split="test", leak="drop")[0] == []
    assert [document.id for document in read_mdace(*corpus, BOOK, set="profee", split="test", leak="keep")[0]] == [
        "100"
    ]


def changed(id, **fields):
    """TEXTS with other `fields` (admission, text) of one note."""
    admission, category, text, annotations = TEXTS[id]
    return {**TEXTS, id: (fields.get("admission", admission), category, fields.get("text", text), annotations)}


def test_what_does_not_fit_is_counted_or_refused_by_name(corpus, tmp_path):
    """Guards: a traceback, an annotation moved to other words, a note that silently is not there."""
    folder, file = corpus
    short = noteevents(tmp_path / "short.csv", changed(11, text=TEXTS[11][2][:-3]))
    documents, counts = read_mdace(folder, short, BOOK)
    assert "J45.909" not in [code.code for document in documents for code in document.codes]
    assert counts.numbers["annotations beyond their note's end, left out"] == 1
    assert "ROW_ID 11" in counts.warnings[0] and "J45.909" in counts.warnings[0] and str(short) in counts.warnings[0]
    documents, counts = read_mdace(folder, noteevents(tmp_path / "absent.csv", order=(12, 11, 20)), BOOK)
    assert "no row with ROW_ID 10 (admission 100)" in counts.warnings[0]
    assert [document.id for document in documents] == ["200", "100"]
    for name, make, message in [
        ("none", lambda path: noteevents(path, order=(30,)), "contains none of the 3 notes"),
        (
            "other",
            lambda path: noteevents(path, changed(11, admission=999)),
            "ROW_ID 11: HADM_ID is 999 where MDACE has 100",
        ),
        ("twice", lambda path: noteevents(path, order=(11, 11, 20, 10)), "ROW_ID 11 appears twice"),
        ("column", lambda path: write_csv(path, ["ROW_ID", "SUBJECT_ID", "TEXT"], []), "column HADM_ID is missing"),
        (
            "cells",
            lambda path: path.write_text('"ROW_ID","HADM_ID","TEXT"\n7,1\n'),
            "line 2: 2 cells where the header has 3",
        ),
        (
            "number",
            lambda path: path.write_text('"ROW_ID","HADM_ID","TEXT"\n"x",1,"t"\n'),
            "line 2: ROW_ID is x, not a whole number",
        ),
        (
            "quote",
            lambda path: path.write_text('"ROW_ID","HADM_ID","TEXT"\n7,1,"never closed\n'),
            "line 2: unexpected end of data",
        ),
        ("bytes", lambda path: path.write_bytes(b'"ROW_ID","HADM_ID","TEXT"\n7,1,"\xff"\n'), "byte 0xff is not UTF-8"),
        ("torn.gz", lambda path: path.write_bytes(file.read_bytes()[:-20]), "damaged"),
        ("plain.gz", lambda path: path.write_text("no gzip"), "damaged"),
        ("missing", lambda path: None, "no such file; name a .csv or .csv.gz file"),
    ]:
        path = tmp_path / name
        make(path)
        with pytest.raises(InputError) as error:
            read_mdace(folder, path, BOOK)
        assert message in str(error.value) and str(path) in str(error.value), name
    chart = next((folder / "data" / "Inpatient").rglob("100-*.json"))
    chart.write_text(chart.read_text().replace('"begin": 10', '"begin": -1'))
    with pytest.raises(InputError, match="100-ICD-10.json: note 11, code J18.9: its begin and end are no span"):
        read_mdace(folder, file, BOOK)


def test_texts_saved_again_with_other_newlines_are_noticed(tmp_path):
    """Guards: evidence such as '\\nhy' out of cells whose line feeds a program made CR LF, with exit status 0."""
    texts = {
        **TEXTS,
        10: (100, "Discharge summary", "Admitted.\nStable.\nhypertension", [("hypertension", "I10", "ICD-10-CM")]),
    }
    folder = write_mdace(tmp_path / "MDACE", texts)
    assert not read_mdace(folder, noteevents(tmp_path / "right.csv", texts), BOOK)[1].warnings
    admission, category, text, spans = texts[10]
    resaved = {**texts, 10: (admission, category, text.replace("\n", "\r\n"), spans)}
    _, counts = read_mdace(folder, noteevents(tmp_path / "resaved.csv", resaved), BOOK)
    [warning] = counts.warnings
    assert warning.startswith(f"{tmp_path / 'resaved.csv'}: 1 of 6 quotations") and "as published" in warning
    assert counts.numbers["quotations that begin or end inside a word or with white space"] == 1


@pytest.mark.parametrize("misplaced, warnings", [(0, 0), (2, 0), (3, 1)])
def test_a_few_misplaced_boundaries_are_normal(misplaced, warnings):
    """Guards: a warning for the odd slip of a careful coder. At most 5% of 40 quotations are 2."""
    text = "hypertension and asthma"
    offsets = [(1, 12)] * misplaced + [(0, 12)] * (40 - misplaced)
    evidence = tuple(Evidence(text[start:end], start, end) for start, end in offsets)
    counts = Counts()
    check_boundaries([CodedDocument("a", text, (Assignment("I10", "", evidence),))], counts, "file")
    assert len(counts.warnings) == warnings


CONTENT = "narwhal tusk pain"  # stands for text of a note, which no message may show
CHART = {
    "hadm_id": 100,
    "notes": [
        {
            "note_id": 1,
            "category": "Radiology",
            "text": f"cough, {CONTENT}",
            "annotations": [
                {
                    "begin": 0,
                    "end": 5,
                    "code": "R05.9",
                    "code_system": "ICD-10-CM",
                    "description": "",
                    "covered_text": "cough",
                }
            ],
        }
    ],
}


def chart_with(**changes):
    """CHART with other values in its annotation, else in its note, else at the top."""
    chart = json.loads(json.dumps(CHART))
    [note] = chart["notes"]
    for key, value in changes.items():
        owner = next(record for record in (*note["annotations"], note, chart) if key in record)
        owner[key] = value
    return chart


@pytest.mark.parametrize(
    "content, message",
    [
        (json.dumps([CONTENT]), "not a JSON object"),
        (f'{{"notes": "{CONTENT}', "not JSON"),
        ("[" * 100_000, "nested too deeply"),
        (json.dumps(chart_with(hadm_id=CONTENT)), "hadm_id is a string of 17 characters, not a whole number"),
        (json.dumps(chart_with(hadm_id=1.5)), "hadm_id is a number, not a whole number"),
        (json.dumps(chart_with(hadm_id="9" * 5000)), "hadm_id is a string of 5,000 characters"),
        (json.dumps(chart_with(notes=CONTENT)), "notes is a string of 17 characters, not a list of objects"),
        (json.dumps(chart_with(notes=[CONTENT])), "notes is a list of 1, not a list of objects"),
        (json.dumps(chart_with(notes=CHART["notes"] * 2)), "note_id 1 appears twice"),
        (json.dumps(chart_with(note_id=[1])), "note_id is a list of 1"),
        (json.dumps(chart_with(category=None)), "note 1: category is null"),
        (json.dumps(chart_with(annotations={"begin": 1})), "note 1: annotations is an object"),
        (json.dumps(chart_with(code_system={})), "note 1: code_system is an object"),
        (json.dumps(chart_with(code=7)), "note 1: code is a number"),
        (json.dumps(chart_with(description=[CONTENT])), "note 1: description is a list of 1"),
        (json.dumps(chart_with(description="\ud800")), "note 1: description is a string of 1 character"),
        (json.dumps(chart_with(begin="0")), "note 1, code R05.9: its begin and end are no span"),
        (json.dumps(chart_with(end=10**400)), "note 1, code R05.9: its begin and end are no span"),
        (json.dumps(chart_with(end=22 + 5)), "note 1, code R05.9: begin, end and covered_text do not fit"),
        (json.dumps(chart_with(covered_text=CONTENT)), "note 1, code R05.9: begin, end and covered_text do not fit"),
        (json.dumps(chart_with(text=[CONTENT])), "note 1: text is a list of 1"),
    ],
)
def test_a_chart_of_wrong_types_is_one_line_without_content(tmp_path, content, message):
    """Guards: tracebacks out of damaged charts, and messages that print a patient's text."""
    path = tmp_path / "chart.json"
    path.write_text(content)
    with pytest.raises(InputError) as error:
        read_charts(path, BOOK)
    assert message in str(error.value) and str(path) in str(error.value)
    assert "narwhal" not in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "content, message",
    [
        (f'"ROW_ID","{CONTENT}"\n', "column TEXT is missing from the header, which has 2 columns"),
        (f'"ROW_ID","TEXT"\n"{CONTENT}","x","y"\n', "line 2: 3 cells where the header has 2"),
        (f'"ROW_ID","TEXT"\n"{CONTENT}","x"\n', "line 2: ROW_ID is a string of 17 characters, not a whole number"),
        (f'"ROW_ID","TEXT"\n{"9" * 5000},"x"\n', "line 2: ROW_ID is a string of 5,000 characters"),
    ],
)
def test_a_csv_of_wrong_types_is_one_line_without_content(tmp_path, content, message):
    """Guards: a number of thousands of digits that int() refuses; cells and header cells in messages."""
    path = tmp_path / "a.csv"
    path.write_text(content)
    with pytest.raises(InputError) as error:
        row_ids(path)
    assert message in str(error.value) and str(path) in str(error.value) and "narwhal" not in str(error.value)


def row_ids(path):
    return [whole_number(path, line, "ROW_ID", id) for line, (id, _) in read_rows(path, ("ROW_ID", "TEXT"))]


def test_utf8_signatures_and_endings_in_any_case(corpus, tmp_path):
    """Guards: the byte-order mark of Windows editors in CSV, split and JSON files; .CSV.GZ, .CSV, .JSON not known."""
    folder, file = corpus
    expected = read_mdace(folder, file, BOOK)[0]
    for path in [*folder.rglob("*.csv"), *folder.rglob("*.json")]:
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    unpacked = b"\xef\xbb\xbf" + gzip.decompress(file.read_bytes())
    for name, content in [
        ("N.CSV", unpacked),
        ("N.CSV.GZ", gzip.compress(unpacked)),
        ("packed, but named.csv", gzip.compress(unpacked)),
    ]:
        (tmp_path / name).write_bytes(content)
        assert read_mdace(folder, tmp_path / name, BOOK)[0] == expected, name
    (tmp_path / "ACI.CSV").write_bytes(b"\xef\xbb\xbfencounter_id,note\na,cough\n")
    assert aci_notes(tmp_path / "ACI.CSV") == [Note("a", "cough")]


def test_a_folder_of_charts_names_what_it_leaves_out(tmp_path, capsys):
    """Guards: CHART.JSON left out, and nobody told of the files that are."""
    (tmp_path / "A.JSON").write_text(json.dumps(CHART))
    (tmp_path / "b.json.gz").write_bytes(b"")
    (tmp_path / "old").mkdir()
    assert [document.id for document in read_charts(tmp_path, BOOK)] == ["100"]
    [warning] = capsys.readouterr().err.splitlines()
    assert "2 of its files and folders are no .json files and are left out: b.json.gz, old" in warning


@pytest.mark.skipif(not MDACE.exists(), reason="MDACE's annotations are not beside the checkout")
def test_the_real_annotations_give_the_published_table(tmp_path):
    """Guards: admissions, notes or spans of the real files lost or doubled. The texts are invented: dots."""
    lengths = {}
    for path in (MDACE / "data" / "Inpatient" / "ICD-10" / "1.0").glob("*.json"):
        chart = json.loads(path.read_text(encoding="utf-8"))
        lengths |= {
            note["note_id"]: (
                chart["hadm_id"],
                max([annotation["end"] for annotation in note["annotations"]], default=1),
            )
            for note in chart["notes"]
        }
    file = write_csv(
        tmp_path / "NOTEEVENTS.csv",
        ["ROW_ID", "HADM_ID", "TEXT"],
        ([id, admission, "." * length] for id, (admission, length) in lengths.items()),
    )
    sizes, systems = {}, Counts().numbers
    names = ("  notes in them", "  evidence spans", "  distinct codes")
    for split in SPLITS:
        for categories in ("all", "discharge"):
            documents, counts = read_mdace(MDACE, file, BOOK, split=split, categories=categories)
            sizes[split, categories] = (len(documents), *(counts.numbers[name] for name in names))
            assert not counts.warnings
            for document in documents:
                for span in (span for code in document.codes for span in code.evidence):
                    assert document.text[span.start : span.end] == span.text
        systems += counts.numbers
    assert sizes == {
        ("train", "all"): (181, 355, 2245, 684),
        ("train", "discharge"): (181, 185, 2010, 645),
        ("val", "all"): (60, 122, 720, 296),
        ("val", "discharge"): (60, 61, 631, 277),
        ("test", "all"): (61, 127, 697, 320),
        ("test", "discharge"): (61, 62, 601, 290),
    }
    assert [systems[f"annotations in {name}"] for name in ("ICD-10-CM", "ICD-10-PCS", "ICD-9-CM")] == [3662, 272, 2]
    by_note = [read_mdace(MDACE, file, BOOK, split=split, unit="note", categories="all")[0] for split in SPLITS]
    assert list(map(len, by_note)) == [332, 112, 116]


def test_two_charts_of_one_admission_are_refused(tmp_path):
    """Guards: two documents with one id, of which a score would use the last alone."""
    note = {
        "note_id": 1,
        "category": "Radiology",
        "text": "cough",
        "annotations": [{"begin": 0, "end": 5, "code": "R05.9", "code_system": "ICD-10-CM", "description": ""}],
    }
    for name, admission in (("a", 100), ("b", 200), ("c", 100)):
        (tmp_path / f"{name}.json").write_text(json.dumps({"hadm_id": admission, "notes": [note]}))
    with pytest.raises(InputError, match="c.json: hadm_id 100 is also .*a.json's"):
        read_charts(tmp_path, BOOK)
    (tmp_path / "c.json").unlink()
    assert [document.id for document in read_charts(tmp_path, BOOK)] == ["100", "200"]


def test_rows_are_read_one_at_a_time(tmp_path):
    """Guards: the whole of a file of many GB in memory."""
    path = write_csv(
        tmp_path / "large.csv",
        ["ROW_ID", "TEXT"],
        ([number, f'line one "{number}"\r\n' + "x" * 20_000] for number in range(1500)),
    )
    tracemalloc.start()
    rows = sum(1 for _ in read_rows(path, ("ROW_ID", "TEXT")))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert rows == 1500 and path.stat().st_size > 30e6 and peak < 3e6


@pytest.fixture
def mimic_iv(tmp_path):
    train = [subject for subject in range(1, 60) if split_of(subject) == "train"][:3]
    other = next(subject for subject in range(1, 60) if split_of(subject) == "test")
    notes = [
        [f"{train[0]}-DS-1", train[0], 501, "DS", 1, "2180-01-01", "", 'Cough, "bad"\n'],
        [f"{train[0]}-DS-2", train[0], 502, "DS", 2, "", "", "Second admission"],
        [f"{train[1]}-DS-1", train[1], 503, "DS", 1, "", "", "ICD-9 only"],
        [f"{train[2]}-DS-1", train[2], "", "DS", 1, "", "", "no admission"],
        [f"{other}-DS-1", other, 504, "DS", 1, "", "", "test patient"],
        [f"{train[0]}-DS-3", train[0], 502, "DS", 3, "", "", "again"],
    ]
    codes = [
        [train[0], 501, 1, "R059  ", 10],
        [train[0], 501, 2, "I10", 10],
        [train[0], 501, 3, "I10", 10],
        [train[0], 502, 1, "E1165", 10],
        [train[0], 502, 2, "Z9999999", 10],
        [train[1], 503, 1, "4019", 9],
        [other, 504, 1, "I10", 10],
    ]
    return write_csv(tmp_path / "discharge.csv.gz", DISCHARGE, notes), write_csv(
        tmp_path / "diagnoses_icd.csv.gz", DIAGNOSES, codes
    )


def test_mimic_iv_joins_codes_by_admission_and_splits_by_patient(mimic_iv):
    """Guards: ICD-9 codes, codes without their dot or twice, rare codes dropped, a patient in two splits."""
    counts = Counts()
    documents = list(mimic_iv_documents(*mimic_iv, "train", BOOK, counts))
    assert [(document.id, [code.code for code in document.codes]) for document in documents] == [
        ("501", ["R05.9", "I10"]),
        ("502", ["E11.65"]),
    ]
    assert documents[0].text == 'Cough, "bad"\n' and not documents[0].codes[0].evidence
    assert documents[0].codes[1].description == "Essential (primary) hypertension"
    assert counts.numbers["without ICD-10-CM codes, left out"] == 1
    assert counts.numbers["without an admission, left out"] == 1
    assert counts.numbers["a second note of an admission, left out"] == 1
    assert counts.numbers["diagnoses that are no ICD-10-CM code, left out"] == 1 and "hadm_id 502" in counts.warnings[0]
    assert [document.id for document in mimic_iv_documents(*mimic_iv, "test", BOOK, Counts())] == ["504"]
    shares = [sum(split_of(subject) == name for subject in range(20_000)) / 20_000 for name in ("train", "val", "test")]
    assert shares == pytest.approx([0.73, 0.11, 0.16], abs=0.01)


def expand(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "minscl.expand", *map(str, arguments)], capture_output=True, text=True, timeout=300
    )


@pytest.mark.slow
def test_the_commands_write_and_count(corpus, mimic_iv, tmp_path):
    """Guards: a flag that reaches nothing, counts that are not printed, a half-written file after an error."""
    done = expand("documents", "mdace", "--mdace", corpus[0], "--noteevents", corpus[1], "--out", tmp_path / "d.jsonl")
    assert done.returncode == 0, done.stderr
    assert (
        len(read_jsonl(tmp_path / "d.jsonl", CodedDocument)) == 2
        and " ".join(done.stdout.split()).count("documents written 2") == 1
    )
    done = expand(
        "documents", "mimic-iv", "--discharge", mimic_iv[0], "--diagnoses", mimic_iv[1], "--out", tmp_path / "l.jsonl"
    )
    assert (
        done.returncode == 0
        and len(read_jsonl(tmp_path / "l.jsonl", CodedDocument)) == 2
        and "may share patients" in done.stderr
    )
    bad = expand(
        "documents",
        "mdace",
        "--mdace",
        corpus[0],
        "--noteevents",
        corpus[1],
        "--split",
        "dev",
        "--out",
        tmp_path / "x.jsonl",
    )
    assert bad.returncode == 2 and bad.stderr == "minscl: --split dev: use train, val, test\n"
    leak = expand(
        "documents",
        "mdace",
        "--mdace",
        corpus[0],
        "--noteevents",
        corpus[1],
        "--set",
        "profee",
        "--split",
        "test",
        "--out",
        tmp_path / "x.jsonl",
    )
    assert leak.returncode == 2 and leak.stderr.count("\n") == 1 and not (tmp_path / "x.jsonl").exists()


def test_notes_and_codes_of_aci_bench(tmp_path):
    """Guards: a note's own line ends and blanks lost, codes given to the wrong note, a code that is none passed on."""
    note = '\nCHIEF COMPLAINT\r\n• cough, "dry" \n'
    table = write_csv(
        tmp_path / "test1.csv",
        ["dataset", "encounter_id", "dialogue", "note"],
        [["aci", "D2N1", "[doctor] hi", note], ["aci", "D2N2", "", "Well."]],
    )
    (tmp_path / "test1.jsonl").write_text(
        "".join(
            json.dumps({"id": id, "dataset": "aci", "note": text}) + "\n"
            for id, text in (("D2N1", note), ("D2N2", "Well."))
        )
    )
    for source in (table, tmp_path / "test1.jsonl"):
        assert expand("notes", "aci-bench", "--notes", source, "--out", tmp_path / "n.jsonl").returncode == 0
        assert read_jsonl(tmp_path / "n.jsonl", Note) == [Note("D2N1", note), Note("D2N2", "Well.")]
    codes = write_csv(tmp_path / "codes.csv", ["id", "code"], [["D2N1", "R059"], ["D2N9", "I10"], ["D2N1", "i10"]])
    done = expand("documents", "aci-bench", "--notes", table, "--codes", codes, "--out", tmp_path / "d.jsonl")
    [document] = read_jsonl(tmp_path / "d.jsonl", CodedDocument)
    assert (
        done.returncode == 0
        and (document.id, [code.code for code in document.codes]) == ("D2N1", ["R05.9", "I10"])
        and "D2N9" in done.stderr
    )
    write_csv(tmp_path / "codes.csv", ["id", "code"], [["D2N1", "hello"], ["D2N9", "585.3"]])
    bad = expand("documents", "aci-bench", "--notes", table, "--codes", codes, "--out", tmp_path / "e.jsonl")
    assert (
        bad.returncode == 2
        and "codes.csv: line 2: a string of 5 characters is not an ICD-10-CM code (2 rows" in bad.stderr
    )


def test_a_folder_of_texts(tmp_path):
    """Guards: newlines changed, files in the order of the disk, an empty folder that gives an empty file."""
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "in" / "b.txt").write_bytes(b"two\r\n")
    (tmp_path / "in" / "deep" / "a.txt").write_bytes(b"one")
    (tmp_path / "in" / "c.md").write_text("no note")
    assert expand("notes", "folder", "--folder", tmp_path / "in", "--out", tmp_path / "n.jsonl").returncode == 0
    assert read_jsonl(tmp_path / "n.jsonl", Note) == [Note("b", "two\r\n"), Note("deep/a", "one")]
    bad = expand("notes", "folder", "--folder", tmp_path / "none", "--out", tmp_path / "x.jsonl")
    assert bad.returncode == 2 and "none: cannot be read (No such file" in bad.stderr


def test_a_folder_names_what_it_leaves_out(tmp_path, capsys):
    """Guards: NOTE.TXT left out, a pipe that hangs, linked and other files left out without a word."""
    folder, elsewhere = tmp_path / "in", tmp_path / "elsewhere"
    for path in (folder / "deep", elsewhere):
        path.mkdir(parents=True)
    (folder / "NOTE.TXT").write_bytes(b"\xef\xbb\xbfone\r\n")
    (folder / "deep" / "b.txt").write_text("two")
    for name in ("c.docx", "d.md", "e.pdf", "f.rtf"):
        (folder / name).write_text("x")
    os.mkfifo(folder / "pipe.txt")
    (folder / "link").symlink_to(elsewhere)
    assert folder_notes(folder) == [Note("NOTE", "one\r\n"), Note("deep/b", "two")]
    [warning] = capsys.readouterr().err.splitlines()
    assert warning == (
        f"minscl: warning: {folder}: 6 of its files and folders are no .txt files and are left out: "
        "c.docx, d.md, e.pdf, f.rtf, link, ..."
    )


def test_ids_of_a_folder_are_distinct_and_utf8(tmp_path, capsys):
    """Guards: two notes with one id; a name that no JSON Lines file can hold, found after all was read."""
    for name in ("a.txt", "a.TXT"):
        (tmp_path / name).write_text("x")
    with pytest.raises(InputError, match="a.txt: gives the id of a.TXT too"):
        folder_notes(tmp_path)
    (tmp_path / "a.TXT").unlink()
    os.rename(os.fsencode(tmp_path / "a.txt"), os.fsencode(tmp_path) + b"/\xff.txt")
    with pytest.raises(InputError, match="not UTF-8"):
        folder_notes(tmp_path)
    os.rename(os.fsencode(tmp_path) + b"/\xff.txt", tmp_path / "x.md")
    capsys.readouterr()
    with pytest.raises(InputError, match="no .txt file"):
        folder_notes(tmp_path)
    assert not capsys.readouterr().err  # the error is the one line


def test_codes_of_aci_bench_that_are_none(tmp_path):
    """Guards: only the first of many wrong rows told, and a cell of text in the message."""
    codes = write_csv(tmp_path / "codes.csv", ["id", "code"], [["a", "I10"], ["a", CONTENT], ["b", "585.3"]])
    with pytest.raises(InputError, match="codes.csv: line 3: a string of 17 characters is not .* .2 rows have none"):
        aci_documents([Note("a", "x")], [codes], BOOK, Counts())


def test_annotations_whose_code_is_none_are_left_out_and_not_shown(tmp_path):
    """Guards codes that no training takes, and text of a chart in warnings and counts."""
    secret = "Mr Quux has syphilis"
    note = {"note_id": 1, "category": "x", "text": "Pt with HTN.", "annotations": []}
    cases = [("I10", "ICD-10-CM", 11), ("I10-", "ICD-10-CM", 11), (secret, "ICD-10-CM", 99), ("1", secret, 9)]
    for code, system, end in cases:
        annotation = {"begin": 8, "end": end, "code": code, "code_system": system, "description": "x"}
        note["annotations"].append(annotation)
    counts = Counts()
    path = tmp_path / "1.json"
    path.write_text(json.dumps({"hadm_id": 1, "notes": [note]}))
    notes, _ = read_chart(path, counts)
    document = build_document("1", notes, {1: note["text"]}, BOOK, counts, path)
    assert [assignment.code for assignment in document.codes] == ["I10"]
    assert counts.numbers["annotations whose code is no ICD-10-CM code, left out"] == 1
    assert secret not in str(counts) and any("I10- is no ICD-10-CM code" in line for line in counts.warnings)
