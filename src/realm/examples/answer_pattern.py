r"""How is an answer that is a regular expression matched, without a pattern that never ends?

The rule of the official evaluation (DrQA, ORQA): ignore case, `^` and `$` at every line, and
for scoring the match begins where the prediction begins. The package `regex` runs the patterns
of the standard library and can be given a limit of time.
"""

import re
import warnings
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import regex

MAX_SECONDS = 0.25  # a search of a passage usually takes microseconds
# A pattern is compiled with its repeats written out: `(a{1000}){1000}` takes 0.3 seconds, a
# thousand times that takes all memory.
_MAX_SIZE = 1_000_000
_FLAGS = regex.IGNORECASE | regex.UNICODE | regex.MULTILINE | regex.VERSION0
_PARTS = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\{\d*,?\d*\}|.", re.DOTALL)


class AnswerPattern:
    """A compiled pattern; a way of matching that ran out of time once finds nothing from then on.

    Each way has a word of its own: whether an answer is right, which looks at its beginning, does
    not depend on how many passages were searched before.
    """

    def __init__(self, pattern: str) -> None:
        """Compile a pattern.

        Raises:
            ValueError: the pattern is invalid or too large; the message says where.
        """
        size = _size(pattern)
        if size > _MAX_SIZE:
            raise ValueError(f"its repeats make {size:,} parts, over {_MAX_SIZE:,}")
        self.pattern = pattern
        self.too_slow: set[str] = set()  # names of methods
        try:
            self._compiled = regex.compile(pattern, _FLAGS)
        except (regex.error, OverflowError) as error:
            raise ValueError(str(error)) from error
        except RecursionError as error:
            raise ValueError("it is nested too deeply") from error

    def begins(self, text: str) -> bool:
        """Whether the pattern matches where the text begins: the rule for predictions."""
        return bool(self._timed("begins", lambda: self._compiled.match(text, timeout=MAX_SECONDS)))

    def occurs(self, text: str) -> bool:
        """Whether the pattern matches anywhere in the text: the rule for passages."""
        return bool(self._timed("occurs", lambda: self._compiled.search(text, timeout=MAX_SECONDS)))

    def spans(self, text: str) -> list[tuple[int, int]]:
        """The matches as characters of the text, without those that are blank."""
        found = self._timed("spans", lambda: [*self._compiled.finditer(text, timeout=MAX_SECONDS)])
        return [match.span() for match in found or () if match.group().strip()]

    def _timed(self, method: str, search: Callable[[], Any]) -> Any:
        if method in self.too_slow:
            return None
        try:
            return search()
        except TimeoutError:
            self.too_slow.add(method)
            warnings.warn(
                f"the regular expression {self.pattern!r} was given up after {MAX_SECONDS:g} s and "
                "counts as not matching: simplify it",
                RuntimeWarning,
                stacklevel=3,
            )
            return None


@lru_cache(maxsize=4096)
def compile_pattern(pattern: str) -> AnswerPattern:
    """The pattern, compiled once in a process.

    Raises:
        ValueError: the pattern is invalid or too large; the message says where.
    """
    return AnswerPattern(pattern)


def _size(pattern: str) -> int:
    """How many parts a pattern has when its counted repeats are written out."""
    sums, last = [0], 0
    for part in _PARTS.findall(pattern):
        if part == "(":
            sums.append(0)
            continue
        if part == ")" and len(sums) > 1:
            last = sums.pop() + 1
        elif part[0] == "{" and len(part) > 1:
            last *= max(int(number or 0) for number in part[1:-1].split(",")) - 1
        else:
            last = 1
        sums[-1] += max(last, 0)
    return sum(sums)
