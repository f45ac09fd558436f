"""Does transformers 4.39.3 load what `realm export` wrote, with nothing missing and nothing left?

    ENVIRONMENT/bin/python scripts/check_export.py FOLDER

ENVIRONMENT is the one of `make_reference_fixtures.py`. Every folder that is in FOLDER is loaded by
its class; an openqa folder also answers a question, and prints what it says.
"""

import sys
from pathlib import Path

import torch
from transformers import (
    RealmEmbedder,
    RealmForOpenQA,
    RealmKnowledgeAugEncoder,
    RealmRetriever,
    RealmScorer,
    RealmTokenizer,
)

CLASSES = {
    "embedder": RealmEmbedder,
    "scorer": RealmScorer,
    "encoder": RealmKnowledgeAugEncoder,
    "openqa": RealmForOpenQA,
}
# Buffers, and weights tied to others, which a file need not hold.
NOT_STORED = ("position_ids", "cls.predictions.decoder.bias")
QUESTION = "where is the port?"


def check(folder: Path) -> None:
    """Load one folder.

    Raises:
        SystemExit: a tensor is missing, unexpected or of another shape.
    """
    options = {"retriever": retriever(folder)} if folder.name == "openqa" else {}
    model, report = CLASSES[folder.name].from_pretrained(
        folder, output_loading_info=True, **options
    )
    wrong = [name for name in report["missing_keys"] if not name.endswith(NOT_STORED)]
    wrong += report["unexpected_keys"] + report["mismatched_keys"] + report["error_msgs"]
    if wrong:
        raise SystemExit(f"{folder}: {wrong}")
    print(f"{folder.name}: {type(model).__name__}, {len(model.state_dict())} tensors")
    if folder.name == "openqa":
        answer(model, folder)


def retriever(folder: Path) -> RealmRetriever:
    """The blocks of an openqa folder, with its tokenizer."""
    return RealmRetriever.from_pretrained(folder)


def answer(model: RealmForOpenQA, folder: Path) -> None:
    """Ask one question."""
    tokenizer = RealmTokenizer.from_pretrained(folder)
    question = tokenizer([QUESTION], return_tensors="pt")
    with torch.no_grad():
        _, predicted = model(**question, return_dict=False)[:2]
    print(f"{QUESTION} {tokenizer.decode(predicted)!r}")


if __name__ == "__main__":
    for path in sorted(Path(sys.argv[1]).iterdir()):
        check(path)
