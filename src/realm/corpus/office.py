"""How do PDF and office files become text that reads as their words do?

markitdown finds the words of PDF, Word and PowerPoint files, openpyxl those of workbooks. What
only lays them out is left out: the lines of tables, pictures, emphasis, numbers of slides. A blank
line ends each row of a table, so that passages are cut between rows.
"""

import importlib
import logging
import re
import warnings
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, time
from pathlib import Path
from typing import Any

from realm.corpus.files import first_heading
from realm.errors import ResourceError, SourceError

_CONVERTERS = {".pdf": "PdfConverter", ".docx": "DocxConverter", ".pptx": "PptxConverter"}
OFFICE_SUFFIXES = (*_CONVERTERS, ".xlsx")

_OPTIONS = {
    "strip": ["a", "b", "em", "i", "img", "s", "strong", "u"],
    "escape_asterisks": False,
    "escape_underscores": False,
    "style_map": "p[style-name='Title'] => h1:fresh",
}
_LAYOUT = re.compile(
    r"^\|(?:[ \t]*(?::?-+:?[ \t]*)?\|)+[ \t]*$\n?"  # the line below a table's head, and empty rows
    r"|^!\[[^\]]*\]\([^)]*\)$\n?|^<!-- Slide number: \d+ -->$\n?",
    re.MULTILINE,
)
_NEXT_ROW = re.compile(r"(?<=\|)\n(?=\|)")
_BROKEN_WORD = re.compile(r"\u00ad\n?|(?<=\w-)\n(?=\w)")
_LIGATURES = str.maketrans(
    {"\ufb00": "ff", "\ufb01": "fi", "\ufb02": "fl", "\ufb03": "ffi", "\ufb04": "ffl"}
)
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"  # begins files of Office 97, and locked ones of today


def read_office(path: Path) -> tuple[str, str]:
    """Title and text of a PDF or office file.

    The title is the first heading of a Word or PowerPoint file, otherwise the file's name.

    Raises:
        ResourceError: a package that reads it is not installed.
        SourceError: the file is locked, damaged, or of another kind than its name says.
    """
    suffix = path.suffix.lower()
    try:
        with _quietly():
            text = _read_workbook(path) if suffix == ".xlsx" else _convert(path, suffix)
    except ImportError as error:
        name = error.name or "markitdown"
        message = f"{path} needs the package {name}: pip install 'realm-lm[documents]'"
        raise ResourceError(message) from error
    except Exception as error:  # each library raises errors of its own packages
        raise SourceError(f"{path} {_reason(path, error)}") from error
    title = first_heading(text) if suffix in (".docx", ".pptx") else ""
    return title or path.stem, text


def _convert(path: Path, suffix: str) -> str:
    markitdown: Any = importlib.import_module("markitdown")
    converters: Any = importlib.import_module("markitdown.converters")
    converter = getattr(converters, _CONVERTERS[suffix])()
    with path.open("rb") as stream:
        try:
            converted = converter.convert(
                stream, markitdown.StreamInfo(extension=suffix), **_OPTIONS
            )
        except markitdown.MissingDependencyException as error:
            raise ImportError(name=f"markitdown[{suffix[1:]}]") from error
    text = str(converted.markdown)
    if suffix == ".pdf":
        text = _BROKEN_WORD.sub("", text).translate(_LIGATURES)
    return _NEXT_ROW.sub("\n\n", _LAYOUT.sub("", text)).strip()


def _read_workbook(path: Path) -> str:
    """Each sheet that holds something: its name, and its rows."""
    openpyxl: Any = importlib.import_module("openpyxl")
    workbook = openpyxl.load_workbook(path, read_only=True, data_only=True)
    try:
        parts = []
        for sheet in workbook.worksheets:
            sheet.reset_dimensions()  # some programs write wrong ones
            rows = list(_rows(sheet.iter_rows(values_only=True)))
            if rows:
                parts += [f"## {sheet.title}", *rows]
        return "\n\n".join(parts)
    finally:
        workbook.close()


def _rows(rows: Iterable[Iterable[object]]) -> Iterator[str]:
    for row in rows:
        cells = " | ".join(map(_cell, row)).rstrip(" |")
        if cells.strip(" |"):
            yield f"| {cells} |"


def _cell(value: object) -> str:
    """A value as people write it; numbers have the digits that a spreadsheet shows."""
    match value:
        case None:
            return ""
        case datetime() if value.time() == time():
            return value.date().isoformat()
        case datetime():
            return value.isoformat(" ", "minutes")
        case float():
            return f"{value:.15g}"
    return " ".join(str(value).split())


def _reason(path: Path, error: Exception) -> str:
    """What is wrong with a file, and what to do."""
    with path.open("rb") as stream:
        is_ole = stream.read(len(_OLE)) == _OLE
    if is_ole:
        return "is locked with a password, or of Office 97 to 2003: save it anew, or remove it"
    if "Password" in type(error).__name__:
        return "is locked with a password: save it without one, or remove it"
    if isinstance(error, zipfile.BadZipFile | KeyError):
        return f"is no complete {path.suffix.lower()} file: replace or remove it"
    said = " ".join(str(error).split())[:200]
    return f"cannot be converted ({said or type(error).__name__}): repair or remove it"


@contextmanager
def _quietly() -> Iterator[None]:
    """Without what the libraries say of fonts and of features that hold no words."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
