"""Writes a recipe of every stage that takes seconds."""

from pathlib import Path

_LOOP = 'loop = { num_steps = 2, save_every = 1, log_every = 1, precision = "fp32" }'


def write_tiny_recipe(file: Path, source: Path, questions: Path, trunk: Path) -> Path:
    """Every stage with two steps, on one source, learning from and measured by one file."""
    file.write_text(
        f"""
sources = ["{source}"]
train_questions = ["{questions}"]
dev_questions = ["{questions}"]
corpus = {{ passage_tokens = 64, num_workers = 1 }}
packing = {{ query_tokens = 40 }}
embedder = {{ trunk = "{trunk}", projection_width = 8 }}
reader = {{ trunk = "{trunk}" }}
[warm_start.embedder]
{_LOOP}
objective = {{ batch_size = 4 }}
[warm_start.reader]
{_LOOP}
objective = {{ batch_size = 4 }}
[pretrain]
{_LOOP}
objective = {{ batch_size = 2, num_candidates = 3 }}
refresh = {{ every = 1 }}
num_held_out = 1
[finetune]
{_LOOP}
objective = {{ batch_size = 2, retriever_passages = 8, reader_passages = 2 }}
""",
        encoding="utf-8",
    )
    return file
