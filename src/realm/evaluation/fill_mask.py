"""What fills a gap in a text, and what has each passage to do with it (REALM, table 3)?

For every candidate passage the belief p(z|x), the likelihood p(y|z,x) of a filling and the
retrieval utility; beside them the marginal p(y|x), and what the reader says without a passage.
Gaps are filled together: p(y|z,x) is the product over the wordpieces of all of them.
"""

from collections.abc import Sequence
from copy import copy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Float, Int
from tokenizers import Tokenizer, decoders
from torch import Tensor

from realm.corpus.store import PassageStore
from realm.errors import SourceError
from realm.examples.masked_query import MaskedQuery
from realm.examples.wordpieces import wordpieces
from realm.index.exact import Index
from realm.machine import default_device
from realm.models.checkpoint import Model, load_model
from realm.models.embedder import evaluating
from realm.models.marginal import NULL, marginal_log_likelihood, retrieval_utility
from realm.models.reader import masked_predictions
from realm.pretraining.objective import (
    RealmSettings,
    embed_masked,
    read_rows,
    score_rows,
    scores_that_count,
)
from realm.retrieval.candidates import NULL_ROW, find_candidates

GAP = "[MASK]"  # how a person writes one, whatever the tokenizer calls it
_BEST_OF_A_PASSAGE = 50  # fillings that each passage proposes; their marginals are exact


@dataclass(frozen=True)
class Filling:
    """Words for the gaps, with p(y|x) over all candidates and p(y|null,x) without retrieval."""

    text: str
    probability: float
    probability_without_retrieval: float


@dataclass(frozen=True)
class Candidate:
    """What one passage does to the prediction of a filling; the null passage has no id.

    `start` and `end` are the passage's characters in its document.
    """

    passage_id: int | None
    document_id: str | None
    title: str
    text: str
    start: int | None
    end: int | None
    retrieval_probability: float
    answer_probability: float
    retrieval_utility: float


