"""A released folder becomes a run that answers as transformers 4.39.3 did, and goes out again."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import error_of, realm
from safetensors.torch import load_file, save_file
from tokenizers import normalizers

from realm.artifact import verify
from realm.corpus.block_records import write_block_records
from realm.examples.packing import Packer
from realm.examples.question import Question
from realm.examples.wordpieces import wordpieces
from realm.index.snapshot import IndexSettings
from realm.models.checkpoint import load_model, save_checkpoint, unique_parameters
from realm.models.embedder import evaluating
from realm.models.reader import read, span_scores
from realm.models.released import ReleasedFolder
from realm.openqa.objective import OpenQaObjective, embed_questions, read_passages
from realm.stages import Run

RELEASED = Path(__file__).parents[1] / "fixtures" / "released"
FACTS: list[dict[str, Any]] = json.loads((RELEASED / "facts.json").read_text("utf-8"))["questions"]
OUTPUTS = load_file(RELEASED / "outputs.safetensors")
asked = pytest.mark.parametrize("number", range(len(FACTS)))


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run from an openqa folder alone; read it, copy it before you change it."""
    run = tmp_path_factory.mktemp("imported") / "run"
    result = realm("import", RELEASED / "openqa", "--run", run)
    assert result.exit_code == 0, result.output
    return run


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run from an openqa folder with a passage embedder beside it."""
    run = tmp_path_factory.mktemp("whole") / "run"
    beside = ("--passage-embedder", RELEASED / "embedder")
    result = realm("import", RELEASED / "openqa", "--run", run, *beside)
    assert result.exit_code == 0, result.output
    return run


@asked
def test_retrieval_and_answers_are_those_of_the_port(imported: Path, number: int) -> None:
    fact, answerer = FACTS[number], Run.open(imported).answerer("start")
    model, settings = answerer.model, answerer.settings
    with evaluating(model.modules()):
        vector = embed_questions(model, [fact["question"]])
        torch.testing.assert_close(
            vector[0], OUTPUTS[f"question_embedding.{number}"], atol=1e-4, rtol=0
        )
        found = answerer.snapshot.index(IndexSettings()).search(vector, 8)
        assert found.rows[0].tolist() == fact["rows"]
        torch.testing.assert_close(found.scores[0], torch.tensor(fact["scores"]), atol=1e-4, rtol=0)
        reading = read_passages(
            model, answerer.store, answerer.snapshot,
            [fact["question"]], vector, found.rows[:, :3], settings,
        )  # fmt: skip
    body, widths = reading.spans.shape[-2:]
    passage, first, offset = np.unravel_index(int(reading.joint[0].argmax()), (3, body, widths))
    start = 2 + len(wordpieces(model.tokenizer, fact["question"])) + int(first)
    assert (passage, start, start + offset) == (fact["block"], fact["start"], fact["end"])
    answer = answerer.answer([fact["question"]], top_k=1)[0].answers[0]
    assert answer.text.lower().replace(" ", "") == fact["answer"].replace(" ", "").replace("##", "")
    assert answer.passage.passage_id == fact["rows"][fact["block"]]


@asked
def test_span_logits_are_those_of_the_port(imported: Path, number: int) -> None:
    fact, answerer = FACTS[number], Run.open(imported).answerer("start")
    model, store = answerer.model, answerer.store
    ids, nothing = wordpieces(model.tokenizer, fact["question"]), np.empty(0, dtype=np.int64)
    joints = [model.packer.joint(ids, nothing, store.token_ids(row)) for row in fact["rows"][:3]]
    with evaluating(model.reader):
        groups = read(model.reader, joints, packer=model.packer, token_budget=4096)
        spans, _ = span_scores(model.reader, groups)
    theirs = OUTPUTS[f"span_logits.{number}"]  # width by width, over the whole padded pair
    length = max(len(joint) for joint in joints)
    compared, begin = 0, 0
    for width in range(4):
        block = theirs[:, begin : begin + length - width]
        begin += length - width
        for row, joint in enumerate(joints):
            last = joint.body_end - width
            expected = block[row, joint.body_start : last]
            found = spans[row, : last - joint.body_start, width]
            torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
            compared += len(expected)
    assert begin == theirs.shape[1]
    assert compared > 100


@asked
def test_both_losses_are_those_of_the_port(imported: Path, number: int) -> None:
    fact, run = FACTS[number], Run.open(imported)
    model, store = load_model(imported / "start" / "checkpoint"), run.corpus()
    question = Question(fact["question"], tuple(fact["answers"]))
    objective = OpenQaObjective(
        model, store, run.snapshot("start"), [question], run.experiment.finetune.objective, seed=0
    )
    with evaluating(model.modules()):
        _, scalars = objective.loss(0)
    assert scalars["retriever_loss"] == pytest.approx(fact["retriever_loss"], abs=1e-4)
    assert scalars["reader_loss"] == pytest.approx(fact["reader_loss"], abs=1e-4)


def test_the_facts_are_no_trivial_ones() -> None:
    """Not always the first passage, and losses that are not zero."""
    assert len({fact["block"] for fact in FACTS}) > 1
    for loss in ("retriever_loss", "reader_loss"):
        assert sum(fact[loss] > 0 for fact in FACTS) > 1


def test_a_new_user_asks_and_evaluates(imported: Path, tmp_path: Path) -> None:
    result = realm("ask", FACTS[0]["question"], "--run", imported, "--json", "--top-k", "2")
    assert result.exit_code == 0, result.output
    answers = json.loads(result.stdout)["answers"]
    assert [answer["document_id"].partition(":")[0] for answer in answers] == [
        "block_records.npy"
    ] * 2
    file = tmp_path / "q.jsonl"
    rows = [{"question": f["question"], "answer": f["answers"]} for f in FACTS]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    for kind in ("open-qa", "retrieval"):
        result = realm("evaluate", kind, file, "--run", imported)
        assert result.exit_code == 0, result.output
    for path in ("corpus", "import", "start/checkpoint", "start/snapshot"):
        assert verify(imported / path) > 0


def test_info_says_what_is_missing(imported: Path, whole: Path) -> None:
    shown = " ".join(realm("info", "--run", imported).stdout.split())
    assert "passage embedder missing" in shown
    assert "realm ask, realm evaluate open-qa nothing" in shown
    assert "realm pretrain, realm fill-mask passage embedder, masked head" in shown
    shown = " ".join(realm("info", "--run", whole).stdout.split())
    assert "another corpus, edits, refresh nothing" in shown
    assert "realm pretrain, realm fill-mask masked head" in shown


def test_commands_say_what_is_missing(imported: Path, tmp_path: Path) -> None:
    steps = ("--set", "pretrain.loop.num_steps=500")
    message = error_of(realm("pretrain", "--run", imported, *steps))
    assert "no passage embedder" in message
    assert "--passage-embedder" in message
    assert "no passage embedder" in error_of(realm("fill-mask", "a [MASK]", "--run", imported))
    run = tmp_path / "reader"
    assert realm("import", RELEASED / "reader", "--run", run).exit_code == 0
    assert "no query embedder" in error_of(realm("ask", "Who?", "--run", run))


def test_an_encoder_and_an_embedder_make_a_model_to_train(
    corpus_source: Path, tmp_path: Path
) -> None:
    run, embedder = tmp_path / "run", RELEASED / "embedder"
    assert realm("import", embedder, RELEASED / "encoder", "--run", run).exit_code == 0
    result = realm("corpus", corpus_source, "--run", run)
    assert result.exit_code == 0, result.output
    file = tmp_path / "q.jsonl"
    file.write_text('{"question": "Where is Tavil?", "answer": ["the Sorna"]}\n', encoding="utf-8")
    assert "no span head" in error_of(realm("ask", "Who?", "--run", run))
    assert realm("evaluate", "retrieval", file, "--run", run).exit_code == 0
    few = ("--set", "finetune.loop.num_steps=1", "--set", "finetune.loop.precision=fp32")
    result = realm("finetune", file, "--run", run, *few)
    assert result.exit_code == 0, result.output
    assert realm("ask", "Where is Tavil?", "--run", run).exit_code == 0
    # The mismatch of corpora is still found: only the released model itself was made from none.
    assert Run.open(run).newest_checkpoint() == "finetune"


def test_an_import_reads_another_corpus(whole: Path, corpus_source: Path, tmp_path: Path) -> None:
    new = tmp_path / "new"
    result = realm("swap-corpus", corpus_source, "--run", whole, "--to", new)
    assert result.exit_code == 0, result.output
    assert Run.open(new).experiment.corpus.cut == "sentences"
    result = realm("ask", "where is tavil?", "--run", new, "--json")
    assert result.exit_code == 0, result.output
    assert "no masked head" in error_of(realm("fill-mask", "a [MASK]", "--run", new))


def test_an_export_comes_back_as_it_was(whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = realm("export", out, "--run", whole)
    assert result.exit_code == 0, result.output
    folders = ["embedder", "openqa", "reader", "scorer"]
    assert sorted(path.name for path in out.iterdir()) == folders
    again = tmp_path / "again"
    beside = ("--passage-embedder", out / "embedder")
    assert realm("import", out / "openqa", "--run", again, *beside).exit_code == 0
    first, second = (load_model(run / "start" / "checkpoint") for run in (whole, again))
    weights = unique_parameters(second.modules())
    for name, parameter in unique_parameters(first.modules()).items():
        if not name.startswith("reader.masked_head"):  # neither folder brought one
            torch.testing.assert_close(weights[name], parameter, rtol=0, atol=0)
    assert first.tokenizer.to_str() == second.tokenizer.to_str()
    runs = [Run.open(run) for run in (whole, again)]
    embeddings = [run.snapshot("start").embeddings for run in runs]
    assert torch.equal(*embeddings)
    assert embeddings[0].dtype == torch.float32
    texts = [[run.corpus().text(row) for row in range(12)] for run in runs]
    assert texts[0] == texts[1]


def test_separate_towers_stay_separate(tmp_path: Path) -> None:
    """The released export lost the query tower: `embedder` alone stands for both sides."""
    run, out, again = tmp_path / "run", tmp_path / "out", tmp_path / "again"
    result = realm("import", RELEASED / "scorer", RELEASED / "encoder", "--run", run)
    assert result.exit_code == 0, result.output
    result = realm("export", out, "--run", run)
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in out.iterdir()) == ["embedder", "encoder", "scorer"]
    assert realm("import", out / "scorer", out / "encoder", "--run", again).exit_code == 0
    first, second = (load_model(path / "start" / "checkpoint") for path in (run, again))
    assert not second.embedder.has_shared_towers
    weights = unique_parameters(second.modules())
    for name, parameter in unique_parameters(first.modules()).items():
        if not name.startswith("reader.span_head"):  # no folder brought one
            torch.testing.assert_close(weights[name], parameter, rtol=0, atol=0)


def test_every_kind_of_folder_goes_out_as_it_came(tmp_path: Path) -> None:
    for number, names in enumerate((["embedder"], ["encoder"], ["reader"])):
        run, out = tmp_path / f"run-{number}", tmp_path / f"out-{number}"
        assert realm("import", *(RELEASED / name for name in names), "--run", run).exit_code == 0
        assert realm("export", out, "--run", run).exit_code == 0
        made = sorted(path.name for path in out.iterdir())
        # One tower stands for both sides, and the class that has two holds it twice.
        assert made == ([*names, "scorer"] if names == ["embedder"] else names)
        for name in names:
            first, second = (ReleasedFolder.open(str(path / name)) for path in (RELEASED, out))
            assert first.parts == second.parts
            of_readers = {"reader_seq_len"} if name != "reader" else set()
            assert first.configuration.model_dump(
                exclude=of_readers
            ) == second.configuration.model_dump(exclude=of_readers)
            heads = "cls.predictions." if name != "encoder" else "nothing"  # carried, not used
            ends = "qa_outputs.dense_intermediate.bias"  # one bias that is the sum of two
            for key, tensor in first.tensors.items():
                if not key.startswith(heads) and key != ends:
                    assert torch.equal(second.tensors[key], tensor), key
    assert realm("import", out.parent / "out-0/scorer", "--run", tmp_path / "again").exit_code == 0
    assert load_model(tmp_path / "again/start/checkpoint").embedder.has_shared_towers


@pytest.mark.parametrize("name", ["realm-cc-news-pretrained-openqa", "renamed"])
def test_an_openqa_folder_from_before_fine_tuning(name: str, tmp_path: Path) -> None:
    """By its name on the hub, or by a span head that was never touched."""
    folder, run = tmp_path / name, tmp_path / "run"
    shutil.copytree(RELEASED / "openqa", folder)
    if name == "renamed":
        file = folder / "pytorch_model.bin"
        tensors = torch.load(file, weights_only=True)
        tensors["reader.qa_outputs.dense_intermediate.bias"].zero_()
        torch.save(tensors, file)
    result = realm("import", folder, "--run", run)
    assert result.exit_code == 0, result.output
    shown = " ".join(result.stdout.split())
    assert "another corpus, edits, refresh nothing" in shown
    assert "realm ask, realm evaluate open-qa span head" in shown
    assert "no span head" in error_of(realm("ask", "Who?", "--run", run))


def test_trunks_go_out_for_auto_model(whole: Path, tmp_path: Path) -> None:
    from transformers import AutoModel, AutoTokenizer

    out = tmp_path / "out"
    assert realm("export", out, "--run", whole, "--format", "auto-model").exit_code == 0
    names = ["passage-embedder", "query-embedder", "reader"]
    assert sorted(path.name for path in out.iterdir()) == names
    trunk = AutoModel.from_pretrained(out / "reader")
    expected = load_model(whole / "start" / "checkpoint").reader.trunk
    ids = AutoTokenizer.from_pretrained(out / "reader")("Where is Tavil?", return_tensors="pt")
    with evaluating(trunk), evaluating(expected):
        torch.testing.assert_close(trunk(**ids)[0], expected(**ids)[0], atol=1e-5, rtol=0)


def test_a_model_of_another_shape_is_not_exported(imported: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(imported, run)
    path = run / "start" / "checkpoint"
    model = load_model(path)
    settings = model.packer.settings.model_copy(update={"title_in_joint": True})
    model.packer = Packer(model.tokenizer, settings)
    save_checkpoint(path, model, step=0, inputs={})
    message = error_of(realm("export", tmp_path / "out", "--run", run))
    assert "packing.title_in_joint=false" in message
    result = realm("export", tmp_path / "out", "--run", run, "--format", "onnx")
    assert "--format onnx" in error_of(result)
    assert "is there already" in error_of(realm("export", tmp_path, "--run", run))


def test_a_model_that_minds_capitals_is_not_exported(imported: Path, tmp_path: Path) -> None:
    """REALM's tokenizer would be told nothing of it."""
    run = tmp_path / "run"
    shutil.copytree(imported, run)
    model = load_model(run / "start" / "checkpoint")
    model.tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
    save_checkpoint(run / "start" / "checkpoint", model, step=0, inputs={})
    message = error_of(realm("export", tmp_path / "out", "--run", run))
    assert "an uncased WordPiece tokenizer" in message


