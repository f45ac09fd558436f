"""Does the model that comes along answer from documents that it has never seen?"""

import json
from pathlib import Path

import pytest

from realm.artifact import verify
from realm.models.trunk import DEFAULT_TRUNK, find_trunk
from realm.shipped.folder import begin_with, find_model, shipped_models
from realm.stages import Run

pytestmark = pytest.mark.skipif(
    find_trunk(DEFAULT_TRUNK) is None, reason="the extra `trunk` is not installed"
)
DOCUMENTS = {
    "Harbour of Sorna": "The harbour of Sorna was built by Clara Osmund in 1911. It has two piers.",
    "Lomvar": "Lomvar is a town on the river Sorna. Its mayor is Anton Brisk, a former teacher.",
    "Mount Keld": "Mount Keld is 2,310 metres high. It is covered with snow from October to May.",
}
EXPECTED = {
    "Who built the harbour of Sorna?": "Clara Osmund",
    "Who is the mayor of Lomvar?": "Anton Brisk",
    "How high is Mount Keld?": "2,310 metres",
}
MOST_BYTES = 70_000_000


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("mini")
    source = folder / "documents.jsonl"
    rows = [{"id": str(n), "title": t, "text": x} for n, (t, x) in enumerate(DOCUMENTS.items())]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    begun = begin_with("realm-mini", folder / "run")
    return Run(begun.path, begun.experiment.model_copy(update={"sources": (str(source),)}))


def test_it_is_whole_small_and_has_a_card() -> None:
    assert "realm-mini" in shipped_models()
    folder = find_model("realm-mini")
    assert folder is not None
    verify(folder / "model")
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert all(head in card for head in ("## How it was made", "## What it can do", "## Limits"))
    trunk = find_trunk(DEFAULT_TRUNK)
    assert trunk is not None
    # In half precision: the published trunk that it builds on counts as well.
    num_bytes = _size(folder / "model" / "weights.safetensors")
    assert num_bytes + _size(trunk / "model.safetensors") / 2 <= MOST_BYTES


@pytest.mark.parametrize("question", EXPECTED)
def test_it_points_at_the_answer(run: Run, question: str) -> None:
    (answered,) = run.answerer().answer([question], top_k=1)
    assert answered.answers[0].text == EXPECTED[question]
    assert answered.answers[0].passage.text == DOCUMENTS[answered.answers[0].passage.title]


def _size(file: Path) -> int:
    return file.stat().st_size
