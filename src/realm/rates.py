"""How quickly do the parts of the program run on a machine?

Measured with the very parts: a layer of the trunk, the span head, the optimiser, the search, the
reading of documents, the writing of a checkpoint. What was measured can be kept as JSON, and
machines that are not at hand come from `machines.toml`, with where their figures are from.
"""

import json
import os
import platform
from collections.abc import Sequence
from functools import cache, partial
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn

from realm import machine
from realm.artifact import create_artifact
from realm.config import Settings, read_settings, read_toml
from realm.corpus.documents import read_documents
from realm.corpus.passages import CorpusSettings, cut_documents
from realm.errors import SettingError
from realm.index.exact import ExactIndex
from realm.machine import PASSES, Shape, Use, best_seconds, default_device
from realm.models.precision import Compute, ComputeSettings, choose_compute
from realm.models.reader import SpanHead
from realm.models.trunk import DEFAULT_TRUNK, locate_trunk, read_tokenizer
from realm.training.distributed import ProcessGroup
from realm.training.optim import Optimizer, OptimSettings

_NAMED = Path(__file__).parent / "machines.toml"
_DEMO = Path(__file__).parent / "demo" / "articles.jsonl"
SHAPES = (Shape(384, 12, 1536), Shape(768, 12, 3072))  # MiniLM and BERT-base
LENGTHS = (32, 160, 320)
_BATCH_TOKENS = 4096  # as trainings have by default
_SPAN_TOKENS, _SPAN_WIDTH, _WIDEST = 512, 256, 16
_WEIGHTS = 1 << 22
_ROWS, _DIM = 65_536, 128
_MANY = 64
_DISK_BYTES = 1 << 25


class EncoderRate(Settings):
    """One layer of a shape, read in inputs of a length."""

    width: int
    heads: int
    inner: int
    length: int
    forward: float
    """Wordpieces a second."""
    training: float
    kept_bytes: float
    """Of each wordpiece, between forward and backward."""

    @property
    def shape(self) -> Shape:
        """The shape that was measured."""
        return Shape(self.width, self.heads, self.inner)


class Machine(Settings):
    """What a plan has to know of a machine; all rates are of one device, a second."""

    name: str
    source: str
    """Where the figures are from."""
    device: str
    num_devices: int = 1
    num_threads: int = 1
    memory_gigabytes: float
    """Of a device."""
    base_gigabytes: float
    """What a process holds before it begins."""
    chosen: dict[str, str]
    """Number format and attention kernel by use."""
    matrix_teraflops: dict[str, float]
    encoders: tuple[EncoderRate, ...]
    weights: float
    """Weights that an optimiser moves, masters and moments included."""
    span_numbers: float
    """Numbers of the span head's hidden layer, forward and backward."""
    search_rows: float
    """Rows of 128 numbers in a search, however few queries there are."""
    search_scores: float
    """Rows times queries, beyond that."""
    written_bytes: float
    """Of an artifact, checksum included."""
    cut_characters: float
    """Characters of text that become passages, on one core."""

    def tokens_a_second(self, shape: Shape, length: int, use: Use) -> float:
        """Wordpieces through one layer, from the measurement that is most alike.

        Another shape or length takes its operations at the rate that was reached there.
        """
        nearest = min(self.encoders, key=lambda rate: _unlike(rate, shape, length))
        reached = nearest.forward if use == "forward" else nearest.training
        return reached * nearest.shape.layer_flops(nearest.length) / shape.layer_flops(length)

    def kept_bytes(self, shape: Shape, length: int) -> float:
        """Bytes that a layer keeps of each wordpiece for the backward pass."""
        nearest = min(self.encoders, key=lambda rate: _unlike(rate, shape, length))
        scale = (shape.width + shape.heads * length / 8) / (
            nearest.width + nearest.heads * nearest.length / 8
        )
        return nearest.kept_bytes * scale

    def product_flops(self, use: Use) -> float:
        """Operations a second of a matrix product in the format of a use."""
        return 1e12 * self.matrix_teraflops[self.chosen[f"{use} precision"]]

    def search_seconds(self, num_rows: int, num_queries: int, width: int) -> float:
        """One exact search for all of the queries together."""
        rows = num_rows * width / _DIM
        return rows / self.search_rows + rows * num_queries / self.search_scores


def open_machine(name: str) -> Machine:
    """A machine that `realm info --machine --json` wrote down, or one of `machines.toml`.

    Raises:
        SettingError: it is neither, or the file is damaged.
    """
    file = Path(name)
    if file.is_file():
        try:
            values = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise SettingError(
                f"{file} is no machine: write one with `realm info --machine --json > FILE`"
            ) from error
        return read_settings(Machine, values, origin=name)
    named: dict[str, Any] = read_toml(_NAMED)
    if name not in named:
        known = ", ".join(sorted(named))
        raise SettingError(
            f"there is no machine {name}: give one of {known}, or a file that "
            "`realm info --machine --json` wrote"
        )
    return read_settings(Machine, {"name": name, **named[name]}, origin=f"{_NAMED.name}: {name}")


