"""What does asking over HTTP cost, beside the same questions asked of an `Answerer` in a program?

One server and 32 clients of it share the threads that the program has alone in its turn. Both
compute with the same kernels and keep their freed memory: two processes that measure for themselves
may choose differently. Any request that is not answered ends the benchmark.
"""

import argparse
import asyncio
import re
import subprocess
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import count, cycle
from pathlib import Path
from threading import Thread

import httpx2

from harness import OURS, Bench, Repeat, by_turns, environment_of, percentile, run
from realm.errors import ArtifactError
from realm.memory import keep_freed_memory
from realm.models.checkpoint import copy_checkpoint
from realm.openqa.answerer import Answerer
from realm.run_folder import TAKEN_FROM
from realm.stages import Run
from realm.training.state import checkpoint_path
from world import Extent, open_world, questions

_EXTENTS: dict[str, Extent] = {"tiny": "tiny", "reduced": "2000", "full": "20000"}
_SECONDS = {"tiny": 1.0, "reduced": 20.0, "full": 120.0}
_ALONE = {"tiny": 2, "reduced": 32, "full": 100}
_REQUESTS = {"tiny": 40, "reduced": 2_000, "full": 20_000}
_CLIENTS = 32
_REALM = "from realm.cli.main import main; main()"
_OFFLINE = "Answerer, 32 at once"
_UNBATCHED = "Answerer, one by one"
_ONE_ANSWER_IN = 10  # requests; the others retrieve, so that 20,000 take minutes

Request = Callable[[httpx2.AsyncClient, str], Awaitable[None]]


