"""Names are told by capitals, also where a tokenizer lowers them."""

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from realm.spans.capitals import with_capitals


def lowering_tokenizer() -> Tokenizer:
    vocab = ["[UNK]", "\u2020", "\u2021", "in", "tavil", "nato", "the", "'", "s", "o"]
    tokenizer = Tokenizer(models.WordPiece({w: i for i, w in enumerate(vocab)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def test_capitals_are_marked_where_the_tokenizer_lowers_them() -> None:
    tokenizer = lowering_tokenizer()
    marked = with_capitals(tokenizer)
    encoding = marked.encode("In T\u00e1vil, the NATO's")
    assert encoding.tokens == [
        *("\u2020", "in", "\u2020", "tavil", "[UNK]", "the", "\u2021", "nato", "'", "s"),
    ]
    # A sign stands at its letter.
    assert encoding.offsets[2:4] == [(3, 4), (3, 8)]
    assert tokenizer.encode("In").tokens == ["in"]
    # It survives the file.
    assert Tokenizer.from_str(marked.to_str()).encode("Tavil").tokens == ["\u2020", "tavil"]


def test_other_tokenizers_stay_as_they_are(tokenizer: Tokenizer) -> None:
    assert with_capitals(tokenizer) is tokenizer  # its vocabulary has no signs for them
    cased = lowering_tokenizer()
    cased.normalizer = normalizers.BertNormalizer(lowercase=False)
    cased.add_tokens(["Paris", "paris"])
    assert with_capitals(cased) is cased