@dataclass(frozen=True)
class FilledMask:
    """The filling that was looked into, what each candidate makes of it, and other fillings."""

    query: str
    answer: Filling
    retrieval_utility: float
    """The released code's scalar: mean over wordpieces of log p(y_j|x) - log p(y_j|null,x)."""
    candidates: tuple[Candidate, ...]
    fillings: tuple[Filling, ...]
    fillings_without_retrieval: tuple[Filling, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, in the form that programs are promised."""
        return asdict(self)


class MaskFiller:
    """Fills gaps from one corpus with one model and one index, as pre-training does."""

    def __init__(
        self,
        model: Model,
        store: PassageStore,
        index: Index,
        settings: RealmSettings,
    ) -> None:
        self.model, self.store, self.index, self.settings = model, store, index, settings

    def without_retrieval(self) -> Self:
        """The same filler, reading the null passage alone."""
        other = copy(self)
        changes = {"num_candidates": 1, "null_passage": True}
        other.settings = self.settings.model_copy(update=changes)
        return other

    def fill(self, text: str, *, answer: str = "", top_k: int = 5) -> FilledMask:
        """Fill the gaps of a text, or score the given filling of them.

        Raises:
            SourceError: there is no gap, the text is too long, or the filling does not fit.
        """
        query = parse_gaps(text, self.model, answer)
        with evaluating(self.model.embedder), evaluating(self.model.reader):
            scores, rows = self._retrieve(query)
            by_vocab = self._read(query, rows)
        fillings = _proposals(by_vocab, query.targets)
        reader = _log_probs_of(by_vocab, fillings)
        marginal = marginal_log_likelihood(scores, reader[None])[0]
        chosen = _row_of(fillings, query.targets) if answer else int(marginal.argmax())

        def filling(number: int) -> Filling:
            words = _words(self.model.tokenizer, fillings[number].tolist(), query.positions)
            without = float(reader[NULL, number].exp())
            return Filling(words, float(marginal[number].exp()), without)

        return FilledMask(
            query=text,
            answer=filling(chosen),
            retrieval_utility=_released_utility(scores, by_vocab, fillings[chosen]),
            candidates=self._candidates(scores, rows, reader[:, chosen]),
            fillings=tuple(filling(n) for n in _best(marginal, top_k)),
            fillings_without_retrieval=tuple(filling(n) for n in _best(reader[NULL], top_k)),
        )

    def _retrieve(
        self, query: MaskedQuery
    ) -> tuple[Float[Tensor, "1 candidates"], Int[Tensor, "1 candidates"]]:
        settings = self.settings
        num_passages = settings.num_candidates - (1 if settings.null_passage else 0)
        vectors = embed_masked(self.model, [query], settings.token_budget)
        hashes = self.store.content_hashes()
        rows = find_candidates(self.index, vectors.cpu(), [None], hashes, num_passages + 1)
        # A small corpus has fewer, and only one null passage is shown.
        rows = rows[:, : 1 + int((rows != NULL_ROW).sum())]
        scores = score_rows(self.model, self.store, vectors, rows, settings.token_budget).cpu()
        return scores_that_count(scores, rows, null_passage=settings.null_passage), rows

    def _read(
        self, query: MaskedQuery, rows: Int[Tensor, "1 candidates"]
    ) -> Float[Tensor, "candidates masks vocab"]:
        """Log p over the vocabulary at each gap beside each candidate."""
        model = self.model
        groups = read_rows(model, self.store, [query], rows, self.settings.token_budget)
        predictions = [masked_predictions(model.reader, groups, int(p)) for p in query.positions]
        return torch.stack(predictions, dim=1).cpu()

    def _candidates(
        self, scores: Tensor, rows: Tensor, reader: Float[Tensor, " candidates"]
    ) -> tuple[Candidate, ...]:
        beliefs = scores[0].softmax(dim=-1)
        utility = retrieval_utility(reader[None, :, None])[0, :, 0]
        result = []
        for place, row in enumerate(rows[0].tolist()):
            passage = None if row == NULL_ROW else self.store.passage(row)
            candidate = Candidate(
                passage_id=passage.passage_id if passage else None,
                document_id=passage.document_id if passage else None,
                title=passage.title if passage else "",
                text=passage.text if passage else "",
                start=passage.source_start if passage else None,
                end=passage.source_end if passage else None,
                retrieval_probability=float(beliefs[place]),
                answer_probability=float(reader[place].exp()),
                retrieval_utility=float(utility[place]),
            )
            result.append(candidate)
        return tuple(result)


def open_mask_filler(
    checkpoint: Path,
    store: PassageStore,
    index: Index,
    settings: RealmSettings,
) -> MaskFiller:
    """Load a model for filling gaps."""
    # One text at a time: half precision would gain nothing, and small probabilities are shown.
    model = load_model(checkpoint).to(default_device(), torch.float32)
    return MaskFiller(model, store, index, settings)


def parse_gaps(text: str, model: Model, answer: str = "") -> MaskedQuery:
    """A text with gaps as a query; the wordpieces of the answer are its targets.

    A single gap becomes as wide as the answer has wordpieces; of several gaps each is one wordpiece
    wide.

    Raises:
        SourceError: there is no gap, the text is too long, or the answer does not fit.
    """
    parts = text.split(GAP)
    if len(parts) == 1:
        raise SourceError(f"the text has no {GAP}: write {GAP} where words are missing")
    targets = wordpieces(model.tokenizer, answer)
    num_gaps = len(parts) - 1
    if answer and len(targets) == 0:
        raise SourceError(f"the answer {answer!r} has no words: give one that has")
    width = max(1, len(targets)) if num_gaps == 1 else 1
    if len(targets) not in (0, num_gaps * width):
        raise SourceError(
            f"the answer {answer!r} has {len(targets)} wordpieces and the text {num_gaps} gaps: "
            f"write one {GAP}, which takes any answer, or one for each wordpiece"
        )
    gap = np.full(width, model.packer.mask_id, dtype=np.int64)
    pieces = [wordpieces(model.tokenizer, parts[0])]
    for part in parts[1:]:
        pieces += [gap, wordpieces(model.tokenizer, part)]
    ids = np.concatenate(pieces)
    if len(ids) > model.packer.max_query_body:
        raise SourceError(
            f"the text has {len(ids)} wordpieces and the model reads {model.packer.max_query_body} "
            "at most: shorten it"
        )
    positions = np.flatnonzero(ids == model.packer.mask_id) + 1  # + 1 for [CLS]
    return MaskedQuery(NULL_ROW, ids, positions, targets)


def _proposals(
    by_vocab: Float[Tensor, "candidates masks vocab"], given: np.ndarray
) -> Int[Tensor, "fillings masks"]:
    """The best fillings of every candidate, and the given one; each once."""
    found = [_best_fillings(log_probs, _BEST_OF_A_PASSAGE) for log_probs in by_vocab]
    if len(given):
        found.append(torch.from_numpy(given)[None])
    proposals: Tensor = torch.cat(found).unique(dim=0)
    return proposals


def _best_fillings(log_probs: Float[Tensor, "masks vocab"], k: int) -> Int[Tensor, "k masks"]:
    """The `k` likeliest fillings of gaps that are independent, given the passage."""
    scores, ids = torch.zeros(1), torch.empty(1, 0, dtype=torch.long)
    for at_gap in log_probs:
        values, words = at_gap.topk(min(k, len(at_gap)))
        joined = (scores[:, None] + values).flatten()
        scores, places = joined.topk(min(k, len(joined)))
        ids = torch.cat((ids[places // len(values)], words[places % len(values), None]), dim=1)
    return ids


def _log_probs_of(
    by_vocab: Float[Tensor, "candidates masks vocab"], fillings: Int[Tensor, "fillings masks"]
) -> Float[Tensor, "candidates fillings"]:
    """Log p(y|z,x): the sum over the gaps."""
    chosen: Tensor = by_vocab[:, torch.arange(fillings.shape[1]), fillings]
    return chosen.sum(dim=-1)


def _released_utility(
    scores: Float[Tensor, "1 candidates"],
    by_vocab: Float[Tensor, "candidates masks vocab"],
    filling: Int[Tensor, " masks"],
) -> float:
    by_gap = by_vocab[:, torch.arange(len(filling)), filling]
    return float((marginal_log_likelihood(scores, by_gap[None])[0] - by_gap[NULL]).mean())


def _best(log_probs: Float[Tensor, " fillings"], k: int) -> list[int]:
    return [int(n) for n in log_probs.topk(min(k, len(log_probs))).indices]


def _row_of(fillings: Int[Tensor, "fillings masks"], wanted: np.ndarray) -> int:
    return int((fillings == torch.from_numpy(wanted)).all(dim=1).nonzero()[0, 0])


def _words(tokenizer: Tokenizer, ids: Sequence[int], positions: np.ndarray) -> str:
    """The words of a filling; gaps that do not touch are set apart."""
    decoder = tokenizer.decoder or decoders.WordPiece()
    starts = np.flatnonzero(np.diff(positions) > 1) + 1
    groups = np.split(np.array([tokenizer.id_to_token(i) for i in ids], dtype=object), starts)
    return " ... ".join(decoder.decode(group.tolist()).strip() for group in groups)
