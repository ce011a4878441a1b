"""The lists of codes that `expand official` reads, passes over or refuses: on archives of seven codes."""

import re

import pytest

from minscl.code_set import print_changes, print_texts
from minscl.data.icd.code_list import HEADER, place_codes, read_code_list
from minscl.data.icd.official.changes import edition_changes
from minscl.data.icd.official.order_file import code_list_kind, read_order_file
from minscl.errors import InputError
from tests.official_archives import (
    ALL_CODES,
    CODES,
    INDEX,
    ORDER,
    SMALL,
    SMALL_ROWS,
    SMALL_TABULAR,
    TABULAR,
    checked,
    codes_file,
    fault,
    order_file,
    passed_over,
    refusal,
    write,
)

TABLE = (
    b"<ICD10CM.index><version>2027</version><indexHeading><head col='1'>%s</head></indexHeading>"
    b"<letter><mainTerm/></letter></ICD10CM.index>"
)


def test_the_order_files_layout():
    """Guards: a description cut where an accent makes the short one longer in bytes; older encodings, line ends."""
    row = "00001 H810    1 {:60} Ménière's disease, long\r\n"
    padded_in_bytes = "Ménière's disease" + " " * (60 - len("Ménière's disease".encode()))
    for short, encoding in ((padded_in_bytes, "utf-8"), ("Ménière's", "utf-8"), ("Ménière's", "cp1252")):
        text = row.format(short) if short != padded_in_bytes else row.replace("{:60}", short)
        content = ("\n" + text + "\x1a").encode(encoding)
        assert code_list_kind(content) == "order"
        assert read_order_file(content, "order") == [("H81.0", True, "Ménière's disease, long")]
    for line, message in (
        (row.format("x") * 2, "order:2: H81.0 occurs twice"),
        ("00001 H81 1 short", "order:1: not an"),
    ):
        with pytest.raises(InputError, match=message):
            read_order_file(line.encode(), "order")


# ---- files that do not agree


def test_codes_in_one_file_only_are_named(tmp_path):
    """Guards: an edition whose files are of two years; an error that names too few or too many codes."""
    extra = [*SMALL_ROWS, *((f"N99.{number}", 1, "Other disorder") for number in range(10, 22))]
    line = refusal(write(tmp_path, {**SMALL, ORDER: order_file(extra)}), tmp_path / "out")
    assert f"{ORDER} and {tmp_path / '2027.zip'}: {TABULAR} disagree" in line
    assert "billable codes only in the order file: N99.10, " in line and "N99.19, ... (12 in all);" in line
    fewer = [row for row in SMALL_ROWS if row[0] != "M1A.9XX1"]
    line = refusal(write(tmp_path, {**SMALL, CODES: codes_file(fewer)}), tmp_path / "out")
    assert "billable codes only in the Tabular List: M1A.9XX1;" in line and CODES in line
    line = refusal(write(tmp_path, {**SMALL, ORDER: order_file(SMALL_ROWS[1:])}), tmp_path / "out")
    assert "headings only in the Tabular List: H81;" in line


def test_descriptions_that_differ_are_shown_with_both_texts(tmp_path, capsys):
    """Guards: an accent that the order file drops shown as a difference; the codes file compared with nothing; a coder
    told that a description was revised and not how."""
    rows = [(code, billable, text.replace("with tophus", "w tophus")) for code, billable, text in SMALL_ROWS]
    others = [(code, billable, text.replace("Meniere's", "Meniere")) for code, billable, text in rows]
    _, codes = checked(tmp_path, {**SMALL, ORDER: order_file(rows), CODES: codes_file(others)})
    assert codes.counts[-2:] == [
        ("descriptions that differ: order file, Tabular List", 1),
        ("descriptions that differ: codes file, order file", 1),
    ]
    of_codes = codes.texts[1]
    print_texts("Descriptions that differ", of_codes[2] * 12, *of_codes[:2])
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "Descriptions that differ, the first 10 of 12:" and len(lines) == 22
    assert lines[2:4] == ["H81.0     codes file:  Meniere disease", "          order file:  Meniere's disease"]
    _, plain = checked(tmp_path, SMALL)
    print_changes("2026", "2027", edition_changes(plain.placed, codes.placed))
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "M1A.9XX1  bundled 2026:  Chronic gout, unspecified, with tophus",
        "          this 2027:     Chronic gout, unspecified, w tophus",
    ]


