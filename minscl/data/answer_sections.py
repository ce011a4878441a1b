"""The parts of an answer: what is removed before parsing, and the lines of its evidence and its codes.

    "<think>CHF?</think>Evidence:\n1. HTN\nCodes:\n[1] I10 x"  →  evidence line "1. HTN", code line "[1] I10 x"

All offsets are characters of the answer as received: what is removed is overwritten with spaces.

Read next: parse_line.py.
"""

import re

from minscl.data.parse_line import match_rendered, read_heading

# Examples as in parse_line.py; tests/test_parse_line.py has the table.
# Reasoning. "<think>I21?</think>Codes:" → "<think>I21?</think>"; unclosed, everything to the end.
THINKING = re.compile(r"<think>.*?(?:</think>|\Z)", re.IGNORECASE | re.DOTALL)
# Reasoning that the prompt opened, as some chat formats do. "I21?</think>Codes:" → "I21?</think>".
UNOPENED_THINKING = re.compile(r"\A.*</think>", re.IGNORECASE | re.DOTALL)
# End of turn. "I10<|eot_id|>x" → "<|eot_id|>"; also "</s>", "<end_of_turn>".
END_OF_TURN = re.compile(r"<\|(?:eot_id|im_end|end|end_of_text|endoftext|eom_id)\|>|</s>|<end_of_turn>", re.IGNORECASE)
# Any text that is removed before parsing. "a </think> b" → "</think>"; "</s>".
REMOVED = re.compile(rf"</?think>|{END_OF_TURN.pattern}", re.IGNORECASE)
# A line that opens or closes a code fence. "```json" → all of it; not "```x y".
FENCE = re.compile(r"\s*```[\w-]*\s*")
# A rendered document answer. "Evidence:\n1. HTN\nCodes:\n[1] I10 x" → group 1, the code lines: "[1] I10 x".
RENDERED_DOCUMENT = re.compile(r"(?:Evidence:\n(?:(?:[0-9]+\. [^\n]+\n)+|none\n))?Codes:\n(.+)", re.DOTALL)
# What blanking overwrites. "a\nb" → "a" and "b".
_NOT_NEWLINE = re.compile(r"[^\n]")

Line = tuple[int, str]  # offset in the answer, text


def answer_body(text: str) -> str:
    """What of the answer `text` is parsed: all of a rendered answer, others without reasoning and end of turn."""
    return text if not REMOVED.search(text) or _is_rendered(text) else blank_thinking(text)


def _is_rendered(text: str) -> bool:
    """Whether `text`, which has a match of REMOVED, is a rendered answer that quotes it from a note."""
    rendered = RENDERED_DOCUMENT.fullmatch(text)
    if not rendered:
        return False
    return all(match_rendered(line) or not REMOVED.search(line) for line in rendered[1].split("\n"))


def blank_thinking(text: str) -> str:
    """`text` up to its end-of-turn token, with reasoning overwritten by spaces, which keeps all offsets."""
    for pattern in (THINKING, UNOPENED_THINKING):
        text = pattern.sub(lambda match: _NOT_NEWLINE.sub(" ", match[0]), text)
    end = END_OF_TURN.search(text)
    return text[: end.start()] if end else text


def sections(body: str) -> tuple[list[Line] | None, list[Line] | None, bool]:
    """(evidence lines or None, code lines or None, whether there is no heading).

    The code section is the last one, the evidence section the last one before it. Without headings every line is a code
    line; with an evidence section alone there are no code lines.
    """
    lines: list[Line] = []
    headings: list[tuple[int, re.Match]] = []  # index into `lines`, match
    offset = 0
    for line in body.split("\n"):
        if line.strip() and not FENCE.fullmatch(line):
            match = read_heading(line)
            if match:
                headings.append((len(lines), match))
            lines.append((offset, line))
        offset += len(line) + 1
    last = max((n for n, (_, match) in enumerate(headings) if match["codes"]), default=None)
    # After the last code heading, "Evidence: ..." with words on its own line is a remark on the code above, not a
    # section.
    headings = [
        (index, match)
        for n, (index, match) in enumerate(headings)
        if (last is not None and n <= last) or not (match["evidence"] and match["rest"])
    ]
    if not headings:
        return None, lines, True

    def section(number: int) -> list[Line]:
        first, match = headings[number]
        stop = headings[number + 1][0] if number + 1 < len(headings) else len(lines)
        inline = [(lines[first][0] + match.start("rest"), match["rest"])] if match["rest"] else []
        return inline + lines[first + 1 : stop]

    evidence = [n for n, (_, match) in enumerate(headings) if match["evidence"] and (last is None or n < last)]
    return section(evidence[-1]) if evidence else None, section(last) if last is not None else None, False
