# Everything sets itself up: `make demo` and `make test` need Python 3.11 or later and make, nothing else.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
THREADS := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1

.PHONY: demo deployment-demo test test-long lint types imports unit benchmark clean

demo: $(READY)
	@$(BIN)/veilstat demo

deployment-demo: $(READY)
	@$(THREADS) $(BIN)/python examples/deployment/demo.py

# What must pass, what fails fastest first; it should stay below nine minutes on two cores. What takes minutes by itself is in test-long.
test: lint types imports unit

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

imports: $(READY)
	$(BIN)/lint-imports --no-cache

unit: $(READY)
	$(THREADS) $(BIN)/python -m pytest -n 2 -m "not long"

test-long: $(READY)
	$(THREADS) $(BIN)/python -m pytest -n 2 -m "long"

# One of them; docs/benchmarks.md has the command of each.
benchmark: $(READY)
	$(THREADS) $(BIN)/python -m benchmarks.masking

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --only-binary :all: --constraint constraints.txt \
		--editable '.[deploy,homomorphic,dp,plot,test]'
	@touch $(READY)

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis dist
