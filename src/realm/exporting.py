"""How does a model leave this program, so that transformers loads it?

transformers-realm   embedder/ scorer/ encoder/ openqa/, in the layout of the released checkpoints,
                     for the REALM classes of transformers 4.16 to 4.57
auto-model           query-embedder/ passage-embedder/ reader/: the trunks alone, for AutoModel
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor

from realm.artifact import is_finished, read_manifest
from realm.corpus.block_records import write_block_records
from realm.errors import SettingError
from realm.models.checkpoint import Model, load_model
from realm.models.released import BLOCK_EMBEDDINGS, BLOCK_RECORDS, VOCABULARY, WEIGHTS
from realm.models.released_names import encoder_tensors, reader_tensors, tower_tensors
from realm.models.trunk import write_tokenizer
from realm.run_folder import IMPORT
from realm.stages import Run

_KINDS = {
    "embedder": "RealmEmbedder",
    "scorer": "RealmScorer",
    "encoder": "RealmKnowledgeAugEncoder",
    "openqa": "RealmForOpenQA",
}


def export_transformers_realm(run: Run, name: str, folder: Path) -> list[Path]:
    """Write every folder that the model is enough for; return their paths.

    Raises:
        SettingError: the model has a shape that REALM's classes cannot express, or so few parts
            that none of them holds it.
    """
    model = load_model(run.checkpoint(name))
    _check_shape(model)
    parts = _parts(run, name)
    made = []
    if "passage embedder" in parts:
        tensors = tower_tensors(model.embedder.passage_tower, model.reader)
        made.append(_write(folder / "embedder", model, tensors))
    if {"query embedder", "passage embedder"} <= parts and not model.embedder.has_shared_towers:
        # `embedder` alone would be taken for both sides, as the released export was made.
        made.append(_write(folder / "scorer", model, _scorer_tensors(model)))
    if {"reader", "masked head"} <= parts:
        made.append(_write(folder / "encoder", model, encoder_tensors(model.reader)))
    if {"query embedder", "reader", "span head", "passages"} <= parts:
        made.append(_write_openqa(run, name, model, folder / "openqa"))
    if not made:
        raise SettingError(
            f"no class of transformers holds {' and '.join(sorted(parts))} alone: export the "
            "trunks with --format auto-model"
        )
    return made


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
        "a WordPiece tokenizer": _model_of(model.tokenizer)["type"] == "WordPiece",
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


def _write(folder: Path, model: Model, tensors: Mapping[str, Tensor], **facts: Any) -> Path:
    folder.mkdir(parents=True)
    trunk, embedder = model.reader.trunk.config, model.embedder.settings
    config = {
        **trunk.to_dict(),  # type: ignore[union-attr, operator]
        "model_type": "realm",
        "architectures": [_KINDS[folder.name]],
        "hidden_dropout_prob": embedder.dropout,
        "attention_probs_dropout_prob": embedder.dropout,
        "retriever_proj_size": embedder.projection_width,
        "span_hidden_size": model.reader.settings.span_width,
        "max_span_width": model.reader.settings.max_answer_tokens,
        "reader_layer_norm_eps": 1e-3,
        "torch_dtype": "float32",
        **facts,
    }
    for name in ("dtype", "transformers_version", "_name_or_path"):
        config.pop(name, None)
    text = json.dumps(config, indent=1, sort_keys=True)
    (folder / "config.json").write_text(text + "\n", encoding="utf-8")
    _write_vocabulary(model.tokenizer, folder)
    contiguous = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    # transformers refuses safetensors that do not say for which library they were written.
    save_file(contiguous, folder / WEIGHTS, metadata={"format": "pt"})
    return folder


def _scorer_tensors(model: Model) -> dict[str, Tensor]:
    """Both towers, which that class keeps apart."""
    embedder = model.embedder
    towers = {"query_embedder.": embedder.query_tower, "embedder.": embedder.passage_tower}
    return {
        side + name: tensor
        for side, tower in towers.items()
        for name, tensor in tower_tensors(tower, model.reader).items()
    }


def _write_openqa(run: Run, name: str, model: Model, folder: Path) -> Path:
    store, snapshot = run.corpus(), run.snapshot(name)
    embedder = tower_tensors(model.embedder.query_tower, model.reader)
    tensors = {f"embedder.{name}": tensor for name, tensor in embedder.items()}
    tensors |= {f"reader.{name}": tensor for name, tensor in reader_tensors(model.reader).items()}
    tensors[BLOCK_EMBEDDINGS] = snapshot.embeddings.float()
    settings = run.experiment
    objective, packing = settings.finetune.objective, model.packer.settings
    _write(
        folder, model, tensors,
        num_block_records=len(store),
        reader_beam_size=settings.retrieval.reader_passages,
        searcher_beam_size=objective.retriever_passages,
        reader_seq_len=packing.joint_tokens or packing.query_tokens + packing.passage_tokens,
    )  # fmt: skip
    write_block_records(folder / BLOCK_RECORDS, map(store.text, range(len(store))), len(store))
    return folder


def _write_vocabulary(tokenizer: Tokenizer, folder: Path) -> None:
    words = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    text = "".join(f"{word}\n" for word, _ in words)
    (folder / VOCABULARY).write_text(text, encoding="utf-8")
    facts = {"tokenizer_class": "RealmTokenizer", "do_lower_case": True}
    (folder / "tokenizer_config.json").write_text(json.dumps(facts) + "\n", encoding="utf-8")


def _model_of(tokenizer: Tokenizer) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(tokenizer.to_str())["model"]
    return found
