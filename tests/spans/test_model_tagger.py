"""The tags that a model's scores give, beyond the likeliest one by one."""

from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing

from realm.errors import ArtifactError
from realm.spans.entities import Span
from realm.spans.model_tagger import (
    ModelTagger,
    agree_in_documents,
    label_shares,
    likeliest_tags,
    may_follow,
)

TAGS = ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]


def log_of(*rows: list[float]) -> "np.ndarray[tuple[int, int], np.dtype[np.float32]]":
    return np.log(np.array(rows, dtype=np.float32))


def test_nothing_goes_on_as_another_kind_than_it_began() -> None:
    allowed = may_follow(TAGS)
    barred = {(TAGS[a], TAGS[b]) for a, b in np.argwhere(~allowed)}
    assert barred == {
        ("B-LOC", "I-PER"), ("I-LOC", "I-PER"), ("B-PER", "I-LOC"), ("I-PER", "I-LOC"),
    }  # fmt: skip
    assert may_follow(["O", "LOC", "PER"]).all()  # bare labels begin anywhere
    assert not may_follow(["O", "B-LOC", "L-PER", "U-PER"])[1, 2]


def test_the_likeliest_tags_that_may_follow_each_other() -> None:
    # One by one: B-LOC, I-PER. Together: .5 * .3 as a place, .4 * .5 as a person.
    first, second = [0.1, 0.5, 0.0, 0.4, 0.0], [0.1, 0.1, 0.3, 0.0, 0.5]
    with np.errstate(divide="ignore"):
        scores = log_of(first, second)
    assert likeliest_tags(scores, may_follow(TAGS)).tolist() == [3, 4]
    assert likeliest_tags(scores, np.ones((5, 5), bool)).tolist() == [1, 4]
    with np.errstate(divide="ignore"):
        scores = log_of(first, second, [0.1, 0.0, 0.9, 0.0, 0.0])  # .5*.3*.9 against .4*.5*.1
    assert likeliest_tags(scores, may_follow(TAGS)).tolist() == [1, 2, 2]
    assert likeliest_tags(scores[:0], may_follow(TAGS)).tolist() == []


def test_shares_of_the_labels_by_hand() -> None:
    is_of = np.array([[0, 0], [1, 0], [1, 0], [0, 1], [0, 1]], dtype=np.float32)
    scores = log_of([0.1, 0.4, 0.2, 0.2, 0.1], [0.3, 0.1, 0.1, 0.1, 0.4])
    # .6 * .2 and .3 * .5
    assert label_shares(scores, is_of).tolist() == pytest.approx([0.12 / 0.27, 0.15 / 0.27])


def test_what_is_written_alike_in_a_document_is_of_one_kind() -> None:
    texts = ["Keld met Ida.", "Keld left.", "Keld is high."]
    spans = [[Span(0, 4, "PER"), Span(9, 12, "PER")], [Span(0, 4, "LOC")], [Span(0, 4, "LOC")]]
    # Places and persons: in the first document .3 + .6 against .7 + .4.
    shares = [
        [np.array([0.3, 0.7], np.float32), np.array([0.2, 0.8], np.float32)],
        [np.array([0.6, 0.4], np.float32)],
        [np.array([0.9, 0.1], np.float32)],
    ]
    found = agree_in_documents(texts, spans, shares, [7, 7, 8], ["LOC", "PER"])
    assert found == [spans[0], [Span(0, 4, "PER")], spans[2]]


def save_model(path: Path) -> None:
    """A model whose classifier reads the word itself: paris is a place, all else nothing."""
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "paris", "in", "they", "met"]
    tokenizer = Tokenizer(WordPiece({w: i for i, w in enumerate(vocabulary)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = BertPreTokenizer()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]"}
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=16, **special
    ).save_pretrained(path)
    config = transformers.BertConfig(
        vocab_size=8,
        hidden_size=8,
        num_hidden_layers=0,
        num_attention_heads=1,
        intermediate_size=8,
        max_position_embeddings=16,
        id2label={0: "O", 1: "B-LOC"},
        label2id={"O": 0, "B-LOC": 1},
    )
    model = transformers.BertForTokenClassification(config)
    with torch.no_grad():
        for parameter in model.bert.embeddings.parameters():
            parameter.zero_()
        model.bert.embeddings.LayerNorm.weight.fill_(1.0)
        model.bert.embeddings.word_embeddings.weight.copy_(10 * torch.eye(8))
        model.classifier.weight.zero_()
        model.classifier.bias.copy_(torch.tensor([0.5, 0.0]))
        model.classifier.weight[1, 4] = 1.0
    model.save_pretrained(path)


@pytest.mark.slow
def test_a_model_tags_sentences_of_any_length(tmp_path: Path) -> None:
    save_model(tmp_path)
    tagger = ModelTagger(str(tmp_path), batch_size=2)
    texts = ["in paris", "they", "paris met in paris they met", ""]
    expected = [[(3, 8)], [], [(0, 5), (13, 18)], []]
    assert [[(s.start, s.end) for s in spans] for spans in tagger.tag(texts)] == expected
    assert tagger.tag(texts, [0, 0, 0, 0]) == tagger.tag(texts)  # there is but one label
    assert tagger.tag([]) == []
    assert tagger.tag(texts[:1])[0][0].label == "LOC"


@pytest.mark.slow
def test_a_model_without_a_trained_head_is_refused(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    save_model(tmp_path)
    model = transformers.AutoModel.from_pretrained(tmp_path)
    model.save_pretrained(tmp_path)
    with pytest.raises(ArtifactError, match="not trained to tag words"):
        ModelTagger(str(tmp_path))


def test_an_absent_model_is_named(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    with pytest.raises(ArtifactError, match="no token classification model"):
        ModelTagger(str(tmp_path / "absent"))
