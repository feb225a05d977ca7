"""Plain vector selectors: a metric name and label matchers."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal

from watcher.model.words import Labels

_MATCHER = re.compile(r'\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*(=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)"\s*')
_SELECTOR = re.compile(r"\s*([a-zA-Z_:][a-zA-Z0-9_:]*)?\s*(?:\{(.*)\})?\s*", re.DOTALL)


@dataclass(frozen=True)
class Matcher:
    """One label matcher of a selector; regular expressions match the whole value."""

    label: str
    op: Literal["=", "!=", "=~", "!~"]
    value: str

    def __str__(self) -> str:
        escaped = self.value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return f'{self.label}{self.op}"{escaped}"'

    def matches(self, value: str) -> bool:
        """Tell whether a label value (the empty string when the label is absent) matches."""
        hit = value == self.value if self.op in ("=", "!=") else re.fullmatch(self.value, value) is not None
        return hit == (self.op in ("=", "=~"))


@dataclass(frozen=True)
class Selector:
    """A plain vector selector: a metric name and label matchers, and nothing else of PromQL.

    >>> str(Selector.parse('http_requests_total{code=~"5.."}').where((("job", "shop"),)))
    'http_requests_total{code=~"5..",job="shop"}'
    """

    metric: str
    matchers: tuple[Matcher, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Selector:
        """Parse a selector.

        Raises:
            ValueError: functions, ranges, arithmetic or a broken matcher; the message says which.
        """
        whole = _SELECTOR.fullmatch(text)
        if whole is None or not whole[1]:
            raise ValueError(
                f'{text!r} is not a plain selector such as requests_total{{code="500"}}; functions, ranges '
                "and arithmetic are left to watcher, which reads raw counters"
            )
        return cls(whole[1], parse_matchers(whole[2] or ""))

    def where(self, pairs: Labels) -> Selector:
        """Return the selector with label equalities added."""
        return replace(self, matchers=self.matchers + tuple(Matcher(name, "=", value) for name, value in pairs))

    def __str__(self) -> str:
        return self.metric + (f"{{{','.join(map(str, self.matchers))}}}" if self.matchers else "")


def parse_matchers(text: str) -> tuple[Matcher, ...]:
    """Parse the inside of a selector's braces.

    >>> parse_matchers('version="1.2", code!~"4.."')[1].op
    '!~'

    Raises:
        ValueError: text that is not a comma-separated list of label matchers.
    """
    found, at = [], 0
    while text[at:].strip():
        match = _MATCHER.match(text, at)
        if match is None:
            raise ValueError(f'{text[at:].strip()!r} is not a label matcher such as version="1.2"')
        value = re.sub(r"\\(.)", lambda escape: {"n": "\n"}.get(escape[1], escape[1]), match[3])
        found.append(Matcher(match[1], match[2], value))  # type: ignore[arg-type]
        at = match.end()
        if at < len(text):
            if text[at] != ",":
                raise ValueError(f"expected a comma before {text[at:].strip()!r}")
            at += 1
    return tuple(found)