# ---- lists of codes: damaged, in another order, of another kind


@pytest.mark.parametrize(
    "old, new, line",
    [
        (b"H810    1", b"H810    2", 2),
        (b"H810    1", b"h810    1", 2),
        (b"H810    1", b"H81.0   1", 2),
        (b"H810    1 ", b"H810\t1 ", 2),
        (b"00002 ", b"hello world\r\n00002 ", 2),
        (b"00001 ", b"Order file of FY2027\r\n00001 ", 1),
        (b"Meniere's disease\r\n", b"\r\n", 2),
        (b"Meniere's disease\r\n", b"Meniere's \x1b[31m disease\r\n", 2),
        (b"Meniere's disease\r\n", b"Meniere's \x81 disease\r\n", 2),
        (b"Meniere's disease\r\n", b"Meniere's\0disease\r\n", 2),
        (b" ", b"\t", 1),
    ],
)
def test_a_damaged_order_file_is_an_error_with_its_line(old, new, line, tmp_path):
    """Guards: an order file passed over, as PDFs are, for one odd line; control characters in a description."""
    for name in (ORDER, "a"):
        message = fault(tmp_path, {TABULAR: SMALL_TABULAR, CODES: SMALL[CODES], name: SMALL[ORDER].replace(old, new)})
        assert f": {name}:{line}: " in message


def test_a_damaged_file_is_known_by_its_name(tmp_path):
    """Guards: lists and XML of which nothing is right passed over, and the rest said to agree."""
    for content in (b"%PDF-1.7", SMALL[ORDER].replace(b" ", b",")):
        assert f"{ORDER}:1: not an order number" in fault(tmp_path, {**SMALL, ORDER: content})
    for damaged in (SMALL[CODES].replace(b"H810 ", b"H81.0"), SMALL[CODES].replace(b"    ", b"\t")):
        assert f"{CODES}:1: not a code" in fault(tmp_path, {**SMALL, CODES: damaged})
    assert "billable codes only in the Tabular List: H81.0" in fault(tmp_path, {**SMALL, ORDER: b""})
    for content in (b"<html/>", b"404 not found", INDEX.replace(b"ICD10CM.index", b"ICD9CM.index")):
        assert "its root element is neither" in fault(tmp_path, {**SMALL, "icd10cm_index_2027.xml": content})
    assert "an index without a term" in fault(tmp_path, {**SMALL, "index.xml": b"<ICD10CM.index/>"})
    assert "tells which index it is" in fault(tmp_path, {**SMALL, "a.xml": TABLE % b""})


def test_other_lists_are_passed_over(tmp_path):
    """Guards: a list of other codes of CMS's pages taken for the codes file, and the edition refused; macOS's files
    taken for damaged archives."""
    some = codes_file(SMALL_ROWS[:2])
    others = {
        "POAexemptCodes2027.txt": some,
        "Table 6A New Diagnosis Codes.txt": some,
        "2027_I10gem.txt": b"A000    00843 10000\r\n",
        "icd10cm_conversion_table_2027.txt": b"A001    Code of conversion\r\n",
        "icd10cm_codes_addenda_2027.txt": b"Add:         A000    Cholera\r\n",
        "x.txt": b"A10 lot of text",
        "notes.txt": b"H810    Meniere's\r\nH82  and a line that is damaged\r\n",
        "__MACOSX/._x.zip": b"\0\5\x16\7",
        "__MACOSX/._icd10cm_order_2027.txt": b"\0\5\x16\7",
    }
    for lists in ({ORDER: SMALL[ORDER]}, {CODES: SMALL[CODES]}, {"a": SMALL[ORDER]}, {"b": SMALL[CODES]}):
        files, codes = checked(tmp_path, {TABULAR: SMALL_TABULAR, **lists, **others})
        assert {(row.code, row.is_billable) for row in codes.rows} == ALL_CODES
        assert sorted(passed_over(files)) == sorted(others)
    assert "x.txt:1" not in fault(tmp_path, {TABULAR: SMALL_TABULAR, "x.txt": others["x.txt"], CODES: some})
    assert "only in the Tabular List: M1A.9XX0" in fault(tmp_path, {TABULAR: SMALL_TABULAR, "x.txt": some})
    nearly_all = [*SMALL_ROWS, ("N99.1", 1, "Other")]  # under any name: a codes file that does not agree
    members = {TABULAR: SMALL_TABULAR, ORDER: SMALL[ORDER], "x": codes_file(nearly_all)}
    assert "codes only in the codes file: N99.1;" in fault(tmp_path, members)


