"""How does what a machine reaches look as a table?"""

from typing import TYPE_CHECKING

import typer

from realm.cli.terminal import show_table

if TYPE_CHECKING:
    from realm.rates import Machine


def show_machine(*, as_json: bool) -> None:
    """Measure this machine; print what was measured, and what is computed with by default."""
    from realm.rates import measure_machine

    machine = measure_machine()
    if as_json:
        typer.echo(machine.model_dump_json(indent=1))
        return
    _show_choices(machine)
    _show_encoders(machine)
    _show_parts(machine)


def _show_choices(machine: "Machine") -> None:
    rows = [[what, value] for what, value in machine.chosen.items()]
    rows += [
        ["threads", str(machine.num_threads)],
        ["memory", f"{machine.memory_gigabytes:.0f} GB"],
    ]
    show_table(f"{machine.name}: {machine.source}", ("chosen", ""), rows, num_names=2)


def _show_encoders(machine: "Machine") -> None:
    rows = [
        [
            f"{rate.width} wide, {rate.heads} heads, {rate.inner} inside", f"{rate.length}",
            f"{rate.forward:,.0f}", f"{rate.training:,.0f}", f"{rate.kept_bytes / 1000:.1f} kB",
        ]
        for rate in machine.encoders
    ]  # fmt: skip
    head = ("one layer", "length", "wordpieces/s forward", "and backward", "kept of each")
    show_table("Encoders", head, rows)


def _show_parts(machine: "Machine") -> None:
    rows = [
        [f"matrix product, {name}", f"{value:.2f} TFLOP/s"]
        for name, value in sorted(machine.matrix_teraflops.items())
    ]
    for what, rate, unit in (
        ("optimiser", machine.weights, "million weights/s"),
        ("span head, forward and backward", machine.span_numbers, "million numbers/s"),
        ("exact search, one query", machine.search_rows, "million rows/s"),
        ("exact search, each query more", machine.search_scores, "million rows/s"),
        ("artifacts written", machine.written_bytes, "MB/s"),
        ("documents cut, one core", machine.cut_characters, "million characters/s"),
    ):
        rows.append([what, f"{rate / 1e6:,.1f} {unit}"])
    show_table("Parts", ("what", "rate"), rows)
