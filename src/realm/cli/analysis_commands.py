"""Which commands look into a model: what fills a gap, and what another corpus changes?"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from realm.cli.options import ModelOption, RunOption, SetOption, absolute, open_existing
from realm.cli.terminal import results, show_progress, show_table

if TYPE_CHECKING:
    from realm.evaluation.fill_mask import Candidate, FilledMask, Filling

_SMALLEST_SHOWN_PLAIN = 0.001


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command("fill-mask")(fill_mask)
    app.command("swap-corpus")(swap_corpus)


def fill_mask(
    run: RunOption,
    text: Annotated[str, typer.Argument(metavar='"TEXT WITH [MASK]"', show_default=False)],
    answer: Annotated[str, typer.Option(help="Score these words instead of the likeliest.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, for programs.")] = False,
    top_k: Annotated[int, typer.Option(min=1, help="How many fillings.")] = 5,
    model: ModelOption = "",
    assignments: SetOption = None,
) -> None:
    """Fill the gaps in a text, and show what each passage has to do with it."""
    from realm.evaluation.fill_mask import open_mask_filler
    from realm.scoring import check_model

    opened = open_existing(run, assignments)
    opened.require("query embedder", "passage embedder", "reader", "masked head")
    name = check_model(opened, model) if model else opened.newest_pretrained()
    experiment, checkpoint = opened.experiment, opened.checkpoint(name)
    index = opened.snapshot(name).index(experiment.index)
    filler = open_mask_filler(checkpoint, opened.corpus(), index, experiment.pretrain.objective)
    filled = filler.fill(text, answer=answer, top_k=top_k)
    if as_json:
        typer.echo(json.dumps(filled.as_dict(), ensure_ascii=False))
    else:
        _show(filled)


def swap_corpus(
    run: RunOption,
    sources: Annotated[
        list[str], typer.Argument(metavar="SOURCE...", help="Folders, files, or hub:NAME.")
    ],
    to: Annotated[Path, typer.Option(metavar="RUN", help="Directory of the new run.")],
) -> None:
    """Give the models of a run another corpus, without training, in a new run."""
    from realm.swap import swap

    made = swap(open_existing(run), absolute(sources), to, show_progress)
    names = " and ".join(made.taken_checkpoints())
    typer.echo(f"{to}: {names} of {run} over {len(made.corpus()):,} other passages")


def _show(filled: "FilledMask") -> None:
    from rich.text import Text

    console = results()
    console.print(Text(filled.query, style="bold"))
    answer = filled.answer
    line = Text("  ").append(answer.text, style="bold green")
    line.append(f"  p(y|x) {_number(answer.probability)}, without retrieval ")
    line.append(f"{_number(answer.probability_without_retrieval)}, ")
    console.print(line.append(f"retrieval utility {filled.retrieval_utility:+.2f}"))
    rows = [
        [
            _passage(c),
            _number(c.retrieval_probability),
            _number(c.answer_probability),
            f"{c.retrieval_utility:+.2f}",
        ]
        for c in filled.candidates
    ]
    head = ("passage z", "p(z|x)", "p(y|z,x)", "utility")
    show_table(f"What each passage makes of {answer.text!r}", head, rows)
    _show_fillings("Likeliest fillings", filled.fillings)
    _show_fillings("Likeliest fillings without retrieval", filled.fillings_without_retrieval)


def _passage(candidate: "Candidate") -> str:
    if candidate.passage_id is None:
        return "(no passage)"
    return f"{candidate.title}: {candidate.text}" if candidate.title else candidate.text


def _show_fillings(title: str, fillings: "tuple[Filling, ...]") -> None:
    rows = [
        [f.text, _number(f.probability), _number(f.probability_without_retrieval)] for f in fillings
    ]
    show_table(title, ("filling", "p(y|x)", "without retrieval"), rows)


def _number(probability: float) -> str:
    """Probabilities span many orders of magnitude: the paper's smallest is 1.1e-14."""
    is_plain = probability == 0.0 or probability >= _SMALLEST_SHOWN_PLAIN
    return f"{probability:.3f}" if is_plain else f"{probability:.1e}"
