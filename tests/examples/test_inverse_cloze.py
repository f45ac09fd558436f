"""A sentence and the passage that it was taken from."""

import json
from pathlib import Path

import numpy as np
import pytest

from realm.corpus.build import build_corpus
from realm.corpus.passages import CorpusSettings
from realm.corpus.store import PassageStore
from realm.examples.inverse_cloze import inverse_cloze_pair, rows_for_inverse_cloze
from realm.examples.packing import Packed, Packer, PackingSettings
from realm.examples.stream import generator_at


@pytest.fixture
def packer(small_store: PassageStore) -> Packer:
    """Long enough for every sentence and every passage."""
    return Packer(small_store.tokenizer, PackingSettings(query_tokens=40, passage_tokens=64))


def body(packed: Packed) -> list[int]:
    ids: list[int] = packed.ids[packed.body_start : packed.body_end].tolist()
    return ids


@pytest.mark.parametrize("removal_rate", [0.0, 1.0])
def test_sentence_and_rest_make_the_passage(
    removal_rate: float, small_store: PassageStore, packer: Packer
) -> None:
    chosen = set()
    for row in range(len(small_store)):
        whole = small_store.token_ids(row)
        sentences = {
            tuple(whole[start:end]): (start, end) for start, end in small_store.sentences(row)
        }
        for step in range(10):
            pair = inverse_cloze_pair(
                small_store, packer, row, generator_at(step, 0, row), removal_rate=removal_rate
            )
            start, end = sentences[tuple(body(pair.query))]
            rest = [*whole[:start], *whole[end:]] if removal_rate else whole.tolist()
            assert body(pair.passage) == rest
            title = small_store.title_token_ids(row).tolist()
            assert pair.passage.ids[1 : 1 + len(title)].tolist() == title
            chosen.add((row, start))
    # Each of the 39 sentences has its turn.
    assert len(chosen) > 30


def test_the_sentence_stays_in_one_case_of_ten(small_store: PassageStore, packer: Packer) -> None:
    num_tokens = len(small_store.token_ids(0))
    lengths = [
        len(
            body(
                inverse_cloze_pair(
                    small_store, packer, 0, generator_at(step, 0, 0), removal_rate=0.9
                ).passage
            )
        )
        for step in range(400)
    ]
    assert np.mean(np.array(lengths) == num_tokens) == pytest.approx(0.1, abs=0.04)


def test_passages_of_one_sentence_take_no_part(
    tmp_path: Path, small_store: PassageStore, tokenizer_file: Path
) -> None:
    assert rows_for_inverse_cloze(small_store).tolist() == list(range(12))
    source = tmp_path / "corpus.jsonl"
    texts = ["Tavil is a port.", "The Sorna is a river. It rises on Mount Keld.", "Velland."]
    source.write_text(
        "".join(
            json.dumps({"id": str(n), "title": "", "text": t}) + "\n" for n, t in enumerate(texts)
        )
    )
    settings = CorpusSettings(passage_tokens=64, num_workers=1)
    store = build_corpus(
        [source], tmp_path / "corpus", tokenizer_file=tokenizer_file, settings=settings
    )
    assert rows_for_inverse_cloze(store).tolist() == [1]