def test_of_two_lists_the_one_that_agrees_is_used(tmp_path):
    """Guards: the other year's file used, or the right one refused because another one is there, too."""
    older = order_file(SMALL_ROWS[:2])
    files, _ = checked(tmp_path, {**SMALL, "old/icd10cm_order_2027.txt": older})
    assert files["order"].content == SMALL[ORDER] and passed_over(files) == ["old/icd10cm_order_2027.txt"]
    files, _ = checked(tmp_path, {**SMALL, "copy.txt": SMALL[CODES] + b"\n"})  # the name decides between equals
    assert files["codes"].names[-1] == CODES
    for one, other in ((SMALL[ORDER], SMALL[ORDER] + b"\n"), (older, older + b"\n")):
        message = fault(tmp_path, {TABULAR: SMALL_TABULAR, "order a.txt": one, "order b.txt": other})
        assert re.search("order a.txt and .*order b.txt: 2 different files of the order file", message)


def test_rows_in_any_order_have_their_place(tmp_path):
    """Guards: KeyError, or a code that no node lists, where an editor has sorted the rows."""
    _, codes = checked(tmp_path, SMALL)
    _, reversed_codes = checked(tmp_path, {**SMALL, ORDER: order_file(SMALL_ROWS[::-1]), CODES: SMALL[CODES]})
    assert list(reversed_codes.placed["nodes"]) == list(codes.placed["nodes"]) and reversed_codes == codes
    assert [row.code for row in codes.rows] == [code for code, _, _ in SMALL_ROWS]
    assert not edition_changes(codes.placed, reversed_codes.placed)
    rows = [("H81.1", True, "new"), ("M1B", True, "new"), *codes.rows, ("H81.A", True, "new"), ("M1A.8", True, "new")]
    nodes = place_codes(rows, codes.placed)["nodes"]
    assert [code for code in nodes if nodes[code][0] == "new"] == ["H81.1", "H81.A", "M1A.8", "M1B"]
    assert nodes["M1B"][1] == "section M1A-M1A" and list(nodes).index("M1B") == len(nodes) - 1
    for row in (("A00", True, "no section"), ("H82.0", True, "no category")):
        with pytest.raises(InputError, match=f"{row[0]} has no category"):
            place_codes([*codes.rows, row], codes.placed)
    gout = {name: [name, "section M05-M14"] for name in ("M1A", "M10", "M11")}  # so the List has them
    tabular = {"nodes": {"section M05-M14": ["Gout", "13"], **gout, "A00": ["", "section A"]}, "notes": {}}
    rows = [(name, True, name) for name in ("M12", "M11", "M10", "M1A")]
    assert list(place_codes(rows, tabular)["nodes"]) == ["section M05-M14", "M1A", "M10", "M11", "M12"]
    with pytest.raises(InputError, match="A00 is in no section"):
        place_codes([*rows, ("A00", True, "lost")], tabular)


def test_an_editions_list_of_codes_has_no_control_characters():
    """Guards: an escape sequence of a shared edition folder on the terminal."""
    with pytest.raises(InputError, match="codes:2: control characters in the description of A00.9"):
        read_code_list(f"{HEADER}\nA00.9\t1\tCholera\x1b[31m\n".encode(), "codes")


def test_line_ends_and_encodings_of_lists(tmp_path):
    """Guards: a file with the line ends of old Macs as one row; UTF-16, as editors save it, passed over."""
    text = SMALL[ORDER].decode()
    for content in (text.replace("\r\n", "\r").encode(), text.encode("utf-16"), text.encode("utf-16-be")):
        _, codes = checked(tmp_path, {TABULAR: SMALL_TABULAR, ORDER: content})
        assert {(row.code, row.is_billable) for row in codes.rows} == ALL_CODES
