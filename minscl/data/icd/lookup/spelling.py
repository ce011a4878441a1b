"""The node that people name by a code, a chapter or a range, in any spelling; and what to say where there is none.

    find_node(book, "(e1165)") == "E11.65"
    find_node(book, "chapter IX") == find_node(book, "I00-I99") == "9"
    nearest_listed(book, "S72.00XA") == "S72.009A"

Read next: page.py, the page of a node.
"""

import re
from os.path import commonprefix

from minscl.data.icd.codebook import CodeBook, is_procedure
from minscl.data.icd.lookup.default_codes import default_below

_LONGEST = 7  # characters of a code without its dot
_CATEGORY = r"(?:[A-Z]\d[0-9A-Z]|QA\d)"
_RANGE = re.compile(rf"(?:SECTION )?({_CATEGORY}) ?(?:-|TO) ?({_CATEGORY})")
_SECTION = re.compile(rf"SECTION ({_CATEGORY})")
_CHAPTER = re.compile(r"(CHAPTER:? )?(\d{1,3})|CHAPTER:? ([IVXLC]+)")
_ROMAN = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100}
_BEFORE_CODE = re.compile(r"^(?:ICD ?-?10(?: ?-?CM)?:? ?)?(?:CODE:? )?")
_OTHER_DOT = re.compile(rf"({_CATEGORY})[,\-:;/_]([0-9A-Z]{{1,4}})")  # "E11,65", "E11-65"
_LONG_CODE = re.compile(rf"{_CATEGORY}\.?(?=(?:[A-Z]*\d)+)[0-9A-Z]{{5,9}}")
_CODE_LIST = re.compile(rf"{_CATEGORY}(?:\.[0-9A-Z]+)?(?:[ ,;/+&|]+{_CATEGORY}(?:\.[0-9A-Z]+)?)+")
_ICD9 = re.compile(r"\d{3}\.\d{1,2}|E\d{3}\.\d|\d{2}\.\d{1,2}")  # diagnosis, external cause, procedure


def find_node(book: CodeBook, text: str) -> str | None:
    """The node that `text` names: a code in any spelling, "chapter 9", "IX" or "I00-I99", "section I30-I5A"."""
    plain = _plain(text)
    chapter = _CHAPTER.fullmatch(plain)
    if chapter:
        name = str(int(chapter[2]) if chapter[2] else _roman(chapter[3]))
        return name if book.description(name) is not None else None
    span = _RANGE.fullmatch(plain)
    if span:
        return _range_node(book, *span.groups())
    section = _SECTION.fullmatch(plain)
    if section:
        name = f"section {section[1]}"
        return name if book.description(name) is not None else None
    other_dot = _OTHER_DOT.fullmatch(plain)
    code = book.normalise(".".join(other_dot.groups()) if other_dot else plain)
    return code if code and book.description(code) is not None else None


def refusal(book: CodeBook, text: str) -> str:
    """What to say of a text that is written as a code, a chapter or a range, but is none of this book; "" for words.

    Three characters without a dot of a category that the List lacks may be words: "B12".
    """
    plain = _plain(text)
    chapter = _CHAPTER.fullmatch(plain)
    if chapter and (chapter[1] or chapter[3]):
        return f"lookup {plain}: no such chapter; chapters are 1 to {sum(node.isdigit() for node in book.nodes)}"
    span = _RANGE.fullmatch(plain)
    if span:
        above = book.ancestors(span[1]) if book.description(span[1]) is not None else []
        near = f"; {span[1]} is in {above[0] if ' ' in above[0] else f'chapter {above[0]}'}" if above else ""
        return f"lookup {span[1]}-{span[2]}: no chapter or section has this range{near}"
    if _ICD9.fullmatch(plain):
        return f"lookup {plain}: the form of an ICD-9-CM code, not of ICD-10-CM; look its words up"
    if is_procedure(plain) and sum(character.isdigit() for character in plain) > 2:
        return f"lookup {plain}: the form of an ICD-10-PCS procedure code, not of ICD-10-CM"
    if _CODE_LIST.fullmatch(plain):
        return f"lookup {plain}: several codes; look up one at a time"
    if _LONG_CODE.fullmatch(plain):
        bare = plain.replace(".", "")
        near = _with_dash(book, nearest_listed(book, f"{bare[:3]}.{bare[3:]}"))
        return f"lookup {plain}: {len(bare)} characters, a code has at most {_LONGEST}; the nearest listed is {near}"
    other_dot = _OTHER_DOT.fullmatch(plain)
    written = ".".join(other_dot.groups()) if other_dot else plain
    code = book.normalise(written)
    if not code or not ("." in written or book.has_category(code)):
        return ""
    return unlisted(book, code)


