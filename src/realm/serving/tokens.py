"""Who may read, and who may edit?

A token file has a line `read TOKEN` or `edit TOKEN` for each token; who may edit may read as well.
"""

import hmac
import stat
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Literal

from realm.errors import SettingError

Right = Literal["read", "edit"]
_RIGHTS: tuple[Right, ...] = ("read", "edit")
_SHORTEST = 16  # characters of a token that cannot be guessed by trying


@dataclass(frozen=True)
class Tokens:
    """Digests of all tokens, each with its right."""

    digests: tuple[tuple[bytes, Right], ...]

    def right_of(self, token: str) -> Right | None:
        """What a token gives the right to; all are compared, in a time that tells nothing."""
        digest = sha256(token.encode("utf-8", "surrogatepass")).digest()
        found: Right | None = None
        for known, right in self.digests:
            if hmac.compare_digest(known, digest) and found != "edit":
                found = right
        return found

    @property
    def can_edit(self) -> bool:
        """Whether any token gives the right to edit."""
        return any(right == "edit" for _, right in self.digests)


def read_tokens(file: Path, warn: Callable[[str], None]) -> Tokens:
    """Read a token file; `warn` gets a sentence where others may read it too.

    Raises:
        SettingError: the file is missing or empty, or a line is no right with a token.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise SettingError(f"the token file {file} cannot be read ({reason})") from error
    digests = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        digests.append(_parse(line, f"{file}, line {number}"))
    if not digests:
        raise SettingError(f"{file} has no token: write lines `read TOKEN` or `edit TOKEN`")
    if file.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
        warn(f"other users of this machine can read {file}: run `chmod 600 {file}`")
    return Tokens(tuple(digests))


def _parse(line: str, place: str) -> tuple[bytes, Right]:
    words = line.split()
    right = next((right for right in _RIGHTS if right == words[0]), None)
    if right is None or len(words) != 2:
        raise SettingError(f"{place}: write `read TOKEN` or `edit TOKEN`")
    if not words[1].isascii():
        raise SettingError(f"{place}: a token has letters, digits and signs of ASCII alone")
    if len(words[1]) < _SHORTEST:
        raise SettingError(
            f"{place}: the token has fewer than {_SHORTEST} characters: make one with "
            "`openssl rand -hex 32`"
        )
    return sha256(words[1].encode()).digest(), right
