"""What is in a released checkpoint of REALM, and which tensor there is which one here?

The layout is that of the REALM classes of transformers 4.16 to 4.57: `config.json`, the weights
as `model.safetensors` or `pytorch_model.bin`, and `vocab.txt`. Five kinds of folder exist; none
holds everything, so what came along is kept as a list of parts.
"""

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import ConfigDict
from safetensors import SafetensorError
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor, nn

from realm.config import Settings, read_settings
from realm.errors import ResourceError, SourceError
from realm.models.released_names import (
    MASKED_HEAD_NAMES,
    SPAN_ENDS,
    SPAN_HEAD_NAMES,
    TOWER_NAMES,
    TRUNK_NAMES,
    renamed,
)

Part = Literal[
    "query embedder", "passage embedder", "reader", "masked head", "span head",
    "passage embeddings", "passages",
]  # fmt: skip
SPAN_LAYER_NORM_EPS = 1e-3
WEIGHTS, PICKLED_WEIGHTS, VOCABULARY = "model.safetensors", "pytorch_model.bin", "vocab.txt"
BLOCK_RECORDS, BLOCK_EMBEDDINGS = "block_records.npy", "block_emb"

# Where the trained parts of each kind stand. The embedder of an openqa folder was fine-tuned: it
# embeds questions, and the passages were embedded by the one that it was before.
_PLACES: dict[str, dict[Part, str]] = {
    "RealmEmbedder": {"query embedder": "", "passage embedder": ""},
    "RealmScorer": {"query embedder": "query_embedder.", "passage embedder": "embedder."},
    "RealmKnowledgeAugEncoder": {"reader": "", "masked head": ""},
    "RealmReader": {"reader": "", "span head": ""},
    "RealmForOpenQA": {"query embedder": "embedder.", "reader": "reader.", "span head": "reader."},
}
# An openqa folder that was put together before fine-tuning: its embedder does for both sides, and
# its span head was never trained.
_UNTUNED = "realm-cc-news-pretrained-openqa"
_UNTUNED_PLACES: dict[Part, str] = {
    "query embedder": "embedder.", "passage embedder": "embedder.", "reader": "reader.",
}  # fmt: skip


class ReleasedConfiguration(Settings):
    """What a released `config.json` says; where it is silent, what its class takes."""

    model_config = ConfigDict(extra="ignore")

    model_type: str = ""
    architectures: tuple[str, ...] = ()
    vocab_size: int = 30522
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu_new"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    pad_token_id: int | None = 1
    """A left-over of another model: BERT pads with 0. Word 1 gets no gradient by it; kept."""
    retriever_proj_size: int = 128
    num_candidates: int = 8
    span_hidden_size: int = 256
    max_span_width: int = 10
    reader_layer_norm_eps: float = SPAN_LAYER_NORM_EPS
    reader_beam_size: int = 5
    reader_seq_len: int = 320
    searcher_beam_size: int = 5000

    def trunk(self) -> dict[str, Any]:
        """The configuration of the BERT that every part is built on."""
        names = (
            "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads",
            "intermediate_size", "hidden_act", "hidden_dropout_prob",
            "attention_probs_dropout_prob", "max_position_embeddings", "type_vocab_size",
            "initializer_range", "layer_norm_eps", "pad_token_id",
        )  # fmt: skip
        chosen = self.model_dump(include=set(names))
        return {"model_type": "bert", "architectures": ["BertModel"], **chosen}


