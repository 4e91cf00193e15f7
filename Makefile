# Two commands do all the set-up: 'make demo' and 'make test'. The others are for who works on it.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed

.PHONY: demo check test hostile oldest audit coverage docs bench dist clean browser

demo: $(INSTALLED)  ## train a small network, draw and scan it; then scan a network of ImageNet; into demo/
	$(BIN)/rot180 demo

check: $(INSTALLED)  ## lint, types, the order of imports, and the tests that are not slow: for while you work
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile -m "not slow"

test: $(INSTALLED) browser  ## lint, types, the order of imports, all tests; pictures of pages in demo/screenshots
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

hostile: $(INSTALLED)  ## damaged files, failing calls, lost power, rude clients; a table of what was found
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.hostile

oldest:  ## the tests that are not slow, with the oldest versions that pyproject.toml allows
	@set -eu; place=$$(mktemp -d); trap 'rm -rf "$$place"' EXIT; trap 'exit 1' HUP INT TERM; \
	  echo "Installing the oldest versions into $$place, for this once (6.5 GB, removed at the end)."; \
	  $(PYTHON) -m venv "$$place"; \
	  "$$place/bin/python" -m pip install --quiet --disable-pip-version-check \
	    -c constraints-oldest.txt -e '.[test]' httpx; \
	  "$$place/bin/rot180" --help >/dev/null; \
	  OMP_NUM_THREADS=1 "$$place/bin/python" -m pytest -n auto --dist loadfile -m "not slow" \
	    -o addopts="-ra --strict-markers" --ignore tests/test_checked.py

audit: $(INSTALLED)  ## known weaknesses of the versions in constraints.txt; says so if none could be asked
	@$(BIN)/python -c 'import pip_audit' 2>/dev/null \
	  || $(BIN)/python -m pip install --quiet --disable-pip-version-check 'pip-audit>=2.9'
	@$(BIN)/python -m tests.audit constraints.txt

coverage: $(INSTALLED) browser  ## which lines the tests run; it doubles their time
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile --cov=rot180 --cov-report=term

browser:  ## Chromium for the tests of pages, where it can be installed; else these say so and skip
	@command -v chromium >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
	  && apt-get -qq update && apt-get -qq install -y --no-install-recommends chromium >/dev/null; } \
	  || echo "There is no chromium here: the tests in a browser are skipped (apt-get install chromium)."

docs: $(INSTALLED)  ## the site, into docs/_build/html; every figure and number on it is made anew
	OMP_NUM_THREADS=1 $(BIN)/python -m sphinx --fail-on-warning --keep-going --fresh-env -b html docs docs/_build/html

bench: $(INSTALLED)  ## tables of ratios, each measured side by side in one run
	$(BIN)/python benchmarks/parity.py
	$(BIN)/python benchmarks/exactness.py
	$(BIN)/python benchmarks/epoch.py
	$(BIN)/python benchmarks/step.py
	$(BIN)/python benchmarks/models.py
	$(BIN)/python benchmarks/zoo.py --constructs --random 20
	$(BIN)/python benchmarks/depth.py
	$(BIN)/python benchmarks/units.py
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	$(BIN)/python benchmarks/atlas.py
	$(BIN)/python benchmarks/explorer.py

dist: $(INSTALLED)  ## sdist and wheel, into dist/; checked, and the wheel tried where nothing else is
	@$(BIN)/python -c 'import build, twine' 2>/dev/null \
	  || $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dist]'
	rm -rf dist
	$(BIN)/python -m build --outdir dist
	$(BIN)/python -m twine check --strict dist/*
	@ls -l dist
	@set -eu; place=$$(mktemp -d); trap 'rm -rf "$$place"' EXIT; trap 'exit 1' HUP INT TERM; \
	  echo "Installing the wheel into $$place, for this once (5.5 GB, removed at the end)."; \
	  $(PYTHON) -m venv "$$place/env"; mkdir "$$place/empty"; \
	  "$$place/env/bin/python" -m pip install --quiet --disable-pip-version-check -c constraints.txt \
	    dist/*.whl; \
	  cd "$$place/empty"; unset PYTHONPATH; ROT180_CACHE="$$place/cache"; export ROT180_CACHE; \
	  "$$place/env/bin/rot180" --version; "$$place/env/bin/rot180" demo; \
	  test -s demo/two-layer.atlas; echo "The wheel works in an environment of its own."

clean:  ## remove the environment and all that was made
	rm -rf .venv demo dist docs/_build .coverage .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(INSTALLED): pyproject.toml constraints.txt
	@echo "Installing rot180 and PyTorch into .venv (several GB; this takes some minutes once)."
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[demo,test,docs]'
	@touch $@
