"""Is every question asked once, of a model that did not learn it?"""

import json
from pathlib import Path

import pytest

from realm.corpus.store import PassageStore
from realm.errors import SettingError
from realm.evaluation.metrics import METRIC_VERSION, Interval
from realm.examples.question import Question, read_questions
from realm.experiment import Experiment, with_overrides
from realm.scoring import data_fingerprint
from realm.stages import Run
from realm.tables import folds, page
from realm.tables.folds import NUM_FOLDS, make_folds, read_folds, write_folds
from realm.tables.making import Job
from realm.tables.row import MeanLengths
from realm.tables.rows import rows_of


@pytest.fixture
def base(tmp_path: Path, small_store: PassageStore) -> Run:
    """A run with a corpus and a recipe that names questions."""
    (tmp_path / "nq.jsonl").write_text('{"question": "Who?", "answer": ["x"]}', encoding="utf-8")
    changes = [f"train_questions=['{tmp_path}/nq.jsonl']", "dev_questions=['dev.jsonl']"]
    run = Run(tmp_path / "run", with_overrides(Experiment(), changes))
    run.save_recipe()
    (run.path / "corpus").symlink_to(small_store.path)
    return run


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Thirteen questions with regular expressions."""
    path = tmp_path / "curatedtrec-train.jsonl"
    lines = [json.dumps({"question": f"Question {n}?", "answer": [f"a{n}?"]}) for n in range(13)]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def realm_job(base: Run) -> Job:
    return Job(rows_of("table1", base.experiment, MeanLengths(30.0, 130.0))[4], 0)


def finish(base: Run, run: Run) -> Run:
    """Leave behind what an evaluation does: the first question of a fold is right and found."""
    run.save_recipe()
    (fold,) = (Path(path) for path in run.experiment.dev_questions)
    verdicts = [number == 0 for number in range(len(read_questions(fold)))]
    ranks = [1 if verdict else None for verdict in verdicts]
    system = {"recall": {"5": 0.0}, "gold_share": None, "first_hits": ranks}
    data = {"data": data_fingerprint(str(fold))}
    of = {"fingerprints": data, "metric_version": METRIC_VERSION}
    systems = {"pretrain": system, "finetune": system}
    reports = {
        f"retrieval-{fold.stem}.json": {"systems": systems, **of},
        f"open-qa-{fold.stem}.json": {"exact_match": 0.0, "f1": 0.0, **of},
    }
    (run.path / "evaluation").mkdir(exist_ok=True)
    for name, report in reports.items():
        (run.path / "evaluation" / name).write_text(json.dumps(report), encoding="utf-8")
    lines = "".join(json.dumps({"is_correct": verdict}) + "\n" for verdict in verdicts)
    (run.path / "evaluation" / f"predictions-{fold.stem}.jsonl").write_text(lines, encoding="utf-8")
    return run


def test_each_question_is_asked_once_of_what_learned_the_others(
    base: Run, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Run] = []
    monkeypatch.setattr(folds, "make_row", lambda base, run: made.append(run))
    make_folds(base, realm_job(base), str(file))
    content = data_fingerprint(str(file))[:8]
    assert [run.path.name for run in made] == [
        f"realm-0-curatedtrec-train-{content}-{number}" for number in range(1, NUM_FOLDS + 1)
    ]
    everything, asked = read_questions(file), []
    for run in made:
        own, learned = run.experiment.train_questions
        (dev,) = run.experiment.dev_questions
        assert Path(own).name == "nq.jsonl"
        asked += read_questions(dev)
        parts = (
            {q.question for q in read_questions(learned)},
            {q.question for q in read_questions(dev)},
        )
        assert parts[0] | parts[1] == {q.question for q in everything}
        assert not parts[0] & parts[1]
        assert len(parts[1]) in (2, 3)
    assert sorted(asked, key=str) == sorted(everything, key=str)
    assert all(question.is_regex for question in asked)


def test_a_question_that_stands_twice_is_asked_by_what_did_not_learn_it(
    base: Run, file: Path
) -> None:
    lines = file.read_text(encoding="utf-8").splitlines()
    file.write_text("\n".join([*lines, *lines[::-1]]), encoding="utf-8")
    asked = []
    for fold in write_folds(base, str(file)):
        questions = {question.question for question in read_questions(fold.asked)}
        assert questions.isdisjoint(q.question for q in read_questions(fold.learned))
        asked += read_questions(fold.asked)
    assert len(asked) == 2 * len(lines)
    file.write_text("\n".join(lines[:4] * 3), encoding="utf-8")
    with pytest.raises(SettingError, match="has 4 different questions, too few"):
        write_folds(base, str(file))


def test_the_mean_is_over_all_questions_of_finished_folds(
    base: Run, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Run] = []
    monkeypatch.setattr(folds, "make_row", lambda base, run: made.append(finish(base, run)))
    assert read_folds("table1", base, str(file))["rows"] == []
    make_folds(base, realm_job(base), str(file))
    # One of each of five folds is right: 5 of 13.
    assert read_folds("table1", base, str(file)) == {
        "file": "curatedtrec-train",
        "path": str(file),
        "num_questions": 13,
        "rows": [{"name": "realm", "title": "REALM", "exact_match": 38.46, "recall_before": 38.46}],
    }
    (report,) = (made[2].path / "evaluation").glob("open-qa-*.json")
    report.unlink()
    assert read_folds("table1", base, str(file))["rows"] == []


def test_the_lead_is_over_the_same_questions(
    base: Run, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Run] = []
    monkeypatch.setattr(folds, "make_row", lambda base, run: made.append(finish(base, run)))
    rows = rows_of("table1", base.experiment, MeanLengths(30.0, 130.0))
    plus = Job(next(row for row in rows if row.name == "realm-plus"), 0)
    make_folds(base, plus, str(file))
    assert "lead" not in read_folds("table1", base, str(file))["rows"][0]
    make_folds(base, realm_job(base), str(file))
    for run in made[:2]:  # two of its folds have nothing right
        (predictions,) = (run.path / "evaluation").glob("predictions-*.jsonl")
        predictions.write_text(predictions.read_text().replace("true", "false"), encoding="utf-8")
    realm, below = read_folds("table1", base, str(file))["rows"]
    assert (realm["name"], below["name"]) == ("realm", "realm-plus")
    assert below["exact_match"] == round(100 * 3 / 13, 2)
    assert below["lead"]["estimate"] == round(100 * 2 / 13, 2)
    assert below["lead"]["low"] <= 0 < below["lead"]["high"]
    assert "lead" not in realm
    shown = page._folds(read_folds("table1", base, str(file)))
    low, high = below["lead"]["low"], below["lead"]["high"]
    assert f"<td>23.1</td><td>+15.4 ({low:+.1f} to {high:+.1f})</td><td>38.5</td>" in shown
    assert "<td>38.5</td><td></td><td>38.5</td>" in shown


def test_questions_about_one_article_are_drawn_together(
    base: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "squad-train.jsonl"
    lines = [
        json.dumps({"question": f"Question {n}?", "answer": ["x"], "documents": [f"d{n % 3}"]})
        for n in range(13)
    ]
    file.write_text("\n".join(lines), encoding="utf-8")
    asked, drawn = [], []

    def articles(questions: list[Question], store: PassageStore) -> list[str]:
        asked.append([question.documents for question in questions])
        return [str(question.documents) for question in questions]

    def bootstrap(first: list[float], second: list[float], clusters: list[str]) -> Interval:
        drawn.append(clusters)
        return Interval(0.0, 0.0, 0.0)

    monkeypatch.setattr(folds, "make_row", lambda base, run: finish(base, run))
    monkeypatch.setattr(folds, "article_by_question", articles)
    monkeypatch.setattr(folds, "paired_bootstrap", bootstrap)
    rows = rows_of("table1", base.experiment, MeanLengths(30.0, 130.0))
    plus = Job(next(row for row in rows if row.name == "realm-plus"), 0)
    for job in (realm_job(base), plus):
        make_folds(base, job, str(file))
    read_folds("table1", base, str(file))
    own = [q.documents for fold in write_folds(base, str(file)) for q in read_questions(fold.asked)]
    assert asked == [own]
    assert drawn == [[str(documents) for documents in own]]


def test_what_every_row_learns_is_not_asked_in_folds(base: Run, file: Path) -> None:
    copied = file.with_name("learned.jsonl")
    copied.write_bytes(file.read_bytes())
    changes = [f"train_questions=['{copied}']"]
    learning = Run(base.path, with_overrides(base.experiment, changes))
    with pytest.raises(SettingError, match="among the recipe's train_questions"):
        make_folds(learning, realm_job(learning), str(file))


def test_a_file_that_changed_has_other_folds(
    base: Run, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Run] = []
    monkeypatch.setattr(folds, "make_row", lambda base, run: made.append(finish(base, run)))
    make_folds(base, realm_job(base), str(file))
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace("Question 7?", "Question seven?"), encoding="utf-8")
    assert read_folds("table1", base, str(file))["rows"] == []
    make_folds(base, realm_job(base), str(file))
    assert len({run.path for run in made}) == 2 * NUM_FOLDS


def test_strings_stay_strings_in_folds(base: Run, tmp_path: Path) -> None:
    """The name of the file alone would say otherwise."""
    file = tmp_path / "curatedtrec-of-mine.jsonl"
    row = {"answer": ["a?"], "answer_type": "string"}
    lines = [json.dumps({"question": f"Question {n}?", **row}) for n in range(5)]
    file.write_text("\n".join(lines), encoding="utf-8")
    for fold in write_folds(base, str(file)):
        for path in (fold.learned, fold.asked):
            assert not any(question.is_regex for question in read_questions(path))


def test_too_few_questions_are_refused(base: Run, tmp_path: Path) -> None:
    file = tmp_path / "few.jsonl"
    file.write_text('{"question": "Who?", "answer": ["x"]}\n' * 4, encoding="utf-8")
    with pytest.raises(SettingError, match="has 1 different questions, too few for 5 folds"):
        make_folds(base, realm_job(base), str(file))


def test_a_checkpoint_is_never_selected_by_what_it_is_measured_by(
    base: Run, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Run] = []
    monkeypatch.setattr(folds, "make_row", lambda base, run: made.append(run))
    changes = ["finetune.num_development_questions=7"]
    measured = Run(base.path, with_overrides(base.experiment, changes))
    make_folds(measured, realm_job(measured), str(file))
    assert {run.experiment.dev_questions[0] for run in made} == {"dev.jsonl"}
    assert {len(run.experiment.dev_questions) for run in made} == {2}
