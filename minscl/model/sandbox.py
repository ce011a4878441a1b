"""Renders a Jinja chat template as transformers' `apply_chat_template` does, in jinja2's sandbox and within bounds.

A template comes with somebody's weights, so it is a program of a stranger's. The sandbox keeps it from the process; the
bounds keep it from running or growing without end: loop passes and calls are counted, and every text that is assigned,
passed on or written is measured.

deviates: strftime_now, which Llama 3.2's template asks for today's date, is always 26 Jul 2024, the date that this
template writes where there is no strftime_now. A prompt must not change from day to day.

Imports jinja2 (the extra `templates`); only chat_template.py imports this module. Read next: chat_template.py.
"""

import datetime
import functools
import importlib.metadata
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import MAX_RANGE, ImmutableSandboxedEnvironment

if [int(number) for number in re.findall(r"\d+", importlib.metadata.version("jinja2"))[:3]] < [3, 1, 6]:
    raise ImportError("jinja2 before 3.1.6 has known ways out of its sandbox")

TODAY = datetime.datetime(2024, 7, 26)
MAX_STEPS = 10_000  # loop passes and calls of one rendering; a family's own template needs some ten a message
STEPS_PER_MESSAGE = 200
MAX_TEXT = 1_000_000  # characters that a rendering may have beyond MESSAGE_SHARE times those of its messages
MESSAGE_SHARE = 4
GROWING_FILTERS = ("center", "format", "indent", "join", "replace", "wordwrap")
TOO_LONG = "it builds longer texts than any prompt needs"


class TooLarge(jinja2.TemplateError):
    """A rendering went over its bounds."""


class Template:
    """A compiled chat template. `variables`: what it may use besides the messages, such as bos_token.

    Raises jinja2.TemplateError, or whatever the template's code raises, here and in `render`.
    """

    def __init__(self, source: str, variables: dict[str, object]):
        self._environment = _Environment(
            trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _GenerationBlock]
        )
        self._template = self._environment.from_string(_with_bounds(self._environment.parse(source)))
        self._variables = {"tools": None, "documents": None, **variables}

    @property
    def asked_for_date(self) -> bool:
        """Whether a rendering has asked for today's date and was given TODAY."""
        return self._environment.asked_for_date

    def render(self, messages: list[dict[str, str]], add_generation_prompt: bool) -> str:
        """The text that apply_chat_template(..., tokenize=False, enable_thinking=False) gives."""
        environment = self._environment
        environment.steps = MAX_STEPS + STEPS_PER_MESSAGE * len(messages)
        environment.max_text = MAX_TEXT + MESSAGE_SHARE * sum(len(message["content"]) for message in messages)
        blocks, length = [], 0
        for block in self._template.generate(
            messages=[dict(message) for message in messages],
            add_generation_prompt=add_generation_prompt,
            enable_thinking=False,
            **self._variables,
        ):
            length += len(block)
            if length > environment.max_text:
                raise TooLarge("it writes more text than any prompt needs")
            blocks.append(block)
        return "".join(blocks)


