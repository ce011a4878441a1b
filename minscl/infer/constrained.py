"""Constrained decoding (--grounded): only tokens that keep the answer inside the grammar (answer_grammar.py).

    allowed tokens = the vocabulary as a trie over bytes, walked together with the automaton from its current state

Any tokenisation of an allowed text is allowed, not only the tokenizer's own. Where the automaton leaves just one
continuation, such as a code's description, its tokens are forced (jump-ahead): they are appended in the tokenizer's own
tokenisation, and the model reads them in one pass instead of choosing each.

So, whatever the weights: every quotation occurs in the note; every code is billable, has the Tabular List's description
and cites evidence; and the answer ends within max_new_tokens.

Read next: sequence.py, which asks a guide for the allowed tokens; choices.py, an automaton of a few fixed answers.
"""

import functools
from typing import Any, Protocol

from minscl.data.icd import CodeBook
from minscl.data.prompts import render_evidence
from minscl.errors import InputError
from minscl.infer.answer_grammar import Evidence, Grammar, Quote, State
from minscl.infer.quotation_grammar import QuotationGrammar

EVIDENCE_SHARE = 0.5  # of max_new_tokens that the evidence section may use
CLOSING_TOKENS = 320  # reserved for closing the answer: the longest code line has fewer bytes
MIN_NEW_TOKENS = 2 * CLOSING_TOKENS  # with fewer, none would be left for evidence
MIN_FORCED_BYTES = 4  # a shorter continuation is left to the model

Node = tuple[int, int, int]  # tokens first..last of the sorted vocabulary, which share their first `depth` bytes


class TokenTrie:
    """The vocabulary as a trie over token bytes. A node is a range of sorted tokens; children are computed on demand.

    `token_bytes[id]` is a token's bytes, or None for a special token, which is not in the trie.
    """

    def __init__(self, tokenizer) -> None:
        self.token_bytes: list[bytes | None] = tokenizer.pieces()
        self.sorted_tokens = sorted((piece, token) for token, piece in enumerate(self.token_bytes) if piece)
        self.root: Node = (0, len(self.sorted_tokens), 0)
        self.children = functools.cache(self._children)

    def _children(self, node: Node) -> tuple[list[int], dict[int, Node]]:
        """(ids of the tokens that end at `node`, {next byte: child})."""
        first, last, depth = node
        ending: list[int] = []
        children: dict[int, Node] = {}
        while first < last and len(self.sorted_tokens[first][0]) == depth:
            ending.append(self.sorted_tokens[first][1])
            first += 1
        for index in range(first, last):
            byte = self.sorted_tokens[index][0][depth]
            start = children[byte][0] if byte in children else index
            children[byte] = (start, index + 1, depth + 1)
        return ending, children


@functools.lru_cache(maxsize=2)
def token_trie(tokenizer) -> TokenTrie:
    """The trie of `tokenizer`, cached together with the children computed so far."""
    return TokenTrie(tokenizer)


def check_max_new_tokens(max_new_tokens: int) -> None:
    """Raises InputError where `max_new_tokens` is too small to close an answer within it."""
    if max_new_tokens < MIN_NEW_TOKENS:
        raise InputError(
            f"{max_new_tokens} tokens are left for the answer, and grounded decoding needs {MIN_NEW_TOKENS}; "
            "shorten the note"
        )


class Automaton(Protocol):
    """What says which bytes may come next in an answer, such as answer_grammar.Grammar; states are its own."""

    def transitions(self, state: Any) -> dict[int, Any]:
        """{next byte: state after it}; empty only where the answer must end."""

    def may_end(self, state: Any) -> bool:
        """Whether the answer may end in `state`."""


