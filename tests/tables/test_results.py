"""Are the numbers of a table those of its rows, and do the intervals say what they should?"""

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from realm.corpus.store import PassageStore
from realm.evaluation.metrics import METRIC_VERSION
from realm.experiment import Experiment, with_overrides
from realm.scoring import data_fingerprint
from realm.stages import Run
from realm.tables.making import Job, row_run
from realm.tables.page import write_table
from realm.tables.results import read_table
from realm.tables.row import mean_lengths
from realm.tables.rows import rows_of

# The second file names no documents: nothing says that this corpus answers its questions.
FILES = {"known-dev": (0, 0, 3, 4), "other-dev": (None, None)}

Finish = Callable[..., Run]


@pytest.fixture
def base(tmp_path: Path, small_store: PassageStore) -> Run:
    """A run with the corpus of the small world and two files of questions."""
    paths = []
    for name, articles in FILES.items():
        rows: list[dict[str, Any]] = [
            {"question": f"{name} {number}?", "answer": ["x"]}
            | ({} if article is None else {"doc": f"article-{article}"})
            for number, article in enumerate(articles)
        ]
        paths.append(tmp_path / f"{name}.jsonl")
        paths[-1].write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    files = json.dumps([str(path) for path in paths])
    changes = [f"train_questions={files}", f"dev_questions={files}"]
    run = Run(tmp_path / "a run", with_overrides(Experiment(), changes))
    run.save_recipe()
    (run.path / "corpus").symlink_to(small_store.path)
    return run


@pytest.fixture
def finish(base: Run) -> Finish:
    """Writes what the stages and the evaluation of a row leave behind."""
    rows = rows_of("table2", base.experiment, mean_lengths(base.corpus(), base.experiment))
    by_name = {row.name: row for row in rows}

    def write(name: str, seed: int, correct: Sequence[Sequence[int]], utility: float = 0.0) -> Run:
        run = row_run(base, Job(by_name[name], seed))
        run.save_recipe()
        (run.path / "evaluation").mkdir()
        (run.path / "stages.jsonl").write_text(
            '{"stage": "pretrain", "seconds": 90, "peak_megabytes": 1}\n', encoding="utf-8"
        )
        for file, verdicts in zip(FILES, correct, strict=True):
            share = 100 * sum(verdicts) / len(verdicts)
            system: dict[str, Any] = {
                "recall": {"5": share},
                "first_hits": [5 if verdict else 6 for verdict in verdicts],
                "gold_share": 50.0 if file == "known-dev" else None,
            }
            systems = dict.fromkeys(("warm-start", "pretrain", "finetune"), system)
            nothing = {"recall": {"5": 1.0}, "first_hits": [None] * len(verdicts)}
            systems["warm-start"] = {**system, **nothing}
            (path,) = (path for path in base.experiment.dev_questions if file in path)
            of = {
                "fingerprints": {"data": data_fingerprint(path)},
                "metric_version": METRIC_VERSION,
            }
            reports = {
                f"retrieval-{file}.json": {"systems": systems, **of},
                f"open-qa-{file}.json": {"exact_match": share, "f1": share, **of},
            }
            for path, report in reports.items():
                text = json.dumps(report)
                (run.path / "evaluation" / path).write_text(text, encoding="utf-8")
            lines = "".join(json.dumps({"is_correct": bool(v)}) + "\n" for v in verdicts)
            file_name = f"predictions-{file}.jsonl"
            (run.path / "evaluation" / file_name).write_text(lines, encoding="utf-8")
        (run.path / "pretrain").mkdir()
        (run.path / "pretrain" / "metrics.jsonl").write_text(
            "".join(
                json.dumps({"step": step, "held_out_retrieval_utility": step * utility}) + "\n"
                for step in (0, 50)
            ),
            encoding="utf-8",
        )
        return run

    return write


def test_means_leads_and_curves_by_hand(base: Run, finish: Finish) -> None:
    finish("realm", 0, [(1, 1, 1, 0), (1, 0)], 0.01)
    finish("realm", 1, [(1, 1, 0, 0), (1, 0)], 0.03)
    finish("orqa", 0, [(0, 0, 0, 0), (1, 1)])
    finish("random-spans", 0, [(0, 0, 1, 0), (0, 0)], -0.01)
    report = read_table("table2", base).report()
    assert report["files"] == {
        "known-dev": {"num_questions": 4, "num_articles": 3},
        "other-dev": {"num_questions": 2, "num_articles": 2},
    }
    assert report["averaged_over"] == ["known-dev"]
    assert report["minutes"] == 6.0
    names = [(row["name"], row["seed"]) for row in report["rows"]]
    assert names == [("realm", 0), ("realm", 1), ("orqa", 0), ("random-spans", 0)]
    assert report["rows"][1]["command"].endswith("--rows realm --seeds 2")
    assert report["rows"][3]["command"].endswith("--rows random-spans")
    summary = {row["name"]: row for row in report["summary"]}
    # 75 and 50: mean 62.5, of error 12.5, by t of one degree: 12.5 * 12.706 = 158.825.
    mean = summary["realm"]["metrics"]["known-dev"]["exact_match"]
    bounds = {"low": 62.5 - 158.825, "high": 62.5 + 158.825}
    assert mean == pytest.approx({"estimate": 62.5, **bounds}, abs=0.006)
    assert summary["realm"]["metrics"]["average"]["exact_match"] == mean
    assert summary["orqa"]["metrics"]["known-dev"]["exact_match"]["low"] is None
    assert summary["realm"]["metrics"]["other-dev"]["gold_share_after"] is None
    leads = {lead["before"]: lead["exact_match"] for lead in report["differences"]}
    assert set(leads) == {"orqa", "random-spans"}
    # By question 1, 1, 0.5, 0; all of the first article, half of the second, none of the third.
    # Resampled means lie from 0 to 100, stretched for three articles and two questions.
    of_three, of_two = math.sqrt(3 / 2) * 4.303 / 1.95996, math.sqrt(2) * 12.706 / 1.95996
    known = {"low": 62.5 - 62.5 * of_three, "high": 62.5 + 37.5 * of_three}
    assert leads["orqa"]["known-dev"] == pytest.approx({"estimate": 62.5, **known}, abs=0.006)
    assert leads["orqa"]["average"] == leads["orqa"]["known-dev"]
    other = {"low": -50 - 50 * of_two, "high": -50 + 50 * of_two}
    assert leads["orqa"]["other-dev"] == pytest.approx({"estimate": -50.0, **other}, abs=0.006)
    assert report["retrieval_utility"] == {
        "salient spans": [(0, 0.0), (50, 1.0)],
        "random spans": [(0, 0.0), (50, -0.5)],
    }