def test_records_that_do_not_match_the_embeddings_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "openqa"
    shutil.copytree(RELEASED / "openqa", folder)
    write_block_records(folder / "block_records.npy", ["one", "two"], 2)
    message = error_of(realm("import", folder, "--run", tmp_path / "run"))
    assert "2 records" in message
    assert "(12, 8) instead of (2, 8)" in message
    assert not Run.is_run(tmp_path / "run")


def test_what_cannot_be_imported_is_not_in_the_way_of_what_can(tmp_path: Path) -> None:
    folder, run = tmp_path / "reader", tmp_path / "run"
    shutil.copytree(RELEASED / "reader", folder)
    tensors = load_file(folder / "model.safetensors")
    name = next(n for n in tensors if n.endswith("layer.0.attention.self.query.weight"))
    save_file({**tensors, name: tensors[name][:1].clone()}, folder / "model.safetensors")
    assert name in error_of(realm("import", folder, "--run", run))
    assert realm("import", RELEASED / "openqa", "--run", run).exit_code == 0


def test_malicious_records_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "openqa"
    shutil.copytree(RELEASED / "openqa", folder)
    content = (folder / "block_records.npy").read_bytes()
    evil = content.replace(b"cnumpy\ndtype\n", b"cposix\nsystem\n")
    (folder / "block_records.npy").write_bytes(evil)
    message = error_of(realm("import", folder, "--run", tmp_path / "run"))
    assert "it asks for posix.system" in message


def test_sources_that_are_none_are_refused(
    imported: Path, trunk_folder: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    assert "is a run already" in error_of(realm("import", RELEASED / "reader", "--run", imported))
    assert "no REALM checkpoint" in error_of(realm("import", trunk_folder, "--run", run))
    assert "neither a folder nor" in error_of(realm("import", "google/nothing", "--run", run))
    beside = ("--passage-embedder", RELEASED / "reader")
    message = error_of(realm("import", RELEASED / "openqa", "--run", run, *beside))
    assert "holds no passage embedder" in message
