from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spelling import spelling_tokenizer
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from realm.config import read_settings
from realm.corpus.documents import Document
from realm.corpus.passages import (
    MAX_PASSAGE_CHARACTERS,
    CorpusSettings,
    PassageCut,
    cut_documents,
    cut_passages,
    normalise,
    split_sentences,
)
from realm.errors import SettingError

SMALL = CorpusSettings(passage_tokens=16)  # a body of 13 tokens where there is no title


def byte_level() -> Tokenizer:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({c: i for i, c in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def check(document: Document, passages: list[PassageCut], budget: int) -> None:
    """What holds for every passage of every document."""
    end = 0
    for passage in passages:
        source = document.text[passage.source_start : passage.source_end]
        assert passage.source_start >= end
        assert normalise(source).text == passage.text
        assert 0 < len(passage.token_ids) <= budget
        assert passage.sentence_ends[-1] == len(passage.token_ids)
        assert (np.diff(passage.sentence_ends, prepend=0) > 0).all()
        assert len(passage.token_ids) == len(passage.token_starts) == len(passage.token_ends)
        assert (passage.token_starts >= 0).all()
        assert (passage.token_starts <= passage.token_ends).all()
        assert passage.token_ends.max() <= len(passage.text) <= MAX_PASSAGE_CHARACTERS
        end = passage.source_end


def test_normalise_by_hand() -> None:
    text = normalise(" \n a  b\u00a0\tc\r\nd ")
    assert text.text == "a b c d"
    assert [text.source_offset(i) for i in range(7)] == [3, 4, 6, 7, 9, 10, 12]
    assert text.source_offset(7) == 13  # the end of the text, not of the source
    assert text.source_span(2, 5) == (6, 10)


@pytest.mark.parametrize(
    ("space", "plain"), [("\u00a0", " "), ("\u2003", " "), ("\u3000", " "), ("\u2028", "\n")]
)
def test_white_space_of_several_bytes_is_white_space(space: str, plain: str) -> None:
    texts = [f"It was rated{gap}R{gap}. Others{gap}saw it." for gap in (space, plain)]
    cuts, expected = (
        cut_passages(Document("a", "", text), spelling_tokenizer(), SMALL) for text in texts
    )
    assert len(cuts) > 1
    assert [(cut.text, cut.source_start, cut.sentence_ends.tolist()) for cut in cuts] == [
        (cut.text, cut.source_start, cut.sentence_ends.tolist()) for cut in expected
    ]


@pytest.mark.parametrize("empty", ["", " ", "\n\t "])
def test_nothing_remains_of_white_space(empty: str) -> None:
    assert normalise(empty).text == ""


@given(st.text(alphabet="ab \n\t\u00a0\u2003\x1c\u00e9", max_size=40))
def test_normalised_characters_stand_where_the_map_says(source: str) -> None:
    text = normalise(source)
    assert text.text == " ".join(source.split())
    assert normalise(text.text).text == text.text
    for offset, character in enumerate(text.text):
        original = source[text.source_offset(offset)]
        assert original == character or (character == " " and original.isspace())


def test_quotes_that_nobody_closes_are_cut_at_once() -> None:
    """One line of them took the square of its length: a minute for this one."""
    text = "\u201c a" * 100_000
    sentences = split_sentences(text)
    assert "".join(sentences).replace(" ", "") == text.replace(" ", "")
    assert len(sentences) > 10


def test_a_line_that_no_person_wrote_has_its_sentences() -> None:
    written = [f"This is sentence {number} of the book." for number in range(2_000)]
    found = split_sentences(" ".join(written))
    assert set(found) >= set(written[:100])
    assert len(set(written) - set(found)) < 10, "those at the end of a stretch"


def test_whole_sentences_are_packed_greedily() -> None:
    # Five tokens each, 13 - 1 fit beside a title of one token: two sentences, two, one.
    text = "Aa bb. Cc  dd.\nEe ff. Gg hh. Ii jj."
    passages = cut_passages(Document("d", "t", text), spelling_tokenizer(), SMALL)
    assert [p.text for p in passages] == ["Aa bb. Cc dd.", "Ee ff. Gg hh.", "Ii jj."]
    assert [text[p.source_start : p.source_end] for p in passages] == [
        "Aa bb. Cc  dd.",
        "Ee ff. Gg hh.",
        "Ii jj.",
    ]
    assert passages[0].sentence_ends.tolist() == [5, 10]
    first = [passages[0].text[s:e] for s, e in zip(*spans(passages[0]), strict=True)]
    assert first == ["A", "a", "b", "b", ".", "C", "c", "d", "d", "."]


def spans(passage: PassageCut) -> tuple[list[int], list[int]]:
    return passage.token_starts.tolist(), passage.token_ends.tolist()


def test_the_title_takes_a_third_at_most() -> None:
    cut = cut_documents(
        [Document("d", "abcdefghijklm", "Aa bb cc dd ee ff.")], spelling_tokenizer(), SMALL
    )
    assert len(cut[0].title_token_ids) == 16 // 3
    assert max(len(p.token_ids) for p in cut[0].passages) <= 16 - 3 - 16 // 3


def test_a_long_sentence_is_split_between_words() -> None:
    document = Document("d", "", "abcd efgh ijkl mnop qrst uvwx.")
    passages = cut_passages(document, spelling_tokenizer(), SMALL)
    assert [p.text for p in passages] == ["abcd efgh ijkl", "mnop qrst uvwx."]
    check(document, passages, 13)


def test_a_long_word_is_split_inside() -> None:
    document = Document("d", "", "abcdefghijklmnopqrstuvwxyz")
    passages = cut_passages(document, spelling_tokenizer(), SMALL)
    assert [p.text for p in passages] == ["abcdefghijklm", "nopqrstuvwxyz"]
    check(document, passages, 13)


@pytest.mark.parametrize("text", ["", "  \n ", "\x00\x01"])
def test_text_without_tokens_gives_no_passage(text: str) -> None:
    assert cut_passages(Document("d", "Title", text), spelling_tokenizer(), SMALL) == []


def test_blank_lines_and_list_items_end_sentences() -> None:
    text = "History\n\nIt began.\n- one\n- two"
    (passage,) = cut_passages(Document("d", "", text), spelling_tokenizer(), CorpusSettings())
    assert passage.text == "History It began. - one - two"
    assert len(passage.sentence_ends) == 4


def test_text_without_words_keeps_to_the_limits_of_the_offsets() -> None:
    text = "Before. " + "x" * 150_000 + " After it. " + "\u200b" * 70_000 + "End."
    document = Document("d", "", text)
    check(document, cut_passages(document, spelling_tokenizer(), CorpusSettings()), 285)


def test_tokens_are_those_of_the_passage_text() -> None:
    text = "Caf\u00e9 na\u00efve 3,5!  It's U.S. style. " * 9
    tokenizer = spelling_tokenizer()
    passages = cut_passages(Document("d", "T", text), tokenizer, CorpusSettings(passage_tokens=90))
    for passage in passages:
        encoding = tokenizer.encode(passage.text, add_special_tokens=False)
        assert passage.token_ids.tolist() == encoding.ids
        assert list(zip(*spans(passage), strict=True)) == encoding.offsets


def test_tokens_of_bytes_do_not_cover_the_space_before_a_word() -> None:
    document = Document("d", "", "Ab cd. Ef \U0001f600 gh.")
    tokenizer = byte_level()
    (passage,) = cut_passages(document, tokenizer, CorpusSettings())
    assert tokenizer.decode(passage.token_ids.tolist()) == "Ab cd. Ef \U0001f600 gh."
    covered = [passage.text[s:e] for s, e in zip(*spans(passage), strict=True)]
    assert " " not in {text for text in covered if len(text) > 1}
    check(document, [passage], 285)


@settings(max_examples=60, deadline=None)
@given(
    st.text(alphabet="abC .!?\n\t-\u00e9\u4e2d\u3002\u200b\U0001f600", max_size=150),
    st.sampled_from([spelling_tokenizer(), byte_level()]),
)
def test_passages_are_slices_of_their_document(text: str, tokenizer: Tokenizer) -> None:
    document = Document("d", "", text)
    passages = cut_passages(document, tokenizer, SMALL)
    if tokenizer.token_to_id("[UNK]") is not None:  # bytes of one character can be torn apart
        check(document, passages, 13)
    num_tokens = len(tokenizer.encode(normalise(text).text, add_special_tokens=False))
    assert sum(len(p.token_ids) for p in passages) >= bool(num_tokens)


@pytest.mark.parametrize("gap", ["\n\n", "\n", " \n \n\n", "\u3000"])
def test_long_documents_keep_their_offsets(gap: str) -> None:
    paragraph = "Aa bb. Cc dd, ee ff? Gg hh. In ii. " * 30
    document = Document("d", "", gap.join([paragraph.strip()] * 40))
    passages = cut_passages(document, spelling_tokenizer(), CorpusSettings())
    check(document, passages, 285)
    assert " ".join(p.text for p in passages) == normalise(document.text).text


def test_many_documents_are_cut_as_one_by_one() -> None:
    documents = [Document(str(i), f"t {i}", "Aa bb. Cc dd. " * i) for i in range(6)]
    tokenizer = spelling_tokenizer()
    together = cut_documents(documents, tokenizer, SMALL)
    alone = [cut_passages(document, tokenizer, SMALL) for document in documents]
    assert [[p.text for p in cut.passages] for cut in together] == [
        [p.text for p in passages] for passages in alone
    ]


def test_settings_refuse_what_cannot_work() -> None:
    with pytest.raises(SettingError, match="passage_tokens"):
        read_settings(CorpusSettings, {"passage_tokens": 3}, origin=str(Path("recipe.toml")))


def test_sentences_of_a_text_alone() -> None:
    text = "Dr. Osmund left\n Tavil.  She went on.\n\nHistory.\n"
    assert split_sentences(text) == ["Dr. Osmund left Tavil.", "She went on.", "History."]
    assert split_sentences(" \n") == []
