# What a developer types, and all that CI calls. No target swallows a failure.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
TORCH := torch==2.13.0
ARGS ?=

.PHONY: install run test test-slow check rules bench drill compose clean

# torch comes first and by pip: pip finds the CPU build where one is set up, and elsewhere
# PIP_EXTRA_INDEX_URL names PyTorch's CPU index; uv then keeps what is there.
$(VENV)/.installed: pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is needed"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip uv
	$(BIN)/python -m pip install --quiet '$(TORCH)'
	$(BIN)/python -m uv pip install --quiet --python $(BIN)/python --editable '.[dev]'
	touch $@

install: $(VENV)/.installed

run: install
	@$(BIN)/dqn run $(ARGS)

# Threads of numerics that outnumber the cores fight for them; CI counts alike.
test test-slow: export OMP_NUM_THREADS ?= 1

test: install
	$(BIN)/pytest -m 'not slow' $(ARGS)

test-slow: install
	$(BIN)/pytest -m slow --timeout 1200 $(ARGS)

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest --quiet tests/test_architecture.py

# promtool is part of Debian's package `prometheus`, amtool of `prometheus-alertmanager`.
rules: install
	promtool check config dashboards/prometheus/prometheus.yml
	promtool check rules dashboards/prometheus/rules/*.yml
	promtool test rules dashboards/prometheus/tests/*.yml
	amtool check-config dashboards/alertmanager/alertmanager.yml

# Hours in all; each of them can be run alone.
bench: install
	$(BIN)/python -m benchmarks.presets
	$(BIN)/python -m benchmarks.experience
	for name in serving delivery faults canary fleet shadow cost drift hacking newcomer rules training retraining; do \
	  $(BIN)/python -m benchmarks.$$name --write || exit 1; \
	done

# Incidents replayed against real servers; needs prometheus and alertmanager.
drill: install
	$(BIN)/python -m benchmarks.drill $(ARGS)

# The whole stack on a real engine: builds the images, brings it up, kills Redis. Needs Docker.
compose: install
	$(BIN)/pytest -s tests/deploy/compose_stack.py $(ARGS)

clean:
	rm -rf $(VENV) .venv-clients .venv-datasets .venv-s3 .bench .mypy_cache .pytest_cache .ruff_cache
