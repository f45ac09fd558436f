"""Which settings of a run can no longer be changed?

What a finished stage was made with, what a training or the rows of a table have begun with. All is
compared before anything is kept, so that no command works with half of a change and one that is
refused leaves none behind.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from realm.artifact import is_finished, read_manifest
from realm.errors import SettingError

if TYPE_CHECKING:  # what trains needs seconds to import: commands do it when they run
    from realm.experiment import Experiment

# How quick it is made; and where the tokenizer is from, whose content the start compares.
_MADE_WITHOUT = {"corpus.num_workers", "vocabulary_of"}
_MOST_NAMED = 3  # differing settings that an error lists


def refuse_other_recipe(path: Path, recipe: str, saved: "Experiment", wanted: "Experiment") -> None:
    """Compare a recipe that is named with the settings of a run that has begun.

    Raises:
        SettingError: they differ.
    """
    from realm.config import differing

    names = differing(saved.model_dump(), wanted.model_dump())
    if names:
        named = ", ".join(names[:_MOST_NAMED])
        more = " and others" if len(names) > _MOST_NAMED else ""
        raise SettingError(
            f"{path} has other settings than {recipe} ({named}{more}): leave the recipe out to go "
            "on with the run's own, or take a new --run"
        )


def refuse_other_artifacts(path: Path, saved: "Experiment", wanted: "Experiment") -> None:
    """Compare what each finished artifact was made with.

    Raises:
        SettingError: one of them would be another.
    """
    from realm.tables.sharing import PARTS

    for part in PARTS:
        names = _differing(saved, wanted, part.settings)
        if names and not part.trained_with and is_finished(path / part.path):
            raise SettingError(
                f"{path / part.path} is finished and was made with other settings "
                f"({names[0]}): take a new --run"
            )


def refuse_other_trainings(path: Path, saved: "Experiment", wanted: "Experiment") -> None:
    """Compare what trainings, and the rows of tables, have begun with.

    Raises:
        SettingError: one of them would go on otherwise.
        SourceError: other questions to learn from cannot be read.
    """
    _refuse_to_train_otherwise(path, saved, wanted)
    _refuse_other_rows(path, saved, wanted)


def _refuse_other_rows(path: Path, saved: "Experiment", wanted: "Experiment") -> None:
    from realm.stages import Run
    from realm.tables.making import MAY_DIFFER, ROWS

    names = _differing(saved, wanted, [n for n in type(saved).model_fields if n not in MAY_DIFFER])
    if names and any(map(Run.is_run, (path / ROWS).glob("*"))):
        raise SettingError(
            f"the rows of tables in {path / ROWS} were begun with other settings ({names[0]}): "
            "delete them, or take a new --run"
        )


def _refuse_to_train_otherwise(path: Path, saved: "Experiment", wanted: "Experiment") -> None:
    # A model that was taken was trained elsewhere.
    from realm.run_folder import TAKEN_FROM, RunFolder
    from realm.tables.sharing import PARTS, trained_by

    run = RunFolder(path, wanted)
    asks_others = bool(wanted.train_questions) and _differing(saved, wanted, ["train_questions"])
    # Files that cannot be read are named before anything is kept.
    questions = run.fingerprint_of_train_questions() if asks_others else ""
    for part in PARTS:
        inputs = _inputs_of_training(path / part.path) if part.trained_with else {}
        if not inputs or TAKEN_FROM in inputs:
            continue
        others = [name for name in part.settings if name != "train_questions"]
        names = _differing(saved, wanted, others)
        if inputs.get("settings") != trained_by(part, wanted):  # else it goes back to what it was
            names += _differing(saved, wanted, part.trained_with)
        if questions and inputs.get("questions", questions) != questions:
            names.append("train_questions")
        chosen_by = _differing(saved, wanted, ("retrieval", "dev_questions"))
        measured_by = inputs.get("development")
        if measured_by and chosen_by and measured_by != run.fingerprint_of_development():
            names += chosen_by
        if names:
            raise SettingError(
                f"{path / part.path} was trained with other settings ({names[0]}): take a new "
                "--run, or delete that folder to train it again"
            )


def _inputs_of_training(folder: Path) -> dict[str, str]:
    """What its newest checkpoint was made from; nothing where it has not begun."""
    from realm.training.state import latest_checkpoint

    newest = latest_checkpoint(folder)
    return {} if newest is None else read_manifest(newest).inputs


def _differing(saved: "Experiment", wanted: "Experiment", groups: Iterable[str]) -> list[str]:
    """The settings of these groups that differ."""
    from realm.config import differing, plain_value_of

    before, after = (
        {name: plain_value_of(experiment, name) for name in groups}
        for experiment in (saved, wanted)
    )
    return [name for name in differing(before, after) if name not in _MADE_WITHOUT]
