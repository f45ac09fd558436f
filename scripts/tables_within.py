#!/usr/bin/env python3
"""How are both tables of the paper made in so many minutes, on a machine whose pace nobody knows?

    scripts/tables_within.py FOLDER --recipe tables --minutes 25 --trunk-minutes 3 --jobs 12

A rehearsal over the first source measures a step of each training. The trunk is trained for its
minutes, also on what --trunk-source names, while passages and pairs are prepared beside it; then
the steps of all other trainings are scaled to the time that is left.

    FOLDER/rehearsal  FOLDER/trunk  FOLDER/tables  ordinary runs; the last has table1/ and table2/
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from realm.children import end as end_all
from realm.config import value_of
from realm.errors import RealmError
from realm.experiment import Experiment, read_recipe
from realm.json_lines import read_json_lines
from realm.stages import Run
from realm.tables.making import Job, jobs_of
from realm.tables.row import mean_lengths
from realm.tables.rows import TABLES, rows_of
from realm.tables.sharing import PARTS, key_of

REALM = [sys.executable, "-P", "-m", "realm.cli.main"]
TRUNK = "trunk"
# Where the trainings of a row keep their logs, by the settings that they are made with.
LOGS = {part.trained_with[0]: part.path for part in PARTS if part.trained_with}
REHEARSED = 200  # steps; the first half is not counted: kernels, memory and shapes are new then
SECONDS_TO_SAVE = 15.0  # the trunk, and to begin with it
SECONDS_BESIDE = 60.0  # of a row: to begin, to embed the corpus, to be measured
OVERLAP = 0.5  # of rows side by side, in units of one after the other
LEAST, MOST = 0.2, 5.0  # times the steps of the recipe


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    end = time.time() + 60 * options.minutes
    try:
        recipe = read_recipe(options.recipe, options.set)
        runs = {name: options.folder / name for name in ("rehearsal", TRUNK, "tables")}
        begin = [f"--recipe={options.recipe}", *(f"--set={change}" for change in options.set)]
        realm("run", runs["rehearsal"], options.recipe, *begin[1:], *as_options(shortened(recipe)))
        seconds = dict(measured(runs["rehearsal"]))
        print("seconds a step, alone:", json.dumps(seconds))
        num_steps = round((60 * options.trunk_minutes - SECONDS_TO_SAVE) / seconds[TRUNK])
        longer = {
            "sources": [*recipe.sources, *options.trunk_source],
            "trunk.loop.num_steps": num_steps, "trunk.loop.save_every": num_steps,
        }  # fmt: skip
        trunk = started(TRUNK, runs[TRUNK], *begin, *as_options(longer))
        base = Run(runs["tables"], recipe)
        try:
            base.save_recipe()
            base.reading_pairs()
        except BaseException:
            end_all([trunk])
            raise
        if trunk.wait():
            sys.exit("tables_within.py: the trunk failed, its own message stands above")
        changes = scaled(base, seconds, end - time.time(), options)
    except RealmError as error:
        sys.exit(f"tables_within.py: {error}")
    print("chosen:", json.dumps(changes))
    own = str((runs[TRUNK] / "trunk" / "model").absolute())
    changes |= {"embedder.trunk": own, "reader.trunk": own}
    for table in sorted(TABLES, reverse=True):  # the ablation first: it is what the claim stands on
        many = [f"--jobs={options.jobs}", f"--seeds={options.seeds}"]
        realm("experiment", runs["tables"], table, *many, *as_options(changes))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--recipe", default="tables", help="one with a trunk of its own")
    parser.add_argument("--minutes", type=float, required=True, help="for all of it")
    parser.add_argument("--trunk-minutes", type=float, required=True)
    parser.add_argument("--trunk-source", nargs="*", default=[], metavar="SOURCE")
    parser.add_argument("--jobs", type=int, default=1, help="rows made at a time")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of REALM and ORQA")
    parser.add_argument("--set", nargs="*", default=[], metavar="a.b=c", help="change the recipe")
    return parser.parse_args(arguments)


def realm(command: str, run: Path, *arguments: str) -> None:
    """Run a command of the program to its end; its failure ends this one."""
    if started(command, run, *arguments).wait():
        sys.exit(f"tables_within.py: `realm {command}` failed, its own message stands above")


def started(command: str, run: Path, *arguments: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([*REALM, command, *arguments, f"--run={run}"], stdin=subprocess.DEVNULL)


def as_options(changes: Mapping[str, Any]) -> list[str]:
    return [f"--set={name}={json.dumps(value)}" for name, value in changes.items()]


def shortened(recipe: Experiment) -> dict[str, Any]:
    """Every training and every file that the recipe names, but little of each."""
    changes: dict[str, Any] = {
        name: list(value_of(recipe, name)[:1])
        for name in ("sources", "train_questions", "dev_questions")
    }
    for training in (TRUNK, *LOGS):
        changes[f"{training}.loop.num_steps"] = changes[f"{training}.loop.save_every"] = REHEARSED
    return changes | {
        "pretrain.refresh.every": REHEARSED,
        "pretrain.num_held_out": 8,
        "warm_start.reader.objective.num_queries": 1000,
    }


def measured(rehearsal: Path) -> Iterator[tuple[str, float]]:
    """Seconds of a step, by training."""
    for training, path in {TRUNK: TRUNK, **LOGS}.items():
        rows = [
            r for r in read_json_lines(rehearsal / path / "metrics.jsonl") if "step_seconds" in r
        ]
        yield training, statistics.median(row["step_seconds"] for row in rows[len(rows) // 2 :])


def scaled(
    base: Run, seconds: Mapping[str, float], left: float, options: argparse.Namespace
) -> dict[str, int]:
    """The steps of all trainings but the trunk's, so that both tables fit into the time left."""
    recipe = base.experiment
    lengths = mean_lengths(base.corpus(), recipe)
    jobs = [
        job for table in TABLES for job in jobs_of(rows_of(table, recipe, lengths), options.seeds)
    ]
    overlap = OVERLAP if options.jobs > 1 else 1.0
    beside = SECONDS_BESIDE * len(jobs) / options.jobs
    factor = (left - beside) / (overlap * seconds_of_steps(jobs, recipe, seconds))
    factor = min(MOST, max(LEAST, factor))
    print(f"{left:.0f} s are left: {factor:.2f} times the recipe's steps")
    every = max(1, round(factor * recipe.pretrain.refresh.every))
    changes = {"pretrain.refresh.every": every, "pretrain.loop.save_every": every}
    for training in LOGS:
        number = max(1, round(factor * value_of(recipe, f"{training}.loop.num_steps")))
        changes[f"{training}.loop.num_steps"] = number
        changes.setdefault(f"{training}.loop.save_every", number)
    return changes


def seconds_of_steps(
    jobs: Sequence[Job], recipe: Experiment, seconds: Mapping[str, float]
) -> float:
    """Of all trainings of these rows, one after the other, each that they share once."""
    by_key = {}
    for job in jobs:
        experiment = job.row.experiment(recipe, job.seed)
        for part in PARTS:
            if part.trained_with:
                training = part.trained_with[0]
                steps = value_of(experiment, f"{training}.loop.num_steps")
                by_key[key_of(part, experiment)] = steps * seconds[training]
    return sum(by_key.values())


if __name__ == "__main__":
    main()
