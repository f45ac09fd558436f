#!/usr/bin/env python3
"""What does transformers 4.39.3, the last release to rely on, compute with REALM's classes?

Run with any Python 3.11: it makes an environment of its own (about 1 GB), installs that release
there, builds tiny random models in it and writes, under tests/fixtures/released, the folders that
`save_pretrained` makes and the numbers that the models give. Started again it writes the same.

    scripts/make_reference_fixtures.py --environment FOLDER
"""

import argparse
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "tests" / "fixtures" / "released"
RELEASE = "transformers-4.39.3"
QUESTIONS = (
    ("when did the grey harbour appear?", ["1880", "in 1880"]),
    ("when was the orsk observatory founded?", ["1894"]),
    ("where was the poet anton brisk born?", ["tavil", "edvard lind"]),
    ("what is the capital of nowhere?", ["atlantis"]),
)
CONFIGURATION = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 64,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "retriever_proj_size": 8,
    "num_candidates": 3,
    "span_hidden_size": 12,
    "max_span_width": 4,
    "reader_beam_size": 3,
    "searcher_beam_size": 8,
    "reader_seq_len": 56,
}
GRADIENTS = {
    "encoder": (
        "realm.embeddings.word_embeddings.weight",
        "realm.encoder.layer.0.attention.self.query.weight",
        "cls.predictions.transform.dense.weight",
        "cls.predictions.bias",
    ),
    "embedder": (
        "realm.embeddings.word_embeddings.weight",
        "realm.encoder.layer.1.output.dense.weight",
        "realm.pooler.dense.weight",
        "cls.dense.weight",
        "cls.LayerNorm.weight",
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--environment", type=Path, required=True, help="where to install it")
    environment = parser.parse_args().environment.resolve()
    if Path(sys.prefix).resolve() != environment:
        maker = load_module(ROOT / "benchmarks" / "peer_environment.py")
        python = maker.make_environment(environment, maker.PACKAGES[RELEASE])
        subprocess.run([python, __file__, "--environment", str(environment)], check=True)
        return
    import transformers

    assert transformers.__version__ == "4.39.3", transformers.__version__
    write_fixtures()


def write_fixtures() -> None:
    """Folders of all five kinds, and what their models compute."""
    import torch
    from safetensors.torch import save_file
    from transformers import RealmConfig, RealmTokenizer
    from transformers.utils import logging

    logging.set_verbosity_error()
    torch.set_num_threads(1)
    world = load_module(ROOT / "tests" / "small_world.py")
    words = sorted(world.make_tokenizer().get_vocab().items(), key=lambda item: item[1])
    vocabulary = [word for word, _ in words]
    TARGET.mkdir(parents=True, exist_ok=True)
    (TARGET / "vocab.txt").write_bytes("".join(f"{word}\r\n" for word in vocabulary).encode())
    tokenizer = RealmTokenizer(str(TARGET / "vocab.txt"))
    (TARGET / "vocab.txt").unlink()
    titles, blocks = list(world.ARTICLES), list(world.ARTICLES.values())
    config = RealmConfig(vocab_size=len(vocabulary), num_block_records=len(blocks), **CONFIGURATION)
    outputs, facts = pretraining(config, tokenizer, titles, blocks)
    answers = question_answering(config, tokenizer, blocks, outputs)
    save_file(outputs, TARGET / "outputs.safetensors")
    (TARGET / "facts.json").write_text(json.dumps({**facts, "questions": answers}, indent=1))
    for folder in sorted(path for path in TARGET.iterdir() if path.is_dir()):
        # As on the hub: line ends of Windows in some of the folders.
        ends = "\r\n" if folder.name in ("openqa", "reader") else "\n"
        text = "".join(word + ends for word in vocabulary)
        (folder / "vocab.txt").write_bytes(text.encode())


def load_module(file):
    spec = importlib.util.spec_from_file_location(file.stem, file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def randomise(model, seed: int):
    """Every parameter is drawn, so that no mistake hides behind a zero or a one."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        is_scale = name.endswith("LayerNorm.weight") or "normalization.weight" in name
        noise = torch.randn(parameter.shape, generator=generator) * 0.3
        parameter.data.copy_(noise + 1 if is_scale else noise)
    return model


def pretraining(config, tokenizer, titles, blocks):
    """Embeddings, scores, masked log-probabilities, the marginal loss and its gradients."""
    import torch
    from transformers import RealmKnowledgeAugEncoder, RealmScorer
    from transformers.models.realm.modeling_realm import RealmEmbedder

    embedder = randomise(RealmEmbedder(config), seed=1)
    scorer = RealmScorer(config, query_embedder=randomise(RealmEmbedder(config), seed=2))
    scorer.embedder.load_state_dict(embedder.state_dict())
    encoder = randomise(RealmKnowledgeAugEncoder(config), seed=3)
    encoder.tie_weights()
    embedder.save_pretrained(TARGET / "embedder", safe_serialization=True)
    scorer.save_pretrained(TARGET / "scorer", safe_serialization=False)
    encoder.save_pretrained(TARGET / "encoder", safe_serialization=False)

    queries = ["ida renquist was an engineer from [MASK].", "the comet [MASK] [MASK] in 1956."]
    targets = ["tavil", "came back"]
    chosen = [[0, 1, 3], [8, 6, 10]]
    query = tokenizer(queries, padding=True, return_tensors="pt")
    candidates = [[cut(tokenizer, blocks[i]) for i in row] for row in chosen]
    names = [[titles[i] for i in row] for row in chosen]
    candidate = tokenizer.batch_encode_candidates(
        names, text_pair=candidates, max_length=40, return_tensors="pt"
    )
    pairs = [
        tokenizer(
            [q] * len(row), row, truncation="only_second", max_length=40, padding="max_length",
            return_tensors="pt",
        )
        for q, row in zip(queries, candidates, strict=True)
    ]  # fmt: skip
    joint = {key: torch.stack([pair[key] for pair in pairs]) for key in pairs[0]}
    is_mask = joint["input_ids"][:, 0] == tokenizer.mask_token_id
    labels = torch.zeros_like(joint["input_ids"][:, 0])
    for row, text in enumerate(targets):
        ids = tokenizer(text, add_special_tokens=False).input_ids
        labels[row, is_mask[row]] = torch.tensor(ids)

    scores = scorer(
        input_ids=query["input_ids"], attention_mask=query["attention_mask"],
        token_type_ids=query["token_type_ids"],
        candidate_input_ids=candidate["input_ids"],
        candidate_attention_mask=candidate["attention_mask"],
        candidate_token_type_ids=candidate["token_type_ids"],
    )  # fmt: skip
    scores.relevance_score.retain_grad()
    read = encoder(**joint, relevance_score=scores.relevance_score, labels=labels, mlm_mask=is_mask)
    read.loss.backward()
    unmasked = encoder(**joint, relevance_score=scores.relevance_score, labels=labels)
    by_pair = read.logits.view(*joint["input_ids"].shape, -1)
    row, position = is_mask.nonzero(as_tuple=True)
    at_masks = by_pair[row, :, position]
    outputs = {
        "labels": labels,
        "is_mask": is_mask.to(torch.uint8),
        "query_embeddings": scores.query_score,
        "passage_embeddings": scores.candidate_score,
        "relevance": scores.relevance_score,
        "masked_log_probs": at_masks.log_softmax(-1),  # [masks, candidates, vocab]
        "loss": read.loss,
        "loss_without_mlm_mask": unmasked.loss,
        "gradient.relevance": scores.relevance_score.grad,
    }
    for prefix, inputs in (("query", query), ("candidate", candidate), ("joint", joint)):
        outputs |= {f"{prefix}.{key}": value for key, value in inputs.items()}
    for name in GRADIENTS["encoder"]:
        outputs[f"gradient.encoder.{name}"] = encoder.get_parameter(name).grad
    for name in GRADIENTS["embedder"]:
        outputs[f"gradient.query_embedder.{name}"] = scorer.query_embedder.get_parameter(name).grad
        outputs[f"gradient.embedder.{name}"] = scorer.embedder.get_parameter(name).grad
    facts = {"queries": queries, "targets": targets, "titles": names, "candidates": candidates}
    return {key: value.detach().clone().contiguous() for key, value in outputs.items()}, facts


def cut(tokenizer, text: str) -> str:
    """The beginning of a text: short enough to be read whole beside a query."""
    return " ".join(text.split()[:10])


def question_answering(config, tokenizer, blocks, outputs):
    """Span logits, the two losses, the predicted span and answer, question by question."""
    import numpy as np
    import torch
    from transformers import RealmForOpenQA
    from transformers.models.realm.retrieval_realm import RealmRetriever

    records = np.array([block.encode() for block in blocks], dtype=object)
    retriever = RealmRetriever(records, tokenizer)
    model = randomise(RealmForOpenQA(config, retriever), seed=4)
    generator = torch.Generator().manual_seed(5)
    # Scores of retrieval so close that what is read decides between passages, too.
    model.block_emb.copy_(0.1 * torch.randn(model.block_emb.shape, generator=generator))
    model.save_pretrained(TARGET / "openqa", safe_serialization=False)
    model.reader.save_pretrained(TARGET / "reader", safe_serialization=True)
    np.save(TARGET / "openqa" / "block_records.npy", records)

    span_logits = []
    model.reader.qa_outputs.register_forward_hook(
        lambda module, inputs, result: span_logits.append(result[0].detach().clone())
    )
    results = []
    for number, (question, answers) in enumerate(QUESTIONS):
        inputs = tokenizer([question], return_tensors="pt")
        answer_ids = tokenizer(answers, add_special_tokens=False).input_ids
        model.train()  # nothing is dropped; it makes the retriever's loss run over its own beam
        read = model(**inputs, answer_ids=answer_ids).reader_output
        losses = [float(loss.detach()) for loss in (read.retriever_loss, read.reader_loss)]
        model.eval()
        span_logits.clear()
        final = model(**inputs)
        with torch.no_grad():
            vector = model.embedder(**inputs).projected_score[0]
        found = torch.topk(model.block_emb @ vector, config.searcher_beam_size)
        outputs[f"span_logits.{number}"] = span_logits[0]
        outputs[f"question_embedding.{number}"] = vector.clone()
        results.append(
            {
                "question": question,
                "answers": answers,
                "retriever_loss": losses[0],
                "reader_loss": losses[1],
                "rows": found.indices.tolist(),
                "scores": found.values.tolist(),
                "block": int(final.reader_output.block_idx),
                "start": int(final.reader_output.start_pos),
                "end": int(final.reader_output.end_pos),
                "answer": tokenizer.decode(final.predicted_answer_ids),
            }
        )
    return results


if __name__ == "__main__":
    main()
