"""What happened in a run, on one page that opens anywhere?

Reads only what the stages left behind: logs, manifests and the JSON of the evaluations. What
is not there yet is left out, so that the page can be made while a run goes on.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from realm.artifact import MANIFEST, read_manifest, write_atomically
from realm.evaluation.curves import Curve, Point, draw
from realm.json_lines import read_json_lines
from realm.stopwatch import total_by_stage

_TEMPLATE = Path(__file__).with_name("report.html")
_SHOWN_RECALL = ("1", "5", "20", "100")
_BARRED_AT = "5"


@dataclass(frozen=True)
class _Figure:
    """One picture: which scalars of which stage's log, under which names."""

    title: str
    folder: str
    names: Mapping[str, str]
    note: str = ""


_FIGURES: Mapping[str, Sequence[_Figure]] = {
    "Pre-training": (
        _Figure("Loss", "pretrain", {"loss": "training", "held_out_loss": "held out"}),
        _Figure(
            "Retrieval utility",
            "pretrain",
            {"retrieval_utility": "training", "held_out_retrieval_utility": "held out"},
            "How much likelier the hidden words are with retrieval than without, in nats.",
        ),
        _Figure(
            "Probability of the null passage",
            "pretrain",
            {"null_probability": "training", "held_out_null_probability": "held out"},
        ),
        _Figure(
            "Entropy of retrieval",
            "pretrain",
            {"retrieval_entropy": "training", "held_out_retrieval_entropy": "held out"},
            "Over the candidates, in nats; 0 where one passage takes all.",
        ),
        _Figure(
            "Recall@5 of development questions, in percent",
            "pretrain",
            {"development_recall_at_5": "a sample of the first file"},
            "In the index of that moment.",
        ),
        _Figure(
            "Staleness of the index",
            "pretrain",
            {"staleness": "steps since the snapshot's checkpoint"},
        ),
    ),
    "Warm start": (
        _Figure(
            "Trunk: loss of masked language modelling",
            "trunk",
            {"loss": "training", "held_out_loss": "held out"},
        ),
        _Figure(
            "Embedder: loss of the inverse cloze task", "warm-start/embedder", {"loss": "loss"}
        ),
        _Figure(
            "Embedder: sentences that found their passage",
            "warm-start/embedder",
            {"accuracy": "share"},
        ),
        _Figure(
            "Reader: loss beside evidence",
            "warm-start/reader",
            {"masked_loss": "hidden words", "span_loss": "pointing at them"},
        ),
    ),
    "Fine-tuning": (
        _Figure("Loss", "finetune", {"retriever_loss": "retriever", "reader_loss": "reader"}),
        _Figure(
            "Recall on the training questions",
            "finetune",
            {"answer_in_top_5": "in the first 5", "answer_in_beam": "in all retrieved"},
        ),
        _Figure(
            "Exact match of development questions, in percent",
            "finetune",
            {"development_exact_match": "a sample of the first file"},
        ),
        _Figure("Read correctly", "finetune", {"read_correctly": "share of training questions"}),
    ),
}


def write_report(run: Path) -> Path:
    """Write `report.html` into a run directory and return its path."""
    parts = {
        "facts": "".join(_facts(run)),
        "results": _results(run),
        "figures": "".join(_figures(run)),
        "stages": _stages(run),
        "settings": _settings(run),
    }
    return write_page(run / "report.html", f"REALM run {run.resolve().name}", parts)


def write_page(path: Path, title: str, parts: Mapping[str, str]) -> Path:
    """Write a page with its parts as HTML and return its path."""
    write_atomically(path, page(title, parts))
    return path


def page(title: str, parts: Mapping[str, str]) -> str:
    """A page with its parts (`facts`, `results`, ...) as HTML; what is left out is empty."""
    template = Template(_TEMPLATE.read_text(encoding="utf-8"))
    return template.substitute(defaultdict(str, parts, title=escape(title)))


def read_evaluations(run: Path, task: str) -> dict[str, dict[str, Any]]:
    """The reports of a task (`retrieval`, `open-qa`) in a run, by question file."""
    found = sorted((run / "evaluation").glob(f"{task}-*.json"))
    return {
        file.stem.removeprefix(f"{task}-"): json.loads(file.read_text(encoding="utf-8"))
        for file in found
    }


def _facts(run: Path) -> Iterable[str]:
    for folder, names in (
        ("corpus", {"num_documents": "documents", "num_passages": "passages"}),
        ("spans", {"num_spans": "salient spans"}),
        ("warm-start/pairs", {"num_pairs": "spans found in a second passage"}),
    ):
        if (run / folder / MANIFEST).is_file():
            counts = read_manifest(run / folder).counts
            yield from (
                f"<li><b>{counts[key]:,}</b> <span>{name}</span></li>"
                for key, name in names.items()
            )


def _results(run: Path) -> str:
    retrieval, open_qa = (read_evaluations(run, task) for task in ("retrieval", "open-qa"))
    if not retrieval and not open_qa:
        return ""
    answers = _answer_table(open_qa) if open_qa else ""
    parts = [_recall_table(name, report) for name, report in retrieval.items()]
    return "<h2>Results</h2>" + answers + "".join(parts)