def test_a_reset_retriever_is_measured_as_it_was(base: Run, finish: Finish) -> None:
    finish("realm", 0, [(1, 1, 1, 0), (1, 0)])
    finish("realm-encoder", 0, [(1, 1, 1, 0), (1, 0)])
    rows = read_table("table2", base).report()["rows"]
    before = [row["metrics"]["known-dev"]["recall_before"] for row in rows]
    after = [row["metrics"]["known-dev"]["recall_after"] for row in rows]
    # The baseline's retriever is that of the warm start, REALM's that of pre-training.
    assert before == [75.0, 1.0]
    assert after == [75.0, 75.0]
    (lead,) = read_table("table2", base).report()["differences"]
    # Found by REALM's at rank 5, and by the other not at all: 1, 1, 1, 0 against nothing.
    assert lead["recall_before"]["known-dev"]["estimate"] == 75.0
    assert lead["exact_match"]["known-dev"] == {"estimate": 0.0, "low": 0.0, "high": 0.0}


def test_rows_that_are_unfinished_or_of_another_recipe_are_left_out(
    base: Run, finish: Finish
) -> None:
    finish("realm", 0, [(1, 1, 1, 0), (1, 0)])
    unfinished = finish("orqa", 0, [(1, 1, 1, 0), (1, 0)])
    (unfinished.path / "evaluation" / "open-qa-other-dev.json").unlink()
    other = finish("stale-index", 0, [(1, 1, 1, 0), (1, 0)])
    changed = with_overrides(other.experiment, ["pretrain.loop.num_steps=7"])
    Run(other.path, changed).save_recipe()
    report = read_table("table2", base).report()
    assert [row["name"] for row in report["rows"]] == ["realm"]
    assert report["differences"] == []


def test_a_row_that_was_measured_on_other_questions_is_left_out(base: Run, finish: Finish) -> None:
    """Also where there are as many, so that nothing else would tell."""
    finish("realm", 0, [(1, 1, 1, 0), (1, 0)])
    file = Path(base.experiment.dev_questions[0])
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace("known-dev 3?", "known-dev three?"), encoding="utf-8")
    assert read_table("table2", base).report()["rows"] == []
    file.write_text(text, encoding="utf-8")
    assert len(read_table("table2", base).report()["rows"]) == 1


def test_a_row_of_an_older_metric_is_left_out(base: Run, finish: Finish) -> None:
    run = finish("realm", 0, [(1, 1, 1, 0), (1, 0)])
    path = run.path / "evaluation" / "open-qa-known-dev.json"
    report = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**report, "metric_version": "before"}), encoding="utf-8")
    assert read_table("table2", base).report()["rows"] == []


def test_commands_are_quoted_and_what_is_shared_is_told(
    base: Run, finish: Finish, tmp_path: Path
) -> None:
    finish("realm", 0, [(1, 1, 1, 0), (1, 0)])
    (base.path / "stages.jsonl").write_text(
        '{"stage": "corpus", "seconds": 150, "peak_megabytes": 1}\n', encoding="utf-8"
    )
    report = read_table("table2", base).report()
    assert (report["minutes"], report["minutes_of_run"]) == (1.5, 2.5)
    assert f"--run '{base.path}' " in report["rows"][0]["command"]
    page = write_table(tmp_path / "table2", report).read_text(encoding="utf-8")
    assert "What all rows share took 2.5 minutes" in page
    assert "<b>4:00</b>" in page


def test_the_page_has_the_paper_beside_it(base: Run, finish: Finish, tmp_path: Path) -> None:
    finish("realm", 0, [(1, 1, 1, 0), (1, 0)], 0.01)
    finish("realm", 1, [(1, 1, 0, 0), (1, 0)], 0.01)
    finish("orqa", 0, [(0, 0, 0, 0), (1, 1)])
    report = read_table("table2", base).report()
    page = write_table(tmp_path / "table2", report).read_text(encoding="utf-8")
    assert json.loads((tmp_path / "table2" / "report.json").read_text("utf-8")) == json.loads(
        json.dumps(report)
    )
    for text in ("<td>38.2</td>", "<td>31.3</td>", "<td>62.5 ± 158.8</td>", "+62.5 (-105.5 to"):
        assert text in page
    assert page.count("<svg") == 1
    assert "the embedder sees as many in" in page
    assert "$" not in page
    assert "http" not in page
