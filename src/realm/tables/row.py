"""What is a row of a table?

A value: the settings in which it differs from REALM itself, as a recipe has it, and what the paper
and the table's reader have to say about it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from realm.config import value_of
from realm.corpus.store import PassageStore
from realm.experiment import Experiment, with_overrides

_SAMPLED_PASSAGES = 2000
# The warm start is the same for all: it is what pre-trainings are compared from.
_SEEDED = ("pretrain.loop", "finetune.loop")


@dataclass(frozen=True)
class Row:
    """One system of a table."""

    name: str
    title: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Settings by dotted name, as `--set` takes them; what is not named is as in the recipe."""
    paper: Mapping[str, float] = field(default_factory=dict)
    """The paper's figures in percent, by what they measure."""
    note: str = ""
    """How the row is made, for a reader of the table."""
    is_repeated: bool = False
    """Whether several seeds are worth their time: the two rows that the claim is about."""
    masks: str = ""
    """The name of its curve in figure 4, where it has one."""

    def experiment(self, recipe: Experiment, seed: int) -> Experiment:
        """The recipe with the changes of this row; what follows the warm start has the seed added.

        Raises:
            SettingError: the recipe does not admit a change.
        """
        seeds = {f"{loop}.seed": value_of(recipe, f"{loop}.seed") + seed for loop in _SEEDED}
        # What is compared is what an embedder finds: BM25 helps where a row says so.
        changes = {**seeds, "retrieval.lexical": False, **self.changes}
        assignments = [f"{name}={json.dumps(value)}" for name, value in changes.items()]
        return with_overrides(recipe, assignments)


@dataclass(frozen=True)
class MeanLengths:
    """Wordpieces of a query cut from the corpus, and of a passage with its title."""

    query: float
    passage: float


def mean_lengths(store: PassageStore, recipe: Experiment) -> MeanLengths:
    """Measure a corpus, its sentences in a sample; both with their special wordpieces."""
    rows = np.linspace(0, len(store) - 1, min(len(store), _SAMPLED_PASSAGES)).astype(int)
    sentences = np.concatenate([np.diff(store.sentences(int(row)), axis=1)[:, 0] for row in rows])
    query = np.minimum(sentences + 2, recipe.packing.query_tokens).mean()
    passage = np.mean([len(store.token_ids(int(row))) for row in rows])
    title = np.mean([len(store.title_token_ids(int(row))) for row in rows])
    return MeanLengths(float(query), float(passage + title + 3))
