import bz2
import gzip
import json
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from realm.corpus.block_records import write_block_records
from realm.corpus.documents import Document, fingerprint_sources, read_documents
from realm.errors import ResourceError, SourceError
from realm.experiment import Experiment

ROWS: list[dict[str, object]] = [
    {"id": "a", "title": "First", "text": "One.\nTwo."},
    {"id": 7, "title": "Second", "text": 'Said "no", \u00e9.'},
]
DOCUMENTS = [Document("a", "First", "One.\nTwo."), Document("7", "Second", 'Said "no", \u00e9.')]
JSON_LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()
CSV = 'id,title,text\na,First,"One.\nTwo."\n7,Second,"Said ""no"", \u00e9."\n'.encode()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("d.jsonl", JSON_LINES),
        ("d.jsonl", b"\xef\xbb\xbf" + JSON_LINES.replace(b"\n", b"\n\n")),
        ("d.jsonl.gz", gzip.compress(JSON_LINES)),
        ("d.jsonl.bz2", bz2.compress(JSON_LINES)),
        ("d.jsonl.zst", zstandard.compress(JSON_LINES)),
        ("d.jsonl.zst", b"".join(map(zstandard.compress, JSON_LINES.splitlines(keepends=True)))),
        ("D.JSONL", JSON_LINES),
        ("d.csv", CSV),
        ("d.csv.gz", gzip.compress(CSV)),
        ("d.tsv", CSV.replace(b"a,First,", b"a\tFirst\t").replace(b"7,Second,", b"7\tSecond\t")
         .replace(b"id,title,text", b"id\ttitle\ttext")),
    ],
)  # fmt: skip
def test_tables_of_documents(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert list(read_documents([tmp_path / name])) == DOCUMENTS


def test_parquet(tmp_path: Path) -> None:
    rows = [{**row, "id": str(row["id"]), "extra": 1} for row in ROWS]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "d.parquet")
    assert list(read_documents([tmp_path / "d.parquet"])) == DOCUMENTS


def test_a_folder_is_read_in_the_order_of_its_paths(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "x.txt").write_text("no")
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    (tmp_path / "runs" / "mine" / "recipe.json").write_text(Experiment().model_dump_json())
    (tmp_path / "soups").mkdir()
    (tmp_path / "soups" / "recipe.json").write_text("{}")
    (tmp_path / "soups" / "notes.txt").write_text("salt")
    (tmp_path / "runs" / "mine" / "stages.jsonl").write_text("no")
    (tmp_path / "b.txt").write_bytes(b"line\r\nnext ")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    (tmp_path / "sub" / "a.md").write_text("text\n\n## A *heading* ##\n# Other\n")
    (tmp_path / "sub" / "c.jsonl").write_bytes(JSON_LINES)
    (tmp_path / "a.html").write_text("<title> The\n page</title><p>Hello <b>wor</b>ld</p><p>Bye")
    assert list(read_documents([str(tmp_path)])) == [
        Document("a.html", "The page", "Hello world\n\nBye"),
        Document("b.txt", "b", "line\r\nnext "),
        Document("soups/notes.txt", "notes", "salt"),
        Document("sub/a.md", "A *heading*", "text\n\n## A *heading* ##\n# Other\n"),
        *DOCUMENTS,
    ]


def test_a_link_is_a_document_at_its_own_place(tmp_path: Path) -> None:
    """Whatever it leads to: an edit gives it the id that the corpus was built with."""
    folder, elsewhere = tmp_path / "folder", tmp_path / "elsewhere.txt"
    (folder / "sub").mkdir(parents=True)
    elsewhere.write_text("far")
    (folder / "b.txt").write_text("here")
    (folder / "latest.txt").symlink_to("b.txt")
    (folder / "sub" / "far.txt").symlink_to(elsewhere)
    built = list(read_documents([folder]))
    assert [each.document_id for each in built] == ["b.txt", "latest.txt", "sub/far.txt"]
    assert list(read_documents([folder], below=[folder])) == built
    assert list(read_documents([folder / "sub" / "far.txt"], below=[folder])) == built[2:]


