"""A tokenizer that spells every word by letters, and files of documents to be cut with it."""

import json
from pathlib import Path

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers


def spelling_tokenizer() -> Tokenizer:
    """One wordpiece for each letter, digit and sign, so that tests can count them."""
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    pieces = ["[UNK]", "[CLS]", "[SEP]", *letters, *".,!?-'", *(f"##{c}" for c in letters)]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def write_rows(path: Path, *rows: tuple[str, str, str]) -> Path:
    """Write documents of (id, title, text) as JSON lines."""
    lines = [json.dumps(dict(zip(("id", "title", "text"), row, strict=True))) for row in rows]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def many_documents(path: Path, number: int) -> Path:
    """Write documents of none to four sentences."""
    rows = ((f"d{i}", f"t {i % 7}", f"No. {i} is  here. \n" * (i % 5)) for i in range(number))
    return write_rows(path, *rows)
