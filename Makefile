# The first of these that starts is used; override with `make PYTHON=...`.
ifndef PYTHON
PYTHON := $(firstword $(foreach candidate,python3.11 python3.10 python3,$(shell \
	$(candidate) --version >/dev/null 2>&1 && echo $(candidate))))
endif
VENV := .venv
# Rewritten after each complete installation; older than what it was made
# from, it is made again.
STAMP := $(VENV)/.installed
# A process a core, each with one thread (tests/conftest.py). A file's tests stay
# together, because they share what is costly to make; long files come first.
PYTEST := $(VENV)/bin/python -m pytest --durations=10 --numprocesses=auto \
	--maxprocesses=8 --dist=loadfile --no-loadscope-reorder
# The second variable pins what source packages are built with, in pips that
# no longer take it from the first.
PIP := PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt \
	$(VENV)/bin/python -m pip --disable-pip-version-check

.PHONY: quickstart test test-full lint build-files d4rl install clean

# Data, cloning, offline RL, online fine-tuning, evaluation and export.
quickstart: $(STAMP)
	$(VENV)/bin/parl-train --root_dir runs/quickstart --gin_file quickstart.gin

test: $(STAMP)
	$(PYTEST)

# Adds what needs another environment or hours.
test-full: $(STAMP)
	$(PYTEST) -m "full or not full"

lint: $(STAMP)
	$(VENV)/bin/ruff check

# Writes every BUILD file anew, from the modules and their imports.
build-files: $(STAMP)
	$(VENV)/bin/python tests/build_files.py --write

# D4RL's scores, URLs and original kitchen. Its declared requirements bring a
# mujoco-py that crashes at import, hence --no-deps.
d4rl: $(STAMP)
	$(PIP) install --no-deps d4rl==1.1
	$(PIP) install click dm_control

install: $(STAMP)

$(STAMP): setup.py pyproject.toml constraints.txt
	@$(or $(PYTHON),false) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 11))' \
	  || { echo "parl_tf needs Python 3.10 or 3.11, not '$(or $(PYTHON),none)': set PYTHON, as in make test PYTHON=/usr/bin/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) install -e '.[test]'
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info
