"""How does this program start a process of its own, and leave none behind?"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

_PATIENCE_SECONDS = 30.0  # for a process to leave its work


def start_module(
    module: str, *arguments: str, environment: Mapping[str, str] | None = None, **outputs: Any
) -> "subprocess.Popen[bytes]":
    """Run a module in an interpreter of its own.

    `multiprocessing` would run the user's unguarded script again. It looks for modules where this
    one does, and not in whatever folder it is started in. `environment` is added to this one's;
    `outputs` are `stdout` and `stderr`.
    """
    paths = os.pathsep.join(str(Path(place).absolute()) for place in sys.path)
    return subprocess.Popen(
        [sys.executable, "-P", "-m", module, *arguments],
        stdin=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": paths, **(environment or {})},
        **outputs,
    )


def leave_when_ended() -> None:
    """Called in such a process: let its work be left, not cut off, when it is asked to end.

    Control-C reaches it too, but its parent decides.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))


def end(processes: "Iterable[subprocess.Popen[bytes]]") -> None:
    """Ask all of them to end, and end those that do not."""
    asked = list(processes)
    for process in asked:
        process.terminate()
    for process in asked:
        try:
            process.wait(_PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
