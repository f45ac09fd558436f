"""How do the reports of an evaluation look as one table?"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from realm.cli.terminal import say, show_table
from realm.evaluation.report import bounds

_SHOWN = ("1", "5", "20", "100", "1000", "5000")
_SCORES = ("exact match", "F1", "best of 5", "oracle")


def show_evaluations(reports: Mapping[str, Mapping[str, Any]]) -> None:
    """One table of all question files: recall of each ranking, exact match and F1 of answers."""
    rows = []
    depths = _depths(report["recall"] for report in reports.values())
    for name, report in reports.items():
        task, _, file = name.partition(":")
        if task != "retrieval":
            continue
        answers = reports.get(f"open-qa:{file}")
        for system, facts in report["systems"].items():
            scores = [""] * len(_SCORES)
            if answers is not None and answers["model"] == system:
                scores = _scores(answers)
            rows.append([file, system, *_recall(facts["recall"], depths), *scores])
            file = ""
    head = ["questions", "system", *(f"recall@{k}" for k in depths), *_SCORES]
    show_table("Results in percent", head, rows, num_names=2)
    for report in reports.values():
        show_differences(report)


def show_retrieval(name: str, report: Mapping[str, Any]) -> None:
    """The table of one retrieval report."""
    depths = _depths([report["recall"]])
    head = ["system", *(f"recall@{k}" for k in depths)]
    rows = [
        [system, *_recall(facts["recall"], depths)] for system, facts in report["systems"].items()
    ]
    show_table(f"{name}: {report['num_questions']:,} questions, in percent", head, rows)
    show_differences(report)


def show_open_qa(name: str, report: Mapping[str, Any]) -> None:
    """The table of one report on answers."""
    depths = _depths([report["recall"]])
    head = ["questions", "model", *(f"recall@{k}" for k in depths), *_SCORES]
    title = f"{report['num_questions']:,} questions, in percent"
    row = [name, report["model"], *_recall(report["recall"], depths), *_scores(report)]
    show_table(title, head, [row], num_names=2)


def show_risk_coverage(name: str, facts: Mapping[str, Any]) -> None:
    """The thresholds at which round shares of the questions are answered."""
    rows = [
        [f"{point['threshold']:.3f}", f"{point['coverage']:.1f}", f"{point['risk']:.1f}"]
        for point in facts["points"]
    ]
    null = facts["null_passage"]
    rows.append(["null passage", f"{null['coverage']:.1f}", f"{null['risk']:.1f}"])
    head = ("answered from probability", "coverage", "risk")
    title = f"{name}: {facts['num_questions']:,} questions, in percent; area {facts['area']:.1f}"
    show_table(title, head, rows)


def show_differences(report: Mapping[str, Any]) -> None:
    """What the bootstrap says, one line a pair."""
    for facts in report.get("differences", ()):
        say(
            f"recall@{facts['recall_at']}, {facts['after']} against {facts['before']}: "
            f"{facts['estimate']:+.1f} points, 95% interval {bounds(facts)} "
            f"({facts['num_clusters']:,} articles)"
        )


def _scores(report: Mapping[str, Any]) -> list[str]:
    best = report["exact_match_of_best"]["5"]
    scores = (report["exact_match"], report["f1"], best, report["reader_oracle"])
    return [f"{score:.1f}" for score in scores]


def _depths(recalls: Iterable[Mapping[str, float]]) -> list[str]:
    """The shown depths down to which at least one ranking was judged."""
    judged = {k for recall in recalls for k in recall}
    return [k for k in _SHOWN if k in judged]


def _recall(by_k: Mapping[str, float], depths: Sequence[str]) -> list[str]:
    return [f"{by_k[k]:.1f}" if k in by_k else "" for k in depths]
