# Everything a clone needs is Python 3.11 or newer; the first target to run makes .venv.
PYTHON ?= python3
INSTALLED := .venv/.installed

BENCHMARKS := encode train_step finetune_step answer search build refresh scaling edits serve

.PHONY: test test-browser demo format clean bench bench-full

test: $(INSTALLED)
	scripts/check

# The web page in a real Chromium; REALM_PAGE_URL tests a server that runs in place of the stub.
test-browser: $(INSTALLED)
	scripts/install-browser
	.venv/bin/pytest -m browser tests/browser

demo: $(INSTALLED)
	.venv/bin/realm demo

format: $(INSTALLED)
	.venv/bin/ruff format
	.venv/bin/ruff check --fix

# Half an hour on two idle cores, without the first call's downloads; needs REALM_DATA.
bench: $(INSTALLED)
	set -e; for name in $(BENCHMARKS); do \
	  .venv/bin/python benchmarks/$$name.py --size reduced --json .benchmarks/reduced/$$name.json; \
	done

# Hours: passages of whole corpora are embedded. Started again it goes on with what was made.
bench-full: $(INSTALLED)
	set -e; for name in $(BENCHMARKS) precision; do \
	  .venv/bin/python benchmarks/$$name.py --size full --json .benchmarks/full/$$name.json; \
	done

clean:
	rm -rf .venv .peers .benchmarks dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find src tests scripts benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# Newer dependencies or other versions of them install again; a broken installation has no stamp.
$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet --constraint constraints.txt --editable '.[dev,trunk]'
	touch $@
