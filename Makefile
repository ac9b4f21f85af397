# Uses the first of these that runs; override with `make PYTHON=...`.
ifndef PYTHON
PYTHON := $(firstword $(foreach candidate,python3.11 python3.10 python3,$(shell \
	$(candidate) --version >/dev/null 2>&1 && echo $(candidate))))
endif
VENV := .venv
# Touched after each complete installation. If setup.py, pyproject.toml or
# constraints.txt is newer, make installs again.
STAMP := $(VENV)/.installed
# One process per core, each with one thread (tests/conftest.py). The tests of a
# file run in one process because they share expensive fixtures; long files run
# first.
PYTEST := $(VENV)/bin/python -m pytest --durations=10 --numprocesses=auto \
	--maxprocesses=8 --dist=loadfile --no-loadscope-reorder
# The second variable pins the build requirements of source packages in pip
# versions that no longer use the first variable for that.
PIP := PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt \
	$(VENV)/bin/python -m pip --disable-pip-version-check

.PHONY: quickstart test test-full lint build-files d4rl install clean

# Runs data recording, cloning, offline RL, fine-tuning, evaluation and export.
quickstart: $(STAMP)
	$(VENV)/bin/parl-train --root_dir runs/quickstart --gin_file quickstart.gin

test: $(STAMP)
	$(PYTEST)

# Also runs the tests that need another environment or take hours.
test-full: $(STAMP)
	$(PYTEST) -m "full or not full"

lint: $(STAMP)
	$(VENV)/bin/ruff check

# Regenerates every BUILD file from the modules and their imports.
build-files: $(STAMP)
	$(VENV)/bin/python tests/build_files.py --write

# Installs D4RL for its scores, URLs and original kitchen. D4RL requires
# mujoco-py, which crashes on import, hence --no-deps.
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
