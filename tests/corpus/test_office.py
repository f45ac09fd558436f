"""Do the words of PDF and office files arrive, and those that cannot be read say why?

The files in `fixtures/office` are real: a PDF that Chromium printed, one with a password, and a
Word file without the parts that only lay it out.
"""

import logging
import sys
import types
import warnings
import zipfile
from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from realm.corpus.documents import Document, read_documents
from realm.corpus.passages import CorpusSettings, cut_passages
from realm.errors import ResourceError, SourceError

FIXTURES = Path(__file__).parents[1] / "fixtures" / "office"


def package(name: str) -> Any:
    return pytest.importorskip(name, reason="the extra `documents` is not installed")


def read(file: Path) -> Document:
    (document,) = read_documents([file])
    return document


def test_a_printed_page(tokenizer: Tokenizer) -> None:
    package("markitdown")
    document = read(FIXTURES / "lease.pdf")
    assert document.title == "lease"
    text = " ".join(document.text.split())
    assert text.startswith(
        "The lease of Quillan Mill was signed by Maud Ellingham on 14 March 1911."
    )
    assert "for ninety-nine years" in text
    assert "the final word" in text, "no ligature"
    assert "Ellingham | 40 | 1911" in text
    assert "---" not in text
    assert text.endswith("Harold Pike replaced the wheel by a turbine in 1953.")
    passages = cut_passages(document, tokenizer, CorpusSettings(passage_tokens=60))
    assert len(passages) > 2
    for passage in passages:
        source = document.text[passage.source_start : passage.source_end]
        assert " ".join(source.split()) == passage.text


def test_a_word_file() -> None:
    package("markitdown")
    assert read(FIXTURES / "minutes.docx") == Document(
        "minutes.docx",
        "Minutes of the harbour board",
        "# Minutes of the harbour board\n\n"
        "The board met on 3 May 1922. Clara Osmund was in the chair of the *old* customs_house.\n\n"
        "# Dredging\n\nPeter Lund offered his dredger for forty crowns a day.\n\n"
        "| Ship | Draught |\n\n| Albatross | 4.2 m |\n\n| Petrel | 5.1 m |",
    )


def test_slides(tmp_path: Path) -> None:
    package("markitdown")
    presentation = package("pptx").Presentation()
    slide = presentation.slides.add_slide(presentation.slide_layouts[1])
    slide.shapes.title.text = "The lighthouse of Orsk"
    slide.placeholders[1].text = "Lit in 1888 by Berta Holm\nAutomatic since 1971"
    slide.notes_slide.notes_text_frame.text = "She kept it for forty years."
    slide = presentation.slides.add_slide(presentation.slide_layouts[6])
    table = slide.shapes.add_table(2, 2, 0, 0, 4_000_000, 1_000_000).table
    for row, cells in enumerate((("Keeper", "Until"), ("Berta Holm", "1928"))):
        for column, cell in enumerate(cells):
            table.cell(row, column).text = cell
    presentation.save(tmp_path / "slides.pptx")
    document = read(tmp_path / "slides.pptx")
    assert document.title == "The lighthouse of Orsk"
    assert document.text == (
        "# The lighthouse of Orsk\nLit in 1888 by Berta Holm\nAutomatic since 1971\n\n"
        "### Notes:\nShe kept it for forty years.\n\n| Keeper | Until |\n\n| Berta Holm | 1928 |"
    )


def test_a_workbook(tmp_path: Path, tokenizer: Tokenizer) -> None:
    workbook = package("openpyxl").Workbook()
    sheet = workbook.active
    sheet.title = "Ferries"
    sheet.append(["Ferries of the coast"])
    sheet.append([])
    sheet.append(["Ferry", "Built", "Since", "Captain"])
    sheet.append(["Lomvar", 1903, date(1911, 3, 14), "Nils\nAker"])
    sheet.append(["Velland", None, datetime(1954, 1, 2, 3, 4), 0.1 + 0.2])
    workbook.create_sheet("Empty")
    workbook.save(tmp_path / "coast.xlsx")
    document = read(tmp_path / "coast.xlsx")
    rows = [
        "| Ferries of the coast |",
        "| Ferry | Built | Since | Captain |",
        "| Lomvar | 1903 | 1911-03-14 | Nils Aker |",
        "| Velland |  | 1954-01-02 03:04 | 0.3 |",
    ]
    assert document == Document("coast.xlsx", "coast", "\n\n".join(["## Ferries", *rows]))
    passages = cut_passages(document, tokenizer, CorpusSettings(passage_tokens=40))
    beginnings = {document.text[p.source_start :].split("\n")[0] for p in passages}
    assert len(passages) > 1
    assert beginnings <= {"## Ferries", *rows}, "a row is not torn apart"


def test_files_without_words(tmp_path: Path) -> None:
    package("markitdown")
    package("openpyxl").Workbook().save(tmp_path / "empty.xlsx")
    package("pptx").Presentation().save(tmp_path / "empty.pptx")
    package("PIL.Image").new("1", (40, 40)).save(tmp_path / "scan.pdf")
    for name in ("empty.xlsx", "empty.pptx", "scan.pdf"):
        assert read(tmp_path / name) == Document(name, Path(name).stem, "")


