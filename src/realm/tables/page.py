"""How does a table look beside the paper's, on one page that opens anywhere?"""

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from realm.artifact import write_atomically
from realm.evaluation.curves import Curve, draw
from realm.evaluation.report import bounds, duration, table, write_page

_TITLES = {
    "table1": "Table 1: REALM beside other retrievers",
    "table2": "Table 2: what each part of REALM is worth",
}
_ALIKE = (
    "Fine-tuning is the same recipe in every row. Seeds change what is drawn in pre-training and "
    "fine-tuning; corpus, trunks, warm start and questions stay. Intervals are of 95%: over seeds "
    "by Student's t, of a lead by paired bootstrap of questions, drawn by article where they name "
    "one, and stretched where the articles are few."
)
_LEADS = {"exact_match": "Exact match", "recall_before": "Zero-shot recall@5"}
_RETRIEVAL = (
    ("recall_before", "recall@5 zero-shot"), ("recall_after", "tuned"),
    ("gold_share_before", "gold zero-shot"), ("gold_share_after", "tuned"),
)  # fmt: skip

Report = Mapping[str, Any]


def write_table(folder: Path, report: Report) -> Path:
    """Write `report.json` and `report.html` into a folder; return the path of the page."""
    write_atomically(folder / "report.json", json.dumps(report, indent=1) + "\n")
    parts = {
        "facts": "".join(_facts(report)),
        "results": _results(report),
        "figures": _figures(report),
        "stages": _how(report),
    }
    return write_page(folder / "report.html", _TITLES[report["table"]], parts)


def folds_shown(folder: Path) -> str:
    """The question file whose folds the page in a folder shows; empty where there are none."""
    try:
        report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    return str(report["folds"].get("path", ""))


def exact_match_cells(summary: Report, files: Sequence[str]) -> list[str]:
    """Exact match of one row by file, as text, with half the width of its interval over seeds."""
    return [_with_interval(summary["metrics"][file]["exact_match"]) for file in files]


def paper_cells(report: Report) -> tuple[list[str], list[list[str]]]:
    """The heads of the paper's columns, and the cells of each row of the summary."""
    names = list(dict.fromkeys(name for row in report["summary"] for name in row["paper"]))
    rows = [
        [f"{row['paper'][name]:.1f}" if name in row["paper"] else "" for name in names]
        for row in report["summary"]
    ]
    return names, rows


def _facts(report: Report) -> Iterable[str]:
    facts = {
        "documents": f"{report['num_documents']:,}",
        "passages": f"{report['num_passages']:,}",
        "of training and measuring": duration(60 * (report["minutes"] + report["minutes_of_run"])),
        f"torch {report['torch']}": report["machine"],
    }
    return (f"<li><b>{escape(value)}</b> <span>{name}</span></li>" for name, value in facts.items())


def _results(report: Report) -> str:
    files = list(report["files"])
    parts = [f"<h2>Results</h2><p>{escape(_ALIKE)}</p>", _answers(report, files)]
    parts += [_retrieval(report, file) for file in files]
    parts += [_leads(report, files, metric) for metric in _LEADS]
    parts.append(_folds(report["folds"]))
    return "".join(parts)


def _answers(report: Report, files: Sequence[str]) -> str:
    names, papers = paper_cells(report)
    columns = [*files, "average"]
    head = ("", *(f"paper, {name}" for name in names), *columns, "seeds")
    rows = [
        [escape(row["title"]), *paper, *exact_match_cells(row, columns), f"{len(row['seeds'])}"]
        for row, paper in zip(report["summary"], papers, strict=True)
    ]
    over = " and ".join(report["averaged_over"])
    return table(f"Exact match, in percent; the average is over {over}", head, rows)


def _retrieval(report: Report, file: str) -> str:
    facts = report["files"][file]
    rows = [
        [
            escape(row["title"]),
            *(_with_interval(row["metrics"][file][name]) for name, _ in _RETRIEVAL),
        ]
        for row in report["summary"]
    ]
    title = (
        f"Retrieval on {file}, {facts['num_questions']:,} questions: an answer among the first "
        "five passages, and the share of these from the gold document of any question, in percent"
    )
    return table(title, ("", *(head for _, head in _RETRIEVAL)), rows)


def _leads(report: Report, files: Sequence[str], metric: str) -> str:
    if not report["differences"]:
        return ""
    titles = {row["name"]: row["title"] for row in report["summary"]}
    columns = [*files, "average"]
    rows = [
        [
            escape(titles[lead["before"]]),
            *(_lead(lead[metric][file]) for file in columns),
        ]
        for lead in report["differences"]
    ]
    title = f"{_LEADS[metric]} of REALM less that of a row, in points, with its 95% interval"
    return table(title, ("", *columns), rows)


def _folds(folds: Report) -> str:
    if not folds.get("rows"):
        return ""
    rows = [
        [
            escape(row["title"]),
            f"{row['exact_match']:.1f}",
            _lead(row["lead"]) if "lead" in row else "",
            f"{row['recall_before']:.1f}",
        ]
        for row in folds["rows"]
    ]
    title = (
        f"{folds['file']}, {folds['num_questions']:,} questions, each fifth by what learned the "
        "others beside the questions of all rows, in percent; REALM's lead with its 95% interval"
    )
    return table(title, ("", "exact match", "REALM less it", "recall@5 zero-shot"), rows)


def _figures(report: Report) -> str:
    curves = [Curve(name, points) for name, points in report["retrieval_utility"].items()]
    note = (
        "How much likelier the hidden words of held-out passages are with retrieval than "
        "without, in nats, each row on masks of its own kind (figure 4 of the paper)."
    )
    figure = draw("Retrieval utility by what is hidden", curves, note=note)
    if not figure:
        return ""
    return f'<h2>Pre-training</h2><div class="figures">{figure}</div>'


def _how(report: Report) -> str:
    made = table(
        "Time beyond what is shared with rows made before",
        ("", "seed", "minutes", "command"),
        [
            [
                escape(row["title"]), f"{row['seed']}", f"{row['minutes']:.1f}",
                f"<code>{escape(row['command'])}</code>",
            ]
            for row in report["rows"]
        ],
    )  # fmt: skip
    shared = (
        f"<p>What all rows share took {report['minutes_of_run']:.1f} minutes, and stands in RUN "
        "itself.</p>"
    )
    told = "".join(
        f"<p><b>{escape(row['title'])}.</b> {escape(row['note'])}</p>" for row in report["summary"]
    )
    return f"<h2>How the rows are made</h2>{told}{made}{shared}"


def _with_interval(value: Mapping[str, float | None] | None) -> str:
    if value is None:
        return ""
    text = f"{value['estimate']:.1f}"
    high = value["high"]
    return text if high is None else f"{text} ± {high - (value['estimate'] or 0.0):.1f}"


def _lead(interval: Mapping[str, float | None]) -> str:
    text = f"{interval['estimate']:+.1f} ({bounds(interval)})"
    low, high = interval["low"], interval["high"]
    is_apart = low is not None and high is not None and low * high > 0
    return f"<b>{text}</b>" if is_apart else text
