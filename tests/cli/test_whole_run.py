"""Do all stages, the measures and the answers work together from the command line?"""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from command_line import error_of, realm
from tiny_recipe import write_tiny_recipe

from realm import experiment
from realm.cli import run_commands
from realm.experiment import with_overrides
from realm.scoring import rankings_used, retrieval_report
from realm.stages import Run
from small_world import ARTICLES

QUESTIONS = (
    ("Who designed the Lomvar Bridge?", "Ida Renquist", "article-1"),
    ("When was the Orsk Observatory founded?", "1894", "article-6"),
    ("Where was the poet Anton Brisk born?", "Tavil", "article-4"),
    ("Which queen opened a bridge in 1871?", "Queen Maritha", "article-10"),
)


@pytest.fixture(scope="module")
def question_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four questions about the small world."""
    file = tmp_path_factory.mktemp("questions") / "small-dev.jsonl"
    rows = [{"question": q, "answer": [a], "doc": doc} for q, a, doc in QUESTIONS]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def recipe(
    tmp_path_factory: pytest.TempPathFactory,
    corpus_source: Path,
    question_file: Path,
    trunk_folder: Path,
) -> Path:
    """Every stage with two steps."""
    file = tmp_path_factory.mktemp("recipes") / "demo.toml"
    return write_tiny_recipe(file, corpus_source, question_file, trunk_folder)


@pytest.fixture(scope="module")
def finished_run(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of all stages; read it, copy it before you change it."""
    run = tmp_path_factory.mktemp("runs") / "small"
    result = realm("run", recipe, "--run", run)
    assert result.exit_code == 0, result.output
    assert "Results in percent" in result.stdout
    return run


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_documents_are_named_where_a_run_begins(
    tmp_path: Path, corpus_source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From whichever folder it goes on, they are the same."""
    seen: list[tuple[str, ...]] = []
    monkeypatch.setattr(
        run_commands, "make_all_stages", lambda opened: seen.append(opened.experiment.sources)
    )
    monkeypatch.setattr(run_commands, "write_report", lambda run: run)
    monkeypatch.chdir(corpus_source.parent)
    run = tmp_path / "run"
    for named in (("--source", corpus_source.name), ()):
        result = realm("run", "--run", run, *named)
        assert result.exit_code == 0, result.output
    assert seen == [(str(corpus_source),)] * 2


def test_a_second_start_finds_everything_done(recipe: Path, finished_run: Path) -> None:
    stages = finished_run / "stages.jsonl"
    before = stages.read_text(encoding="utf-8")
    result = realm("run", recipe, "--run", finished_run)
    assert result.exit_code == 0
    assert stages.read_text(encoding="utf-8") == before
    assert "finetune + bm25" in result.stdout


def test_questions_that_cannot_be_read_are_found_before_the_training(
    recipe: Path, question_file: Path, tmp_path: Path
) -> None:
    run, other = tmp_path / "run", tmp_path / "other" / question_file.name
    other.parent.mkdir()
    shutil.copyfile(question_file, other)
    for changed, said in (
        ("dev_questions=['nobody.jsonl']", "nobody.jsonl"),
        ("train_questions=['nobody.jsonl']", "nobody.jsonl"),
        (f"dev_questions=['{question_file}','{other}']", "two question files have one name"),
    ):
        assert said in error_of(realm("run", recipe, "--run", run, "--set", changed))
        assert not run.exists()


def test_a_ranking_that_is_joined_with_bm25_was_joined_before_fine_tuning(
    finished_run: Path, question_file: Path
) -> None:
    run = Run.open(finished_run)
    models = run.finished_checkpoints()
    changed = with_overrides(run.experiment, ["retrieval.lexical=true"])
    alone, joined = (
        retrieval_report(Run(run.path, experiment), str(question_file), models)["systems"]
        for experiment in (run.experiment, changed)
    )
    assert rankings_used(run) == ("pretrain", "finetune")
    before, after = rankings_used(Run(run.path, changed))
    assert (before, after) == ("pretrain + bm25", "finetune + bm25")
    assert before in joined
    assert before not in alone
    # What two rankings have first, both have first together.
    assert joined[before]["first_hits"] != joined["pretrain"]["first_hits"]
    assert joined[after] == alone[after]
    # By itself a model is measured without BM25, whatever the run answers with.
    assert {name: joined[name] for name in models} == {name: alone[name] for name in models}


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ("finetune.objective.answers=single_span", "finetune: finetune.objective.answers"),
        ("pretrain.loop.seed=3", "pretrain: pretrain.loop.seed"),
        ("warm_start.embedder.principal_components_sample=3", "start/checkpoint: warm_start.embed"),
        ("warm_start.questions.depth=3", "warm-start/embedder: warm_start.questions"),
        ("train_questions=['OTHER']", "finetune: train_questions"),
    ],
)
def test_what_a_refused_command_wanted_is_not_kept(
    changed: str, named: str, finished_run: Path, question_file: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished_run, run)
    recipe = (run / "recipe.json").read_bytes()
    first, *others = question_file.read_text(encoding="utf-8").splitlines(keepends=True)
    other = tmp_path / "other.jsonl"
    other.write_text(first.replace("?", " now?"), encoding="utf-8")
    changed = changed.replace("OTHER", str(other))
    message = error_of(realm("finetune", "--run", run, "--set", changed))
    part, name = named.split(": ")
    assert str(run / part) in message
    assert f"with other settings ({name}" in message
    missing = error_of(realm("finetune", tmp_path / "missing.jsonl", "--run", run))
    assert "missing.jsonl" in missing
    assert (run / "recipe.json").read_bytes() == recipe
    # What an earlier command left behind can be set right again.
    wrong = json.loads(recipe)
    wrong["finetune"]["objective"]["answers"] = "single_span"
    (run / "recipe.json").write_text(json.dumps(wrong), encoding="utf-8")
    right = "finetune.objective.answers=summed"
    assert realm("finetune", "--run", run, "--set", right).exit_code == 0
    assert json.loads((run / "recipe.json").read_bytes()) == json.loads(recipe)
    # The same questions from another place are the same.
    other.write_text(first + "".join(others), encoding="utf-8")
    assert realm("finetune", other, "--run", run).exit_code == 0


def test_reports_say_what_was_measured(finished_run: Path) -> None:
    retrieval = read_json(finished_run / "evaluation" / "retrieval-small-dev.json")
    assert list(retrieval["systems"]) == [
        *("bm25", "start", "warm-start", "pretrain", "finetune", "finetune + bm25"),
    ]
    assert retrieval["systems"]["bm25"]["recall"]["5"] == 100.0
    assert retrieval["recall"] == retrieval["systems"]["finetune"]["recall"]
    pairs = [(facts["before"], facts["after"]) for facts in retrieval["differences"]]
    assert ("start", "pretrain") in pairs
    open_qa = read_json(finished_run / "evaluation" / "open-qa-small-dev.json")
    expected = {"num_questions", "exact_match", "f1", "recall", "metric_version", "fingerprints"}
    assert expected <= set(open_qa)
    assert {"checkpoint", "snapshot", "data"} <= set(open_qa["fingerprints"])
    assert open_qa["num_questions"] == 4
    best = open_qa["exact_match_of_best"]
    assert open_qa["exact_match"] == best["1"] <= best["5"] <= best["20"]
    assert best["20"] <= open_qa["reader_oracle"] <= open_qa["recall"]["5"]
    lines = (finished_run / "evaluation" / "predictions-small-dev.jsonl").read_text("utf-8")
    assert len(lines.splitlines()) == 4


def test_evaluate_writes_json(finished_run: Path, question_file: Path, tmp_path: Path) -> None:
    common = (question_file, "--run", finished_run, "--model", "pretrain", "--json")
    result = realm("evaluate", "retrieval", *common, tmp_path / "retrieval.json")
    assert result.exit_code == 0
    report = read_json(tmp_path / "retrieval.json")
    assert list(report["systems"]) == ["bm25", "pretrain", "pretrain + bm25"]
    assert set(report["recall"]) == {"1", "5", "10", "20", "50", "100"}
    deep = realm("evaluate", "retrieval", *common, tmp_path / "deep.json", "--depth", "5000")
    assert "recall@5000" in deep.stdout
    assert read_json(tmp_path / "deep.json")["recall"]["5000"] == 100.0
    result = realm(
        "evaluate", "open-qa", *common, tmp_path / "open-qa.json", "--predictions", tmp_path / "p"
    )
    assert result.exit_code == 0
    assert "oracle" in result.stdout
    assert read_json(tmp_path / "open-qa.json")["model"] == "pretrain"
    assert len((tmp_path / "p").read_text("utf-8").splitlines()) == 4


def test_published_questions_are_taken_as_they_are(finished_run: Path, tmp_path: Path) -> None:
    paragraphs = [{"context": "", "qas": [{"question": q, "answers": [{"text": a}]}]}
                  for q, a, _ in QUESTIONS]  # fmt: skip
    squad = tmp_path / "squad.json"
    squad.write_text(json.dumps({"data": [{"title": "t", "paragraphs": paragraphs}]}), "utf-8")
    common = ("--run", finished_run, "--json", tmp_path / "report.json")
    assert realm("evaluate", "retrieval", squad, *common).exit_code == 0
    assert read_json(tmp_path / "report.json")["systems"]["bm25"]["recall"]["5"] == 100.0
    result = realm("questions", squad, squad, "--output", tmp_path / "nq.jsonl")
    assert "8 questions" in result.stdout
    first = (tmp_path / "nq.jsonl").read_text("utf-8").splitlines()[0]
    assert json.loads(first) == {"question": QUESTIONS[0][0], "answer": [QUESTIONS[0][1]]}


def test_json_answers_are_slices_of_the_documents(finished_run: Path) -> None:
    result = realm("ask", "Where is Tavil?", "--run", finished_run, "--json")
    answered = json.loads(result.stdout)
    versions = {"model", "snapshot", "corpus_version"}
    assert set(answered) == {"question", "answers", "null_probability", "abstained", *versions}
    assert answered["model"].startswith("finetune:")
    texts = list(ARTICLES.values())
    for answer in answered["answers"]:
        assert set(answer) == {"text", "probability", "passage", "document_id", "start", "end"}
        document = texts[int(answer["document_id"].removeprefix("article-"))]
        assert document[answer["start"] : answer["end"]] == answer["text"]
        passage = answer["passage"]
        assert passage["text"][passage["answer_start"] : passage["answer_end"]] == answer["text"]


def test_a_pipe_asks_one_question_a_line(finished_run: Path) -> None:
    result = realm("ask", "--run", finished_run, "--json", "--top-k", "1", stdin="Who?\n\nWhere?\n")
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["question"] for line in lines] == ["Who?", "Where?"]


def test_bytes_of_a_pipe_that_are_no_text_cost_no_question(finished_run: Path) -> None:
    asked = b"caf\xe9?\nWhere?\n"
    result = realm("ask", "--run", finished_run, "--json", "--top-k", "1", stdin=asked)
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["question"] for line in lines] == ["caf\ufffd?", "Where?"]


def test_a_person_sees_the_answer_in_its_passage(finished_run: Path) -> None:
    result = realm("ask", "Where is Tavil?", "--run", finished_run, "--top-k", "1")
    assert result.exit_code == 0
    shown = " ".join(result.stdout.split())
    answer = shown.split("»")[1].split("«")[0]
    assert f"1. {answer} (probability" in shown


def test_settings_of_a_question_are_not_kept(finished_run: Path) -> None:
    kept = (finished_run / "recipe.json").read_bytes()
    result = realm("ask", "Who?", "--run", finished_run, "--set", "retrieval.lexical=true")
    assert result.exit_code == 0
    assert (finished_run / "recipe.json").read_bytes() == kept


def test_info_lists_and_verifies(finished_run: Path) -> None:
    result = realm("info", "--run", finished_run, "--verify")
    assert result.exit_code == 0
    assert "agree with their checksums" in result.stdout
    assert "12" in next(line for line in result.stdout.splitlines() if "documents" in line)


def test_the_report_shows_every_curve(finished_run: Path) -> None:
    assert realm("report", "--run", finished_run).exit_code == 0
    page = (finished_run / "report.html").read_text(encoding="utf-8")
    for title in ("Loss", "Retrieval utility", "Probability of the null passage", "Staleness"):
        assert f"<figcaption>{title}" in page
    assert "Recall@5 on small-dev" in page
    assert "http" not in page


def test_refresh_and_index_find_nothing_to_do(finished_run: Path) -> None:
    result = realm("refresh", "--run", finished_run, "--watch")
    assert result.exit_code == 0
    assert "no newer checkpoint" in result.stderr
    assert "12 passages as of step 2" in realm("index", "--run", finished_run).stdout


def test_demo_compares_five_systems_and_answers(
    finished_run: Path, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(experiment, "_RECIPES", recipe.parent)
    result = realm("demo", "--run", finished_run)
    assert result.exit_code == 0, result.output
    for row in ("BM25", "before pre-training", "after pre-training", "after fine-tuning"):
        assert row in result.stdout
    assert result.stdout.count("expected") == 4
    assert "What to try next" in result.stdout
    assert "1 refresh of the index" in result.stderr


def test_a_run_whose_corpus_was_exchanged_is_refused(finished_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished_run, run)
    shutil.rmtree(run / "corpus")
    other = tmp_path / "other.jsonl"
    rows = [{"id": str(n), "title": "", "text": f"Tavil is port number {n}."} for n in range(3)]
    other.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert realm("corpus", other, "--run", run).exit_code == 0
    assert "another corpus" in error_of(realm("ask", "Who?", "--run", run))


def test_a_cut_file_is_refused(finished_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished_run, run)
    (weights,) = (run / "finetune" / "checkpoints" / "step-000000002").glob("weights*")
    with weights.open("r+b") as stream:
        stream.truncate(1000)
    assert "cut short" in error_of(realm("ask", "Who?", "--run", run))


def test_questions_that_no_passage_answers_are_refused(finished_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished_run, run)
    shutil.rmtree(run / "finetune")
    file = tmp_path / "q.jsonl"
    file.write_text('{"question": "Where?", "answer": ["Atlantis"]}\n', encoding="utf-8")
    assert "no passage" in error_of(realm("finetune", file, "--run", run))
    assert "pretrain" in realm("evaluate", "retrieval", file, "--run", run).stdout
