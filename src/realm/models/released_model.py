"""How do parts of released checkpoints become one of our models?

The architecture is that of the released code: the embedder takes BERT's pooled [CLS], a projection
and LayerNorm, and leaves the length as it is; the reader sees question and passage without title.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from realm.errors import SettingError, SourceError
from realm.examples.packing import Packer, PackingSettings
from realm.models.checkpoint import Model
from realm.models.embedder import Embedder, EmbedderSettings, Tower
from realm.models.reader import Reader, ReaderSettings
from realm.models.released import Part, ReleasedFolder, copy_reader, copy_tower
from realm.models.trunk import load_trunk, write_configuration

_MOST_JOINT_TOKENS = 384  # 96 for the query and 288 for the passage, where the trunk reads so many
_QUERY_SHARE = 4
_TOWERS = ("query embedder", "passage embedder")


@dataclass(frozen=True)
class Sources:
    """Which folder gives which part; `folders` in the order in which they were named."""

    folders: tuple[ReleasedFolder, ...]
    by_part: Mapping[Part, ReleasedFolder]

    @property
    def first(self) -> ReleasedFolder:
        """The folder whose configuration and vocabulary hold for all."""
        return self.folders[0]

    def __contains__(self, part: Part) -> bool:
        return part in self.by_part


def gather(names: list[str], passage_embedder: str = "") -> Sources:
    """Open folders that complete each other.

    Raises:
        SettingError: two of them bring the same part.
        SourceError: a folder is no REALM checkpoint, or they are of different models.
    """
    folders = [ReleasedFolder.open(name) for name in names]
    by_part: dict[Part, ReleasedFolder] = {}
    for folder in folders:
        twice = [part for part in folder.parts if part in by_part]
        if twice:
            raise SettingError(
                f"{folder.name} and {by_part[twice[0]].name} both bring the {twice[0]}: name one "
                "of them (a passage embedder beside an openqa folder: --passage-embedder)"
            )
        by_part |= dict.fromkeys(folder.parts, folder)
    if passage_embedder:
        beside = ReleasedFolder.open(passage_embedder)
        if "passage embedder" not in beside.places:
            raise SettingError(
                f"--passage-embedder {passage_embedder} holds no passage embedder: give a folder "
                "like google/realm-cc-news-pretrained-embedder"
            )
        by_part["passage embedder"] = beside
        folders.append(beside)
    for folder in folders[1:]:
        _check_alike(folders[0], folder)
    return Sources(tuple(folders), by_part)


def write_trunk_folder(sources: Sources, folder: Path) -> None:
    """The BERT configuration and the tokenizer that all parts share, as a trunk without weights."""
    write_configuration(folder, sources.first.configuration.trunk())
    sources.first.read_tokenizer().save(str(folder / "tokenizer.json"))


def embedder_settings(sources: Sources, trunk: str) -> EmbedderSettings:
    """As the released code has them."""
    configuration = sources.first.configuration
    return EmbedderSettings(
        trunk=trunk,
        pooling="pooler",
        projection_width=configuration.retriever_proj_size,
        projection_layer_norm=True,
        normalise=False,
        score_scale=1.0,
        shared_towers=_has_one_tower(sources),
        dropout=configuration.hidden_dropout_prob,
    )


def reader_settings(sources: Sources, trunk: str) -> ReaderSettings:
    """As the released code has them."""
    configuration = sources.first.configuration
    return ReaderSettings(
        trunk=trunk,
        span_width=configuration.span_hidden_size,
        max_answer_tokens=configuration.max_span_width,
        dropout=configuration.hidden_dropout_prob,
    )


def packing_settings(sources: Sources) -> PackingSettings:
    """96 wordpieces of query and 288 of passage, as in pre-training, where the trunk reads so many.

    A model that answers reads pairs of 320, of which the question leaves the rest to the passage.
    """
    configuration = sources.first.configuration
    limit = min(configuration.max_position_embeddings, _MOST_JOINT_TOKENS)
    query, joint = limit // _QUERY_SHARE, None
    passage = limit - query
    if "span head" in sources:
        joint = configuration.reader_seq_len
        query = joint // 2  # longer ones would be cut together with the passage
    return PackingSettings(
        query_tokens=query,
        passage_tokens=passage,
        joint_tokens=joint,
        title_in_joint=False,
        segments="separate",
    )


def build_model(sources: Sources, trunk: Path) -> Model:
    """A model with every part that the sources bring; what they lack is new and untrained.

    Raises:
        SourceError: a tensor is missing or has another shape than the configuration says.
    """
    embedder = embedder_settings(sources, str(trunk))
    reader = reader_settings(sources, str(trunk))

    def tower(part: Part) -> Tower:
        made = Tower(load_trunk(trunk, dropout=embedder.dropout), embedder)
        if part in sources:
            folder = sources.by_part[part]
            copy_tower(made, folder, folder.places[part])
        return made

    has_queries = "query embedder" in sources
    query_tower = tower("query embedder" if has_queries else "passage embedder")
    passage_tower = query_tower if embedder.shared_towers else tower("passage embedder")
    made = Reader(load_trunk(trunk, dropout=reader.dropout), reader)
    # A masked head and a span head that come from two folders stand on two trunks: one is enough.
    if "reader" in sources:
        copy_reader(made, sources.by_part["reader"])
    tokenizer = sources.first.read_tokenizer()
    packer = Packer(tokenizer, packing_settings(sources))
    return Model(Embedder(query_tower, passage_tower), made, packer, tokenizer)


def _has_one_tower(sources: Sources) -> bool:
    """Whether a side is missing, or both have the same weights, as in the released scorer."""
    towers = []
    for part, folder in sources.by_part.items():
        if part in _TOWERS:
            prefix = folder.places[part]
            own = {
                n.removeprefix(prefix): t for n, t in folder.tensors.items() if n.startswith(prefix)
            }
            towers.append(own)
    if len(towers) < len(_TOWERS):
        return True
    first, second = towers
    return first.keys() == second.keys() and all(torch.equal(first[n], second[n]) for n in first)


def _check_alike(first: ReleasedFolder, other: ReleasedFolder) -> None:
    """Parts of one model share its shape and its words."""
    if first.configuration.trunk() != other.configuration.trunk():
        raise SourceError(f"{first.name} and {other.name} have different config.json: no one model")
    if first.read_tokenizer().to_str() != other.read_tokenizer().to_str():
        raise SourceError(
            f"{first.name} and {other.name} have different vocabularies: no one model"
        )
