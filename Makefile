PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
JOBS ?= 2

.PHONY: install demo test test-slow lint bench lock clean

install: $(VENV)/.installed

# A hashed lock, so that every machine gets the same bytes; pip itself comes from ensurepip.
$(VENV)/.installed: requirements/dev.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation --editable .
	@touch $@

demo: install
	$(BIN)/striate train digits --name demo --overwrite
	$(BIN)/striate predict runs/classify/demo/model.safetensors digits:test --limit 24 --draw runs/classify/demo/predictions.png --overwrite

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

test: lint
	$(BIN)/python -m pytest -m "not slow" -n $(JOBS) --dist worksteal

test-slow: install
	$(BIN)/python -m pytest -m slow

bench: install
	$(BIN)/python -m bench

# After a change of pyproject.toml. No registry host is written into the lock.
lock: install
	$(BIN)/python -m piptools compile --quiet --extra dev --generate-hashes --allow-unsafe --strip-extras \
		--no-emit-index-url --no-emit-trusted-host --no-emit-find-links --output-file requirements/dev.txt pyproject.toml

clean:
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache
