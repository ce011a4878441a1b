"""CodiEsp in its published layouts, with invented cases: documents in both languages, texts, archives, wrong files."""

import gzip
import io
import json
import tarfile
import zipfile
from pathlib import Path

import pytest

from minscl import expand, expand_corpora
from minscl.data.corpora import codiesp_files
from minscl.data.corpora.codiesp import MAX_MISFITS, codiesp_documents, codiesp_notes
from minscl.data.corpora.codiesp_english import codiesp_english_documents
from minscl.data.corpora.counts import Counts
from minscl.data.icd import CodeBook
from minscl.data.jsonl import read_jsonl
from minscl.data.types import CodedDocument, Note
from minscl.errors import InputError
from tests.conftest import call_command

BOOK = CodeBook.load()
PUBLISHED = Path(__file__).parent.parent.parent / "shared" / "data" / "codiesp"  # where a developer has the corpus
A, B = "S0000-invented-1", "S0000-invented-2"
SPANISH = {
    A: "Varón de 61 años con «hipertensión» arterial.\nNeumonía en el lóbulo inferior tras una caída; fiebre.\n",
    B: "Radiografía de control.",
}
ENGLISH = {
    A: "A 61-year-old man with arterial hypertension.\nPneumonia of the lower lobe after a fall; fever.\n",
    B: "Control radiography.",
}
# (case, label, code, quotation, its parts as they are in the Spanish text, or [(start, end)] themselves)
ROWS = [
    (A, "DIAGNOSTICO", "r50.9", "fiebre", ["fiebre"]),
    (A, "DIAGNOSTICO", "j18.1", "lóbulo inferior Neumonía", ["lóbulo inferior", "Neumonía"]),
    (A, "DIAGNOSTICO", "j18.1", "Neumonía  lóbulo inferior", ["Neumonía", (60, 60), "lóbulo inferior"]),
    (A, "DIAGNOSTICO", "i10", "hipertensión» arterial", ["hipertensión» arterial"]),
    (A, "DIAGNOSTICO", "w19.xxx", "caída", ["caída"]),  # the code is not in the list
    (A, "DIAGNOSTICO", "r50", "fiebre.", ["fiebre"]),  # a heading; the quotation is not the text at its offsets
    (A, "PROCEDIMIENTO", "bw03zzz", "Radiografía", [(0, 11)]),
    (B, "PROCEDIMIENTO", "bw03zzz", "Radiografía", ["Radiografía"]),
]
CARRIED = {"R50.9": ["fever"], "J18.1": ["lower lobe"], "I10": ["arterial hypertension"], "W19.XXX": [], "R50": []}


def row(id, label, code, quotation, parts):
    places = [
        part if isinstance(part, tuple) else (SPANISH[id].index(part), SPANISH[id].index(part) + len(part))
        for part in parts
    ]
    return "\t".join([id, label, code, quotation, ";".join(f"{start} {end}" for start, end in places)])


def codiesp_text_files(split="train", rows=ROWS):
    """Path → content of a split."""
    files = {f"{split}/text_files/{id}.txt": text for id, text in SPANISH.items()}
    files |= {f"{split}/text_files_en/{id}.txt": text for id, text in ENGLISH.items()}
    if split != "background":
        pairs = dict.fromkeys((id, code) for id, label, code, *_ in rows if label == "DIAGNOSTICO")
        files[f"{split}/{split}X.tsv"] = "".join(row(*values) + "\n" for values in rows)
        files[f"{split}/{split}D.tsv"] = "".join(f"{id}\t{code}\n" for id, code in pairs)
    return files


def write_files(folder, files):
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


def write_zip(path, files, **options):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, **options) as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


def write_tar(path, files):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as archive:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(text.encode())
            archive.addfile(info, io.BytesIO(text.encode()))
    return path


def spans(document):
    return {code.code: [(span.start, span.end) for span in code.evidence] for code in document.codes}


@pytest.fixture
def corpus(tmp_path):
    return write_files(tmp_path / "codiesp", codiesp_text_files())


def test_spanish_documents_have_the_evidence_as_annotated(corpus):
    """Guards: offsets in bytes, a part or an empty one taken for the whole, procedures as diagnoses, repaired codes."""
    counts = Counts()
    documents = codiesp_documents(corpus, "train", BOOK, counts)
    assert [(document.id, document.text) for document in documents] == list(SPANISH.items())
    text, lobe = SPANISH[A], SPANISH[A].index("lóbulo inferior")
    fever, fall, pressure = (text.index(words) for words in ("fiebre", "caída", "hipertensión»"))
    assert spans(documents[0]) == {
        "I10": [(pressure, pressure + len("hipertensión» arterial"))],
        "J18.1": [(text.index("Neumonía"), lobe + len("lóbulo inferior"))],  # two rows with one span
        "W19.XXX": [(fall, fall + 5)],
        "R50.9": [(fever, fever + 6)],
        "R50": [(fever, fever + 6)],
    }
    assert list(spans(documents[0])) == ["I10", "J18.1", "W19.XXX", "R50.9", "R50"]  # by first evidence
    assert documents[1].codes == ()
    assert all(CodedDocument.from_dict(document.to_dict()) == document for document in documents)
    assert dict(counts.numbers) == {
        "procedure annotations, left out": 2,
        "diagnosis annotations": 6,
        "  discontinuous, as the smallest span with all parts": 2,
        "  continuous, not the text at their offsets, kept as annotated": 1,
        "cases without a diagnosis code": 1,
        "documents written": 2,
        "  codes": 5,
        "    billable in edition 2027": 3,
        "    headings in edition 2027, kept": 1,
        "    not in edition 2027, kept": 1,
        "  evidence spans": 5,
        "  distinct codes": 5,
    }
    [warning] = counts.warnings
    assert warning.startswith(f"{corpus / 'train' / 'trainX.tsv'}: line 6, code R50: ") and "fiebre" not in warning


def test_every_published_layout_is_read(corpus, tmp_path):
    """Guards: a ZIP with one more folder around, Windows' or macOS's ZIP, the archives in a folder, a .tar.gz alone."""
    expected = codiesp_documents(corpus, "train", BOOK, Counts())
    files = codiesp_text_files()
    nested = {f"final_dataset_v4_to_publish/{name}": text for name, text in files.items()}
    apple = {f"__MACOSX/final_dataset_v4_to_publish/train/text_files/._{A}.txt": "\0"}
    with_dot = {f"./{name}": text for name, text in files.items()}
    for path in [
        write_zip(tmp_path / "root.zip", files),
        write_zip(tmp_path / "nested.zip", {**nested, **apple, "train.txt": "not a case", "a/b.txt": ""}),
        write_zip(tmp_path / "windows.ZIP", {name.replace("/", "\\"): text for name, text in files.items()}),
        write_files(tmp_path / "deep", nested),
        write_tar(tmp_path / "archives" / "codiesp_train.tar.gz", with_dot),
        tmp_path / "archives",
        write_files(tmp_path / "signed", {name: b"\xef\xbb\xbf" + text.encode() for name, text in files.items()}),
        write_files(tmp_path / "crlf", {**files, "train/trainX.tsv": files["train/trainX.tsv"].replace("\n", "\r\n")}),
    ]:
        assert codiesp_documents(path, "train", BOOK, Counts()) == expected, path


def test_texts_alone_in_both_languages(tmp_path):
    """Guards: background texts refused for want of codes, the other language's texts, newlines changed."""
    path = write_zip(tmp_path / "codiesp.zip", codiesp_text_files("background"))
    assert codiesp_notes(path, "background", "es") == [Note(id, text) for id, text in SPANISH.items()]
    assert codiesp_notes(path, "background", "en") == [Note(id, text) for id, text in ENGLISH.items()]
    with pytest.raises(InputError, match=r"codiesp.zip: no text in dev/text_files_en; name the folder or ZIP"):
        codiesp_notes(path, "dev", "en")


@pytest.mark.parametrize(
    "name, change, message",
    [
        ("train/trainX.tsv", lambda text: text + "a\tb\n", "trainX.tsv: line 9: 2 cells, not 5"),
        ("train/trainX.tsv", lambda text: text.replace("DIAGNOSTICO", "Label", 1), "line 1: label Label is neither"),
        ("train/trainX.tsv", lambda text: text.replace(A, "S1", 1), "line 1: there is no text of case S1"),
        ("train/trainX.tsv", lambda text: text.replace("i10", "585.3"), "line 4: 585.3 is not an ICD-10-CM code"),
        (
            "train/trainX.tsv",
            lambda text: text.replace("i10", "Neumonía bilateral"),
            "line 4: a string of 18 characters",
        ),
        ("train/trainX.tsv", lambda text: text.replace(" ", "-"), 'line 1: the last cell is not "start end"'),
        (
            "train/trainX.tsv",
            lambda text: text + row(A, "DIAGNOSTICO", "i10", "x", [(5, 999)]),
            "line 9, code I10: its",
        ),
        ("train/trainX.tsv", lambda text: text + row(A, "DIAGNOSTICO", "i10", "x", [(9, 5)]), "line 9, code I10: its"),
        ("train/trainX.tsv", lambda text: b"\xff" + text.encode(), "trainX.tsv: byte 0 is not UTF-8"),
        ("train/trainX.tsv", lambda text: None, "train has texts but no trainX.tsv"),
        ("train/trainD.tsv", lambda text: text + "a\n", "trainD.tsv: line 6: 1 cells, not 2"),
        (f"train/text_files/{A}.txt", lambda text: text.encode("utf-16"), f"{A}.txt: byte 0 is not UTF-8"),
        (f"train/text_files/{A}.txt", lambda text: " \n", f"{A}.txt: the text is empty"),
        ("other/train/text_files/x.txt", lambda text: "x", "has train/ and other/train/; name the folder of one"),
    ],
)
def test_a_wrong_file_is_one_line_without_content(tmp_path, name, change, message):
    """Guards: tracebacks, a row that is skipped, messages that do not say where or that quote a case."""
    files = codiesp_text_files()
    changed = change(files.get(name, ""))
    files = {**files, name: changed} if changed is not None else {key: files[key] for key in files if key != name}
    path = write_zip(tmp_path / "codiesp.zip", files)
    with pytest.raises(InputError) as error:
        codiesp_documents(path, "train", BOOK, Counts())
    text = str(error.value)
    assert (
        message in text and str(path) in text and "fiebre" not in text and "bilateral" not in text and "\n" not in text
    )


def test_texts_other_than_those_annotated_are_refused(tmp_path):
    """Guards: evidence out of texts whose line feeds a program made CR LF, with exit status 0."""
    files = codiesp_text_files(rows=[*ROWS, *[ROWS[0]] * MAX_MISFITS])
    files[f"train/text_files/{A}.txt"] = files[f"train/text_files/{A}.txt"].replace("\n", "\r\n")
    with pytest.raises(InputError, match=r"15 quotations of train are not the text at their offsets; other texts"):
        codiesp_documents(write_files(tmp_path, files), "train", BOOK, Counts())


def test_a_table_without_codes_is_refused(tmp_path):
    """Guards cases written without codes, which train to code nothing, from an empty table."""
    files = codiesp_text_files(rows=[])
    files.pop("train/trainD.tsv", None)
    with pytest.raises(InputError, match="trainX.tsv: contains no diagnosis code; fetch CodiEsp's"):
        codiesp_documents(write_files(tmp_path, files), "train", BOOK, Counts())


def test_two_files_of_codes_that_disagree(corpus):
    """Guards: nobody told which of the two is gold; gold without codes from a file that is cut off."""
    pairs = corpus / "train" / "trainD.tsv"
    lines = pairs.read_text().splitlines(keepends=True)
    pairs.write_text("".join(line for line in lines if "i10" not in line))
    counts = Counts()
    assert "I10" in spans(codiesp_documents(corpus, "train", BOOK, counts)[0])
    assert f"{pairs}: lacks 1 of the 5 pairs of case and code" in counts.warnings[0]
    pairs.write_text("".join(lines))
    evidence = corpus / "train" / "trainX.tsv"
    evidence.write_text("")
    with pytest.raises(InputError, match="5 of its 5 pairs of case and code are not in the file with evidence"):
        codiesp_documents(corpus, "train", BOOK, Counts())


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda path: write_zip(path, {"train/text_files/a.txt": "x" * 2000}), "a.txt: larger than 0 MB, as no file"),
        (lambda path: write_zip(path, {f"train/text_files/{i}.txt": "x" * 900 for i in range(9)}), "more than 0 MB"),
        (
            lambda path: write_zip(path, {r"train/text_files/a.txt": "x", r"train\text_files\a.txt": "y"}),
            "archive twice",
        ),
        (lambda path: path.write_bytes(b"PK\3\4 cut off"), "a damaged or cut-off archive"),
        (lambda path: path.write_bytes(write_zip(path, {"train/a.txt": "x"}).read_bytes()[:-9]), "damaged or cut-off"),
        (lambda path: path.write_bytes(encrypted(write_zip(path, {"train/text_files/a.txt": "x"}))), "unusual kind"),
    ],
)
def test_odd_archives_are_one_line(tmp_path, monkeypatch, make, message):
    """Guards: a ZIP bomb that fills the memory, tracebacks out of zipfile."""
    monkeypatch.setattr(codiesp_files, "MAX_MEMBER_BYTES", 1000)
    monkeypatch.setattr(codiesp_files, "MAX_TOTAL_BYTES", 5000)
    make(tmp_path / "codiesp.zip")
    with pytest.raises(InputError) as error:
        codiesp_notes(tmp_path / "codiesp.zip", "train", "es")
    assert message in str(error.value) and "codiesp.zip" in str(error.value)


def test_a_member_without_a_name_is_passed_over(tmp_path):
    """Guards: IndexError out of ZipInfo.is_dir for an empty name."""
    with zipfile.ZipFile(tmp_path / "codiesp.zip", "w") as archive:
        archive.writestr(zipfile.ZipInfo(""), "x")
        archive.writestr("train/text_files/a.txt", "y")
    assert codiesp_notes(tmp_path / "codiesp.zip", "train", "es") == [Note("a", "y")]


def encrypted(path):
    """The archive's bytes with the flag of an encrypted member in both of its headers."""
    content = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        content[content.index(signature) + offset] |= 1
    return content


def test_odd_tar_archives_are_one_line(tmp_path, monkeypatch):
    """Guards: a gzip bomb, tracebacks out of tarfile, a link that is followed to another file of the machine."""
    whole = write_tar(tmp_path / "codiesp_train.tar.gz", codiesp_text_files()).read_bytes()
    (tmp_path / "cut.tar.gz").write_bytes(whole[:-40])
    (tmp_path / "not.tgz").write_bytes(gzip.compress(b"x" * 2000))
    for name in ("cut.tar.gz", "not.tgz"):
        with pytest.raises(InputError, match=f"{name}: a damaged or cut-off archive"):
            codiesp_notes(tmp_path / name, "train", "es")
    with tarfile.open(tmp_path / "link.tar.gz", "w:gz") as archive:
        link = tarfile.TarInfo("train/text_files/a.txt")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        archive.addfile(link)
    with pytest.raises(InputError, match="no text in train/text_files"):
        codiesp_notes(tmp_path / "link.tar.gz", "train", "es")
    monkeypatch.setattr(codiesp_files, "MAX_TOTAL_BYTES", 500)
    with pytest.raises(InputError, match="more than 0 MB when unpacked"):
        codiesp_notes(tmp_path / "codiesp_train.tar.gz", "train", "es")


def carried(split="train", **changes):
    """A file of carried evidence, as lines; `changes` of the first case."""
    cases = []
    for id, text in ENGLISH.items():
        codes = [
            {
                "code": code,
                "description": "not read",
                "evidence": [
                    {"text": words, "start": text.index(words), "end": text.index(words) + len(words)}
                    for words in quoted
                ],
            }
            for code, quoted in CARRIED.items()
            if id == A
        ]
        cases.append({"id": id, "split": split, "text": text, "codes": codes, "annotations": []})
    cases[0] |= changes
    return "".join(json.dumps(case) + "\n" for case in cases).encode()


def test_english_documents_have_the_carried_evidence(tmp_path):
    """Guards: codes without evidence trained on, or missing in the gold of dev; evidence beside the wrong text."""
    evidence = tmp_path / "en.jsonl.gz"
    for split, codes in (("train", ["I10", "J18.1", "R50.9"]), ("dev", ["I10", "J18.1", "R50.9", "W19.XXX", "R50"])):
        corpus = write_files(tmp_path / split, codiesp_text_files(split))
        evidence.write_bytes(gzip.compress(carried(split)))
        counts = Counts()
        documents = codiesp_english_documents(corpus, split, evidence, BOOK, counts)
        assert [(document.id, document.text) for document in documents] == list(ENGLISH.items())
        assert sorted(spans(documents[0])) == sorted(codes) and list(spans(documents[0]))[:3] == codes[:3]
        assert documents[0].codes[0].evidence[0].text == "arterial hypertension"
        assert counts.numbers["diagnosis annotations"] == 6
        verb = "left out" if split == "train" else "kept"
        assert counts.numbers[f"codes without carried evidence, {verb}"] == 2
        assert all(CodedDocument.from_dict(document.to_dict()) == document for document in documents)
    bare = [{"code": code, "evidence": []} for code in CARRIED]
    evidence.write_bytes(carried(codes=bare))  # not packed
    counts = Counts()
    assert [case.id for case in codiesp_english_documents(tmp_path / "train", "train", evidence, BOOK, counts)] == [B]
    assert counts.numbers["cases of which no code has carried evidence, left out"] == 1


@pytest.mark.parametrize(
    "content, message",
    [
        (carried(text="A 61-year-old narwhal."), "en.jsonl:1: evidence of R50.9: its offsets are not within"),
        (carried(text="A narwhal.", codes=[]), f"en.jsonl:1: its text is not text_files_en/{A}.txt of the corpus"),
        (
            carried(codes=[{"code": "I11.9", "evidence": []}]),
            "en.jsonl:1: lacks 5 of the case's 5 codes and has 1 others",
        ),
        (carried(split="val"), "en.jsonl:1: CarriedCase: split is none of train, dev, test"),
        (carried(note="narwhal"), "en.jsonl:1: CarriedCase: unknown key 'note'"),
        (carried(codes=[{"code": code, "evidence": []} for code in ("I10", "i10")]), "a code appears twice"),
        (carried(codes=["narwhal"]), "en.jsonl:1: Assignment: a string of 7 characters, not an object"),
        (carried(id=B), "en.jsonl:2: the id is also that of"),
        (carried("dev"), f"en.jsonl: has no line with case {A} of train"),
        (b"narwhal", "en.jsonl:1: not JSON"),
        (gzip.compress(carried())[:-20], "en.jsonl: damaged"),
    ],
)
def test_carried_evidence_of_another_corpus_is_refused(corpus, tmp_path, content, message):
    """Guards: evidence beside texts or codes that it was not made for."""
    path = tmp_path / "en.jsonl"
    path.write_bytes(content)
    with pytest.raises(InputError) as error:
        codiesp_english_documents(corpus, "train", path, BOOK, Counts())
    assert message in str(error.value) and "narwhal" not in str(error.value) and "\n" not in str(error.value)


def test_the_commands_write_and_count(corpus, tmp_path, monkeypatch):
    """Guards: a flag that reaches nothing, counts that are not printed, an output after an error."""
    out = tmp_path / "out.jsonl"
    done = call_command(expand.main, "documents", "codiesp", corpus, "--split", "train", "--out", out)
    assert done.returncode == 0 and [case.id for case in read_jsonl(out, CodedDocument)] == [A, B]
    assert "diagnosis annotations 6" in " ".join(done.stdout.split()) and "line 6, code R50" in done.stderr
    evidence = tmp_path / "en.jsonl"
    evidence.write_bytes(carried())
    english = ("documents", "codiesp", corpus, "--language", "en", "--out", out)
    assert call_command(expand.main, *english, "--evidence", evidence).returncode == 0
    assert read_jsonl(out, CodedDocument)[0].text == ENGLISH[A]
    monkeypatch.setattr(expand_corpora, "SHIPPED", evidence)
    assert call_command(expand.main, *english).returncode == 0
    done = call_command(expand.main, "notes", "codiesp", corpus, "--language", "en", "--out", out)
    assert done.returncode == 0 and read_jsonl(out, Note) == [Note(id, text) for id, text in ENGLISH.items()]
    monkeypatch.setattr(expand_corpora, "SHIPPED", tmp_path / "none")
    for arguments, message in [
        (english, "--evidence is missing: the English texts have no evidence of their own"),
        (("documents", "codiesp", corpus, "--evidence", evidence, "--out", out), "--evidence"),
        (("documents", "codiesp", corpus, "--split", "background", "--out", out), "use train, dev, test"),
        (("notes", "codiesp", corpus, corpus, "--out", out), "FOLDER|ZIP: 2 are named; name one"),
        (("notes", "codiesp", tmp_path / "no.zip", "--out", out), "no.zip: no such file; name the folder or ZIP"),
    ]:
        done = call_command(expand.main, *arguments)
        assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1, done.stderr


@pytest.mark.slow
@pytest.mark.skipif(not PUBLISHED.exists(), reason="CodiEsp is not beside the checkout")
def test_the_published_corpus_gives_the_published_counts():
    """Guards: cases, annotations or codes of the real files lost or doubled."""
    table = {
        "train": (500, 7209, 1047, 5639, 1767, 5184, 380, 75),
        "dev": (250, 3431, 509, 2677, 1158, 2454, 180, 43),
        "test": (250, 3665, 524, 2842, 1143, 2579, 219, 44),
    }
    names = (
        "documents written",
        "diagnosis annotations",
        "  discontinuous, as the smallest span with all parts",
        "  codes",
        "  distinct codes",
        "    billable in edition 2027",
        "    headings in edition 2027, kept",
        "    not in edition 2027, kept",
    )
    warnings = []
    for split, numbers in table.items():
        counts = Counts()
        documents = codiesp_documents(PUBLISHED, split, BOOK, counts)
        assert tuple(counts.numbers[name] for name in names) == numbers
        warnings += counts.warnings
        for document in documents:
            for span in (span for code in document.codes for span in code.evidence):
                assert document.text[span.start : span.end] == span.text
    assert len(warnings) == 4 and all("is not the quotation" in warning for warning in warnings)