@dataclass(frozen=True)
class ReleasedFolder:
    """One folder: its configuration, its tensors by name (mapped, not read), its parts."""

    name: str
    path: Path
    configuration: ReleasedConfiguration
    tensors: Mapping[str, Tensor] = field(repr=False)
    places: Mapping[Part, str]

    @classmethod
    def open(cls, source: str) -> "ReleasedFolder":
        """Open a local folder, or one of the hub by its name.

        Raises:
            SourceError: it is no REALM checkpoint, or its files are damaged.
            ResourceError: it is no folder and cannot be downloaded.
        """
        path = _locate(source)
        configuration = _read_configuration(path)
        kind, tensors = _kind(configuration, path), _read_tensors(path)
        untuned = kind == "RealmForOpenQA" and (
            _UNTUNED in (Path(source).name, path.name) or _has_new_span_head(tensors)
        )
        places = _UNTUNED_PLACES if untuned else _PLACES[kind]
        return cls(source, path, configuration, tensors, places)

    @property
    def parts(self) -> tuple[Part, ...]:
        """The trained parts that the folder brings."""
        found = list(self.places)
        if BLOCK_EMBEDDINGS in self.tensors and self.records is not None:
            found += ["passage embeddings", "passages"]
        return tuple(found)

    @property
    def records(self) -> Path | None:
        """The file with the texts of the passages; nothing where it did not come along."""
        file = self.path / BLOCK_RECORDS
        return file if file.is_file() else None

    def tensor(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """A tensor that has to be there with that shape.

        Raises:
            SourceError: it is missing, or of another shape.
        """
        if name not in self.tensors:
            raise SourceError(f"{self.path} lacks the tensor {name}: download the folder again")
        found = self.tensors[name]
        if tuple(found.shape) != shape:
            raise SourceError(
                f"{self.path}: {name} has shape {tuple(found.shape)} and should have {shape}: "
                "its config.json belongs to other weights"
            )
        return found.float()

    def read_tokenizer(self) -> Tokenizer:
        """The uncased WordPiece tokenizer of `vocab.txt`, whatever its line ends are.

        Raises:
            SourceError: there is none, or it does not fit the word embeddings.
        """
        return read_vocabulary(self.path / VOCABULARY, self.configuration.vocab_size)


@torch.no_grad()
def copy_tower(tower: nn.Module, folder: ReleasedFolder, prefix: str) -> None:
    """Fill an embedder's tower with the released weights."""
    _copy(tower, folder, prefix, TOWER_NAMES)


@torch.no_grad()
def copy_reader(reader: nn.Module, folder: ReleasedFolder) -> None:
    """Fill the reader's trunk and those of its heads that the folder brings."""
    places = folder.places
    _copy(reader, folder, places["reader"], TRUNK_NAMES)
    if "masked head" in places:
        _copy(reader, folder, places["masked head"], MASKED_HEAD_NAMES)
        _check_tied(reader, folder, places["masked head"])
    if "span head" in places:
        _copy(reader, folder, places["span head"], SPAN_HEAD_NAMES)
        _copy_span_ends(reader.span_head, folder, places["span head"] + SPAN_ENDS)


def read_vocabulary(file: Path, size: int) -> Tokenizer:
    """BERT's uncased tokenizer over the words of a file, one a line.

    Raises:
        SourceError: no such file, a word that stands twice, or more words than embeddings.
    """
    try:
        # Not splitlines: a vocabulary may hold U+2028 as a word, which ends lines for Python.
        words = file.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SourceError(
            f"{file} is no vocabulary ({reason}): download the folder again"
        ) from error
    number_by_word = {word: number for number, word in enumerate(words)}
    missing = [w for w in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]") if w not in number_by_word]
    if missing or len(number_by_word) != len(words) or len(words) > size:
        raise SourceError(
            f"{file} is not the vocabulary of these weights ({len(words):,} lines for {size:,} "
            "word embeddings, each to be different, with BERT's special words): download it again"
        )
    tokenizer = Tokenizer(models.WordPiece(number_by_word, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(
        ("[SEP]", number_by_word["[SEP]"]), ("[CLS]", number_by_word["[CLS]"])
    )
    tokenizer.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    return tokenizer


def _copy(module: nn.Module, folder: ReleasedFolder, prefix: str, names: dict[str, str]) -> None:
    for name, parameter in renamed(module, names):
        parameter.copy_(folder.tensor(prefix + name, tuple(parameter.shape)))


def _copy_span_ends(head: Any, folder: ReleasedFolder, name: str) -> None:
    width, hidden = head.start.weight.shape
    start, end = folder.tensor(f"{name}weight", (2 * width, hidden)).chunk(2)
    head.start.weight.copy_(start)
    head.end.weight.copy_(end)
    # Both biases are added to every span: one that is their sum does the same.
    head.start.bias.copy_(sum(folder.tensor(f"{name}bias", (2 * width,)).chunk(2)))


def _has_new_span_head(tensors: Mapping[str, Tensor]) -> bool:
    """Whether an openqa folder's head is as it was made: with biases of zero."""
    bias = tensors.get(f"reader.{SPAN_ENDS}bias")
    return bias is not None and not bias.any()


def _check_tied(reader: Any, folder: ReleasedFolder, prefix: str) -> None:
    decoder = folder.tensors.get(f"{prefix}cls.predictions.decoder.weight")
    if decoder is not None and not torch.equal(decoder.float(), reader.output_embeddings()):
        raise SourceError(
            f"{folder.path}: the masked head has output embeddings of its own, and REALM's are "
            "the word embeddings: this is another model"
        )


def _locate(source: str) -> Path:
    path = Path(source).expanduser()
    if path.is_dir():
        return path
    from huggingface_hub import snapshot_download

    wanted = ["config.json", VOCABULARY, WEIGHTS, PICKLED_WEIGHTS, BLOCK_RECORDS]
    try:
        return Path(snapshot_download(source, allow_patterns=wanted))
    except Exception as error:
        raise ResourceError(
            f"{source} is neither a folder nor could it be downloaded from the hub: check the "
            "name (google/realm-orqa-nq-openqa, say), or give a folder"
        ) from error


def _read_configuration(path: Path) -> ReleasedConfiguration:
    file = path / "config.json"
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SourceError(
            f"{path} is no REALM checkpoint: it has no readable config.json"
        ) from error
    if not isinstance(values, dict) or values.get("model_type") != "realm":
        raise SourceError(f"{path} is no REALM checkpoint: model_type in config.json is not realm")
    configuration = read_settings(ReleasedConfiguration, values, origin=str(file))
    if configuration.reader_layer_norm_eps != SPAN_LAYER_NORM_EPS:
        raise SourceError(f"{file}: reader_layer_norm_eps must be {SPAN_LAYER_NORM_EPS}")
    return configuration


def _kind(configuration: ReleasedConfiguration, path: Path) -> str:
    for name in configuration.architectures:
        if name in _PLACES:
            return name
    raise SourceError(
        f"{path} is no REALM checkpoint: architectures in config.json names none of "
        f"{', '.join(_PLACES)}"
    )


def _read_tensors(path: Path) -> Mapping[str, Tensor]:
    """Mapped into memory: the embeddings of 13 million passages are read when they are used."""
    safe, pickled = path / WEIGHTS, path / PICKLED_WEIGHTS
    if not safe.is_file() and not pickled.is_file():
        raise SourceError(f"{path} has neither {WEIGHTS} nor {PICKLED_WEIGHTS}: download it again")
    try:
        if safe.is_file():
            from safetensors.torch import load_file

            return load_file(safe)
        # Nothing but tensors in plain containers is unpickled.
        can_be_mapped = zipfile.is_zipfile(pickled)
        tensors = torch.load(pickled, map_location="cpu", weights_only=True, mmap=can_be_mapped)
    except (SafetensorError, OSError, ValueError, RuntimeError, EOFError, KeyError) as error:
        reason = " ".join(str(error).split())[:120] or "they are cut short"
        raise SourceError(
            f"the weights in {path} cannot be read ({reason}): download the folder again"
        ) from error
    except Exception as error:  # what weights_only refuses is raised as an error of pickle's own
        raise SourceError(
            f"{pickled} holds more than tensors and is not loaded: take the file from a source "
            "that you trust, or a model.safetensors"
        ) from error
    if not isinstance(tensors, Mapping) or not all(map(torch.is_tensor, tensors.values())):
        raise SourceError(f"{pickled} holds something else than tensors by name: download it again")
    return tensors
