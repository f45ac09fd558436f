"""What docs/realm.md names must exist: files, functions, settings, commands."""

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from realm.experiment import Experiment, read_recipe

ROOT = Path(__file__).parents[1]
GUIDE = (ROOT / "docs" / "realm.md").read_text(encoding="utf-8")
QUOTED = re.findall(r"`([^`\n]+)`", GUIDE)
FILES = sorted({name for name in QUOTED if re.fullmatch(r"[\w/]+\.(py|toml)", name)})
SETTINGS = sorted(
    {name for name in QUOTED if re.fullmatch(r"[a-z_*]+(\.[a-z_]+)+", name)} - {*FILES}
)


def test_files_exist() -> None:
    assert len(FILES) > 20
    places = (ROOT, ROOT / "src" / "realm", ROOT / "src" / "realm" / "recipes")
    missing = [name for name in FILES if not any((place / name).is_file() for place in places)]
    assert missing == []


def test_functions_stand_in_their_files() -> None:
    rows = re.findall(r"`([\w/]+\.py)`: ((?:`\w+(?:\.\w+)?`(?:, )?)+)", GUIDE)
    assert len(rows) >= 8
    for file, names in rows:
        text = (ROOT / "src" / "realm" / file).read_text(encoding="utf-8")
        for name in re.findall(r"`([\w.]+)`", names):
            for part in name.split("."):
                assert re.search(rf"(def|class) {part}\b", text), f"{file} has no {name}"


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_exist(name: str) -> None:
    # `*` stands for any training.
    group: type[BaseModel] = Experiment
    *sections, last = name.replace("*", "pretrain").split(".")
    for section in sections:
        inner = group.model_fields[section].annotation
        assert isinstance(inner, type)
        assert issubclass(inner, BaseModel)
        group = inner
    assert last in group.model_fields


def test_the_released_variants_can_be_set() -> None:
    assignments = re.findall(r"--set (\S+=\S+)", GUIDE)
    assert len(assignments) >= 4
    released = read_recipe("paper", assignments)
    assert released.pretrain.objective.marginal == "token"
    assert released.embedder.shared_towers
    assert released.embedder.projection_dropout == 0.1