def _answer_table(open_qa: Mapping[str, Mapping[str, Any]]) -> str:
    head = ("Questions", "number", "exact match", "F1", "abstained", "model")
    rows = [
        [
            escape(name),
            f"{report['num_questions']:,}",
            f"{report['exact_match']:.1f}",
            f"{report['f1']:.1f}",
            f"{report['abstained']:.1f}",
            escape(report["model"]),
        ]
        for name, report in open_qa.items()
    ]
    return table("Answers, in percent", head, rows)


def _recall_table(name: str, report: Mapping[str, Any]) -> str:
    systems = report["systems"]
    depths = [k for k in _SHOWN_RECALL if any(k in s["recall"] for s in systems.values())]
    best = {k: max(s["recall"].get(k, 0) for s in systems.values()) for k in depths}
    head = ("Ranking", *(f"recall@{k}" for k in depths))
    rows = []
    for system, facts in systems.items():
        cells = [escape(system)]
        for k in depths:
            value = facts["recall"].get(k)
            text = "" if value is None else f"{value:.1f}"
            if k == _BARRED_AT and value is not None:
                text = _bar(value, is_lexical=system == "bm25") + text
            cells.append(f"<b>{text}</b>" if value == best[k] else text)
        rows.append(cells)
    title = f"Retrieval on {name}: share of {report['num_questions']:,} questions, in percent"
    return table(title, head, rows) + _difference_table(report["differences"])


def _bar(percent: float, *, is_lexical: bool) -> str:
    kind = "bar lexical" if is_lexical else "bar"
    return f'<span class="{kind}"><i style="width:{percent:.0f}%"></i></span>'


def _difference_table(differences: Sequence[Mapping[str, Any]]) -> str:
    if not differences:
        return ""
    head = ("Recall@5: difference in points", "estimate", "95% interval", "articles drawn")
    rows = [
        [
            escape(f"{facts['after']} against {facts['before']}"),
            f"{facts['estimate']:+.1f}",
            bounds(facts),
            f"{facts['num_clusters']:,}",
        ]
        for facts in differences
    ]
    return table("", head, rows)


def _figures(run: Path) -> Iterable[str]:
    for heading, figures in _FIGURES.items():
        drawn = []
        for figure in figures:
            rows = read_json_lines(run / figure.folder / "metrics.jsonl")
            curves = [Curve(name, _points(rows, key)) for key, name in figure.names.items()]
            drawn.append(draw(figure.title, curves, note=figure.note))
        if heading == "Pre-training":
            drawn += _recall_figures(run)
        if any(drawn):
            yield f'<h2>{heading}</h2><div class="figures">{"".join(drawn)}</div>'


def _recall_figures(run: Path) -> Iterable[str]:
    """Recall before and after pre-training, beside BM25, which stays where it is."""
    last = max(
        (row["step"] for row in read_json_lines(run / "pretrain" / "metrics.jsonl")), default=0
    )
    for name, report in read_evaluations(run, "retrieval").items():
        systems = report["systems"]
        if last and {"bm25", "warm-start", "pretrain"} <= set(systems):
            at = {system: facts["recall"][_BARRED_AT] for system, facts in systems.items()}
            own = Curve("embedder", [(0, at["warm-start"]), (last, at["pretrain"])])
            lexical = Curve("BM25", [(0, at["bm25"]), (last, at["bm25"])])
            yield draw(f"Recall@{_BARRED_AT} on {name}, in percent", [own, lexical])


def _points(rows: Sequence[Mapping[str, Any]], key: str) -> list[Point]:
    return [(row["step"], row[key]) for row in rows if row.get(key) is not None]


def _stages(run: Path) -> str:
    totals = total_by_stage(run / "stages.jsonl")
    if not totals:
        return ""
    rows = [
        [escape(stage), duration(facts["seconds"]), f"{facts['peak_megabytes']:,} MB"]
        for stage, facts in totals.items()
    ]
    seconds = sum(facts["seconds"] for facts in totals.values())
    peak = max(facts["peak_megabytes"] for facts in totals.values())
    rows.append(["<b>together</b>", f"<b>{duration(seconds)}</b>", f"<b>{peak:,} MB</b>"])
    return "<h2>Stages</h2>" + table("", ("Stage", "wall time", "peak memory"), rows)


def _settings(run: Path) -> str:
    file = run / "recipe.json"
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    return f"<details><summary>Settings</summary><pre>{escape(text)}</pre></details>"


def table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of cells that are HTML already; title and head are text."""
    caption = f"<caption>{escape(title)}</caption>" if title else ""
    header = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="wide"><table>{caption}<tr>{header}</tr>{body}</table></div>'


def bounds(interval: Mapping[str, Any]) -> str:
    """The bounds of a difference in points, for people."""
    low, high = interval["low"], interval["high"]
    return "unknown: one article is no sample" if low is None else f"{low:+.1f} to {high:+.1f}"


def duration(seconds: float) -> str:
    """Seconds as hours, minutes and seconds: 3:04 or 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