@dataclass(frozen=True)
class Server:
    """A `realm serve` of its own."""

    address: str
    process: "subprocess.Popen[str]"

    def resident_megabytes(self) -> float:
        """Memory that it holds now."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        return int(found[1]) / 1024 if found else 0.0


def measure(bench: Bench, trained: Path | None = None) -> None:
    """Ask the same questions over HTTP and without it, of a trained run where one is given."""
    extent = _EXTENTS[bench.size]
    served = Run.open(trained) if trained else _untrained(bench, extent)
    asked = [question.question for question in questions(extent, 500)]
    answerer = served.answerer()
    over = f"{len(answerer.store):,} passages"
    chosen = answerer.model.choose_compute(served.experiment, "forward")
    with serving(served.path, bench.threads, asdict(chosen)) as server:
        _throughput(bench, server, answerer, asked, over)
        _alone(bench, server, answerer, asked, over)
        _memory(bench, server, asked)


def _throughput(
    bench: Bench, server: Server, answerer: Answerer, asked: Sequence[str], over: str
) -> None:
    seconds, latencies = _SECONDS[bench.size], []

    def ours() -> list[float]:
        taken, done = asyncio.run(_load(server.address, asked, _answer, seconds=seconds))
        latencies.extend(done)
        return [len(done) / taken]

    def offline() -> list[float]:
        begin, done = time.perf_counter(), 0
        while (taken := time.perf_counter() - begin) < seconds:
            answerer.answer([asked[(done + n) % len(asked)] for n in range(_CLIENTS)])
            done += _CLIENTS
        return [done / taken]

    sides: dict[str, Repeat] = {OURS: ours, _OFFLINE: offline}
    by_turns(sides, 0)
    latencies.clear()  # those of warming up
    bench.report.compare_all(
        f"{_CLIENTS} clients, {over}", by_turns(sides, bench.repeats, warm_ups=0),
        unit="questions/s", tuned={_OFFLINE},
    )  # fmt: skip
    for share in (0.5, 0.99):
        name = f"{_CLIENTS} clients, {over}, p{share * 100:.0f}"
        value = 1000 * percentile(latencies, share)
        bench.report.compare(name, {OURS: [value]}, None, unit="ms", better="lower")


def _alone(
    bench: Bench, server: Server, answerer: Answerer, asked: Sequence[str], over: str
) -> None:
    """Question by question in turns: the machine changes its pace within seconds."""
    asked_here, asked_there = cycle(asked), cycle(asked)

    def ours() -> list[float]:
        question, begin = next(asked_there), time.perf_counter()
        client.post("/v1/answer", json={"question": question}).raise_for_status()
        return [1000 * (time.perf_counter() - begin)]

    def unbatched() -> list[float]:
        question, begin = next(asked_here), time.perf_counter()
        answerer.answer([question])
        return [1000 * (time.perf_counter() - begin)]

    sides: dict[str, Repeat] = {OURS: ours, _UNBATCHED: unbatched}
    with httpx2.Client(base_url=server.address, timeout=60.0) as client:
        samples = by_turns(sides, bench.repeats * _ALONE[bench.size])
    bench.report.compare_all(
        f"one client, {over}", samples, unit="ms", better="lower", tuned={_UNBATCHED}
    )


def _memory(bench: Bench, server: Server, asked: Sequence[str]) -> None:
    total = _REQUESTS[bench.size]
    sizes = []
    for _ in range(2):
        asyncio.run(_load(server.address, asked, _mixed, requests=total // 2))
        sizes.append(server.resident_megabytes())
    note = f"after {total // 2:,}: {sizes[0]:,.0f} MB"
    name = f"memory after {total:,} requests"
    bench.report.compare(name, {OURS: [sizes[1]]}, None, unit="MB", better="lower", note=note)


async def _load(
    address: str,
    asked: Sequence[str],
    request: Request,
    *,
    seconds: float = float("inf"),
    requests: float = float("inf"),
) -> tuple[float, list[float]]:
    """Seconds in all, and those of each request, of clients that ask one after the other."""
    numbers, done = count(), list[float]()
    begin = time.perf_counter()

    async def client() -> None:
        async with httpx2.AsyncClient(base_url=address, timeout=60.0) as connection:
            while time.perf_counter() - begin < seconds and (number := next(numbers)) < requests:
                sent = time.perf_counter()
                await request(connection, asked[number % len(asked)])
                done.append(time.perf_counter() - sent)

    async with asyncio.TaskGroup() as group:
        for _ in range(_CLIENTS):
            group.create_task(client())
    return time.perf_counter() - begin, done


async def _answer(client: httpx2.AsyncClient, question: str) -> None:
    response = await client.post("/v1/answer", json={"question": question})
    response.raise_for_status()


async def _mixed(client: httpx2.AsyncClient, question: str) -> None:
    if len(question) % _ONE_ANSWER_IN == 0:
        response = await client.post("/v1/answer", json={"question": question, "num_passages": 1})
    else:
        response = await client.post("/v1/retrieve", json={"queries": [question]})
    response.raise_for_status()


@contextmanager
def serving(path: Path, threads: int, settings: Mapping[str, object]) -> Iterator[Server]:
    """A server process over a run, with some of its settings changed, ready to answer."""
    command = [sys.executable, "-c", _REALM, "serve", "--run", str(path), "--port", "0"]
    for name, value in settings.items():
        command += ["--set", f"{name}={value}"]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env=environment_of(threads)
    )
    with process:
        try:
            address = _address(process)
            # A full pipe of log lines would stop the server.
            reader = Thread(target=deque, args=(process.stderr, 0))
            reader.start()
            yield Server(address, process)
        finally:
            process.terminate()
            process.wait()
        reader.join()


def _address(process: "subprocess.Popen[str]") -> str:
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if found := re.search(r"is served at (http://\S+)", line):
            return found[1]
    raise ArtifactError(f"the server did not start: {''.join(said).strip()}")


def _untrained(bench: Bench, extent: Extent) -> Run:
    """The world's run as if it were fine-tuned: its answers are wrong, their cost is right."""
    served: Run = open_world(bench, extent).run
    inputs = {"corpus": served.corpus().fingerprint, TAKEN_FROM: "start"}
    for name in ("pretrain", "finetune"):
        target = checkpoint_path(served.training_of(name)[0], 0)
        if not target.exists():
            copy_checkpoint(served.start(), target, inputs=inputs)
    return served


if __name__ == "__main__":
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--run", type=Path, help="serve this trained run")
    own, rest = parser.parse_known_args()
    keep_freed_memory()  # as the server does
    run(lambda bench: measure(bench, own.run), str(__doc__), rest)