class _Environment(ImmutableSandboxedEnvironment):
    """transformers' environment, with bounds."""

    intercepted_binops = frozenset({"*", "**", "%"})

    def __init__(self, **options):
        super().__init__(**options)
        self.steps, self.max_text, self.asked_for_date = MAX_STEPS, MAX_TEXT, False
        self.filters.update(tojson=_tojson, minscl_step=_count_step, minscl_measure=_measure)
        self.filters.update({name: self._bounded_filter(name) for name in GROWING_FILTERS})
        self.globals.update(raise_exception=_raise_exception, strftime_now=self._strftime_now, dict=_dict)
        del self.globals["lipsum"]

    def call(__self, __context, __obj, *args, **kwargs):  # jinja2's signature
        """Count the call and measure its arguments."""
        __self.step()
        __self.measure([args, kwargs])
        method = getattr(__obj, "__wrapped__", __obj)  # jinja2 wraps str.format
        text = getattr(method, "__self__", None)
        if isinstance(text, str):
            __self.check_growth(method.__name__, [text, *args, *kwargs.values()])
        return super().call(__context, __obj, *args, **kwargs)

    def call_binop(self, context, operator, left, right):
        """Refuse the operators by which a short template makes a huge value."""
        if operator == "**" or (operator == "%" and isinstance(left, str)):
            raise TooLarge(f"the operator {operator} is not supported")
        if operator == "*" and _size(left) * _size(right) > self.max_text:
            raise TooLarge(TOO_LONG)
        return super().call_binop(context, operator, left, right)

    def step(self) -> None:
        """Count a loop pass or a call."""
        self.steps -= 1
        if self.steps < 0:
            raise TooLarge("it loops longer than any prompt needs")

    def measure(self, value: object) -> None:
        """Raise TooLarge for a value with more characters and elements than the longest allowed rendering."""
        size, pending = 0, [value]
        while pending:
            item = pending.pop()
            if isinstance(item, dict):
                pending += [*item.keys(), *item.values()]
            elif isinstance(item, (list, tuple)):
                pending += item
            size += 1 + (len(item) if isinstance(item, str) else 0)
            if size > self.max_text:
                raise TooLarge(TOO_LONG)

    def check_growth(self, name: str, values: list) -> None:
        """Raise TooLarge where the result of a method or filter may be far larger than all that the template has."""
        product = math.prod(max(1, _size(value)) for value in values)
        wide = name.startswith("format") and any(
            isinstance(text, str) and re.search("[0-9]{6}", text) for text in values
        )
        if wide or product > 100 * self.max_text:
            raise TooLarge(TOO_LONG)

    def _bounded_filter(self, name: str) -> Callable:
        original = self.filters[name]

        @functools.wraps(original)  # with jinja2's mark for filters that take the context
        def bounded(*args, **kwargs):
            self.check_growth(name, [*args, *kwargs.values()])
            return original(*args, **kwargs)

        return bounded

    def _strftime_now(self, form: str) -> str:
        self.asked_for_date = True
        return TODAY.strftime(form)


class _GenerationBlock(Extension):
    """{% generation %}…{% endgeneration %}, by which trainers mark the assistant's text: writes what is in it."""

    tags = {"generation"}

    def parse(self, parser):
        """The block's statements in a scope of their own."""
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)


def _size(factor: object) -> float:
    """How many times an operand makes another larger: a number's value, a length, that of the longest range."""
    if isinstance(factor, (int, float)):
        return abs(factor)
    return len(factor) if isinstance(factor, Sized) else MAX_RANGE if isinstance(factor, Iterator) else 1


def _with_bounds(tree: nodes.Template) -> nodes.Template:
    """`tree` with every loop pass counted, and measured all that it iterates over or assigns."""
    for loop in list(tree.find_all(nodes.For)):
        loop.body.insert(0, nodes.ExprStmt(_filter(nodes.Const(None), "minscl_step"), lineno=loop.lineno))
        loop.iter = _filter(loop.iter, "minscl_measure")
    for assignment in list(tree.find_all(nodes.Assign)):
        assignment.node = _filter(assignment.node, "minscl_measure")
    for block in list(tree.find_all(nodes.AssignBlock)):
        block.filter = _filter(block.filter, "minscl_measure")
    for scope in list(tree.find_all(nodes.With)):
        scope.values = [_filter(value, "minscl_measure") for value in scope.values]
    return tree


def _filter(node: Any, name: str) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=1)


@jinja2.pass_context  # needs a context, so it is not evaluated once at compile time
def _count_step(context, value):
    context.environment.step()
    return value


@jinja2.pass_context
def _measure(context, value):
    context.environment.measure(value)
    return value


def _tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False) -> str:
    """transformers' tojson: jinja2's own escapes HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> None:
    raise jinja2.TemplateError(message)


def _dict(*pairs: Iterable, **items) -> dict:
    return dict(*pairs, **items)