DAMAGED: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty.pdf": (lambda: b"", "cannot be converted"),
    "beginning.pdf": (lambda: (FIXTURES / "lease.pdf").read_bytes()[:5_000], "cannot be converted"),
    "words.pdf": (lambda: b"These are words.\n" * 9, "cannot be converted .*really a PDF"),
    "locked.pdf": ((FIXTURES / "locked.pdf").read_bytes, "is locked with a password: save it"),
    "locked.docx": (lambda: b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "is locked .* 97"),
    "beginning.docx": (
        lambda: (FIXTURES / "minutes.docx").read_bytes()[:2_000], "is no complete .docx file",
    ),
    "beginning.xlsx": (lambda: b"PK\x03\x04", "is no complete .xlsx file"),
    "pdf.pptx": ((FIXTURES / "lease.pdf").read_bytes, "is no complete .pptx file"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_files(name: str, tmp_path: Path) -> None:
    package("markitdown")
    content, message = DAMAGED[name]
    (tmp_path / name).write_bytes(content())
    with pytest.raises(SourceError, match=rf"{name} {message}") as caught:
        read(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_another_archive_with_the_name_of_a_word_file(tmp_path: Path) -> None:
    package("markitdown")
    with zipfile.ZipFile(tmp_path / "other.docx", "w") as archive:
        archive.writestr("notes.txt", "Not these words.")
    with pytest.raises(SourceError, match=r"other.docx cannot be converted"):
        read(tmp_path / "other.docx")


class MissingDependency(Exception):
    """Stands for the error of markitdown where it was installed without an extra of its own."""


@pytest.fixture
def convert(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], str]], None]:
    """Let a function stand for what markitdown finds in every PDF."""

    def provide(found: Callable[[], str]) -> None:
        converter = types.SimpleNamespace(
            convert=lambda stream, info, **options: types.SimpleNamespace(markdown=found())
        )
        names = {"StreamInfo": dict, "MissingDependencyException": MissingDependency}
        for name, members in (
            ("markitdown", names),
            ("markitdown.converters", {"PdfConverter": lambda: converter}),
        ):
            module = types.ModuleType(name)
            module.__dict__.update(members)
            monkeypatch.setitem(sys.modules, name, module)

    return provide


@pytest.fixture
def pdf(tmp_path: Path) -> Path:
    file = tmp_path / "d.pdf"
    file.write_bytes(b"%PDF")
    return file


Convert = Callable[[Callable[[], str]], None]


def test_what_a_layout_does_to_words_is_undone(convert: Convert, pdf: Path) -> None:
    convert(
        lambda: "ninety-\nnine, the \ufb01nal co\u00ad\nast -\nand\n| a |\n| --- |\n|  |\n| b |\n"
    )
    assert read(pdf).text == "ninety-nine, the final coast -\nand\n| a |\n\n| b |"


def test_a_table_that_is_mostly_empty_is_read_at_once(convert: Convert, pdf: Path) -> None:
    """A planning grid: each empty cell before a word doubled the time, and more."""
    row = f"|{'  |' * 60} week 9 |"
    convert(lambda: f"{row}\n|{' :--- |' * 61}\n|{'  |' * 61}\n{row}")
    assert read(pdf).text == f"{row}\n\n{row}"


def test_a_number_sign_in_a_pdf_is_no_heading(convert: Convert, pdf: Path) -> None:
    convert(lambda: "# include these\nText")
    assert read(pdf) == Document("d.pdf", "d", "# include these\nText")


def test_what_the_libraries_say_beside_is_not_passed_on(
    convert: Convert, pdf: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def found() -> str:
        logging.getLogger("pdfminer.font").warning("Could not get FontBBox")
        warnings.warn("an extension is not supported", stacklevel=1)
        return "Text"

    convert(found)
    assert read(pdf).text == "Text"
    assert caplog.text == ""
    logging.getLogger("pdfminer.font").warning("later")
    assert "later" in caplog.text


def test_errors_that_say_nothing_are_named(convert: Convert, pdf: Path) -> None:
    for error, said in ((ValueError("no\npages"), "no pages"), (EOFError(), "EOFError")):
        convert(raising(error))
        with pytest.raises(SourceError, match=rf"d.pdf cannot be converted \({said}\): repair"):
            read(pdf)


def raising(error: Exception) -> Callable[[], str]:
    def found() -> str:
        raise error

    return found


def test_packages_that_are_not_installed(
    convert: Convert, pdf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    convert(raising(MissingDependency()))
    with pytest.raises(ResourceError, match=r"package markitdown\[pdf\]: .*realm-lm\[documents\]"):
        read(pdf)
    monkeypatch.setitem(sys.modules, "markitdown", None)
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    (tmp_path / "e.xlsx").write_bytes(b"PK")
    for file, name in ((pdf, "markitdown"), (tmp_path / "e.xlsx", "openpyxl")):
        with pytest.raises(ResourceError, match=rf"package {name}: .*realm-lm\[documents\]"):
            read(file)