@pytest.mark.parametrize(
    ("line", "title"),
    [
        ("# C#", "C#"), ("# C# ##", "C#"), ("#  a #b  ## ", "a #b"), ("## #", "d"),
        ("#  ", "d"), ("####### a", "d"),
    ],
)  # fmt: skip
def test_signs_that_close_a_heading(line: str, title: str, tmp_path: Path) -> None:
    (tmp_path / "d.md").write_text(f"text\n{line}\n")
    (document,) = read_documents([tmp_path / "d.md"])
    assert document.title == title


def test_blanks_in_a_heading_are_read_at_once(tmp_path: Path) -> None:
    """Twice as many took eight times as long: hours for these."""
    (tmp_path / "a.md").write_text(f"# Title{' ' * 50_000}x")
    (document,) = read_documents([tmp_path / "a.md"])
    assert document.title.split() == ["Title", "x"]


def test_html_gives_what_a_reader_sees(tmp_path: Path) -> None:
    page = """<!DOCTYPE html><html><head><title></title><style>p {}</style></head><body><!-- no -->
      <script>no()</script><h1>Head</h1><p hidden>no</p>
      <p>one &amp;
         <i>t</i>wo<br>three</p><ul><li>x<li>y</ul>
      <table><tr><td>1</td><td>2</td></tr></table><pre>a
  b</pre></body></html>"""
    (tmp_path / "p.htm").write_text(page)
    (document,) = read_documents([tmp_path / "p.htm"])
    assert document.title == "p"
    assert document.text == "Head\n\none & two\n\nthree\n\nx\n\ny\n\n1 2\n\na\nb"


def test_html_in_the_encoding_that_it_declares(tmp_path: Path) -> None:
    page = '<meta charset="iso-8859-1"><p>caf\u00e9'.encode("latin-1")
    (tmp_path / "p.html").write_bytes(page)
    (document,) = read_documents([tmp_path / "p.html"])
    assert document.text == "caf\u00e9"


def test_html_in_what_browsers_take_latin_1_for(tmp_path: Path) -> None:
    page = b'<meta charset="iso-8859-1"><p>Smith\x92s \x93bridge\x94 cost \x80 5'
    (tmp_path / "p.html").write_bytes(page)
    (document,) = read_documents([tmp_path / "p.html"])
    assert document.text == "Smith\u2019s \u201cbridge\u201d cost \u20ac 5"


def test_html_whose_byte_order_mark_says_otherwise(tmp_path: Path) -> None:
    page = b"\xef\xbb\xbf" + '<meta charset="iso-8859-1"><p>caf\u00e9'.encode()
    (tmp_path / "p.html").write_bytes(page)
    (document,) = read_documents([tmp_path / "p.html"])
    assert document.text == "caf\u00e9"


def test_html_with_a_declaration_that_no_parser_knows(tmp_path: Path) -> None:
    known = "<!--[if IE]><p>no</p><![endif]--><![if !IE]>"
    (tmp_path / "p.html").write_text(f"{known}<p>before<![foo bar]>after</p><![endif]>")
    (document,) = read_documents([tmp_path / "p.html"])
    assert document.text == "before<![foo bar]>after"


