"""Is a trunk trained and shared from the command line, and kept from half of a change?"""

from pathlib import Path

import pytest
from command_line import error_of, realm

from realm.stages import Run
from tiny_settings import own_trunk_settings

LOOP = "{ num_steps = 1, save_every = 1, precision = 'fp32' }"


@pytest.fixture
def settings(corpus_source: Path, trunk_folder: Path) -> list[str]:
    """Options that begin a run with a trunk of its own."""
    values = {**own_trunk_settings(corpus_source, trunk_folder), "trunk.loop": LOOP}
    return [word for name, value in values.items() for word in ("--set", f"{name}={value}")]


def test_a_trunk_is_trained_and_shared(settings: list[str], tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    result = realm("trunk", "--run", first, *settings)
    assert result.exit_code == 0, result.output
    folder = result.stdout.strip()
    assert folder == str(first / "trunk" / "model")
    assert "verified" in realm("info", "--run", first, "--verify").output
    shared = ("--set", f"embedder.trunk='{folder}'", "--set", f"reader.trunk='{folder}'")
    loop = ("--set", f"warm_start.embedder.loop={LOOP}")
    rest = ("--set", "warm_start.embedder.objective={ batch_size = 4, trains = 'all' }")
    last = ("--set", "warm_start.reader.loop.num_steps=0")
    result = realm("warm-start", "--run", second, *settings, *shared, *loop, *rest, *last)
    assert result.exit_code == 0, result.output
    assert not (second / "trunk").exists()
    assert Run.open(second).newest_checkpoint() == "warm-start"


def test_a_trained_trunk_keeps_its_settings(settings: list[str], tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert realm("trunk", "--run", run, *settings).exit_code == 0
    again = realm("trunk", "--run", run, "--set", "trunk.loop.num_steps=2")
    assert "trunk.loop.num_steps" in error_of(again)


def test_a_run_without_one_says_how_to_get_one(corpus_source: Path, tmp_path: Path) -> None:
    sources = ("--set", f"sources=['{corpus_source}']")
    assert 'set embedder.trunk and reader.trunk to "own"' in error_of(
        realm("trunk", "--run", tmp_path / "run", *sources)
    )
    assert "set trunk.loop.num_steps" in error_of(
        realm("trunk", "--run", tmp_path / "run", "--set", "reader.trunk='own'")
    )
