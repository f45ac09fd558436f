"""How is a model kept on disk, so that nothing else is needed to use it?

A checkpoint is an artifact with the weights of embedder and reader in single precision
(safetensors), the configurations of their trunks, the tokenizer and the settings; while a
training goes on it also holds what `training.state` needs to resume it. One that is to be shipped
leaves out what is found elsewhere (`models.compact`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from realm.artifact import Staging, create_artifact, open_artifact, read_manifest
from realm.config import read_settings
from realm.corpus.tokenizer import load_tokenizer
from realm.errors import SettingError
from realm.examples.packing import Packer, PackingSettings
from realm.kernels import use_attention
from realm.machine import Use, default_device
from realm.models.compact import Compact, compact, whole
from realm.models.embedder import Embedder, EmbedderSettings, Tower
from realm.models.precision import Compute, ComputeSettings, choose_compute, shape_of
from realm.models.reader import Reader, ReaderSettings
from realm.models.trunk import (
    load_trunk,
    max_positions,
    read_masked_head,
    read_tokenizer,
    tells_segments,
    trunk_folder,
    write_configuration,
)

KIND = "checkpoint"
_DRAWS = (torch.ops.aten.normal_.default, torch.ops.aten.uniform_.default)


@dataclass
class Model:
    """What turns text into scores: both encoders and the packing they were trained on."""

    embedder: Embedder
    reader: Reader
    packer: Packer
    tokenizer: Tokenizer

    def modules(self) -> nn.ModuleDict:
        """Both encoders under their names."""
        return nn.ModuleDict({"embedder": self.embedder, "reader": self.reader})

    def to(self, device: torch.device, dtype: torch.dtype) -> "Model":
        """Move both encoders and set the precision they compute in."""
        self.embedder.to(device, dtype)
        self.reader.to(device, dtype)
        return self

    def compute_with(self, compute: Compute) -> "Model":
        """Move both encoders to the device, and set what was chosen to compute with."""
        torch.set_num_threads(compute.num_threads)
        embedder = self.embedder
        for part in (embedder.query_tower, embedder.passage_tower, self.reader):
            use_attention(part.trunk, compute.attention)
        return self.to(default_device(), compute.dtype)

    def choose_compute(self, settings: ComputeSettings, use: Use) -> Compute:
        """What this machine is to compute with: as set, or as measured where nothing is."""
        length = self.packer.settings.passage_tokens
        return choose_compute(settings, shape_of(self.reader.trunk), use, length)

    def compile_trunks(self) -> None:
        """Let the trunks be translated for inputs of any length; names of weights stay."""
        embedder = self.embedder
        for trunk in {embedder.query_tower.trunk, embedder.passage_tower.trunk, self.reader.trunk}:
            trunk.compile(dynamic=True)

    def recompute(self, is_wanted: bool) -> None:
        """Let both encoders run again in the backward pass, which then needs little memory."""
        for part in (self.embedder.query_tower, self.embedder.passage_tower, self.reader):
            part.recompute = is_wanted


def new_model(
    embedder: EmbedderSettings,
    reader: ReaderSettings,
    packing: PackingSettings,
    own_trunk: Path | None = None,
) -> Model:
    """Build a model from the trunks that the settings name; `own_trunk` is the folder of the run's.

    A masked head that the reader's trunk was trained with comes along; all other heads are new.
    """
    folder, reader_folder = (trunk_folder(half.trunk, own_trunk) for half in (embedder, reader))
    tokenizer = read_tokenizer(folder)
    if tokenizer.to_str() != read_tokenizer(reader_folder).to_str():
        raise SettingError("embedder.trunk and reader.trunk have different tokenizers: use one")
    check_packing(embedder, reader, packing, own_trunk)

    def tower() -> Tower:
        uses_pooler = embedder.pooling == "pooler"
        trunk = load_trunk(folder, dropout=embedder.dropout, uses_pooler=uses_pooler)
        return Tower(trunk, embedder)

    # The reader first, so that its random weights are the same beside any embedder.
    layers = load_trunk(reader_folder, dropout=reader.dropout, num_layers=reader.num_layers)
    encoder = Reader(layers, reader)
    trained_head = read_masked_head(reader_folder)
    if trained_head:
        encoder.masked_head.load_state_dict(trained_head)
    query_tower = tower()
    passage_tower = query_tower if embedder.shared_towers else tower()
    return Model(
        Embedder(query_tower, passage_tower), encoder, Packer(tokenizer, packing), tokenizer
    )


def check_packing(
    embedder: EmbedderSettings,
    reader: ReaderSettings,
    packing: PackingSettings,
    own_trunk: Path | None = None,
) -> None:
    """Make sure that the trunks can read what will be packed for them.

    Raises:
        SettingError: an input of full length would not fit, or has a segment that no trunk knows.
    """
    joint, names = packing.joint_tokens, "packing.joint_tokens"
    if joint is None:
        joint, names = (
            packing.query_tokens + packing.passage_tokens,
            "packing.query_tokens + corpus.passage_tokens",
        )
    elif joint <= packing.query_tokens + 1:
        raise SettingError(
            f"packing.joint_tokens is {joint}, which leaves a passage no room behind a query of "
            f"packing.query_tokens={packing.query_tokens}: set it higher"
        )
    packed = (
        ("embedder", embedder.trunk, packing.passage_tokens, "corpus.passage_tokens"),
        ("reader", reader.trunk, joint, names),
    )
    for half, trunk, length, named in packed:
        folder = trunk_folder(trunk, own_trunk)
        if length > (limit := max_positions(folder)):
            raise SettingError(
                f"{named} is {length}, but the trunk reads {limit} wordpieces at most: set it lower"
            )
        if packing.segments == "separate" and not tells_segments(folder):
            raise SettingError(
                f"{half}.trunk ({trunk}) knows one segment: set packing.segments=single"
            )


def check_tokenizer(
    embedder: EmbedderSettings, tokenizer: Tokenizer, own_trunk: Path | None = None
) -> None:
    """Make sure that the trunk reads the wordpieces that the passages were cut into.

    Raises:
        SettingError: its tokenizer is another one.
    """
    folder = trunk_folder(embedder.trunk, own_trunk)
    if read_tokenizer(folder).to_str() != tokenizer.to_str():
        raise SettingError(
            f"the corpus was not cut with the tokenizer of embedder.trunk ({embedder.trunk}): "
            "set the trunk that it was cut with, or take a new --run"
        )


def save_checkpoint(
    path: Path,
    model: Model,
    *,
    step: int,
    inputs: Mapping[str, str],
    weights: Mapping[str, Tensor] | None = None,
    extra: Mapping[str, Tensor] | None = None,
) -> None:
    """Write a model as an artifact.

    `weights` are full-precision masters by name, where the model itself computes in half
    precision; `extra` are tensors that a resumed training needs.
    """
    full = _full_precision(model, weights or {})
    with create_artifact(path, KIND, settings=_settings(model, step), inputs=inputs) as staging:
        _write_model(staging, model, full, step)
        if extra:
            save_file(_contiguous(extra), staging.path / "training.safetensors")


def save_compact_checkpoint(
    path: Path, model: Model, *, step: int, inputs: Mapping[str, str]
) -> None:
    """Write a model as an artifact that `load_model` reads too, as small as it can be shipped."""
    made = compact(_full_precision(model, {}))
    elsewhere = {"same_as": made.same_as, "pinned": made.pinned}
    settings = {**_settings(model, step), "elsewhere": elsewhere}
    with create_artifact(path, KIND, settings=settings, inputs=inputs) as staging:
        _write_model(staging, model, made.tensors, step)


def copy_checkpoint(source: Path, path: Path, *, inputs: Mapping[str, str]) -> None:
    """Write the same model with other inputs, without what a training needs to go on."""
    step = int(read_manifest(source).settings["step"])
    save_checkpoint(path, load_model(source), step=step, inputs=inputs)


def load_model(path: Path) -> Model:
    """Read a checkpoint; nothing but its directory is needed."""
    manifest = open_artifact(path, KIND)
    settings = manifest.settings
    embedder = read_settings(EmbedderSettings, settings["embedder"], origin=str(path))
    reader = read_settings(ReaderSettings, settings["reader"], origin=str(path))
    packing = read_settings(PackingSettings, settings["packing"], origin=str(path))
    tokenizer = load_tokenizer(path / "tokenizer.json")

    def tower() -> Tower:
        return Tower(load_trunk(path / "embedder", dropout=embedder.dropout), embedder)

    with _NoDraws():  # type: ignore[no-untyped-call]  # all weights are in the file
        query_tower = tower()
        passage_tower = query_tower if settings["has_shared_towers"] else tower()
        encoder = Reader(load_trunk(path / "reader", dropout=reader.dropout), reader)
    model = Model(
        Embedder(query_tower, passage_tower), encoder, Packer(tokenizer, packing), tokenizer
    )
    stored = Compact(load_file(path / "weights.safetensors"), **settings.get("elsewhere", {}))
    weights = whole(stored)
    for name, parameter in unique_parameters(model.modules()).items():
        parameter.data.copy_(weights[name])
    return model


def training_tensors(path: Path) -> dict[str, Tensor]:
    """What a checkpoint keeps for resuming its training; empty where it was not kept."""
    file = path / "training.safetensors"
    return load_file(file) if file.is_file() else {}


def unique_parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters by name; of those that share storage, the first name stands for all."""
    return dict(module.named_parameters(remove_duplicate=True))