def test_half_a_surrogate_becomes_a_replacement_character(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text('{"id": "a", "title": null, "text": "x\\ud800y"}')
    assert list(read_documents([tmp_path / "d.jsonl"])) == [Document("a", "", "x\ufffdy")]


BAD_FILES = [
    ("d.jsonl", JSON_LINES + b"{", r"d.jsonl, line 3: not valid JSON"),
    ("d.jsonl", b"\n[1]", r"line 2: not a JSON object"),
    ("d.jsonl", b'{"id": "a", "text": ""}', r"line 1: there is no 'title'"),
    ("d.jsonl", b'{"id": null, "title": "", "text": ""}', r"line 1: the id is None"),
    ("d.jsonl", b'{"id": true, "title": "", "text": ""}', r"line 1: the id is True"),
    ("d.jsonl", b'{"id": "a", "title": "", "text": [1]}', r"line 1: 'text' is of type list"),
    ("d.jsonl", JSON_LINES + b'{"\xff', r"line 3: byte 2 is not UTF-8"),
    ("d.jsonl", JSON_LINES + JSON_LINES, r"d.jsonl: the document id 'a' occurs twice"),
    ("d.jsonl", b"", r"d.jsonl holds no documents"),
    ("d.jsonl.gz", gzip.compress(JSON_LINES)[:-12], r"d.jsonl.gz cannot be read"),
    ("d.jsonl.gz", b"plain", r"d.jsonl.gz cannot be read"),
    ("d.jsonl.bz2", bz2.compress(JSON_LINES)[:-12], r"d.jsonl.bz2 cannot be read"),
    ("d.jsonl.zst", b"plain", r"d.jsonl.zst cannot be read"),
    ("d.csv.zst", zstandard.compress(CSV)[:-3], r"d.csv.zst cannot be read \(it ends in the"),
    ("d.csv.zst", 2 * zstandard.compress(CSV)[:-3], r"d.csv.zst cannot be read"),
    ("d.csv", b"id,title,text\na,b,c,d\n", r"line 2: more cells than in the header"),
    ("d.csv", b"id,title,text\na,b\n", r"line 2: fewer cells than in the header"),
    ("d.csv", b"id,title\na,b\n", r"line 2: there is no 'text'"),
    ("d.csv", b'id,title,text\na,b,"c" d\n', r"line 2: not valid CSV"),
    ("d.csv", b"id,title,text\na,b,\xff\n", r"line 2: byte 4 is not UTF-8"),
    ("d.parquet", b"nothing", r"not a readable Parquet file"),
    ("d.txt", b"one\ntwo \xff", r"d.txt, line 2: byte 8 is not UTF-8"),
    ("d.html", b"<p>\xff", r"d.html, line 1: byte 3 is not UTF-8"),
    ("d.xml", b"<mediawiki><page>", r"not a complete MediaWiki dump"),
    ("d.png", b"", r"d.png is of an unknown kind"),
]


@pytest.mark.parametrize(("name", "content", "message"), BAD_FILES)
def test_bad_files_are_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceError, match=message) as caught:
        list(read_documents([tmp_path / name]))
    assert "\n" not in str(caught.value)


def test_parquet_without_a_column(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": ["a"], "text": ["b"]}), tmp_path / "d.parquet")
    with pytest.raises(SourceError, match="no column 'title'"):
        list(read_documents([tmp_path / "d.parquet"]))


def test_missing_and_empty_sources(tmp_path: Path) -> None:
    for read in (lambda s: list(read_documents(s)), fingerprint_sources):
        with pytest.raises(SourceError, match="there is no file or folder"):
            read([tmp_path / "nowhere"])
        with pytest.raises(SourceError, match="holds no documents"):
            read([tmp_path])
    with pytest.raises(SourceError, match="no sources"):
        list(read_documents([]))


def test_a_file_that_fails_while_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "d.txt").write_text("text")
    failing = raising(OSError("input/output error"))
    monkeypatch.setattr(Path, "open", failing)
    monkeypatch.setattr(Path, "read_bytes", failing)
    for read in (lambda s: list(read_documents(s)), fingerprint_sources):
        with pytest.raises(SourceError, match=r"d.txt cannot be read \(input/output error\)"):
            read([tmp_path / "d.txt"])


