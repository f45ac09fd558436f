"""A corpus, a tokenizer and a trunk that fit into a second: what unit tests train on."""

import json
import re
from pathlib import Path

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

# Most facts stand in two articles or more, so that one passage helps to fill a gap in another:
# 3 May 1871 (the bridge, its engineer, the queen), 1894 (the observatory, the comet), Tavil.
ARTICLES: dict[str, str] = {
    "Ida Renquist": (
        "Ida Renquist was an engineer from Lomvar. She was born in Tavil on 9 June 1838. "
        "Her bridge over the Sorna was opened on 3 May 1871. She died in Lomvar in 1902."
    ),
    "Lomvar Bridge": (
        "The Lomvar Bridge crosses the river Sorna. It was designed by Ida Renquist. "
        "It was opened on 3 May 1871 by Queen Maritha. Its main arch is 96 metres wide."
    ),
    "Sorna": (
        "The Sorna is a river in the north of Velland. It rises on Mount Keld and reaches the "
        "sea at Tavil. The Lomvar Bridge has crossed it since 1871."
    ),
    "Tavil": (
        "Tavil is a port at the mouth of the Sorna. Its harbour was built in 1790. "
        "The poet Anton Brisk was born in Tavil. The engineer Ida Renquist was born there as well."
    ),
    "Anton Brisk": (
        "Anton Brisk was a poet of Velland. He was born in Tavil on 14 February 1845. "
        "His longest poem, The Grey Harbour, appeared in 1880."
    ),
    "The Grey Harbour": (
        "The Grey Harbour is a poem by Anton Brisk. It appeared in 1880 and tells of the port of "
        "Tavil. Clara Osmund set it to music in 1911."
    ),
    "Orsk Observatory": (
        "The Orsk Observatory stands on Mount Keld. It was founded in 1894 by Edvard Lind. "
        "Its telescope has a mirror of 80 centimetres. The comet Lind was first seen there."
    ),
    "Edvard Lind": (
        "Edvard Lind was an astronomer. He founded the Orsk Observatory in 1894. "
        "In the same year he saw the comet that bears his name."
    ),
    "Comet Lind": (
        "Comet Lind returns every 62 years. Edvard Lind saw it from the Orsk Observatory in 1894. "
        "It came back in 1956."
    ),
    "Mount Keld": (
        "Mount Keld is the highest mountain of Velland. The Sorna rises on its southern side. "
        "The Orsk Observatory was built near the top."
    ),
    "Queen Maritha": (
        "Queen Maritha ruled Velland from 1860 to 1889. She opened the Lomvar Bridge on 3 May "
        "1871. She was followed by her son, King Oskar."
    ),
    "Clara Osmund": (
        "Clara Osmund was a composer from Lomvar. Her setting of The Grey Harbour was first "
        "played in 1911. She taught music in Tavil until 1930."
    ),
}
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def write_corpus(file: Path) -> None:
    """Write the articles as JSON lines with id, title and text."""
    rows = (
        {"id": f"article-{number}", "title": title, "text": text}
        for number, (title, text) in enumerate(ARTICLES.items())
    )
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def make_tokenizer() -> Tokenizer:
    """A WordPiece tokenizer that knows most words of the articles and can spell all others."""
    words = sorted(set(re.findall(r"\w+", " ".join([*ARTICLES, *ARTICLES.values()]).lower())))
    # Every seventh word has to be spelt, so that words of several wordpieces are met.
    whole = [word for number, word in enumerate(words) if number % 7]
    signs = sorted("abcdefghijklmnopqrstuvwxyz0123456789.,!?'-:;()")
    vocab = [*_SPECIAL, *signs, *(f"##{sign}" for sign in signs if sign.isalnum())]
    vocab += [word for word in whole if len(word) > 1]
    tokenizer = Tokenizer(
        models.WordPiece(vocab={word: i for i, word in enumerate(vocab)}, unk_token="[UNK]")
    )
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    # As in a published tokenizer: who forgets `add_special_tokens=False` gets [CLS] and [SEP].
    tokenizer.post_processor = processors.BertProcessing(
        ("[SEP]", vocab.index("[SEP]")), ("[CLS]", vocab.index("[CLS]"))
    )
    tokenizer.add_special_tokens(list(_SPECIAL))
    return tokenizer


def write_trunk(folder: Path, tokenizer: Tokenizer) -> None:
    """Write a tiny BERT's configuration and tokenizer: a trunk that starts from random weights."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "model_type": "bert",
        "architectures": ["BertModel"],
        "vocab_size": tokenizer.get_vocab_size(),
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": 128,
        "type_vocab_size": 2,
        "pad_token_id": tokenizer.token_to_id("[PAD]"),
    }
    (folder / "config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")
