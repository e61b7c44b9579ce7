# Each target does all its own set-up: a virtual environment with the exact versions of constraints.txt.
# `make demo` shows the whole path on synthetic data; `make test` runs all tests but those that need a browser, which
# `make test-browser` runs, those of a real MONAI Label server, which `make test-label` runs, and those of an hour,
# `make test-long`. `make promises` runs those that keep a promise of docs/evidence/robustness.md, and writes its table.

PYTHON ?= python3
VENV ?= .venv
PY := $(VENV)/bin/python
RUN := $(PY) -W ignore -m monai.bundle run
UNETR := bundles/unetr3d/configs

.PHONY: demo test coverage test-browser test-label test-long promises browser test-lowest lint audit bench bench-quick clean

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --constraint constraints.txt --editable ".[test]"
	touch $@

# Every line below is a command that works the same on real data.
demo: $(VENV)/.installed
	rm -rf demo
	$(PY) -m autoconf phantom demo/data --cases 16 --size 48
	$(PY) -m autoconf inspect demo/data --out demo/inspected
	$(PY) -m autoconf plan demo/inspected --bundle bundles/unetr3d --memory 4GB --device cpu --set max_epochs=4 --out demo/plan.yaml
	$(RUN) training --config_file "['$(UNETR)/train.yaml','demo/plan.yaml']" --datalist demo/inspected/datalist.json --output_dir demo/run --device cpu
	$(RUN) inferring --config_file "['$(UNETR)/inference.yaml','demo/plan.yaml']" --datalist demo/inspected/datalist.json --checkpoint demo/run/model.pt --output_dir demo/predictions --device cpu
	$(PY) -m autoconf score demo/predictions demo/inspected/datalist.json --out demo/scores
	$(PY) -m autoconf report demo/run --scores demo/scores --out demo/report.html
	@echo "The report is demo/report.html, its scores are in demo/scores. Synthetic data: the scores mean nothing for patients."

test: $(VENV)/.installed
	$(PY) -m pytest -n auto --dist worksteal -m "not long"

# Lines and branches of what is planned and scored that their own tests reach; the floor is in pyproject.toml.
coverage: $(VENV)/.installed
	$(PY) -m pytest -n auto --dist worksteal -m "not long" --cov tests/test_plan*.py tests/test_score*.py tests/test_split.py

# The report in a real browser, headless Chromium, without a network.
test-browser: browser $(VENV)/.installed-browser
	$(PY) -m pytest tests_browser

$(VENV)/.installed-browser: $(VENV)/.installed
	$(PY) -m pip install --quiet --constraint constraints.txt --editable ".[test,browser]"
	touch $@

# A real server of MONAI Label, in its own environment, and its client.
test-label: label/.venv/.installed
	label/.venv/bin/python -m pytest tests_label -m "not long"

label/.venv/.installed: label/install.sh label/constraints.txt constraints.txt
	PYTHON=$(PYTHON) label/install.sh cpu
	label/.venv/bin/python -m pip install --quiet --constraint constraints.txt pytest
	touch $@

# Kills at moments drawn by chance, a long training that must grow nothing, a server that many ask at once, whole chains with
# the real bundle.
test-long: $(VENV)/.installed label/.venv/.installed
	$(PY) -m pytest -s tests_long
	$(PY) -m pytest tests -m long
	label/.venv/bin/python -m pytest tests_label -m long

# All tests that keep a promise, and the table of docs/evidence/robustness.md that says what they measured.
promises: $(VENV)/.installed label/.venv/.installed
	$(PY) -m pytest tests tests_long -m promise --junitxml build/promises.xml
	label/.venv/bin/python -m pytest tests_label -m promise --junitxml build/promises-label.xml
	$(PY) -m benchmarks.promises build/promises.xml build/promises-label.xml

browser:
	@if command -v chromium && command -v chromedriver; then exit 0; fi > /dev/null; \
	if [ "$$(id -u)" != 0 ] || ! command -v apt-get > /dev/null; then \
	echo "make: chromium and chromedriver are missing. Install Debian's packages chromium and chromium-driver." >&2; exit 1; fi; \
	apt-get update --quiet=2 && apt-get install --quiet=2 --yes --no-install-recommends chromium chromium-driver

# The oldest versions that pyproject.toml allows, in an environment of their own.
test-lowest:
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python -c "import re, tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; print('\n'.join(re.sub('>=', '==', d) for d in p['dependencies']))" > .venv-lowest/lowest.txt
	.venv-lowest/bin/python -m pip install --quiet --constraint .venv-lowest/lowest.txt --editable ".[test]"
	.venv-lowest/bin/python -m pytest -n auto --dist worksteal -m "not long"

# Style, the types of autoconf, and words that the field has better ones for.
lint: $(VENV)/.installed-lint
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(PY) -m tools.words

$(VENV)/.installed-lint: $(VENV)/.installed
	$(PY) -m pip install --quiet --constraint constraints.txt --editable ".[test,lint]"
	touch $@

# Licences of all that is installed, none of which may bind who uses it, and known vulnerabilities (needs PyPI).
audit: $(VENV)/.installed
	$(PYTHON) -m venv .venv-audit
	.venv-audit/bin/python -m pip install --quiet --constraint constraints.txt pip-audit pip-licenses
	.venv-audit/bin/pip-licenses --python=$(PY) --from=mixed --partial-match --fail-on="GPL;Proprietary;UNKNOWN"
	.venv-audit/bin/pip-audit --requirement constraints.txt --no-deps --disable-pip

# Fails if a ratio of times, measured here, got worse than the committed one. On a machine with nothing else to do.
bench: $(VENV)/.installed
	$(PY) -W ignore -m benchmarks guard

# Every benchmark once, with few iterations: fails if one does not run. Its figures mean nothing.
bench-quick: $(VENV)/.installed
	$(PY) -W ignore -m benchmarks all --quick

clean:
	rm -rf .venv .venv-lowest .venv-audit label/.venv demo build *.egg-info
