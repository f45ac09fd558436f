#!/usr/bin/env python3
"""What must travel to a machine without a network, but with torch and transformers, to train there?

    scripts/gpu_bundle.py FOLDER --recipe mini [--python 3.12] [--lacks NAME ...]

Needs the network, and the program installed. FOLDER then holds

    wheels/    the program, and the packages that such a machine lacks, as constraints.txt has them
    data/      every file below REALM_DATA that the recipe reads
    trunks/    its trunks in half width; of one that gives the vocabulary alone, no weights
    run/       a run that has the recipe, with these trunks, and has not begun
    setup.sh   what to source there; then `realm run --run run`, `realm experiment ... --run run`
"""

import argparse
import importlib.metadata
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from safetensors.torch import load_file, save_file

from realm.errors import RealmError, ResourceError
from realm.experiment import Experiment, expand, read_recipe, with_overrides
from realm.models.trunk import OWN_TRUNK, locate_trunk
from realm.run_folder import RunFolder

ROOT = Path(__file__).resolve().parents[1]
# What every such machine has, whichever its version of transformers.
THERE = {
    "huggingface-hub", "numpy", "regex", "safetensors", "tokenizers", "torch", "transformers",
}  # fmt: skip
# Of the C library that compiled wheels are for; pip takes none but those that are named.
PLATFORMS = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014", "manylinux1")
DATA = "${REALM_DATA}/"
VOCABULARY = "trunk.vocabulary_of"
SETUP = """\
# Source this file: it installs the wheels beside it, and goes to where the run and its trunks are.
cd "$(dirname "${BASH_SOURCE[0]}")" || return
python3 -m pip install --quiet --no-index --no-deps --upgrade --target site wheels/*.whl || return
export PYTHONPATH="$PWD/site" REALM_DATA="$PWD/data" HF_HUB_OFFLINE=1 PATH="$PWD/site/bin:$PATH"
"""


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    folder: Path = options.folder
    try:
        experiment = read_recipe(options.recipe)
        copy_data(experiment, folder / "data")
        trunks = write_trunks(experiment, folder / "trunks")
        RunFolder(folder / "run", with_overrides(experiment, trunks)).save_recipe()
        (folder / "setup.sh").write_text(SETUP, encoding="utf-8")
        download_wheels(options.lacks, options.python, folder / "wheels")
    except RealmError as error:
        sys.exit(f"gpu_bundle.py: {error}")
    for part in sorted(folder.iterdir()):
        print(f"{megabytes(part):8.1f} MiB  {part}")
    print(f"{megabytes(folder):8.1f} MiB  in all")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--recipe", required=True, help="a file, or the name of one that ships")
    parser.add_argument(
        "--python",
        default="3.12",
        help="there (best with its patch number), on an x86-64 processor",
    )
    parser.add_argument(
        "--lacks", nargs="*", default=lacking(), help=f"packages that it has not: {lacking()}"
    )
    return parser.parse_args(arguments)


def lacking() -> list[str]:
    """What the program needs beside that, by the versions that are installed here."""
    return sorted(needed_by({"realm-lm"}) - needed_by({"torch"}) - {"realm-lm"})


def needed_by(names: Iterable[str]) -> set[str]:
    """Packages and all that they need, but for what is there, by their normalised names."""
    needed, waiting = set[str](), [*names]
    while waiting:
        name = waiting.pop()
        needed.add(name)
        for text in importlib.metadata.requires(name) or ():
            requirement, wanted = Requirement(text), canonicalize_name(Requirement(text).name)
            is_extra = requirement.marker and not requirement.marker.evaluate({"extra": ""})
            if not is_extra and wanted not in THERE | needed:
                waiting.append(wanted)
    return needed


def copy_data(experiment: Experiment, target: Path) -> None:
    """Copy what the recipe reads to the same places below `target`.

    Raises:
        ResourceError: one of the files is not there, or not below REALM_DATA.
    """
    for name in files_of(experiment):
        source = Path(expand(name))
        if not name.startswith(DATA) or not source.is_file():
            raise ResourceError(f"{name} is no file below REALM_DATA: put it there, and name it so")
        copy = target / name.removeprefix(DATA)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, copy)


def files_of(experiment: Experiment) -> Iterator[str]:
    """What the recipe reads, but for what comes along with the program."""
    names = (*experiment.sources, *experiment.pretrain_sources)
    names += (*experiment.train_questions, *experiment.dev_questions)
    return (name for name in names if not name.startswith("${REALM_DEMO}"))


def write_trunks(experiment: Experiment, target: Path) -> list[str]:
    """Write the trunks that the recipe names; return how to set them, by a path beside the run."""
    assignments, name_at = [], dict[Path, str]()
    for setting, name in trunks_of(experiment).items():
        is_whole = setting != VOCABULARY
        place = target / ("whole" if is_whole else "vocabulary") / Path(name).name
        if name_at.setdefault(place, name) != name:  # the trunks of runs are all called model
            place = place.with_name(f"{place.name}-{setting.partition('.')[0]}")
        copy_trunk(locate_trunk(name), place, weights=is_whole)
        assignments.append(f"{setting}={place.relative_to(target.parent)}")
    return assignments


def trunks_of(experiment: Experiment) -> Mapping[str, str]:
    """The names of trunks, by setting."""
    named = {"embedder.trunk": experiment.embedder.trunk, "reader.trunk": experiment.reader.trunk}
    trunks = {setting: name for setting, name in named.items() if name != OWN_TRUNK}
    if experiment.has_own_trunk:
        trunks[VOCABULARY] = experiment.trunk.vocabulary_of
    return trunks


def copy_trunk(source: Path, target: Path, *, weights: bool) -> None:
    """Copy a trunk; its weights in half width, since they are widened wherever they are loaded."""
    target.mkdir(parents=True, exist_ok=True)
    for file in source.glob("*.json"):
        shutil.copyfile(file, target / file.name)
    for file in source.glob("*.safetensors") if weights else ():
        tensors = load_file(file)
        halves = {n: t.half() if t.is_floating_point() else t for n, t in tensors.items()}
        save_file(halves, target / file.name, metadata={"format": "pt"})


def download_wheels(names: Iterable[str], python: str, target: Path) -> None:
    """Download the pinned wheels of these packages for that Python, and build the program's own.

    Raises:
        ResourceError: pip found or built one of them not; its own message stands above.
    """
    shutil.rmtree(target, ignore_errors=True)  # of two versions of a package none is installed
    pip = [sys.executable, "-m", "pip"]
    fitting = ["--only-binary=:all:", "--implementation=cp", f"--python-version={python}"]
    fitting += [f"--platform={platform}_x86_64" for platform in PLATFORMS]
    common = ["--quiet", "--no-deps"]
    commands = (
        [*pip, "download", *common, *fitting, "--dest", str(target), *map(pinned, names)],
        [*pip, "wheel", *common, "--wheel-dir", str(target), str(ROOT)],
    )
    for command in commands:
        if subprocess.run(command, check=False).returncode:
            raise ResourceError(f"{' '.join(command[2:5])} failed, its own message stands above")


def pinned(name: str) -> str:
    """The requirement of a package as `constraints.txt` has it."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    for line in lines:
        if "==" in line and canonicalize_name(line.partition("==")[0]) == canonicalize_name(name):
            return line
    raise ResourceError(f"constraints.txt has no package {name}: name it as it stands there")


def megabytes(path: Path) -> float:
    """Size of a file, or of all files in a folder, in MiB."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files) / 2**20


if __name__ == "__main__":
    main()
