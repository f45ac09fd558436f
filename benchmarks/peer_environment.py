"""Where does a program run that needs other packages than the project?

In a virtual environment of its own, made when it is first asked for. Nothing but the standard
library is imported here, so that any Python can make one:

    python benchmarks/peer_environment.py [FOLDER]
"""

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

PACKAGES = {
    # The last release to rely on that still has REALM's classes.
    "transformers-4.39.3": ("torch==2.13.0", "transformers==4.39.3", "numpy<2", "safetensors"),
    "sentence-transformers": ("torch==2.13.0", "sentence-transformers>=5", "faiss-cpu>=1.9"),
    "scann": ("scann",),
}
DEFAULT_FOLDER = Path(__file__).resolve().parents[1] / ".peers"
_STAMP = "installed.json"


def make_environment(folder: Path, packages: tuple[str, ...]) -> Path:
    """The interpreter of an environment with these packages, installing them if need be.

    Raises:
        subprocess.CalledProcessError: a package cannot be installed, on this platform or offline.
    """
    python, stamp = folder / "bin" / "python", folder / _STAMP
    if not stamp.is_file() or json.loads(stamp.read_text(encoding="utf-8")) != list(packages):
        # A folder without its stamp was broken off, or holds other packages.
        venv.create(folder, with_pip=True, clear=True, symlinks=os.name == "posix")
        subprocess.run([python, "-m", "pip", "install", "-q", *packages], check=True)
        stamp.write_text(json.dumps(packages), encoding="utf-8")
    return python


def main() -> None:
    """Make all environments; say which packages do not exist for this platform."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT_FOLDER
    for name, packages in PACKAGES.items():
        try:
            print(make_environment(folder / name, packages), flush=True)
        except subprocess.CalledProcessError:
            print(f"{name} cannot be installed here", flush=True)


if __name__ == "__main__":
    main()
