"""How does a model leave this program, so that transformers loads it?

transformers-realm   embedder/ scorer/ encoder/ reader/ openqa/, in the layout of the released
                     checkpoints, for the REALM classes of transformers 4.16 to 4.57
auto-model           query-embedder/ passage-embedder/ reader/: the trunks alone, for AutoModel
"""

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor

from realm.artifact import is_finished, let_others_read, read_manifest
from realm.corpus.block_records import write_block_records
from realm.errors import SettingError
from realm.index.snapshot import Snapshot
from realm.models.checkpoint import Model, load_model
from realm.models.released import (
    BLOCK_EMBEDDINGS,
    BLOCK_RECORDS,
    SPAN_LAYER_NORM_EPS,
    VOCABULARY,
    WEIGHTS,
)
from realm.models.released_names import encoder_tensors, reader_tensors, tower_tensors
from realm.models.trunk import write_configuration, write_tokenizer
from realm.run_folder import IMPORT
from realm.stages import Run

_KINDS = {
    "embedder": "RealmEmbedder",
    "scorer": "RealmScorer",
    "encoder": "RealmKnowledgeAugEncoder",
    "reader": "RealmReader",
    "openqa": "RealmForOpenQA",
}


def export_transformers_realm(run: Run, name: str, folder: Path) -> list[Path]:
    """Write every folder that the model is enough for; return their paths.

    Raises:
        SettingError: the model has a shape that REALM's classes cannot express.
    """
    model = load_model(run.checkpoint(name))
    _check_shape(model)
    parts, config = _parts(run, name), _configuration(run, model)
    tensors_by_folder: dict[str, Callable[[], dict[str, Tensor]]] = {}
    if "passage embedder" in parts:
        tower = model.embedder.passage_tower
        tensors_by_folder["embedder"] = lambda: tower_tensors(tower, model.reader)
    if {"query embedder", "passage embedder"} <= parts:
        # `embedder` alone is taken for both sides: the fault of the released export.
        tensors_by_folder["scorer"] = lambda: _scorer_tensors(model)
    if {"reader", "masked head"} <= parts:
        tensors_by_folder["encoder"] = lambda: encoder_tensors(model.reader)
    if {"reader", "span head"} <= parts:
        tensors_by_folder["reader"] = lambda: reader_tensors(model.reader)
    if {"query embedder", "reader", "span head", "passages"} <= parts:
        tensors_by_folder["openqa"] = lambda: _openqa_tensors(model, run.snapshot(name))
    for kind, tensors in tensors_by_folder.items():
        _write(folder / kind, model, config, tensors())
    if "openqa" in tensors_by_folder:
        store = run.corpus()
        texts = map(store.text, range(len(store)))
        write_block_records(folder / "openqa" / BLOCK_RECORDS, texts, len(store))
    return [folder / kind for kind in tensors_by_folder]


def export_auto_models(run: Run, name: str, folder: Path) -> list[Path]:
    """Write the trunks without heads, each with the tokenizer; return their paths."""
    model = load_model(run.checkpoint(name))
    trunks = {
        "query-embedder": model.embedder.query_tower.trunk,
        "passage-embedder": model.embedder.passage_tower.trunk,
        "reader": model.reader.trunk,
    }
    parts = _parts(run, name)
    made = []
    for label, trunk in trunks.items():
        if label.replace("-", " ") in parts:
            trunk.save_pretrained(folder / label)  # type: ignore[operator]
            write_tokenizer(folder / label, model.tokenizer)
            let_others_read(folder / label)
            made.append(folder / label)
    return made


def _parts(run: Run, name: str) -> set[str]:
    """What is trained in that checkpoint."""
    everything = {"query embedder", "passage embedder", "reader", "masked head"}
    everything |= {"span head"} if name == "finetune" else set()
    everything |= {"passages"} if is_finished(run.path / "corpus") else set()
    if not is_finished(run.path / IMPORT):
        return everything
    imported = {*read_manifest(run.path / IMPORT).settings["parts"]}
    return imported | (everything & {"span head", "passages"})


