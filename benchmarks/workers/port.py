"""How quick are transformers' REALM classes (4.39.3), as documented and at their best?

Weights are random: no time depends on them.
"""

import json
import time
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from conversation import converse
from transformers import (
    RealmConfig,
    RealmForOpenQA,
    RealmKnowledgeAugEncoder,
    RealmScorer,
    RealmTokenizerFast,
)
from transformers.models.realm.retrieval_realm import RealmRetriever

models: dict[str, Any] = {}
_SHAPE = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
)


def load_pretraining(
    name: str, config: str, dropout: float, num_candidates: int, is_fused: bool
) -> None:
    """Scorer, knowledge-augmented encoder and one optimiser over both, under a name."""
    settings = _config(config, dropout, num_candidates=num_candidates)
    scorer, encoder = RealmScorer(settings), RealmKnowledgeAugEncoder(settings)
    both = torch.nn.ModuleList((scorer, encoder)).train()
    models[name] = scorer, encoder, _optimizer(both, is_fused)


def pretrain(
    name: str,
    batch: str,
    lengths: dict[str, int],
    precision: str,
    queries: int,
    is_trimmed: bool = False,
) -> list[float]:
    """Queries a second of one step: forward, backward, optimiser."""
    scorer, encoder, optimizer = models[name]
    given = {key: rows[:queries] for key, rows in json.loads(Path(batch).read_text()).items()}
    limits: dict[str, Any] = dict.fromkeys(lengths) if is_trimmed else lengths
    query = _padded(given["queries"], limits["query"])
    candidate = _padded([row for rows in given["passages"] for row in rows], limits["passage"])
    joint = _padded([row for rows in given["joints"] for row in rows], limits["joint"])
    num_candidates = len(given["joints"][0])
    joint = {key: value.view(queries, num_candidates, -1) for key, value in joint.items()}
    labels = torch.zeros(queries, joint["input_ids"].shape[-1], dtype=torch.long)
    for row, (places, ids) in enumerate(zip(given["positions"], given["targets"], strict=True)):
        labels[row, places] = torch.tensor(ids)
    begin = time.perf_counter()
    with _autocast(precision):
        shaped = {
            f"candidate_{k}": v.view(queries, num_candidates, -1) for k, v in candidate.items()
        }
        scores = scorer(**query, **shaped).relevance_score
        loss = encoder(**joint, relevance_score=scores, labels=labels, mlm_mask=labels > 0).loss
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return [queries / (time.perf_counter() - begin)]


def load_open_qa(
    name: str, config: str, vocabulary: str, passages: str, embeddings: str,
    beams: dict[str, int], training: dict[str, Any],
) -> None:  # fmt: skip
    """Reader, embedder, all passages and their embeddings, and an optimiser, under a name.

    `training` says the `dropout`, and whether the optimiser `is_fused`.
    """
    vectors = torch.from_numpy(np.load(embeddings))
    with Path(passages).open(encoding="utf-8") as lines:
        texts = [json.loads(line)["text"].encode() for line in islice(lines, len(vectors))]
    settings = _config(config, training["dropout"], num_block_records=len(texts), **beams)
    tokenizer = RealmTokenizerFast(vocab_file=vocabulary)
    retriever = RealmRetriever(np.array(texts, dtype=object), tokenizer)
    model = RealmForOpenQA(settings, retriever)
    model.block_emb.copy_(vectors)
    models[name] = model, tokenizer, _optimizer(model, training["is_fused"])


def finetune(name: str, questions: list[dict[str, Any]], precision: str, batch: int) -> list[float]:
    """Questions a second; the model takes one, the optimiser moves after a batch of them."""
    model, tokenizer, optimizer = models[name]
    model.train()
    begin = time.perf_counter()
    for number, question in enumerate(questions, 1):
        inputs = tokenizer([question["question"]], return_tensors="pt")
        answer_ids = tokenizer(question["answers"], add_special_tokens=False).input_ids
        with _autocast(precision):
            loss = model(**inputs, answer_ids=answer_ids).reader_output.loss
        if loss.requires_grad:  # no passage holds the answer: nothing to learn
            (loss / batch).backward()
        if number % batch == 0:
            optimizer.step()
            optimizer.zero_grad()
    return [len(questions) / (time.perf_counter() - begin)]


@torch.no_grad()
def answer(name: str, questions: list[str], precision: str) -> list[float]:
    """Milliseconds of each question, asked by itself."""
    model, tokenizer, _ = models[name]
    model.eval()
    milliseconds = []
    for question in questions:
        begin = time.perf_counter()
        with _autocast(precision):
            inputs = tokenizer([question], return_tensors="pt")
            tokenizer.decode(model(**inputs).predicted_answer_ids)
        milliseconds.append(1000 * (time.perf_counter() - begin))
    return milliseconds


def _config(file: str, dropout: float, **choices: Any) -> RealmConfig:
    facts = json.loads(Path(file).read_text())
    shape = {key: facts[key] for key in _SHAPE}
    positions = max(512, facts["max_position_embeddings"])
    return RealmConfig(
        **shape, **choices, retriever_proj_size=min(128, facts["hidden_size"]),
        max_position_embeddings=positions, hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )  # fmt: skip


def _optimizer(model: torch.nn.Module, is_fused: bool) -> torch.optim.Optimizer:
    moving = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return torch.optim.AdamW(moving, lr=1e-5, fused=is_fused)


def _padded(rows: list[list[int]], length: int | None) -> dict[str, torch.Tensor]:
    length = length or max(map(len, rows))
    ids = torch.zeros(len(rows), length, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = torch.tensor(row)
        mask[number, : len(row)] = 1
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids)}


def _autocast(precision: str) -> Any:
    return torch.autocast("cpu", torch.bfloat16) if precision == "bf16" else nullcontext()


if __name__ == "__main__":
    converse(
        {
            "load_pretraining": load_pretraining,
            "pretrain": pretrain,
            "load_open_qa": load_open_qa,
            "finetune": finetune,
            "answer": answer,
        }
    )
