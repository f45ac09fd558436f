"""Which commands tell what a run holds and how it went?"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from realm.artifact import MANIFEST, Manifest, open_artifact, read_manifest, verify
from realm.cli.options import RunOption
from realm.cli.terminal import show_progress, show_table, size
from realm.evaluation.report import duration, write_report
from realm.stopwatch import total_by_stage


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command("info")(info)
    app.command("report")(report)


def report(run: RunOption) -> None:
    """Write RUN/report.html: curves, results, times and settings on one page."""
    _check_is_run(run)
    typer.echo(write_report(run))


def info(
    run: RunOption,
    check_sums: Annotated[
        bool, typer.Option("--verify", help="Compare every file with its checksum.")
    ] = False,
) -> None:
    """Show what a run holds, what it was made from, and what it took."""
    _check_is_run(run)
    found = list(_artifacts(run))
    _show_artifacts(run, found)
    _show_counts(found)
    show_import(run)
    rows = [
        [stage, duration(facts["seconds"]), f"{facts['peak_megabytes']:,} MB"]
        for stage, facts in total_by_stage(run / "stages.jsonl").items()
    ]
    show_table("Stages", ("stage", "wall time", "peak memory"), rows)
    if check_sums:
        with show_progress("artifacts verified", len(found)) as advance:
            num_files = 0
            for done, (path, _) in enumerate(found, start=1):
                num_files += verify(path)
                advance(done, path.name)
        typer.echo(f"all {num_files} files agree with their checksums")


def show_import(run: Path) -> None:
    """What an imported run brought along, and which commands that is enough for."""
    from realm.artifact import is_finished
    from realm.importing import NEEDED, lacking
    from realm.run_folder import IMPORT, WHERE_FROM

    if not is_finished(run / IMPORT):
        return
    parts = read_manifest(run / IMPORT).settings["parts"]
    rows = [[part, parts.get(part, "missing: " + hint)] for part, hint in WHERE_FROM.items()]
    show_table("Imported parts", ("part", "from"), rows, num_names=2)
    rows = [[use, ", ".join(lacking(parts, use)) or "nothing"] for use in NEEDED]
    show_table("What they are enough for", ("command", "lacks"), rows, num_names=2)


def _check_is_run(path: Path) -> None:
    """Refuse what is no run, with the words that all commands use."""
    from realm.stages import Run

    Run.open(path)


def _artifacts(run: Path) -> Iterator[tuple[Path, Manifest]]:
    for file in sorted(run.rglob(MANIFEST)):
        is_staging = any(part.startswith(".") for part in file.relative_to(run).parts)
        if not is_staging:
            manifest = read_manifest(file.parent)
            yield file.parent, open_artifact(file.parent, manifest.kind)


def _show_artifacts(run: Path, found: list[tuple[Path, Manifest]]) -> None:
    rows = []
    for path, manifest in found:
        num_bytes = sum(facts["bytes"] for facts in manifest.files.values())
        made_from = ", ".join(value[:8] for value in manifest.inputs.values())
        place = str(path.relative_to(run))
        rows.append([place, manifest.kind, manifest.fingerprint, made_from, size(num_bytes)])
    head = ("artifact", "kind", "fingerprint", "made from", "size")
    show_table(str(run), head, rows, num_names=4)


def _show_counts(found: list[tuple[Path, Manifest]]) -> None:
    rows = [
        [manifest.kind, name.removeprefix("num_").replace("_", " "), f"{count:,}"]
        for _, manifest in found
        if manifest.kind not in ("checkpoint", "snapshot")
        for name, count in manifest.counts.items()
    ]
    show_table("Counts", ("artifact", "what", "number"), rows, num_names=2)
