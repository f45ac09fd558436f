"""What stands in files of tagged words, whoever wrote them."""

from pathlib import Path

import pytest

from realm.errors import SourceError
from realm.spans.conll import (
    TaggedSentence,
    join_words,
    read_tagged,
    split_held_out,
)
from realm.spans.entities import Span

# The same two documents: IOB with two columns, and IOB2 numbered with comments and spare columns.
IOB = """\
Ida I-PER
Renquist I-PER
saw O
Tavil I-LOC
. O

Lomvar I-LOC
Tavil B-LOC

-DOCSTART- O

He O
left O
"""
IOB2 = """\
# newdoc id = one
# text = Ida Renquist saw Tavil.
1\tIda\tB-PER\t-\tann
2\tRenquist\tI-PER\t-\tann
3\tsaw\tO\t-\tann
4\tTavil\tB-LOC\t-\tann
5\t.\tO\t-\tann

1\tLomvar\tB-LOC\t-\tann
2\tTavil\tB-LOC\t-\tann

# newdoc id = two
# sent_id = 1
1\tHe\tO\t-\tann
2\tleft\tO\t-\tann
"""


def write(folder: Path, text: str, name: str = "data.conll") -> Path:
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return file


def test_a_word_may_hold_what_ends_lines_for_python(tmp_path: Path) -> None:
    file = write(tmp_path, "Ida\tB-PER\nRen\u2028quist\tI-PER\nleft\tO\n")
    ((sentence,),) = read_tagged(file).documents
    assert sentence == TaggedSentence("Ida Ren\u2028quist left", (Span(0, 13, "PER"),))


@pytest.mark.parametrize("text", [IOB, IOB2, IOB.replace("\n", "\r\n"), "\ufeff" + IOB])
def test_notations_of_the_same_entities(tmp_path: Path, text: str) -> None:
    file = tmp_path / "data.conll"
    file.write_bytes(text.encode())
    read = read_tagged(file)
    assert read.documents == [
        [
            TaggedSentence(
                "Ida Renquist saw Tavil.", (Span(0, 12, "PER"), Span(17, 22, "LOC"))
            ),
            TaggedSentence("Lomvar Tavil", (Span(0, 6, "LOC"), Span(7, 12, "LOC"))),
        ],
        [TaggedSentence("He left", ())],
    ]  # fmt: skip
    assert read.labels == {"PER", "LOC"}


def test_of_several_columns_of_tags_the_last_one_counts(tmp_path: Path) -> None:
    # CoNLL-2003: word, part of speech, chunk, entity.
    text = "Tavil NNP I-NP I-LOC\nlies VBZ I-VP O\nthere RB B-ADVP O\n"
    assert read_tagged(write(tmp_path, text)).sentences == [
        TaggedSentence("Tavil lies there", (Span(0, 5, "LOC"),))
    ]


def test_signs_that_look_like_marks_are_words(tmp_path: Path) -> None:
    text = "# O\n1 O\nTavil B-LOC\n\nIt O\n# O\n"
    assert [s.text for s in read_tagged(write(tmp_path, text)).sentences] == ["# 1 Tavil", "It #"]


def test_labels_are_mapped(tmp_path: Path) -> None:
    text = "".join(f"{word} B-{word}\n" for word in ("person", "place", "ORG", "plant", "time"))
    file = write(tmp_path, text)
    assert read_tagged(file).labels == {"PER", "LOC", "ORG", "PLANT", "TIME"}
    renamed = read_tagged(file, {"time": "O", "plant": "MISC", "person": "HUMAN"})
    assert renamed.labels == {"HUMAN", "LOC", "ORG", "MISC"}
    assert [span.label for span in renamed.sentences[0].spans] == ["HUMAN", "LOC", "ORG", "MISC"]


def test_a_label_that_is_not_there_cannot_be_renamed(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"'GPE'.*LOC, PER"):
        read_tagged(write(tmp_path, IOB), {"GPE": "LOC"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column of IOB tags"),
        ("Tavil\nlies\n", "no column of IOB tags"),
        ("Tavil LOC\nlies O\n", "no column of IOB tags"),
        ("O\nO\n", "no column of IOB tags"),
    ],
)
def test_files_of_another_kind(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        read_tagged(write(tmp_path, text))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="cannot be read"):
        read_tagged(tmp_path / "none.conll")
    (tmp_path / "latin.conll").write_bytes(b"caf\xe9 O\n")
    with pytest.raises(SourceError, match="UTF-8"):
        read_tagged(tmp_path / "latin.conll")


def test_documents_are_held_out_whole(tmp_path: Path) -> None:
    text = "".join(
        f"w{d}.{s} O\n\n" + "-DOCSTART- O\n\n" * (s == 2) for d in range(10) for s in range(3)
    )
    file = read_tagged(write(tmp_path, text))
    train, held_out = split_held_out(file, share=0.2, seed=0)
    assert (len(train.documents), len(held_out.documents)) == (8, 2)
    numbers = [{s.text.split(".")[0] for s in part.sentences} for part in (train, held_out)]
    assert numbers[0].isdisjoint(numbers[1])
    assert len(train.sentences) + len(held_out.sentences) == 30
    assert split_held_out(file, share=0.2, seed=0)[1] == held_out
    assert split_held_out(file, share=0.2, seed=1)[1] != held_out


def test_without_marks_neighbours_stay_together(tmp_path: Path) -> None:
    file = read_tagged(write(tmp_path, "".join(f"w{n} O\n\n" for n in range(45))))
    assert [len(document) for document in file.documents] == [20, 20, 5]
    with pytest.raises(SourceError, match="single document"):
        split_held_out(read_tagged(write(tmp_path, "w O\n")), share=0.2, seed=0)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("He said : \" No , Ida . \"", 'He said: "No, Ida."'),
        ("the Sorna ( a river ) and [ sic ]", "the Sorna (a river) and [sic]"),
        ("Ida 's bridge is n't there", "Ida's bridge isn't there"),
        ("96 % of $ 5", "96% of $5"),
        ("\" One \" and \" two \"", '"One" and "two"'),
    ],
)  # fmt: skip
def test_words_are_written_as_in_print(words: str, text: str) -> None:
    pieces = words.split()
    joined, offsets = join_words(pieces)
    assert joined == text
    assert [joined[start:end] for start, end in offsets] == pieces