def _check_shape(model: Model) -> None:
    embedder, packing = model.embedder.settings, model.packer.settings
    wanted = {
        "embedder.pooling=pooler": embedder.pooling == "pooler",
        "embedder.projection_layer_norm=true": embedder.projection_layer_norm,
        "embedder.projection_width": embedder.projection_width is not None,
        "embedder.normalise=false": not embedder.normalise,
        "embedder.score_scale=1": embedder.score_scale == 1.0,
        "packing.title_in_joint=false": not packing.title_in_joint,
        "packing.segments=separate": packing.segments == "separate",
        "a BERT trunk": model.reader.trunk.config.model_type == "bert",  # type: ignore[union-attr]
        "one shape of embedder.trunk and reader.trunk": _shape(model.reader.trunk)
        == _shape(model.embedder.query_tower.trunk),
        "an uncased WordPiece tokenizer": _is_uncased_wordpiece(model.tokenizer),
    }
    lacking = [name for name, holds in wanted.items() if not holds]
    if lacking:
        raise SettingError(
            f"REALM's classes in transformers need {lacking[0]}, and this model has it otherwise: "
            "export its trunks with --format auto-model"
        )


def _shape(trunk: Any) -> dict[str, Any]:
    """What a configuration says, apart from dropout and where the trunk came from."""
    passing = ("_name_or_path", "architectures", "dtype", "transformers_version")
    return {
        key: value
        for key, value in trunk.config.to_dict().items()
        if key not in passing and "dropout" not in key
    }


def _configuration(run: Run, model: Model) -> dict[str, Any]:
    """What `config.json` says in every folder."""
    trunk, embedder = model.reader.trunk.config, model.embedder.settings
    settings, packing = run.experiment, model.packer.settings
    num_passages = len(run.corpus()) if is_finished(run.path / "corpus") else 0
    # Those classes search for so many passages whether there are so many or not.
    most = num_passages or sys.maxsize
    config = {
        **trunk.to_dict(),  # type: ignore[union-attr, operator]
        "model_type": "realm",
        "hidden_dropout_prob": embedder.dropout,
        "attention_probs_dropout_prob": embedder.dropout,
        "retriever_proj_size": embedder.projection_width,
        "span_hidden_size": model.reader.settings.span_width,
        "max_span_width": model.reader.settings.max_answer_tokens,
        "reader_layer_norm_eps": SPAN_LAYER_NORM_EPS,
        "reader_beam_size": min(settings.retrieval.reader_passages, most),
        "reader_seq_len": packing.joint_tokens or packing.query_tokens + packing.passage_tokens,
        "num_candidates": settings.pretrain.objective.num_candidates,
        "searcher_beam_size": min(settings.finetune.objective.retriever_passages, most),
        "num_block_records": num_passages,
        "torch_dtype": "float32",
    }
    for name in ("dtype", "transformers_version", "_name_or_path"):
        config.pop(name, None)
    return config


def _write(
    folder: Path, model: Model, config: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> None:
    folder.mkdir(parents=True)
    write_configuration(folder, {**config, "architectures": [_KINDS[folder.name]]})
    _write_vocabulary(model.tokenizer, folder)
    contiguous = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    # transformers refuses safetensors that do not say for which library they were written.
    save_file(contiguous, folder / WEIGHTS, metadata={"format": "pt"})
    let_others_read(folder)


def _scorer_tensors(model: Model) -> dict[str, Tensor]:
    """Both towers, which that class keeps apart; one that is shared is written twice."""
    embedder = model.embedder
    towers = {"query_embedder.": embedder.query_tower, "embedder.": embedder.passage_tower}
    return {
        side + name: tensor.clone()
        for side, tower in towers.items()
        for name, tensor in tower_tensors(tower, model.reader).items()
    }


def _openqa_tensors(model: Model, snapshot: Snapshot) -> dict[str, Tensor]:
    embedder = tower_tensors(model.embedder.query_tower, model.reader)
    tensors = {f"embedder.{name}": tensor for name, tensor in embedder.items()}
    tensors |= {f"reader.{name}": tensor for name, tensor in reader_tensors(model.reader).items()}
    return {**tensors, BLOCK_EMBEDDINGS: snapshot.embeddings.float()}


def _write_vocabulary(tokenizer: Tokenizer, folder: Path) -> None:
    words = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    text = "".join(f"{word}\n" for word, _ in words)
    (folder / VOCABULARY).write_text(text, encoding="utf-8")
    facts = {"tokenizer_class": "RealmTokenizer", "do_lower_case": True}
    (folder / "tokenizer_config.json").write_text(json.dumps(facts) + "\n", encoding="utf-8")


def _is_uncased_wordpiece(tokenizer: Tokenizer) -> bool:
    """Whether its words alone say how it cuts, since nothing else is written."""
    parts = json.loads(tokenizer.to_str())
    normalizer = parts["normalizer"] or {}
    return parts["model"]["type"] == "WordPiece" and bool(normalizer.get("lowercase"))
