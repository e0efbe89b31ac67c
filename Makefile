# Every target sets up what it needs in .venv; a second call is quick.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
TOOLS := .venv/.tools
SUPPLY := .venv/supply/.installed
# Files are held against the hashes in lock/; `make HASHES= TARGET` installs the same versions unheld.
HASHES ?= yes
QUIET := --quiet --disable-pip-version-check
# Bytecode is made of what is imported, when it is: of all it would take two minutes. So it has to be
# kept, whatever the environment says, or each worker and each command would compile torch anew.
unexport PYTHONDONTWRITEBYTECODE
LOCKED := install $(QUIET) --no-compile --require-hashes --no-build-isolation \
  --only-binary :all: --no-binary liblinear-official
SAY = { echo "If pip names a file that lock/ does not know, such as a build of torch: install torch first," \
  "or say 'make HASHES= $(or $(MAKECMDGOALS),demo)'; README, What is installed"; exit 1; }
TORCH = $(shell sed -n 's/^torch==\([^ ]*\).*/\1/p' lock/torch.txt)

CHAOS_SEEDS ?= 100
FUZZ_SECONDS ?= 60
SOAK_MINUTES ?= 60
# What starts clusters, and what starts commands; with a part of the rest all three take as long.
ON_RAY := tests/actors_tests tests/chaos_tests tests/soak_tests \
  $(patsubst %,tests/jobs_tests/test_%.py,same_bytes submit workers) \
  $(wildcard tests/pipeline_tests/store_tests/test_[d-o]*.py)
COMMANDS := tests/jobs_tests tests/pipeline_tests/search_tests \
  $(wildcard tests/pipeline_tests/store_tests/test_[p-z]*.py)

.PHONY: help demo test check bench chaos fuzz soak docs lock audit sbom clean

help:  ## show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

demo: $(INSTALLED)  ## the whole job on embedded data: images to mAP and pictures
	$(BIN)/spp demo

# Tests that start clusters, servers and commands wait much of the time, so that two such processes
# share two CPUs well; what they start should not be kept waiting, and the library's tests take what
# they leave. (Ray would start workers at 15.) More processes than these end no sooner, and each
# test then takes so long that what has a limit of time runs into it.
test: $(TOOLS)  ## all tests, in three processes
	@mkdir -p .tests; \
	  nice -n 2 $(BIN)/pytest -q $(addprefix --ignore=,$(ON_RAY) $(COMMANDS)) >.tests/rest 2>&1 & rest=$$!; \
	  RAY_worker_niceness=0 $(BIN)/pytest -q $(ON_RAY) >.tests/on_ray 2>&1 & on_ray=$$!; \
	  RAY_worker_niceness=0 $(BIN)/pytest -q $(addprefix --ignore=,$(ON_RAY)) $(COMMANDS); ended=$$?; \
	  for each in $$on_ray $$rest; do wait $$each; ended=$$ended$$?; done; \
	  cat .tests/*; rm -rf .tests; [ $$ended = 000 ]

check: $(TOOLS)  ## format, lint, types, layers, spelling
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/codespell

bench: $(TOOLS)  ## figures as ratios against named peers, into benchmarks/RESULTS.md
	$(BIN)/python benchmarks

chaos: $(TOOLS)  ## kill and break runs in CHAOS_SEEDS ways, and hold what they end with
	CHAOS_SEEDS=$(CHAOS_SEEDS) $(BIN)/pytest -q -x --timeout 600 tests/chaos_tests

fuzz: $(TOOLS)  ## try made up files on every reader, FUZZ_SECONDS each
	$(BIN)/python -m tests.fuzz_tests.fuzz --seconds $(FUZZ_SECONDS)

soak: $(TOOLS)  ## whole runs for SOAK_MINUTES, with spoiled images, kills and damage
	$(BIN)/python -m tests.soak_tests.soak --minutes $(SOAK_MINUTES)

docs: $(TOOLS)  ## the documentation as a site, into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "open site/index.html; to search in it: $(BIN)/python -m http.server --directory site"

lock: $(SUPPLY)  ## write constraints.txt and lock/ anew, UPDATE=--upgrade with newer versions
	.venv/supply/bin/python deploy/lock.py $(UPDATE)

audit: $(SUPPLY)  ## ask about known vulnerabilities of what is in lock/; needs the network
	.venv/supply/bin/python deploy/audit.py

sbom: $(INSTALLED)  ## what .venv consists of, as CycloneDX, into sbom.json
	$(BIN)/python deploy/sbom.py >sbom.json

clean:  ## remove the environment and what was built; runs stay
	rm -rf .venv build dist site sbom.json *.egg-info .tests tests/fuzz_tests/found .pytest_cache .ruff_cache .hypothesis .import_linter_cache

$(INSTALLED): pyproject.toml constraints.txt $(wildcard lock/*.txt)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed, $$($(PYTHON) --version) was found: set PYTHON=..."; exit 1; }
	@command -v c++ >/dev/null || command -v g++ >/dev/null || \
	  { echo "liblinear-official is built from source: install a C++ compiler (Debian: g++)"; exit 1; }
	@echo "setting up .venv; torch and Ray are large, and take a few minutes"
	$(PYTHON) -m venv .venv
ifeq ($(HASHES),)
	$(BIN)/pip install $(QUIET) --constraint constraints.txt --editable .
else
	@$(BIN)/pip $(LOCKED) -r lock/build.txt || $(SAY)
	@# pip chooses torch by its version, as it is used to (2.13.0+cpu before 2.13.0): with hashes it
	@# would take the index's, and CUDA with it, before a file in a folder. Then the file is held.
	@$(BIN)/pip list --disable-pip-version-check --format freeze | grep -E "^torch==$(TORCH)([+]|$$)" >/dev/null || \
	  { rm -rf .venv/torch && $(BIN)/pip download $(QUIET) --no-deps --only-binary :all: --dest .venv/torch torch==$(TORCH) && \
	  $(BIN)/pip $(LOCKED) --no-deps --no-index --find-links .venv/torch -r lock/torch.txt && \
	  rm -r .venv/torch; } || $(SAY)
	@# Only what is installed tells whether it is a build that needs CUDA's libraries.
	@$(BIN)/pip $(LOCKED) -r lock/torch.txt -r lock/run.txt \
	  $$($(BIN)/pip check | grep -E '^torch .* requires (cuda|nvidia|triton)' >/dev/null && echo -r lock/cuda.txt) \
	  || $(SAY)
	$(BIN)/pip install $(QUIET) --no-deps --no-build-isolation --editable .
endif
	@touch $(INSTALLED)

$(TOOLS): $(INSTALLED)
ifeq ($(HASHES),)
	$(BIN)/pip install $(QUIET) --constraint constraints.txt --editable '.[dev]'
else
	@$(BIN)/pip $(LOCKED) -r lock/dev.txt || $(SAY)
endif
	@touch $(TOOLS)

# In an environment of its own, so that nothing here depends on what it needs.
$(SUPPLY): lock/supply.txt
	@$(PYTHON) -m venv .venv/supply
	@.venv/supply/bin/pip $(LOCKED) -r lock/supply.txt || $(SAY)
	@touch $(SUPPLY)
