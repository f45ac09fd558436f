"""How is a tokenizer read from its file?"""

from pathlib import Path

from tokenizers import Tokenizer

from realm.errors import SettingError


def load_tokenizer(file: Path) -> Tokenizer:
    """Read a `tokenizer.json` as `of_text_alone`.

    Raises:
        SettingError: there is no such file, or it is no tokenizer.
    """
    if not file.is_file():
        raise SettingError(f"there is no tokenizer file {file}: give the path of a tokenizer.json")
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises nothing more exact
        raise SettingError(f"{file} is no tokenizer.json: {error}") from error
    return of_text_alone(tokenizer)


def of_text_alone(tokenizer: Tokenizer) -> Tokenizer:
    """Let a tokenizer neither truncate nor pad, nor take words of a text for special ones.

    A document about BERT says [SEP] and means no end: special wordpieces are packed, never read.
    """
    tokenizer.encode_special_tokens = True
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
