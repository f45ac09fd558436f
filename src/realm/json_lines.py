"""How do facts that come one by one survive a killed run, each on a line of JSON?"""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """Read all complete lines; one that a killed run tore is left out."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        with suppress(ValueError):
            rows.append(json.loads(line))
    return rows


def append_json_line(path: Path, row: Mapping[str, Any]) -> None:
    """Add one line, and sync it to the disk before anything depends on it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as stream:
        stream.seek(max(0, stream.tell() - 1))
        # Half a line of a killed run must not swallow this one.
        begins = "\n" if stream.read() not in (b"", b"\n") else ""
        stream.write(f"{begins}{json.dumps(row)}\n".encode())
        stream.flush()
        os.fsync(stream.fileno())
