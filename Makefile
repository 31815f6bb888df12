# make demo   environment, install, then the whole job on a generated data set, offline
# make test   environment, install, then every check that CI runs
# make fuzz   N mutated files of every format that is read: each ends in one line
# make faults kills, damage, full disks and more: what is lost, in docs/reliability.md
# make bench  speed as ratios to plain code, in one run; CLIPS: a folder of videos for the extraction
PYTHON ?= python3
N ?= 1000
CLIPS ?=
VENV := .venv
BIN := $(VENV)/bin
DONE := $(VENV)/.installed

.PHONY: demo test install lint types wheel unit fuzz faults bench clean
.DEFAULT_GOAL := demo

demo: install
	$(BIN)/m2hf demo

test: install lint types wheel unit

install: $(DONE)

$(DONE): pyproject.toml constraints.txt .ci/install.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python .ci/install.py
	touch $@

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/python .ci/typecheck.py

wheel: install
	$(BIN)/python .ci/wheel_smoke.py

unit: install
	$(BIN)/python -m pytest -n 2 --dist loadfile

fuzz: install
	$(BIN)/python -m benchmarks.fuzz --count $(N)

faults: install
	$(BIN)/python -m benchmarks.faults --out docs/reliability.md

bench: install
	$(BIN)/python -m benchmarks.ratios
	$(BIN)/python -m benchmarks.metrics
	$(BIN)/python -m benchmarks.scale --sizes 1000,10000,100000
	$(if $(CLIPS),$(BIN)/python -m benchmarks.extraction.clip --clips $(CLIPS))

clean:
	rm -rf $(VENV) build dist demo *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
