"""Which settings make a run, or a plan of one, with the trunk of the small world?"""

from pathlib import Path

from realm.experiment import Experiment, read_recipe, with_overrides


def planned_experiment(trunk_folder: Path) -> Experiment:
    """The recipe `laptop` with the tiny trunk, for plans: none of its files is read."""
    assignments = [
        f"embedder.trunk='{trunk_folder}'", f"reader.trunk='{trunk_folder}'",
        "train_questions=['a.jsonl']", "dev_questions=['b.jsonl']",
        "corpus.passage_tokens=64", "packing.query_tokens=32",
    ]  # fmt: skip
    return with_overrides(read_recipe("laptop"), assignments)


def own_trunk_settings(corpus_source: Path, trunk_folder: Path) -> dict[str, str]:
    """Settings by name of a run that trains a trunk of its own, with the tiny one's vocabulary."""
    return {
        "sources": f"['{corpus_source}']",
        "corpus": "{ passage_tokens = 64, num_workers = 1 }",
        "packing.query_tokens": "40",
        "trunk.vocabulary_of": f"'{trunk_folder}'",
        "trunk.shape": "{ num_layers = 1, width = 24, num_heads = 3, inner_width = 40 }",
        "embedder": "{ trunk = 'own', projection_width = 8 }",
        "reader.trunk": "'own'",
    }
