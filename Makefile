PYTHON := .venv/bin/python
PYTEST := $(PYTHON) -m pytest -n 2 --dist loadfile --no-loadscope-reorder
PACKAGES := flows blocks deployments tests
LOCK := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-annotate --no-header --group set-up pyproject.toml

.NOTPARALLEL:
.PHONY: help demo demo-ui test test-long test-servers check bench lock clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 14

demo: ## back up, prove and prune a sample database in .demo/
	@deployments/set_up.sh
	.venv/bin/pgsalvo demo

demo-ui: ## the same with Prefect's server, workers and UI
	@deployments/set_up.sh
	$(PYTHON) -m deployments.demo --ui

test: ## run the tests; ARGS="-k slack" runs some
	@deployments/set_up.sh --tests
	$(PYTEST) $(ARGS)

test-long: ## tests that take long: deployments with workers, killed runs, odd databases, planted faults
	@deployments/set_up.sh --tests
	$(PYTEST) tests/deployed tests/end_to_end/failures tests/end_to_end/databases tests/faults tests/benchmarks $(ARGS)

test-servers: ## tests that need privileged or heavy servers, such as Docker; as root
	@deployments/set_up.sh --servers
	$(PYTHON) -m pytest tests/privileged tests/heavy $(ARGS)

check: ## lint, formatting and types
	@deployments/set_up.sh --tests
	$(PYTHON) -m ruff check $(PACKAGES)
	$(PYTHON) -m ruff format --check $(PACKAGES)
	$(PYTHON) -m mypy $(PACKAGES)

bench: ## measure speed and memory against pg_dump, rclone and boto3
	@deployments/set_up.sh --tests
	$(PYTHON) -m tests.benchmarks.bench

lock: ## pin the dependencies of pyproject.toml anew (needs uv)
	$(LOCK) --output-file requirements.lock
	$(LOCK) --output-file tests/requirements.lock --extra dev --constraint requirements.lock

clean: ## remove .venv, .demo and all caches
	rm -rf .venv .demo .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
