"""How are the rows of a table made, one after the other, and go on where they were stopped?

Every row is an ordinary run at RUN/rows/NAME-SEED: what another row or RUN itself has made by the
same settings is linked into it, the stages make the rest, and it is measured on the development
questions. RUN is the run that the recipe belongs to; its corpus serves all.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from realm.config import differing
from realm.errors import SettingError
from realm.experiment import BEST_FINETUNED_BY
from realm.pretraining.run import BEST_PRETRAINED_BY
from realm.run_folder import RunFolder
from realm.scoring import evaluate
from realm.stages import Run, all_stages
from realm.tables.row import Row, mean_lengths
from realm.tables.rows import rows_of
from realm.tables.sharing import PARTS, take_over
from realm.training.state import best_step, prune

ROWS = "rows"
"""The folder of a table's runs in RUN."""
MAY_DIFFER = {"dev_questions"}
"""What a row is measured by: its evaluation is made again."""


@dataclass(frozen=True)
class Job:
    """One row with one seed."""

    row: Row
    seed: int

    @property
    def name(self) -> str:
        """As its directory is called."""
        return f"{self.row.name}-{self.seed}"


def rows_to_make(
    base: Run, table: str, *, num_seeds: int, names: Collection[str] = ()
) -> list[Job]:
    """The rows of a table, each with one seed, then the repeated ones with the further seeds.

    Raises:
        SettingError: there is no such table or row, or the recipe leaves nothing to compare.
    """
    rows = rows_of(table, base.experiment, mean_lengths(base.corpus(), base.experiment))
    known = [row.name for row in rows]
    for name in names:
        if name not in known:
            raise SettingError(f"{table} has no row {name}: choose from {', '.join(known)}")
    return jobs_of([row for row in rows if not names or row.name in names], num_seeds)


def jobs_of(rows: Sequence[Row], num_seeds: int) -> list[Job]:
    """All rows once, so that a whole table is there early, then the further seeds."""
    further = [Job(row, seed) for seed in range(1, num_seeds) for row in rows if row.is_repeated]
    return [Job(row, 0) for row in rows] + further


def row_run(base: Run, job: Job) -> Run:
    """The run of a row, which need not have begun."""
    experiment = job.row.experiment(base.experiment, job.seed)
    return Run(base.path / ROWS / job.name, experiment, base.progress)


def make_row(base: Run, run: Run) -> None:
    """Make the run of a row, or what is missing of it; a finished one costs nothing.

    Raises:
        SettingError: it was begun with another recipe.
    """
    begin_row(base, run)
    finish_row(run)
    drop_intermediate_checkpoints(run)


def begin_row(base: Run, run: Run) -> None:
    """Write a row's recipe, and link into its run what others have made already.

    Raises:
        SettingError: it was begun with another recipe.
    """
    if Run.is_run(run.path) and (names := settings_changed_since(run)):
        raise SettingError(
            f"{run.path} was begun with other settings ({names[0]}): delete it, or take another "
            "--run"
        )
    run.save_recipe()
    take_over(run, _donors(base, run))


def finish_row(run: Run) -> None:
    """Make every stage of a row that is missing, and measure it."""
    for _, make in all_stages(run):
        make()
    evaluate(run, run.experiment.dev_questions)


def settings_changed_since(run: Run) -> list[str]:
    """Names of the settings in which a row that was begun differs from what it is to be."""
    saved = Run.open(run.path).experiment.model_dump(exclude=MAY_DIFFER)
    return differing(saved, run.experiment.model_dump(exclude=MAY_DIFFER))


def seeds_begun(base: Run, row: Row) -> list[int]:
    """The seeds of a row for which there is a directory."""
    names = (path.name.rpartition("-") for path in (base.path / ROWS).glob(f"{row.name}-*"))
    return sorted(int(seed) for name, _, seed in names if name == row.name and seed.isdigit())


def drop_intermediate_checkpoints(run: Run) -> None:
    """Of a finished training only the last checkpoint and the best are used again."""
    paths = ("trunk", *(part.path for part in PARTS if part.trained_with))
    for folder in (run.path / path for path in paths):
        best = (best_step(folder, scalar) for scalar in (BEST_PRETRAINED_BY, BEST_FINETUNED_BY))
        kept = [step for step in best if step is not None]
        prune(folder / "checkpoints", keep=1, protected=kept)


def _donors(base: Run, run: Run) -> Sequence[RunFolder]:
    """The runs that may have made a part already: RUN itself, and its other rows."""
    folders = sorted(path for path in (base.path / ROWS).iterdir() if Run.is_run(path))
    return [base, *(RunFolder.open(path) for path in folders if path != run.path)]
