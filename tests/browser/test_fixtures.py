"""Does a run of the browser tests fail where no browser could be started?"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.browser


def test_without_a_browser_the_tests_fail(tmp_path: Path) -> None:
    test = f"{Path(__file__).parent}/test_page.py::test_the_skip_link_leads_past_the_navigation"
    options = ("-m", "browser", "--noconftest", "-p", "no:cacheprovider")
    nowhere = {"PATH": str(tmp_path), "PLAYWRIGHT_BROWSERS_PATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, test],
        env={**os.environ, **nowhere}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout
    assert "no Chromium: run `make test-browser`" in done.stdout