class _NoDraws(TorchDispatchMode):
    """Inside the block no weights are drawn: that takes ten times as long as to read them."""

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Any = (), kwargs: Any = None
    ) -> Any:
        """Any operation of torch; a tensor that would be filled by chance stays as it is."""
        return args[0] if func in _DRAWS else func(*args, **(kwargs or {}))


def _settings(model: Model, step: int) -> dict[str, Any]:
    return {
        "embedder": model.embedder.settings.model_dump(),
        "reader": model.reader.settings.model_dump(),
        "packing": model.packer.settings.model_dump(),
        "has_shared_towers": model.embedder.has_shared_towers,
        "step": step,
    }


def _full_precision(model: Model, masters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        name: masters.get(name, parameter.detach()).float()
        for name, parameter in unique_parameters(model.modules()).items()
    }


def _write_model(staging: Staging, model: Model, weights: Mapping[str, Tensor], step: int) -> None:
    staging.counts["step"] = step
    save_file(_contiguous(weights), staging.path / "weights.safetensors")
    model.tokenizer.save(str(staging.path / "tokenizer.json"))
    trunks = {"embedder": model.embedder.query_tower.trunk, "reader": model.reader.trunk}
    for name, trunk in trunks.items():
        (staging.path / name).mkdir()
        facts = trunk.config.to_diff_dict()  # type: ignore[union-attr, operator]
        write_configuration(staging.path / name, facts)


def _contiguous(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
