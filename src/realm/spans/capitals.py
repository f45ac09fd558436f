"""How does a tokenizer that lowers its text keep what capitals tell?"""

import string

from tokenizers import Regex, Tokenizer, normalizers

_CAPITAL, _ACRONYM = "\u2020", "\u2021"  # daggers: in BERT's vocabulary, and rare in texts


def with_capitals(tokenizer: Tokenizer) -> Tokenizer:
    """Let a tokenizer that lowers its text mark the words that begin with a capital.

    Names are told by their capitals, which the default trunk never sees. A sign that its
    vocabulary has goes before such words, another before those in capitals throughout; every
    program that reads `tokenizer.json` does the same. Others are returned as they are.
    """
    signs = (_CAPITAL, _ACRONYM)
    is_lowering = tokenizer.encode("Paris").ids == tokenizer.encode("paris").ids
    if not is_lowering or any(tokenizer.token_to_id(sign) is None for sign in signs):
        return tokenizer
    capitals = [
        normalizers.Replace(
            Regex(rf"(?<![\p{{L}}\p{{N}}]){letter}{following}"), sign + letter.lower()
        )
        for sign, following in ((_ACRONYM, r"(?=\p{Lu})"), (_CAPITAL, ""))
        for letter in string.ascii_uppercase
    ]
    changed: Tokenizer = Tokenizer.from_str(tokenizer.to_str())
    # Accents go first, so that twenty-six letters stand for all of Latin.
    changed.normalizer = normalizers.Sequence(
        [normalizers.NFD(), normalizers.StripAccents(), *capitals, tokenizer.normalizer]
    )
    return changed
