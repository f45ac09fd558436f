"""Does transformers 4.39.3 load what `realm export` wrote, and compute the same with it?

    ENVIRONMENT/bin/python scripts/check_export.py EXPORT [ORIGINALS]

ENVIRONMENT is the one of `make_reference_fixtures.py`. Every folder in EXPORT is loaded by its
class, with no tensor missing and none left. Where ORIGINALS, the folders of the import that was
exported, has a folder of the same name, both compute the same from inputs drawn by chance.
"""

import sys
from pathlib import Path

import torch
from torch import Tensor
from transformers import (
    PreTrainedModel,
    RealmEmbedder,
    RealmForOpenQA,
    RealmKnowledgeAugEncoder,
    RealmReader,
    RealmRetriever,
    RealmScorer,
    RealmTokenizer,
)
from transformers.utils import logging

CLASSES = {
    "embedder": RealmEmbedder,
    "scorer": RealmScorer,
    "encoder": RealmKnowledgeAugEncoder,
    "reader": RealmReader,
    "openqa": RealmForOpenQA,
}
# Buffers, and weights tied to others, which a file need not hold.
NOT_STORED = ("position_ids", "cls.predictions.decoder.bias")
QUESTION = "where is the port?"
MOST_APART = 1e-4


def main() -> None:
    logging.set_verbosity_error()
    export, originals = Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]]
    for folder in sorted(export.iterdir()):
        computed = compute(load(folder), folder)
        for original in originals:
            if (original / folder.name).is_dir():
                expected = compute(load(original / folder.name), original / folder.name)
                compare(computed, expected, folder.name)


def load(folder: Path) -> PreTrainedModel:
    """The model of one folder.

    Raises:
        SystemExit: a tensor is missing, unexpected or of another shape.
    """
    options = {}
    if folder.name == "openqa":
        options["retriever"] = RealmRetriever.from_pretrained(folder)
    model, report = CLASSES[folder.name].from_pretrained(
        folder, output_loading_info=True, **options
    )
    wrong = [name for name in report["missing_keys"] if not name.endswith(NOT_STORED)]
    wrong += report["unexpected_keys"] + report["mismatched_keys"] + report["error_msgs"]
    if wrong:
        raise SystemExit(f"{folder}: {wrong}")
    print(f"{folder}: {type(model).__name__}, {len(model.state_dict())} tensors")
    return model.eval()


@torch.no_grad()
def compute(model: PreTrainedModel, folder: Path) -> list[Tensor]:
    """What the class is there for; an openqa folder answers a question."""
    if folder.name == "openqa":
        return answer(model, folder)
    generator = torch.Generator().manual_seed(0)
    shape = (model.config.num_candidates, model.config.max_span_width + 8)
    ids = torch.randint(model.config.vocab_size, shape, generator=generator)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if folder.name == "scorer":
        candidates = {f"candidate_{name}": value[None] for name, value in inputs.items()}
        query = {name: value[:1] for name, value in inputs.items()}
        return [model(**query, **candidates).relevance_score]
    if folder.name == "encoder":
        return [model(**{name: value[None] for name, value in inputs.items()}).logits]
    if folder.name == "reader":
        inside = torch.ones_like(ids, dtype=torch.bool)
        return [model.qa_outputs(model.realm(**inputs)[0], inside)[0]]
    return [model(**inputs).projected_score]


def answer(model: RealmForOpenQA, folder: Path) -> list[Tensor]:
    """The answer to one question, and both losses where that answer is the right one."""
    tokenizer = RealmTokenizer.from_pretrained(folder)
    question = tokenizer([QUESTION], return_tensors="pt")
    predicted = model(**question).predicted_answer_ids
    print(f"{QUESTION} {tokenizer.decode(predicted)!r}")
    model.train()  # the retriever's loss runs over its own beam
    read = model(**question, answer_ids=[predicted.tolist()]).reader_output
    return [predicted.float(), read.retriever_loss, read.reader_loss]


def compare(found: list[Tensor], expected: list[Tensor], name: str) -> None:
    """Both within the tolerance of the reference fixtures.

    Raises:
        SystemExit: they differ.
    """
    for ours, theirs in zip(found, expected, strict=True):
        if ours.shape != theirs.shape or (ours - theirs).abs().max() > MOST_APART:
            raise SystemExit(f"{name}: computes something else than the original")
    print(f"{name}: computes what the original does")


if __name__ == "__main__":
    main()