def measure_machine(
    shapes: Sequence[Shape] = SHAPES,
    lengths: Sequence[int] = LENGTHS,
    settings: ComputeSettings | None = None,
) -> Machine:
    """Measure this machine with encoders of these shapes, in inputs of these lengths."""
    settings = settings or ComputeSettings()
    compute: dict[Use, Compute] = {
        use: choose_compute(settings, shapes[0], use, lengths[len(lengths) // 2]) for use in PASSES
    }
    with machine.using_threads(compute["training"].num_threads):
        search_rows, search_scores = _search()
        return Machine(
            name=platform.node() or "this machine",
            source=f"measured on {processor()}",
            device=default_device().type,
            num_threads=torch.get_num_threads(),
            memory_gigabytes=_memory_gigabytes(),
            base_gigabytes=_resident_gigabytes(),
            chosen={
                f"{use} {what}": getattr(chosen, what)
                for use, chosen in compute.items() for what in ("precision", "attention")
            },
            matrix_teraflops={
                name: machine.matrix_rate(shapes[0], name) / 1e12
                for name in {"fp32", "bf16", *(c.precision for c in compute.values())}
            },
            encoders=tuple(
                _encoder(shape, length, compute) for shape in shapes for length in lengths
            ),
            weights=_weights(compute["training"]),
            span_numbers=_span_numbers(compute["training"]),
            search_rows=search_rows,
            search_scores=search_scores,
            written_bytes=_written_bytes(),
            cut_characters=_cut_characters(),
        )  # fmt: skip


def _unlike(rate: EncoderRate, shape: Shape, length: int) -> float:
    """Shape counts more than length: the widths decide how well products run."""
    by_shape = 10 * abs(1 - rate.shape.layer_flops(length) / shape.layer_flops(length))
    return by_shape + abs(1 - rate.length / length)


def _encoder(shape: Shape, length: int, compute: dict[Use, Compute]) -> EncoderRate:
    batch = max(1, _BATCH_TOKENS // length)
    rates = {
        use: machine.layer_rate(
            shape, chosen.precision, chosen.attention, use, batch=batch, length=length
        )
        for use, chosen in compute.items()
    }
    training = compute["training"]
    kept = machine.layer_kept_bytes(shape, training.precision, training.attention, length=length)
    return EncoderRate(
        width=shape.width, heads=shape.heads, inner=shape.inner, length=length,
        kept_bytes=kept, **rates,
    )  # fmt: skip


def _weights(compute: Compute) -> float:
    layer = nn.Linear(_WEIGHTS // 2048, 2048, bias=False).to(default_device())
    optimizer = Optimizer(layer, OptimSettings())
    layer.to(compute.dtype)

    def step() -> None:
        layer.weight.grad = torch.ones_like(layer.weight)
        optimizer.step(0.0, ProcessGroup())

    return layer.weight.numel() / best_seconds(step)


def _span_numbers(compute: Compute) -> float:
    head = SpanHead(_SPAN_WIDTH, _SPAN_WIDTH, _WIDEST).to(default_device(), compute.dtype)
    hidden = torch.ones(4, _SPAN_TOKENS // 4, _SPAN_WIDTH, requires_grad=True)
    hidden = hidden.to(default_device(), compute.dtype)
    seconds = best_seconds(lambda: head(hidden).sum().backward())
    return _SPAN_TOKENS * _SPAN_WIDTH * _WIDEST / seconds


def _search() -> tuple[float, float]:
    rows = torch.ones(_ROWS, _DIM, dtype=torch.float16).cumsum(0).sin()
    index = ExactIndex(machine.where_it_fits(rows))  # as a snapshot is searched
    one, many = (
        best_seconds(partial(index.search, torch.ones(number, _DIM).cumsum(0), 10))
        for number in (1, _MANY)
    )
    per_query = max(many - one, 1e-6) / (_MANY - 1)
    return _ROWS / max(one - per_query, 1e-6), _ROWS / per_query


def _written_bytes() -> float:
    with TemporaryDirectory() as folder:

        def write() -> None:
            with create_artifact(Path(folder) / "a", "rate", settings={}, inputs={}) as staging:
                (staging.path / "zeros").write_bytes(bytes(_DISK_BYTES))

        return _DISK_BYTES / best_seconds(write)


@cache
def _cut_characters() -> float:
    tokenizer = read_tokenizer(locate_trunk(DEFAULT_TRUNK))
    documents = list(islice(read_documents([_DEMO]), 64))
    settings = CorpusSettings(passage_tokens=160, num_workers=1)
    seconds = best_seconds(lambda: cut_documents(documents, tokenizer, settings))
    return sum(len(document.text) for document in documents) / seconds


def _memory_gigabytes() -> float:
    if torch.cuda.is_available():
        return float(torch.cuda.get_device_properties(0).total_memory) / 1e9
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9


def _resident_gigabytes() -> float:
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return 0.6
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e9


def processor() -> str:
    """The name of what computes here: the accelerator, or the CPU with its cores."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return f"{next(names, platform.machine())}, {os.cpu_count()} cores"
