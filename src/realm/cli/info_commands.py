"""Which commands tell what a run holds and how it went, and what this machine can?"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated

import typer

from realm.artifact import MANIFEST, Manifest, open_artifact, read_manifest, verify
from realm.cli.machine_table import show_machine
from realm.cli.options import RunOption
from realm.cli.terminal import show_progress, show_table, size
from realm.errors import SettingError
from realm.evaluation.report import duration, write_report
from realm.metric_log import skipped_examples
from realm.stopwatch import total_by_stage

_LEFT_OUT = {
    "num_short_sentences": "sentences too short to ask for a part of",
    "num_cut_spans": "spans without a whole wordpiece",
    "num_broken_spans": "published spans that are empty or cut a character",
    "num_crossing_spans": "published spans that are not inside one sentence long enough",
    "num_overlapping_spans": "published spans that overlap a longer one",
}
_REASONS = {
    "too_many_masks": "skipped, more hidden wordpieces than max_masks",
    "hidden_beyond_query": "skipped, hidden beyond the end of the query",
    "no_other_passage": "read without a passage, only their own was found",
}


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command("info")(info)
    app.command("report")(report)


def report(run: RunOption) -> None:
    """Write RUN/report.html: curves, results, times and settings on one page."""
    _check_is_run(run)
    typer.echo(write_report(run))


def info(
    run: Annotated[
        Path | None,
        typer.Option("--run", metavar="RUN", help="Directory of the run.", show_default=False),
    ] = None,
    check_sums: Annotated[
        bool, typer.Option("--verify", help="Compare every file with its checksum.")
    ] = False,
    machine: Annotated[
        bool, typer.Option("--machine", help="Measure this machine, for some seconds.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the machine as JSON, for `realm plan`.")
    ] = False,
) -> None:
    """Show what a run holds, what it was made from, and what it took; or what this machine can."""
    if as_json and not machine:
        raise SettingError("--json prints the machine: give --machine as well")
    if machine:
        show_machine(as_json=as_json)
    if run is not None:
        _show_run(run, check_sums=check_sums)
    elif not machine:
        raise SettingError("nothing is asked for: give --run RUN, or --machine")


def _show_run(run: Path, *, check_sums: bool) -> None:
    _check_is_run(run)
    found = list(_artifacts(run))
    if not found:
        typer.echo(f"{run} was begun, and nothing in it is finished")
        return
    _show_artifacts(run, found)
    _show_counts(found)
    for _, manifest in found:
        if manifest.kind == "spans":
            show_span_statistics(manifest.counts)
    left_out = examples_left_out(run)
    if left_out:
        show_table("Examples of pre-training", ("what became of them", "number"), left_out)
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
    if "passages" in parts:
        hint = "block records have none; documents of your own do (`realm swap-corpus`)"
        rows.append(["titles of passages", f"missing: {hint}"])
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
        if manifest.kind not in ("checkpoint", "snapshot", "spans")
        for name, count in manifest.counts.items()
    ]
    show_table("Counts", ("artifact", "what", "number"), rows, num_names=2)


def show_span_statistics(counts: Mapping[str, int | float]) -> None:
    """How densely a corpus is annotated, and with spans of which kinds."""
    from realm.spans.annotate import LABEL_COUNT

    num_spans, num_passages = counts["num_spans"], counts["num_passages"]
    num_sentences = counts["num_sentences"]
    rows = [
        _share_row("sentences with a span", counts["num_sentences_with_spans"], num_sentences),
        _share_row("passages with a span", counts["num_passages_with_spans"], num_passages),
        ["spans a passage", f"{num_spans / max(1, num_passages):.2f}", ""],
        ["spans", f"{num_spans:,}", ""],
    ]
    by_label = [(n, name.removeprefix(LABEL_COUNT)) for name, n in counts.items()
                if name.startswith(LABEL_COUNT)]  # fmt: skip
    rows += [_share_row(f"spans: {label}", n, num_spans) for n, label in sorted(by_label)[::-1]]
    rows += [
        [f"left out: {what}", f"{counts[name]:,}", ""]
        for name, what in _LEFT_OUT.items()
        if name in counts  # annotations of earlier versions did not count them
    ]
    show_table("Salient spans", ("what", "number", "share"), rows)


def examples_left_out(run: Path) -> list[list[str]]:
    """Why examples gave pre-training less than they could, and how many until the last checkpoint.

    Empty where pre-training did not begin.
    """
    counts = skipped_examples(run / "pretrain")
    return [[_REASONS.get(reason, reason), f"{count:,}"] for reason, count in counts.items()]


def _share_row(name: str, count: float, total: float) -> list[str]:
    return [name, f"{count:,}", f"{100 * count / max(1, total):.1f}%"]
