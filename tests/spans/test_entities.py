from pathlib import Path

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing

from realm.errors import ArtifactError
from realm.spans.entities import ModelTagger, RuleTagger, Span, join_tags, words_of

# What the rules learn from: which words stand in capitals or not inside sentences.
SENTENCES = [
    "So the engineers, former president and mathematics of the lake met in Paris and conversely.",
    "Then Curie and London went to see Lake Michigan near the college on the lake shore.",
    "Here England and Queen Victoria met king Harald of Norway and former Chancellor Merkel.",
    "The language is English-language and based in London-based "
    "but the Club met when the club and the club and club met.",
]


def names(sentence: str) -> list[str]:
    (spans,) = RuleTagger.fit(SENTENCES).tag([sentence])
    assert all(span.label == "entity" for span in spans)
    return [sentence[span.start : span.end] for span in spans]


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("He met Marie Curie in the house.", ["Marie Curie"]),
        # Beginnings of sentences
        ("Engineers went home.", []),
        ("Curie went home.", ["Curie"]),
        ("Zzyx went home.", []),
        ("In Paris they met.", ["Paris"]),
        ("Former Chancellor Merkel left.", ["Chancellor Merkel"]),
        ("Lake Michigan is deep.", ["Lake Michigan"]),
        ("Marie Curie went home.", ["Marie Curie"]),
        ("Although Curie left, he stayed.", ["Curie"]),
        ('He said: "Engineers of London left."', ["London"]),
        ("The Beatles sang.", ["Beatles"]),
        ("Later The Rolling Stones sang.", ["Rolling Stones"]),
        # Phrases
        ("at the University of the Western Cape now", ["University of the Western Cape"]),
        ("by Ludwig van Beethoven and J. R. R. Tolkien",
         ["Ludwig van Beethoven", "J. R. R. Tolkien"]),
        ("in St. Louis with Dr. Martin Luther King, Jr. himself",
         ["St. Louis", "Dr. Martin Luther King, Jr."]),
        ("before World War I.", ["World War I"]),
        ("by U.S. troops of NATO", ["U.S.", "NATO"]),
        ("on Apollo 11.", ["Apollo 11"]),
        ("from Boeing 747 jets", ["Boeing"]),
        ("in Helsinki, Finland 17 September", ["Helsinki", "Finland", "September"]),
        ("of the 1st Armored Division there", ["1st Armored Division"]),
        # Possessives
        ("when England's Queen Victoria met him", ["England", "Queen Victoria"]),
        ("at King's College then", ["King's College"]),
        ("by Curie's London friend's Paris", ["Curie", "London", "Paris"]),
        # Hyphens
        ("an English-language paper by Jean-Paul Sartre", ["English", "Jean-Paul Sartre"]),
        ("with Chiang Kai-shek in Stratford-upon-Avon",
         ["Chiang Kai-shek", "Stratford-upon-Avon"]),
        # What no reader could be asked for
        ("what I said and I'm on Monday", []),
        ("when the Club met, D. said", []),
        ("with O'Brien there", ["O'Brien"]),
        # Other scripts
        ("in \u0141\u00f3d\u017a, \u041b\u0435\u0432 \u0422\u043e\u043b\u0441\u0442\u043e\u0439",
         ["\u0141\u00f3d\u017a", "\u041b\u0435\u0432 \u0422\u043e\u043b\u0441\u0442\u043e\u0439"]),
        ("", []),
        ("no names here at all", []),
    ],
)  # fmt: skip
def test_names_by_table(sentence: str, expected: list[str]) -> None:
    assert names(sentence) == expected


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("a hill of 1,200 metres", ["1,200 metres"]),
        ("it is 5.2 km long and 30% steel", ["5.2 km", "30%"]),
        ("for $3.5 million or \u20ac200", ["$3.5 million", "\u20ac200"]),
        ("some 2 million people", ["2 million people"]),
        ("aged 12 and no. 7", []),
        ("by 1.2.3 km", []),
    ],
)
def test_numbers_by_table(sentence: str, expected: list[str]) -> None:
    (spans,) = RuleTagger.fit(SENTENCES).tag([sentence])
    assert [sentence[s.start : s.end] for s in spans if s.label == "number"] == expected


def test_sentences_are_tagged_alike_alone_and_together() -> None:
    tagger = RuleTagger.fit(SENTENCES)
    assert tagger.tag(SENTENCES) == [tagger.tag([sentence])[0] for sentence in SENTENCES]


@pytest.mark.parametrize("text", ["Ab " * 20_000, "A." * 20_000, "A-" * 20_000, "1," * 20_000])
def test_odd_text_takes_linear_time(text: str) -> None:
    RuleTagger.fit([text]).tag([text])


def test_tags_are_joined() -> None:
    tags = ["O", "B-PER", "I-PER", "B-PER", "O", "I-LOC", "I-LOC", "I-ORG", "O"]
    offsets = [(0, 0), (0, 3), (4, 9), (10, 13), (14, 16), (17, 20), (21, 25), (26, 30), (0, 0)]
    words = [None, 0, 1, 2, 3, 4, 5, 6, None]
    assert join_tags(tags, offsets, words) == [
        Span(0, 9, "PER"),
        Span(10, 13, "PER"),
        Span(17, 25, "LOC"),
        Span(26, 30, "ORG"),
    ]


@pytest.mark.parametrize(("last", "alone"), [("E-", "S-"), ("L-", "U-")])
def test_tags_that_name_ends_are_joined(last: str, alone: str) -> None:
    tags = ["B-PER", "I-PER", f"{last}PER", f"{alone}PER", f"{alone}LOC", "O"]
    offsets = [(0, 3), (4, 9), (10, 13), (14, 16), (17, 20), (21, 25)]
    assert join_tags(tags, offsets, range(6)) == [
        Span(0, 13, "PER"), Span(14, 16, "PER"), Span(17, 20, "LOC"),
    ]  # fmt: skip


def test_the_first_token_speaks_for_its_word() -> None:
    offsets = [(0, 3), (3, 5), (5, 6)]
    assert join_tags(["PER", "O", "O"], offsets, [0, 0, 1]) == [Span(0, 5, "PER")]
    assert join_tags(["O", "PER", "O"], offsets, [0, 0, 1]) == []
    assert join_tags(["B-PER", "B-PER", "I-PER"], offsets, [0, 0, 1]) == [Span(0, 6, "PER")]


def test_a_sign_of_a_capital_is_no_word_of_its_own() -> None:
    # "Old Keld": each word behind its sign, which says something else.
    offsets = [(0, 1), (0, 3), (4, 5), (4, 6), (6, 8)]
    words = [0, 1, 2, 3, 3]
    tags = ["B-PER", "B-LOC", "O", "I-LOC", "O"]
    assert join_tags(tags, offsets, words) == [Span(0, 8, "LOC")]
    assert [word.position for word in words_of(offsets, words)] == [1, 3]


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
