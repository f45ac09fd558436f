"""How long, and how much memory, from documents to an index that can be searched?

Ours goes from the JSON-lines files to passages, salient spans, a start model and a snapshot, in a
process of its own. The peer is given the passages ready cut, embeds them with
sentence-transformers and writes a faiss index.
"""

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from harness import OURS, Bench, by_turns, environment_of, run
from peer import interpreter
from realm.errors import ResourceError
from realm.models.trunk import locate_trunk
from world import Extent, experiment_for, open_world

_EXTENTS: dict[str, Extent] = {"tiny": "tiny", "reduced": "2000", "full": "20000"}
_PEER = "sentence-transformers and faiss"
_TUNED = f"{_PEER}, bf16"
_REPEATS = {"tiny": 1, "reduced": 1, "full": 3}  # minutes each
_WORKER = Path(__file__).resolve().parent / "workers" / "build_index.py"
# The stages of a run up to its index, as the command line calls them. Each side prints its peak in
# megabytes: what the system counts for a child begins with the peak of the process that started it.
_STAGES = """
import sys
from realm.stages import Run
from realm.stopwatch import total_by_stage
run = Run.open(sys.argv[1])
for stage in (run.corpus, run.spans, run.start):
    stage()
run.snapshot("start")
stages = total_by_stage(run.path / "stages.jsonl").values()
print(max(stage["peak_megabytes"] for stage in stages))
"""


def measure(bench: Bench) -> None:
    """Build on both sides, from nothing, in processes of their own."""
    extent = _EXTENTS[bench.size]
    world = open_world(bench, extent)  # the passages for the peer, and the documents for both
    with TemporaryDirectory() as name:
        folder = Path(name)
        commands: dict[str, Callable[[], list[str]]] = {OURS: lambda: ours(bench, extent, folder)}
        python = interpreter(bench, "sentence-transformers") if bench.has_peers else None
        if python is not None:
            trunk, passages = str(locate_trunk(bench.trunk)), str(world.passages())
            for peer, precision in ((_PEER, "float32"), (_TUNED, "bfloat16")):
                command = [str(python), str(_WORKER), trunk, passages, precision, f"{name}/index"]
                commands[peer] = partial(list, command)
        peaks: dict[str, list[float]] = {side: [] for side in commands}
        sides = {
            side: lambda make=make, seen=peaks[side]: _run(bench, make(), seen)
            for side, make in commands.items()
        }
        samples = by_turns(
            sides, min(bench.repeats, _REPEATS[bench.size]), warm_ups=0
        )  # every process is a fresh one
    what = f"{len(world.store):,} passages and their index"
    bench.report.compare_all(what, samples, unit="s", better="lower", tuned={_TUNED})
    bench.report.compare_all(
        f"peak memory for {what}", peaks, unit="MB", better="lower", tuned={_TUNED}
    )


def ours(bench: Bench, extent: Extent, folder: Path) -> list[str]:
    """The command that fills an empty run with everything up to its index."""
    from realm.stages import Run

    path = folder / "run"
    shutil.rmtree(path, ignore_errors=True)
    Run(path, experiment_for(bench, extent)).save_recipe()
    return [sys.executable, "-c", _STAGES, str(path)]


def _run(bench: Bench, command: Sequence[str], peaks: list[float]) -> list[float]:
    """Seconds of a process; the peak memory of the largest one in it is added to `peaks`."""
    begin = time.perf_counter()
    done = subprocess.run(
        command, env=environment_of(bench.threads), stdout=subprocess.PIPE, text=True, check=False
    )
    seconds = time.perf_counter() - begin
    if done.returncode:
        raise ResourceError(f"{command[0]} failed, its own message stands above")
    peaks.append(float(done.stdout.splitlines()[-1]))
    return [seconds]


if __name__ == "__main__":
    run(measure, str(__doc__))
