"""Which characters are shown for what the reader points at?"""

from pathlib import Path

import pytest
import torch

from realm.corpus.build import build_corpus
from realm.corpus.passages import CorpusSettings
from realm.openqa.pointing import PointedSpan, likeliest_spans


def test_an_accent_behind_its_letter_belongs_to_the_answer(
    tmp_path: Path, tokenizer_file: Path
) -> None:
    """The tokenizer strips it, so that the wordpiece ends before."""
    text = "The port is in Tavil\u0301, by the sea."
    source = tmp_path / "d.txt"
    source.write_text(text, encoding="utf-8")
    settings = CorpusSettings(passage_tokens=32, num_workers=1)
    store = build_corpus(
        [source], tmp_path / "corpus", settings=settings, tokenizer_file=tokenizer_file
    )
    ends = store.token_spans(0)[:, 1].tolist()
    place = ends.index(text.index("\u0301"))  # the last wordpiece of the name
    probabilities = torch.zeros(1, len(ends), 4)
    probabilities[0, place, 0] = 1.0
    (span,) = likeliest_spans(store, [0], probabilities)
    assert span.text.endswith("l\u0301")
    assert text[span.end] == ","


@pytest.mark.parametrize(
    ("start", "end", "splits"),
    [
        (0, 8, False),
        (3, 8, True),  # behind the accent of the first syllable
        (0, 3, True),
        (9, 13, False),
    ],
)
def test_an_accent_is_inside_a_word(start: int, end: int, splits: bool) -> None:
    text = "re\u0301sume\u0301 sent"
    assert PointedSpan(0, 0, text, start, end, 1.0).splits_word == splits
