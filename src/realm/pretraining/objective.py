"""What does REALM minimise: retrieve, read, marginalise (section 3.2, eq. 1).

The index chooses, the model scores: candidates come from a snapshot that may be stale, their
scores are computed anew with the weights of this step, and the gradient of the marginal reaches
the reader, the query side and the passage side.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from realm.corpus.store import PassageStore
from realm.errors import SourceError
from realm.examples.held_out import split_rows
from realm.examples.masked_query import MaskedQuery, Targets, stack_targets
from realm.examples.masking import Masker
from realm.examples.query_maker import MaskSettings, QueryMaker
from realm.index.encode import pack_joint, pack_passage
from realm.index.exact import Index
from realm.index.trunk_vectors import TrunkVectors
from realm.models.checkpoint import Model
from realm.models.embedder import TrainedPart, embed, evaluating, pool
from realm.models.marginal import (
    marginal_log_likelihood,
    mean_over_targets,
    retrieval_utility,
    span_log_probs,
)
from realm.models.reader import ReadGroup, masked_log_probs, read
from realm.retrieval.candidates import NULL_ROW, find_candidates
from realm.training.distributed import join_group

NO_OTHER_PASSAGE = "no_other_passage"


class RealmSettings(MaskSettings):
    """The batch of a REALM step."""

    batch_size: int = Field(default=8, ge=1)
    num_candidates: int = Field(default=8, ge=1)
    """Null passage included, where it is one (section 4.3). With the null passage alone nothing is
    retrieved: the reader fills its gaps from memory and the embedder learns nothing, which is what
    pre-training with retrieval is compared with."""
    null_passage: bool = True
    """Whether "no passage helps" is a candidate (section 3.4). Where it is none it is still read,
    since retrieval utility is measured against it."""
    embedder_trains: TrainedPart = "all"
    marginal: Literal["token", "span"] = "token"
    """One marginal for each masked wordpiece (released code) or for the span (paper)."""
    token_budget: int = Field(default=4096, ge=1)
    """Padded wordpieces in one forward pass."""

    @property
    def retrieves(self) -> bool:
        """Whether anything but the null passage is a candidate."""
        return self.num_candidates > 1 or not self.null_passage


class RealmObjective:
    """The marginal likelihood of masked spans over retrieved candidates."""

    def __init__(
        self,
        model: Model,
        store: PassageStore,
        masker: Masker,
        settings: RealmSettings,
        *,
        seed: int,
        queries: PassageStore | None = None,
        vectors: TrunkVectors | None = None,
    ) -> None:
        """Read in `store`; `masker` hides words of `queries`, by default of `store` as well.

        `vectors` of the embedder's trunk stand for running it where it rests.
        """
        self.model, self.settings = model, settings
        rests = settings.embedder_trains == "projection" and not model.embedder.settings.dropout
        self._kept = vectors if rests and vectors is not None and vectors.fit(model) else None
        source = queries or store
        self._store, self._hashes = store, store.content_hashes()
        self._own_hashes = source.content_hashes()
        self._queries = QueryMaker(source, model.packer, masker, settings, seed=seed)
        self.skipped = self._queries.skipped
        """Examples of this process that were skipped so far, by reason; and, kept but of no use to
        the retriever, those for which nothing but their own passage was found."""
        self.skipped[NO_OTHER_PASSAGE] = 0
        self._seed, self._group = seed, join_group()
        train, held_out = split_rows(masker.rows(), source)
        if not len(train):
            raise SourceError(
                f"too few passages ({len(masker.rows()):,}) have something to hide by "
                f"pretrain.objective.masking={settings.masking}: give more documents"
            )
        self._rows, self.held_out = train, held_out
        model.embedder.train_only(settings.embedder_trains)
        self.index: Index | None = None

    def trainable(self) -> nn.Module:
        """Everything trains, but the span head has no part in the loss."""
        return self.model.modules()

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        """Negative mean marginal log-likelihood of the batch of a step."""
        size = self.settings.batch_size
        chosen = self._group.batch_at(len(self._rows), size, step=step, seed=self._seed)
        rows = [int(self._rows[i]) for i in chosen]
        queries = self._queries.batch(rows, step + 1, substitutes=self._rows)
        loss, scalars = self.loss_of(queries)
        self.skipped[NO_OTHER_PASSAGE] += int(scalars[NO_OTHER_PASSAGE])
        return loss, scalars

    def loss_of(self, queries: Sequence[MaskedQuery]) -> tuple[Tensor, dict[str, float]]:
        """The loss of given queries, and the scalars that say how retrieval is doing."""
        targets = stack_targets(queries)
        scores, rows = self._retrieve(queries)
        reader = self._read(queries, targets, rows)
        is_target = targets.is_target.to(scores.device)
        whole = span_log_probs(reader, is_target)
        if self.settings.marginal == "span":
            marginal = marginal_log_likelihood(scores, whole)
            loss = -marginal.sum() / len(queries)
        else:
            marginal = marginal_log_likelihood(scores, reader)
            loss = -mean_over_targets(marginal, is_target)
        per_token = marginal_log_likelihood(scores, reader).detach()
        # Where nothing but the null passage is asked for, nothing is missing.
        num_alone = int((rows[:, 1:] == NULL_ROW).all(dim=-1).sum()) if rows.shape[1] > 1 else 0
        scalars = _scalars(scores.detach(), reader.detach(), per_token, is_target)
        return loss, {**scalars, NO_OTHER_PASSAGE: float(num_alone)}

    def held_out_utility(self, num_queries: int) -> dict[str, float]:
        """The same scalars on passages that no training query comes from, always the same ones."""
        queries = self._queries.usable([int(row) for row in self.held_out[:num_queries]], step=0)
        if not queries:
            return {}
        with evaluating(self.model.modules()):
            # At once: the mean over wordpieces is none of the means of batches.
            loss, scalars = self.loss_of(queries)
        return {
            f"held_out_{name}": value for name, value in {"loss": float(loss), **scalars}.items()
        }

    def _retrieve(
        self, queries: Sequence[MaskedQuery]
    ) -> tuple[Float[Tensor, "batch candidates"], Int[Tensor, "batch candidates"]]:
        """Candidates by the snapshot, their scores by the model of this step."""
        settings = self.settings
        if not settings.retrieves:  # a candidate that is alone is certain, whatever its score
            alone = torch.full((len(queries), 1), NULL_ROW)
            device = next(self.model.reader.parameters()).device
            return torch.zeros(alone.shape, device=device), alone
        if self.index is None:
            raise RuntimeError("no snapshot was adopted")
        num_rows = settings.num_candidates + (0 if settings.null_passage else 1)
        vectors = embed_masked(self.model, queries, settings.token_budget)
        own = [int(self._own_hashes[query.row]) for query in queries]
        at_rest = vectors.detach().cpu()
        rows = find_candidates(self.index, at_rest, own, self._hashes, num_rows)
        scores = score_rows(
            self.model, self._store, vectors, rows, settings.token_budget, self._kept
        )
        return scores_that_count(scores, rows, null_passage=settings.null_passage), rows

    def _read(
        self,
        queries: Sequence[MaskedQuery],
        targets: Targets,
        rows: Int[Tensor, "batch candidates"],
    ) -> Float[Tensor, "batch candidates masks"]:
        batch, candidates = rows.shape
        repeated = [
            t.repeat_interleave(candidates, dim=0)
            for t in (targets.positions, targets.ids, targets.is_target)
        ]
        model, budget = self.model, self.settings.token_budget
        groups = read_rows(model, self._store, queries, rows, budget, positions=repeated[0])
        log_probs = masked_log_probs(model.reader, groups, *repeated)
        return log_probs.view(batch, candidates, -1)


def embed_masked(
    model: Model, queries: Sequence[MaskedQuery], token_budget: int
) -> Float[Tensor, "batch dim"]:
    """Embeddings of masked queries by the query side."""
    packed = [model.packer.query(query.ids) for query in queries]
    return embed(model.embedder.query_tower, packed, model.packer, token_budget=token_budget)


def score_rows(
    model: Model,
    store: PassageStore,
    vectors: Float[Tensor, "batch dim"],
    rows: Int[Tensor, "batch candidates"],
    token_budget: int,
    kept: TrunkVectors | None = None,
) -> Float[Tensor, "batch candidates"]:
    """Scores f(x, z) of each query's candidates, whose embeddings are computed anew.

    From `kept` vectors of the trunk where there are some; the null passage has none.
    """
    # A passage that several queries retrieved is embedded once.
    unique, place = rows.unique(return_inverse=True)
    to_run = unique if kept is None else unique[unique == NULL_ROW]
    tower, packer = model.embedder.passage_tower, model.packer
    packed = [pack_passage(store, packer, int(row)) for row in to_run]
    pooled = pool(tower, packed, packer, token_budget=token_budget)
    if kept is not None:  # the null passage's row is the smallest
        pooled = torch.cat((pooled, kept.vectors[unique[unique != NULL_ROW]].to(pooled)))
    embedded = tower.project(pooled)
    return torch.einsum("bd,bcd->bc", vectors, embedded[place.to(embedded.device)])


def read_rows(
    model: Model,
    store: PassageStore,
    queries: Sequence[MaskedQuery],
    rows: Int[Tensor, "batch candidates"],
    token_budget: int,
    *,
    positions: Int[Tensor, "joints masks"] | None = None,
) -> list[ReadGroup]:
    """Read each query with each of its candidates, query after query, at `positions` or all."""
    joints = [
        pack_joint(store, model.packer, query.ids, row)
        for query, candidates in zip(queries, rows.tolist(), strict=True)
        for row in candidates
    ]
    return read(
        model.reader, joints,
        packer=model.packer, token_budget=token_budget, positions=positions,
    )  # fmt: skip


def scores_that_count(
    scores: Float[Tensor, "batch candidates"],
    rows: Int[Tensor, "batch candidates"],
    *,
    null_passage: bool,
) -> Float[Tensor, "batch candidates"]:
    """Leave one null passage, the first candidate, in the sum, however many fill up the end.

    Without `null_passage` it stays only where a query has nothing else.
    """
    is_out = rows == NULL_ROW
    is_alone = is_out.all(dim=1)
    is_out[:, 0] = ~is_alone & (not null_passage)
    return scores.masked_fill(is_out.to(scores.device), -torch.inf)


def _scalars(
    scores: Float[Tensor, "batch candidates"],
    reader: Float[Tensor, "batch candidates masks"],
    marginal: Float[Tensor, "batch masks"],
    is_target: Tensor,
) -> dict[str, float]:
    """Retrieval utility (the released scalar, best, top and mean), null probability, entropy."""
    beliefs = scores.softmax(dim=-1)
    utility = retrieval_utility(reader) * is_target[:, None]
    per_query = utility.sum(dim=-1) / is_target.sum(dim=-1, keepdim=True)
    # The null passage has no utility over itself: it stands for the passages where it is alone.
    passages = per_query[:, 1:] if per_query.shape[1] > 1 else per_query
    null = reader[:, 0]
    return {
        "retrieval_utility": float(mean_over_targets(marginal - null, is_target)),
        "max_utility": float(passages.max(dim=-1).values.mean()),
        "top_utility": float(passages[:, 0].mean()),
        "mean_utility": float(passages.mean()),
        "null_probability": float(beliefs[:, 0].mean()),
        "retrieval_entropy": float(torch.special.entr(beliefs).sum(dim=-1).mean()),
        "null_loss": float(-mean_over_targets(null, is_target)),
    }
