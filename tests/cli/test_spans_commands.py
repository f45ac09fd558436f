"""Does a tagger that was trained from the command line find the spans of a run?"""

import json
from pathlib import Path

import pytest
from command_line import error_of, realm

from realm.cli.info_commands import show_span_statistics

TEXT = """\
The O
Sorna I-LOC
is O
a O
river O
. O

Ida I-PER
Renquist I-PER
designed O
the O
Lomvar I-LOC
Bridge I-LOC
. O

-DOCSTART- O

"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Five short documents of tagged words."""
    file = tmp_path / "names.conll"
    file.write_text(TEXT * 5, encoding="utf-8")
    return file


@pytest.fixture
def run(corpus_source: Path, trunk_folder: Path, tmp_path: Path) -> Path:
    """A run with a corpus."""
    path = tmp_path / "run"
    values = {
        "corpus.passage_tokens": "64",
        "corpus.num_workers": "1",
        "packing.query_tokens": "40",
        "embedder.trunk": f"'{trunk_folder}'",
        "reader.trunk": f"'{trunk_folder}'",
    }
    settings = [word for name, value in values.items() for word in ("--set", f"{name}={value}")]
    assert realm("corpus", corpus_source, "--run", path, *settings).exit_code == 0
    return path


@pytest.mark.slow
def test_train_measure_and_use(data: Path, run: Path, trunk_folder: Path, tmp_path: Path) -> None:
    second = tmp_path / "second.conll"
    second.write_text(TEXT.replace("LOC", "place") * 5, encoding="utf-8")
    articles = tmp_path / "articles.jsonl"
    articles.write_text(
        '{"id": "1", "title": "Keld", "text": "Keld is a company in Tavil."}', "utf-8"
    )
    report, tagger = tmp_path / "report.json", tmp_path / "tagger"
    result = realm(
        "spans", "train", "--data", data, second, "--out", tagger, "--trunk", trunk_folder,
        "--held-out", "--json", report, "--rename", "second.conll:PER=O",
        "--articles", articles,
        "--set", "num_epochs=40", "--set", "learning_rate=5e-3", "--set", "dropout=0.0",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "1 articles mark 1 names" in result.stderr
    assert "3 entities in 1 documents held out" in result.stdout
    assert result.stdout.splitlines()[-1] == str(tagger)
    facts = json.loads(report.read_text(encoding="utf-8"))
    assert (facts["num_documents"], facts["num_sentences"], facts["num_entities"]) == (1, 2, 3)
    assert facts["systems"]["model"]["typed"]["f1"] == 100.0  # it has read these very sentences
    assert facts["systems"]["rules"]["typed"] is None
    result = realm("spans", "--run", run, "--tagger", tagger)
    assert result.exit_code == 0, result.output
    assert "LOC" in result.stdout
    settings = json.loads((run / "recipe.json").read_text(encoding="utf-8"))["spans"]
    assert settings["tagger"] == str(tagger)
    # A finished stage keeps its tagger.
    assert "take a new --run" in error_of(realm("spans", "--run", run, "--tagger", "rules"))


def test_bad_input_of_train(data: Path, trunk_folder: Path, tmp_path: Path) -> None:
    common = ("spans", "train", "--trunk", trunk_folder, "--out")
    out = tmp_path / "out"
    assert "cannot be read" in error_of(realm(*common, out, "--data", tmp_path / "none"))
    assert "exists already" in error_of(realm(*common, tmp_path, "--data", data))
    assert "same name" in error_of(realm(*common, out, "--data", data, data))
    for rename in ("PER=O", "other.conll:PER=O", "names.conll:PER"):
        message = error_of(realm(*common, out, "--data", data, "--rename", rename))
        assert "FILE:LABEL=NAME" in message
    message = error_of(realm(*common, out, "--data", data, "--rename", "names.conll:GPE=LOC"))
    assert "no label 'GPE'" in message
    message = error_of(realm(*common, out, "--data", data, "--set", "num_epoch=3"))
    assert "'num_epochs'" in message
    report = tmp_path / "report.json"
    message = error_of(realm(*common, out, "--data", data, "--json", report))
    assert "--held-out" in message
    message = error_of(realm(*common, data / "below" / "out", "--data", data))
    assert "cannot be written" in message
    message = error_of(
        realm(*common, out, "--data", data, "--held-out", "--json", data / "report.json")
    )
    assert "cannot be written" in message
    assert not out.exists()


def test_spans_needs_a_run(run: Path, tmp_path: Path) -> None:
    assert "--run" in error_of(realm("spans"))
    message = error_of(realm("spans", "--run", run, "--tagger", tmp_path / "none"))
    assert "no token classification model" in message
    # Another choice mends it.
    assert realm("spans", "--run", run, "--tagger", "rules").exit_code == 0


def test_info_shows_how_dense_the_spans_are(run: Path) -> None:
    assert realm("spans", "--run", run).exit_code == 0
    shown = realm("info", "--run", run).stdout
    assert "Salient spans" in shown
    assert "sentences too short" in shown
    assert "Examples of pre-training" not in shown  # it did not begin


def test_statistics_by_hand(capsys: pytest.CaptureFixture[str]) -> None:
    counts = {
        "num_spans": 10, "num_passages": 4, "num_passages_with_spans": 3, "num_sentences": 16,
        "num_sentences_with_spans": 6, "num_spans_date": 2, "num_spans_entity": 8,
    }  # fmt: skip
    show_span_statistics(counts)
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip()]
    shown = {" ".join(row[:-2]): row[-2:] for row in rows}
    assert shown["sentences with a span"] == ["6", "37.5%"]
    assert shown["passages with a span"] == ["3", "75.0%"]
    assert shown["spans: date"] == ["2", "20.0%"]
    assert list(shown).index("spans: entity") < list(shown).index("spans: date")
    assert ["spans", "a", "passage", "2.50"] in rows
