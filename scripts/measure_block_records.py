#!/usr/bin/env python3
"""How much time and memory does it take to read block records, at their full number and length?

Makes the files in a folder, reads each in a process of its own and prints what that took:

    scripts/measure_block_records.py FOLDER
"""

import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

SHAPES = {"full-number": 13_353_718, "one-kilobyte": 1_000_000}


def main() -> None:
    folder = Path(sys.argv[1])
    if len(sys.argv) == 3:
        read(folder / f"{sys.argv[2]}.npy")
        return
    from realm.corpus.block_records import write_block_records

    for name, count in SHAPES.items():
        path = folder / f"{name}.npy"
        write_block_records(path, texts(name, count), count)
        print(f"{name}: {count:,} records, {path.stat().st_size / 1e9:.2f} GB", flush=True)
        subprocess.run([sys.executable, __file__, str(folder), name], check=True)
        path.unlink()


def texts(name: str, count: int) -> Iterator[str]:
    """A kilobyte each; or lengths from 0 to 399, and one of 64 million."""
    word = "a" * 1000
    for number in range(count):
        if name == "one-kilobyte":
            yield word
        elif number == count // 2:
            yield "b" * 64_000_000
        else:
            yield word[: number % 400]


def read(path: Path) -> None:
    """As a corpus is built: as documents, batch after batch."""
    from realm.corpus.documents import read_documents

    before = peak_megabytes()
    begin, count, characters = time.perf_counter(), 0, 0
    for document in read_documents([path]):
        count += 1
        characters += len(document.text)
    seconds = time.perf_counter() - begin
    print(
        f"  read {count:,} records, {characters / 1e9:.2f} GB of text, in {seconds:.0f} s; peak "
        f"memory {peak_megabytes():,} MB ({before:,} MB of it before the first record)"
    )


def peak_megabytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1000


if __name__ == "__main__":
    main()
