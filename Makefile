VENV := .venv
# Uses the first of these that runs; override with `make PYTHON=...`.
ifndef PYTHON
PYTHON := $(firstword $(foreach candidate,$(VENV)/bin/python python3.11 python3.10 \
	python3.12 python3,$(shell $(candidate) --version >/dev/null 2>&1 && echo $(candidate))))
endif
VERSION := $(shell $(or $(PYTHON),false) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
CONSTRAINTS := constraints$(if $(filter 3.12,$(VERSION)),-3.12).txt
# Touched after each complete installation. If setup.py, pyproject.toml or the
# constraints are newer, make installs again.
STAMP := $(VENV)/.installed-$(VERSION)
# One process per core, each with one thread (tests/conftest.py). The tests of a
# file run in one process because they share expensive fixtures; long files run
# first. Huge pages take about 7 % off the processor time.
PYTEST := GLIBC_TUNABLES=glibc.malloc.hugetlb=1 $(VENV)/bin/python -m pytest \
	--durations=10 --numprocesses=auto --maxprocesses=8 --dist=loadfile \
	--no-loadscope-reorder
# The second variable pins the build requirements of source packages in pip
# versions that no longer use the first variable for that.
PIP := PIP_CONSTRAINT=$(CONSTRAINTS) PIP_BUILD_CONSTRAINT=$(CONSTRAINTS) \
	$(VENV)/bin/python -m pip --disable-pip-version-check

# mypy needs a newer typing_extensions than TF-Agents allows, and therefore an
# environment of its own.
MYPY := $(VENV)/mypy-2.4.1
MYPY_PACKAGES := mypy==2.4.1 ast_serialize==0.13.1 librt==0.16.0 \
	mypy_extensions==1.2.0 pathspec==1.1.1 tomli==2.2.1 typing_extensions==4.16.0

.PHONY: quickstart test test-full lint docs build-files d4rl install clean

# Runs data recording, cloning, offline RL, fine-tuning, evaluation and export.
quickstart: $(STAMP)
	$(VENV)/bin/parl-train --root_dir runs/quickstart --gin_file quickstart.gin

test: $(STAMP)
	$(PYTEST)

# Also runs the tests that need another environment or take hours.
test-full: $(STAMP)
	$(PYTEST) -m "full or not full"

# Checks the style and the types; see pyproject.toml.
lint: $(STAMP) $(MYPY)/bin/mypy
	$(VENV)/bin/ruff check
	$(MYPY)/bin/mypy --python-executable $(VENV)/bin/python

# Builds the documentation as a site in build/docs; a broken link is an error.
docs: $(STAMP)
	$(VENV)/bin/python -c 'import material' 2>/dev/null || $(PIP) install -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 PYTHONPATH=. $(VENV)/bin/python -m mkdocs build --strict --quiet

# Regenerates every BUILD file from the modules and their imports.
build-files: $(STAMP)
	$(VENV)/bin/python tests/build_files.py --write

# Installs D4RL for its scores, URLs and original kitchen. D4RL requires
# mujoco-py, which crashes on import, hence --no-deps.
d4rl: $(STAMP)
	$(PIP) install --no-deps d4rl==1.1
	$(PIP) install click dm_control

install: $(STAMP)

$(STAMP): setup.py pyproject.toml $(CONSTRAINTS)
	@case '$(VERSION)' in 3.10|3.11|3.12) ;; *) \
	  echo "parl_tf needs Python 3.10, 3.11 or 3.12, not '$(or $(PYTHON),none)': set PYTHON, as in make test PYTHON=/usr/bin/python3.11" >&2; \
	  exit 1;; esac
	$(VENV)/bin/python$(VERSION) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	rm -f $(VENV)/.installed-*
	@# Older versions of pip take twice the processor time.
	$(PIP) install --upgrade pip==26.3
	$(PIP) install --no-compile -e '.[test]'
ifeq ($(VERSION),3.12)
	$(PIP) install --no-compile --no-deps tf-agents gym gym-notices
endif
	@# On all cores; pip would use one. Files for other versions of Python, which
	@# some packages have, do not compile.
	$(VENV)/bin/python -m compileall -q -j 0 $(VENV)/lib >/dev/null 2>&1 || true
	touch $@

$(MYPY)/bin/mypy: | $(STAMP)
	$(VENV)/bin/python -m venv --clear $(MYPY)
	$(MYPY)/bin/python -m pip --disable-pip-version-check install $(MYPY_PACKAGES)

clean:
	rm -rf $(VENV) build dist *.egg-info
