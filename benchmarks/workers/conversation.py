"""How does a worker answer? One line of JSON for each line that it is sent.

It runs in the peer's environment and imports nothing but the standard library.
"""

import json
import os
import sys
from collections.abc import Callable
from typing import Any


def converse(functions: dict[str, Callable[..., Any]]) -> None:
    """Call what is asked for until the input ends; print what it returns."""
    # What a library prints must not be taken for an answer.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for line in sys.stdin:
        message = json.loads(line)
        result = functions[message["call"]](**message["arguments"])
        answers.write(json.dumps({"result": result}) + "\n")
        answers.flush()
