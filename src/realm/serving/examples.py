"""What do requests and responses look like? Shown in the published description of the service."""

from typing import Any

_VERSIONS = {
    "model": "finetune:d7847e7ccf753665",
    "snapshot": "9938b462e7a2e06f",
    "corpus_version": "804384e96d16f235:0",
}
_TEXT = "The Lomvar Bridge crosses the river Sorna. It was designed by Ida Renquist."
_PASSAGE = {
    "passage_id": 1,
    "document_id": "bridges.txt",
    "title": "Lomvar Bridge",
    "text": _TEXT,
    "start": 0,
    "end": 75,
}

DOCUMENT: dict[str, Any] = {"title": "Port Keld", "text": "Port Keld was founded in 1742."}

ANSWER: dict[str, Any] = {
    "question": "Who designed the Lomvar Bridge?",
    "answers": [
        {
            "text": "Ida Renquist",
            "probability": 0.81,
            "document_id": "bridges.txt",
            "start": 62,
            "end": 74,
            "passage": {
                "passage_id": 1,
                "title": "Lomvar Bridge",
                "text": _TEXT,
                "answer_start": 62,
                "answer_end": 74,
                "retrieval_probability": 0.64,
            },
        }
    ],
    "null_probability": 0.05,
    "abstained": False,
    **_VERSIONS,
}

EXPLAINED: dict[str, Any] = {
    **ANSWER,
    "candidates": [
        {
            **_PASSAGE,
            "retrieval_probability": 0.64,
            "reading_probability": 0.92,
            "contribution": 0.81,
            "answer_start": 62,
            "answer_end": 74,
        },
    ],
}

RETRIEVED: dict[str, Any] = {
    "results": [
        {
            "query": "bridge",
            "passages": [
                {
                    **_PASSAGE,
                    "score": 14.2,
                }
            ],
        }
    ],
    "snapshot": _VERSIONS["snapshot"],
    "corpus_version": _VERSIONS["corpus_version"],
}

FILLED: dict[str, Any] = {
    "query": "The bridge crosses the [MASK].",
    "answer": {"text": "sorna", "probability": 0.4, "probability_without_retrieval": 0.01},
    "retrieval_utility": 3.7,
    "candidates": [
        {
            **_PASSAGE,
            "retrieval_probability": 0.7,
            "answer_probability": 0.5,
            "retrieval_utility": 3.9,
        }
    ],
    "fillings": [{"text": "sorna", "probability": 0.4, "probability_without_retrieval": 0.01}],
    "fillings_without_retrieval": [
        {"text": "river", "probability": 0.1, "probability_without_retrieval": 0.2}
    ],
}

SUMMARY: dict[str, Any] = {
    "id": "ports/keld", "title": "Port Keld", "num_passages": 1, "origin": "edited",
}  # fmt: skip

EDITED: dict[str, Any] = {
    "edits": [{"id": "ports/keld", "action": "added", "num_passages": 1}],
    "corpus_version": "804384e96d16f235:1",
}

INFO: dict[str, Any] = {
    "name": "demo",
    "model": _VERSIONS["model"],
    "snapshot": _VERSIONS["snapshot"],
    "snapshot_age_seconds": 5400.0,
    "corpus_version": _VERSIONS["corpus_version"],
    "num_documents": 324,
    "num_passages": 340,
    "can": {"answer": True, "retrieve": True, "fill_mask": True, "edit": True, "add": True},
    "examples": ["Who designed the Lomvar Bridge?", "Tavil is a [MASK] at the sea."],
}

PROBLEM: dict[str, Any] = {
    "type": "about:blank",
    "title": "Unprocessable Content",
    "status": 422,
    "detail": "question has nothing but blanks: give some words",
    "field": "question",
}
