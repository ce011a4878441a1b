"""Grounded decoding: of the model's next tokens only those that keep the answer inside the grammar (grammar.py).

    allowed tokens = the vocabulary, as a tree of bytes, walked along the grammar's moves from the present state

Any way of cutting a text into tokens is allowed, not only the tokenizer's own. Where just one text can follow, such as a code's description,
its tokens are `forced`: they are appended as the tokenizer would cut them, and the model reads them without being asked.
So, whatever the weights: each quotation stands in the note, each code is billable, described by the Tabular List and has evidence, and the
answer ends within its length.

Read next: answer.py, which asks a `Guide` what the next token may be.
"""

import functools

from minscl.data.prompts import render_evidence
from minscl.errors import InputError
from minscl.infer.answer_grammar import Evidence, Grammar, Quote

EVIDENCE_SHARE = 0.5  # of the answer's tokens that evidence may take
LAST_LINE = 320  # tokens kept for the end: the longest code line has fewer bytes
SHORTEST = 2 * LAST_LINE  # tokens; an answer with less room would have none for evidence
WORTH_FORCING = 4  # bytes; a shorter text is left to the model


class Vocabulary:
    """The tokens of a tokenizer as a tree of bytes. A node is a range of the sorted tokens and a depth; its branches are made when asked for."""

    def __init__(self, tokenizer):
        pieces = tokenizer.pieces()
        self.tokenizer, self.pieces = tokenizer, pieces
        self.sorted = sorted((piece, one) for one, piece in enumerate(pieces) if piece)
        self.root = (0, len(self.sorted), 0)
        self.branches = functools.cache(self._branches)

    def _branches(self, node) -> tuple[list[int], dict[int, tuple]]:
        """(ids of the tokens that end here, {byte: node})."""
        first, last, depth = node
        here, below = [], {}
        while first < last and len(self.sorted[first][0]) == depth:
            here.append(self.sorted[first][1])
            first += 1
        for number in range(first, last):
            byte = self.sorted[number][0][depth]
            begin = below[byte][0] if byte in below else number
            below[byte] = (begin, number + 1, depth + 1)
        return here, below


@functools.lru_cache(maxsize=2)
def vocabulary(tokenizer) -> Vocabulary:
    return Vocabulary(tokenizer)


def check_room(max_new_tokens: int) -> None:
    """Raises InputError where an answer of so few tokens could not be brought to its end."""
    if max_new_tokens < SHORTEST:
        raise InputError(
            f"{max_new_tokens} tokens are left for the answer, and grounded decoding needs {SHORTEST}; shorten the note"
        )


class Guide:
    """One answer on its way: asked for the tokens that may come next, told the one that came.

    `evidence`: human quotations that the prompt ends with. `closed_by_limit`: the room made an end that the model might not have. Raises InputError where `max_new_tokens` leave no room for an answer.
    """

    def __init__(self, tokenizer, note: str, max_new_tokens: int, evidence=None):
        check_room(max_new_tokens)
        self.tokenizer, self.vocabulary, self.grammar, self.room = (
            tokenizer,
            vocabulary(tokenizer),
            Grammar(note),
            max_new_tokens,
        )
        if evidence is None:
            self.before, self.state = "", self.grammar.start(bool(tokenizer.chat.before_answer))
        else:
            self.before = render_evidence(evidence)
            self.state = self.grammar.after_evidence(sum(line != "none" for line in self.before.split("\n")[1:-2]))
        self.ids = tokenizer.encode_answer_start(self.before) if self.before else []
        self.given, self.written, self.closed_by_limit = len(self.ids), b"", False

    @property
    def finished(self) -> bool:
        """Whether nothing but the end can come."""
        return self.grammar.may_end(self.state) and not self.grammar.moves(self.state)

    def allowed(self, stop_ids) -> list[int]:
        """Ids of the tokens that may come next, the stop tokens among them where the answer may end."""
        self._look_at_the_clock()
        found = list(stop_ids) if self.grammar.may_end(self.state) else []
        waiting = [(self.vocabulary.root, self.state)]
        while waiting:
            node, state = waiting.pop()
            here, below = self.vocabulary.branches(node)
            found += here
            if below:
                waiting += [(below[byte], after) for byte, after in self.grammar.moves(state).items() if byte in below]
        return found

    def advance(self, token: int) -> None:
        """The token that came, one that was allowed or forced."""
        for byte in self.vocabulary.pieces[token]:
            self.state = self.grammar.moves(self.state)[byte]
        self.ids.append(token)
        self.written += self.vocabulary.pieces[token]

    def forced(self) -> list[int]:
        """The tokens of the one text that can follow, cut as the tokenizer cuts it; empty where there is a choice, or where the cut is not clear."""
        self._look_at_the_clock()
        state, text, moves = self.state, b"", self.grammar.moves(self.state)
        while len(moves) == 1 and not self.grammar.may_end(state):
            [(byte, state)] = moves.items()
            text, moves = text + bytes([byte]), self.grammar.moves(state)
        tokens = self._cut(text) if len(text) >= WORTH_FORCING else []
        # A last token that could have grown into the next text is left to the model: "a" where "ab" is a token and b may follow.
        grows = any(self._cut(text + bytes([byte]))[: len(tokens)] != tokens for byte in moves) if tokens else False
        return tokens[:-1] if grows else tokens

    def _cut(self, text: bytes) -> list[int]:
        """The tokens of `text` after what is written; empty where the tokenizer would not have cut what is written as it was, or not here."""
        try:
            answer = (self.written + text).decode("utf-8")
        except UnicodeDecodeError:  # ends inside a letter
            return []
        leading = not self.before and self.tokenizer.chat.before_answer
        whole = self.tokenizer.encode_answer_start(self.before + (answer[1:] if leading else answer))
        known, found = whole[: len(self.ids)], whole[len(self.ids) :]
        same = known == self.ids and b"".join(self.vocabulary.pieces[one] or b"" for one in found) == text
        return found if same else []

    def _look_at_the_clock(self) -> None:
        """Near the end of the room every choice goes towards the end; evidence has a share of it."""
        used = len(self.ids) - self.given
        quoting = isinstance(self.state, (Evidence, Quote))
        self.grammar.hurry = self.room - used < LAST_LINE or quoting and used > EVIDENCE_SHARE * self.room
        self.closed_by_limit = self.closed_by_limit or self.grammar.hurry