def test_the_same_id_in_two_sources(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.txt").write_text(name)
    with pytest.raises(SourceError, match=r"two: the document id 'a.txt' occurs twice"):
        list(read_documents([tmp_path / "one", tmp_path / "two"]))


def test_block_records_of_the_same_name_in_two_sources(tmp_path: Path) -> None:
    paths = [tmp_path / folder / "block_records.npy" for folder in ("one", "two")]
    for path in paths:
        path.parent.mkdir()
        write_block_records(path, iter(["A text.", "Another."]), 2)
    assert len(list(read_documents(paths[:1]))) == 2
    with pytest.raises(SourceError, match=r"two.*: the document id .*npy:0' occurs twice"):
        list(read_documents(paths))


def test_fingerprints_follow_content_and_not_place(tmp_path: Path) -> None:
    prints = []
    for place, content in (("x", "a"), ("y", "a"), ("z", "b")):
        (tmp_path / place / "docs").mkdir(parents=True)
        (tmp_path / place / "docs" / "d.txt").write_text(content)
        prints.append(fingerprint_sources([tmp_path / place / "docs", "hub:some/name"]))
    assert prints[0] == prints[1] != prints[2]
    assert list(prints[0]) == ["source 0: docs", "source 1: hub:some/name"]


def module(name: str, **members: Any) -> types.ModuleType:
    made = types.ModuleType(name)
    made.__dict__.update(members)
    return made


@pytest.mark.parametrize(
    ("source", "arguments"),
    [
        ("hub:org/name", ("org/name", None, "train")),
        ("hub:org/name:dev", ("org/name", None, "dev")),
        ("hub:org/name:en:dev", ("org/name", "en", "dev")),
    ],
)
def test_hub(monkeypatch: pytest.MonkeyPatch, source: str, arguments: tuple[object, ...]) -> None:
    def load(name: str, configuration: str | None, *, split: str, streaming: bool) -> list[Any]:
        assert streaming
        assert (name, configuration, split) == arguments
        return ROWS

    monkeypatch.setitem(sys.modules, "datasets", module("datasets", load_dataset=load))
    assert list(read_documents([source])) == DOCUMENTS


def raising(error: Exception) -> Callable[..., Any]:
    def function(*_: object, **__: object) -> Any:
        raise error

    return function


def test_a_connection_that_breaks_off_is_no_fault_of_the_source(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What was built until then is kept, as after a full disk."""

    def rows() -> Iterator[dict[str, object]]:
        yield from ROWS
        raise ConnectionError("gone")

    breaking = module("datasets", load_dataset=lambda *_, **__: rows())
    monkeypatch.setitem(sys.modules, "datasets", breaking)
    expected = rf"hub:x broke off after row {len(ROWS)} \(gone\): start again"
    with pytest.raises(ResourceError, match=expected):
        list(read_documents(["hub:x"]))


def test_hub_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ResourceError, match=r"realm-lm\[hub\]"):
        list(read_documents(["hub:x"]))
    broken = module("datasets", load_dataset=raising(ValueError("offline\nnow")))
    monkeypatch.setitem(sys.modules, "datasets", broken)
    with pytest.raises(SourceError, match=r"cannot read hub:x \(offline now\): check"):
        list(read_documents(["hub:x"]))
    rows = module("datasets", load_dataset=lambda *_, **__: [{"id": 1, "text": ""}])
    monkeypatch.setitem(sys.modules, "datasets", rows)
    with pytest.raises(SourceError, match="row 1: there is no 'title'"):
        list(read_documents(["hub:x"]))
    for source in ("hub:", "hub::train", "hub:x:", "hub:x:y:train:more"):
        with pytest.raises(SourceError, match=f"{source} names no data set: write hub:NAME"):
            list(read_documents([source]))


def test_a_folder_in_the_layout_of_the_hub(tmp_path: Path) -> None:
    """With the library itself, where the extra is installed."""
    pytest.importorskip("datasets", reason="the extra `hub` is not installed")
    (tmp_path / "data").mkdir()
    for split, rows in (("train", DOCUMENTS), ("validation", DOCUMENTS[:1])):
        columns = {
            "id": [d.document_id for d in rows], "url": ["x"] * len(rows),
            "title": [d.title for d in rows], "text": [d.text for d in rows],
        }  # fmt: skip
        pq.write_table(pa.table(columns), tmp_path / "data" / f"{split}-00000-of-00001.parquet")
    source = f"hub:{tmp_path}"
    assert list(read_documents([source])) == DOCUMENTS
    assert list(read_documents([f"{source}:validation"])) == DOCUMENTS[:1]
    assert list(read_documents([f"{source}:default:train"])) == DOCUMENTS
    with pytest.raises(SourceError, match=r"Bad split: test.* check its name, its split"):
        list(read_documents([f"{source}:test"]))