def unlisted(book: CodeBook, code: str) -> str:
    """The message about a code that is in another edition or in none."""
    when = book.when_valid(code)
    return (
        f"lookup {code}: not in ICD-10-CM edition {book.edition.name}{f' ({when}; name a --date)' if when else ''}; "
        f"the nearest listed is {_with_dash(book, nearest_listed(book, code))}"
    )


def nearest_listed(book: CodeBook, code: str) -> str:
    """The code that is most like one that is not listed, which may be too long.

    A character too many is left out, a placeholder X first. Below the longest heading that it begins with, the code
    with the same last characters (extension, intent), if there is only one or the List calls one unspecified; else that
    heading; where the category is not listed, the neighbour in the order of categories.
    """
    bare = code.replace(".", "")
    for place in sorted(range(3, len(bare)), key=lambda place: (bare[place] != "X", -place)):
        shorter = bare[:place] + bare[place + 1 :]
        shorter = f"{shorter[:3]}.{shorter[3:]}".rstrip(".")
        if len(bare) > _LONGEST - ("X" in bare[3:]) and book.is_billable(shorter):
            return shorter
    headings = (code[:length].rstrip(".") for length in range(len(code) - 1, 2, -1))
    heading = next((node for node in headings if book.description(node) is not None), "")
    if not heading:
        categories = [node for node in book.nodes if len(node) == 3]
        return max(categories, key=lambda node: (len(commonprefix([code, node])), node < code, node))
    if len(bare) < _LONGEST or book.is_billable(heading):
        return heading
    below = [other for other in book.billable_below(heading) if other[-1] == code[-1]]
    same = [other for other in below if other[-2] == code[-2]]
    default = default_below(book, heading)
    alike = same or below
    return alike[0] if len(alike) == 1 else default if default in alike else heading


def _plain(text: str) -> str:
    """Upper case; single blanks; without brackets, what is written before a code, and punctuation at the end."""
    folded = " ".join(text.split()).replace("–", "-").replace("—", "-").upper()
    return _BEFORE_CODE.sub("", folded.strip("()[]{}<>\"'.,;:!?- ")).strip("()[]{}<>\"'.,;:!?- ")


def _roman(letters: str) -> int:
    values = [_ROMAN[letter] for letter in letters]
    following = [*values[1:], 0]
    return sum(-value if value < after else value for value, after in zip(values, following, strict=True))


def _range_node(book: CodeBook, first: str, last: str) -> str | None:
    """The section or chapter that covers a range of categories; the category itself where both ends are one."""
    for name in (f"section {first}-{last}", *((f"section {first}", first) if first == last else ())):
        if book.description(name) is not None:
            return first if first == last and book.description(first) is not None else name
    for chapter in filter(str.isdigit, book.nodes):
        sections = [node.removeprefix("section ") for node in book.children(chapter)]
        if sections and (sections[0][:3], sections[-1][-3:]) == (first, last):
            return chapter
    return None


def _with_dash(book: CodeBook, code: str) -> str:
    """The code and its description, with the dash of a heading."""
    return f"{code}{'' if book.is_billable(code) else '-'} {book.description(code)}"
