"""Constrained decoding (--grounded): only tokens that keep the answer inside the grammar (answer_grammar.py).

    allowed tokens = the vocabulary as a trie over bytes, walked together with the automaton from its current state

Any tokenisation of an allowed text is allowed, not only the tokenizer's own. Where the automaton leaves just one
continuation, such as a code's description, its tokens are forced (jump-ahead): they are appended in the tokenizer's own
tokenisation, and the model reads them in one pass instead of choosing each.

So, whatever the weights: every quotation occurs in the note; every code is billable, has the Tabular List's description
and cites evidence; and the answer ends within max_new_tokens.

Read next: sequence.py, which asks a guide for the allowed tokens; choices.py, an automaton of a few fixed answers.
"""

from array import array
from typing import Any

from minscl.data.icd import CodeBook
from minscl.data.prompts import render_evidence
from minscl.errors import InputError
from minscl.infer.answer_grammar import Grammar
from minscl.infer.answer_states import Code, Evidence, Quote, References, State, Text
from minscl.infer.automaton import Automaton
from minscl.infer.note_tokens import NEWLINE, NoteTokens
from minscl.infer.quotation_grammar import QuotationGrammar
from minscl.infer.retokenise import WrittenAnswer
from minscl.infer.token_trie import Node, token_trie

EVIDENCE_SHARE = 0.5  # of max_new_tokens that the evidence section may use
CLOSING_TOKENS = 320  # reserved for closing the answer: the longest code line has fewer bytes
MIN_NEW_TOKENS = 2 * CLOSING_TOKENS  # with fewer, none would be left for evidence
MIN_FORCED_BYTES = 4  # a shorter continuation is left to the model


def check_max_new_tokens(max_new_tokens: int) -> None:
    """Raises InputError where `max_new_tokens` is too small to close an answer within it."""
    if max_new_tokens < MIN_NEW_TOKENS:
        raise InputError(
            f"{max_new_tokens} tokens are left for the answer, and grounded decoding needs {MIN_NEW_TOKENS}; "
            "shorten the note"
        )


class AutomatonGuide:
    """The constraint on one answer: the state of an automaton, advanced by each token of the answer.

    `prefix`: the part of the answer that is already in the prompt; `state` is the one after it.
    """

    closed_by_limit = False

    def __init__(self, tokenizer, automaton: Automaton, state: Any, prefix: str = "") -> None:
        self.trie, self.automaton, self.state = token_trie(tokenizer), automaton, state
        self.answer = WrittenAnswer(tokenizer, prefix)
        self.prefix_length = len(self.answer.ids)  # tokens

    @property
    def ids(self) -> list[int]:
        """The tokens of the answer so far, prefix included."""
        return self.answer.ids

    @property
    def finished(self) -> bool:
        """Whether the answer must end here."""
        return self.automaton.may_end(self.state) and not self.automaton.transitions(self.state)

    def allowed(self, stop_ids) -> array:
        """Ids of the tokens that may come next, `stop_ids` among them where the answer may end; int64, ascending."""
        self._check_budget()
        tokens = self._below(self.trie.root, self.state)
        return array("q", sorted([*tokens, *stop_ids] if self.automaton.may_end(self.state) else tokens))

    def _below(self, node: Node, state: Any) -> array:
        """The tokens below `node` of the trie whose bytes from there on may follow `state`."""
        ending, children = self.trie.children(node)
        tokens = array("q", ending)
        if children:
            for byte, after in self.automaton.transitions(state).items():
                if byte in children:
                    tokens += self._below(children[byte], after)
        return tokens

    def advance(self, token: int) -> None:
        """Append `token`, an allowed or forced one, to the answer."""
        self.answer.append(token)
        self.state = self.automaton.after(self.state, self.trie.token_bytes[token] or b"")

    def forced(self) -> list[int]:
        """The only continuation as token ids; empty where there is a choice, or where its tokenisation is ambiguous."""
        self._check_budget()
        state, text = self.state, b""
        while not self.automaton.may_end(state) and (step := self.automaton.only(state)):
            text, state = text + step[0], step[1]
        if len(text) < MIN_FORCED_BYTES:
            return []
        tokens = self.answer.tokenise(text)
        # What may merge with the bytes that follow is left to the model: "a", where "ab" is a token and b may follow.
        following = self.automaton.transitions(state) if tokens else ()
        return tokens[: min((self.answer.settled(text, tokens, byte) for byte in following), default=len(tokens))]

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
        self.note_tokens = NoteTokens(self.trie, self.grammar.note)

    def _below(self, node: Node, state: State) -> array:
        """As AutomatonGuide._below; what other states share with this one is computed once (note_tokens.py)."""
        if isinstance(state, Quote) and not self.grammar.must_end_soon(state, self.trie.longest):
            return self._in_quotation(node, state)
        if isinstance(state, (Code, References)) and self.trie.within_words:
            return self._in_code_line(node, state)
        if isinstance(state, Text):
            return self._in_text(node, state)
        return super()._below(node, state)

    def _in_text(self, node: Node, state: Text) -> array:
        tokens = array("q")
        for byte in state.rest:
            ending, children = self.trie.children(node)
            tokens.extend(ending)
            if byte not in children:
                return tokens
            node = children[byte]
        return tokens + self._below(node, state.after)

    def _in_quotation(self, node: Node, state: Quote) -> array:
        tokens, ends = self.note_tokens.below(node, state.offsets)
        for text, end in ends:
            after = self.grammar.after(state, text)
            if isinstance(after, Quote) and (ended := self.grammar.ended(after)):
                tokens = tokens + self._below(self.trie.children(end)[1][NEWLINE], ended)
        return tokens

    def _in_code_line(self, node: Node, state: Code | References) -> array:
        """Shared by all notes but for the codes that are no longer allowed."""
        grammar, token_bytes = self.grammar, self.trie.token_bytes
        word = grammar.up_to_white_space(state)
        key = (node, word, grammar.codebook, grammar.reference_first, grammar.closing)
        if key not in self.trie.memory:
            tokens = super()._below(node, word)
            self.trie.memory[key] = tokens, max((len(token_bytes[token] or b"") for token in tokens), default=0)
        tokens, longest = self.trie.memory[key]
        if not isinstance(state, Code):
            return tokens
        depth, start = node[2], len(state.prefix)
        below = (code[start:] for code in grammar.exhausted(state.codes) if code.startswith(state.prefix))
        exhausted = tuple(letters.encode() for letters in below if len(letters) <= longest - depth)
        if not exhausted:
            return tokens
        return array("q", [token for token in tokens if not (token_bytes[token] or b"").startswith(exhausted, depth)])

    def _check_budget(self) -> None:
        """Close the answer when its last tokens are reached, and the evidence section when its share is used up."""
        used = len(self.ids) - self.prefix_length
        in_evidence = isinstance(self.state, (Evidence, Quote))
        closing = self.max_new_tokens - used < CLOSING_TOKENS
        self.grammar.closing = closing or in_evidence and used > EVIDENCE_SHARE * self.max_new_tokens
        self.closed_by_limit = self.closed_by_limit or self.grammar.closing
