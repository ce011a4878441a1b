"""The grammar of an answer for a server's own guided decoding: codes are billable ones, evidence is free text.

Written in GBNF, llama.cpp's notation, which vLLM's and SGLang's grammar backends read too:

    root ::= "Evidence:\\n" ("none\\nCodes:\\nnone" | evidence+ "Codes:\\n" codes)
    code ::= n0                                    the code set as an automaton with a rule for each state:
    n0 ::= [A] n1 | [B] n2 | …                     equal endings share their states, so 75,000 codes need some 2,000

A server's grammar cannot say that a quotation is the note's, so quotations are located afterwards, as those of plain
generation are. Nor does it have descriptions, which are the Tabular List's whatever the model writes.

Read next: completions.py, which finds out whether the server takes a grammar; answer_grammar.py, the local decoder's.
"""

import functools
from collections.abc import Iterable

from minscl.data.icd import CodeBook

NUMBER = "[1-9] [0-9]?"


@functools.lru_cache(maxsize=2)
def server_grammar(codebook: CodeBook, has_evidence: bool = False, leading_space: bool = False) -> str:
    """The grammar in GBNF. `has_evidence`: the prompt ends with human evidence, so the answer is the code section.

    `leading_space`: the chat format puts a space before an answer, as Llama 2's does.
    """
    space = '" "? ' if leading_space else ""
    answer = f'{space}"Evidence:\\n" ("none\\nCodes:\\nnone" | evidence+ "Codes:\\n" codes)'
    return "\n".join(
        [
            f"root ::= {'codes' if has_evidence else answer}",
            f'evidence ::= {NUMBER} ". " [^\\n]+ "\\n"',
            'codes ::= "none" | line ("\\n" line)*',
            'line ::= "[" number (", " number)* "] " n0 " " [^\\n]+',
            f"number ::= {NUMBER}",
            *code_rules(codebook.billable),
            "",
        ]
    )


def code_rules(codes: Iterable[str]) -> list[str]:
    """Rules n0, n1, … of which n0 derives each of `codes` and nothing else: a rule for each set of endings."""
    numbers: dict[tuple[str, ...], int] = {}  # of the rules, by the endings that they derive
    rules: list[str] = []

    def rule(endings: tuple[str, ...]) -> str:
        if endings not in numbers:
            numbers[endings] = len(rules)
            rules.append("")
            by_letter: dict[str, list[str]] = {}
            for ending in endings:
                by_letter.setdefault(ending[0], []).append(ending[1:])
            letters_before: dict[tuple[str, ...], str] = {}
            for letter, rest in by_letter.items():
                letters_before[tuple(rest)] = letters_before.get(tuple(rest), "") + letter
            options = [option(letters, rest) for rest, letters in letters_before.items()]
            rules[numbers[endings]] = f"n{numbers[endings]} ::= {' | '.join(options)}"
        return f"n{numbers[endings]}"

    def option(letters: str, rest: tuple[str, ...]) -> str:
        more = tuple(filter(None, rest))
        optional = "?" if len(more) < len(rest) else ""
        return f"[{letters}]{f' {rule(more)}{optional}' if more else ''}"

    rule(tuple(sorted(codes)))
    return rules
