"""How is a peer measured by turns with us that lives in another environment?

A worker process waits there, loaded and idle, until it is told over its standard input to do one
repeat; it answers on its standard output. Each message is a line of JSON.
"""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness import Bench, Repeat, environment_of
from peer_environment import PACKAGES, make_environment
from realm.errors import ResourceError

_WORKERS = Path(__file__).resolve().parent / "workers"


class Peer:
    """A worker process of one of `workers/`, in the environment of that name."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def call(self, function: str, /, **arguments: object) -> Any:
        """Let the worker call one of its functions; return what that returned.

        Raises:
            ResourceError: it failed; its own message stands above.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"call": function, "arguments": arguments}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it ended: there is no answer either
        answer = self._process.stdout.readline()
        if not answer:
            raise ResourceError(f"the peer ended in {function}, its own message stands above")
        return json.loads(answer)["result"]

    def side(self, function: str, /, **arguments: object) -> Repeat:
        """A side whose every turn is that call, which has to return its samples."""
        return lambda: [float(value) for value in self.call(function, **arguments)]


@contextmanager
def open_peer(bench: Bench, environment: str, worker: str) -> Iterator[Peer | None]:
    """Start a worker of `workers/`; None where the user wants no peers or it cannot be had.

    The environment is made if need be, which needs the network and about a gigabyte.
    """
    python = interpreter(bench, environment) if bench.has_peers else None
    if python is None:
        yield None
        return
    # The end of the block closes its input, and that ends the worker.
    with subprocess.Popen(
        [python, "-u", _WORKERS / f"{worker}.py"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8",
        env={**environment_of(bench.threads), "PYTHONPATH": ""},
    ) as process:  # fmt: skip
        yield Peer(process)


def interpreter(bench: Bench, environment: str) -> Path | None:
    """The Python of a peer's environment, made if need be; None where it cannot be had."""
    try:
        return make_environment(bench.environments / environment, PACKAGES[environment])
    except subprocess.CalledProcessError:
        return None