class AutomatonGuide:
    """The constraint on one answer: the state of an automaton, advanced by each token of the answer.

    `prefix`: the part of the answer that is already in the prompt; `state` is the one after it.
    """

    closed_by_limit = False

    def __init__(self, tokenizer, automaton: Automaton, state: Any, prefix: str = "") -> None:
        self.tokenizer, self.trie, self.automaton = tokenizer, token_trie(tokenizer), automaton
        self.state, self.prefix = state, prefix
        self.ids: list[int] = tokenizer.encode_answer_start(prefix) if prefix else []  # prefix included
        self.prefix_length = len(self.ids)  # tokens
        self.answer_bytes = b""

    @property
    def finished(self) -> bool:
        """Whether the answer must end here."""
        return self.automaton.may_end(self.state) and not self.automaton.transitions(self.state)

    def allowed(self, stop_ids) -> list[int]:
        """Ids of the tokens that may come next, `stop_ids` among them where the answer may end."""
        self._check_budget()
        tokens = list(stop_ids) if self.automaton.may_end(self.state) else []
        stack = [(self.trie.root, self.state)]
        while stack:
            node, state = stack.pop()
            ending, children = self.trie.children(node)
            tokens += ending
            if children:
                transitions = self.automaton.transitions(state)
                stack += [(children[byte], after) for byte, after in transitions.items() if byte in children]
        return tokens

    def advance(self, token: int) -> None:
        """Append `token`, an allowed or forced one, to the answer."""
        piece = self.trie.token_bytes[token] or b""
        for byte in piece:
            self.state = self.automaton.transitions(self.state)[byte]
        self.ids.append(token)
        self.answer_bytes += piece

    def forced(self) -> list[int]:
        """The only continuation as token ids; empty where there is a choice, or where its tokenisation is ambiguous."""
        self._check_budget()
        state, text, transitions = self.state, b"", self.automaton.transitions(self.state)
        while len(transitions) == 1 and not self.automaton.may_end(state):
            [(byte, state)] = transitions.items()
            text, transitions = text + bytes([byte]), self.automaton.transitions(state)
        tokens = self._tokenise(text) if len(text) >= MIN_FORCED_BYTES else []
        # A last token that may merge with what follows is left to the model: "a", where "ab" is a token and b may
        # follow.
        may_merge = bool(tokens) and any(
            self._tokenise(text + bytes([byte]))[: len(tokens)] != tokens for byte in transitions
        )
        return tokens[:-1] if may_merge else tokens

    def _tokenise(self, text: bytes) -> list[int]:
        """The tokens of `text` after the answer so far; empty where the tokenizer would split the two differently."""
        try:
            answer = (self.answer_bytes + text).decode("utf-8")
        except UnicodeDecodeError:  # ends inside a character
            return []
        leading_space = not self.prefix and self.tokenizer.chat.before_answer
        ids = self.tokenizer.encode_answer_start(self.prefix + (answer[1:] if leading_space else answer))
        written, tokens = ids[: len(self.ids)], ids[len(self.ids) :]
        same = written == self.ids and b"".join(self.trie.token_bytes[token] or b"" for token in tokens) == text
        return tokens if same else []

    def _check_budget(self) -> None:
        """Called before each choice; nothing to do where every answer is short."""


class Guide(AutomatonGuide):
    """The constraint on a grounded answer.

    `evidence`: human quotations with which the prompt ends ("+ Evid."). `codebook`, `reference_first`: as for Grammar.
    `quotations_only`: the answer is the evidence section alone. `closed_by_limit`: whether the length limit forced an
    end that the model might not have chosen. Raises InputError where `max_new_tokens` is too small
    (check_max_new_tokens).
    """

    def __init__(
        self,
        tokenizer,
        note: str,
        max_new_tokens: int,
        evidence: list[str] | None = None,
        codebook: CodeBook | None = None,
        reference_first: bool = True,
        quotations_only: bool = False,
    ) -> None:
        check_max_new_tokens(max_new_tokens)
        self.max_new_tokens = max_new_tokens
        grammar_class = QuotationGrammar if quotations_only else Grammar
        self.grammar = grammar_class(note, codebook, reference_first)
        state: State
        if evidence is None:
            prefix = ""
            state = self.grammar.start(bool(tokenizer.chat.before_answer))
        else:
            prefix = render_evidence(evidence)
            state = self.grammar.after_evidence(sum(line != "none" for line in prefix.split("\n")[1:-2]))
        super().__init__(tokenizer, self.grammar, state, prefix)
        self.closed_by_limit = False

    def _check_budget(self) -> None:
        """Close the answer when its last tokens are reached, and the evidence section when its share is used up."""
        used = len(self.ids) - self.prefix_length
        in_evidence = isinstance(self.state, (Evidence, Quote))
        closing = self.max_new_tokens - used < CLOSING_TOKENS
        self.grammar.closing = closing or in_evidence and used > EVIDENCE_SHARE * self.max_new_tokens
        self.closed_by_limit = self.closed_by_limit or self.grammar.closing
