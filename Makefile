.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
COMPILE := $(BIN)/pip-compile --quiet --generate-hashes --strip-extras --allow-unsafe --no-header --no-annotate \
	--no-emit-index-url --no-emit-trusted-host --no-emit-find-links

SIZES ?= 200 1000 5000
# A machine that many people share may stop for longer than a test waits. The output names tests that pass only the
# second time; if a part has more than four of them, something is wrong. The output also lists the slowest tests.
OF_CLUSTERS := --reruns=1 --max-suite-reruns=4 --rerun-show-tracebacks --durations=15 --durations-min=20
# The integration tests are four parts that take about the same time: tests of servers; those tests of servers in which a
# template changes (upgrades, rollouts, new defaults, verification); tests of how the operator runs, reaches the API server
# and is installed; and all others.
SERVERS := tests/integration/server
TEMPLATES := $(wildcard $(addprefix $(SERVERS)/test_,offers.py *upgrades.py *rollouts.py *defaults*.py verification*.py))
OPERATION := $(addprefix tests/integration/,runtime cluster project)
# This folder collects the requests of the operators in all parts. A test compares them with the operator's permissions.
PERMISSIONS := tests/integration/project/test_permissions.py
ASKED := .local/asked
# The parts of `make test`, longest first. `make` runs several at the same time, because most of them wait more than they
# work. The parts do not depend on each other, so a failure of one hides no failure of another.
PARTS := test-e2e test-operation test-servers test-templates test-others check test-resources test-engine test-units test-sglang test-gitops
# SGLang in a pod has its own node, so these tests do not have to wait for the other tests in pods.
SGLANG := tests/e2e/test_sglang.py
UNITS := tests/unit tests/golden
SBOM ?= dist/sbom.cdx.json

.PHONY: help setup demo test test-integration test-operation test-servers test-templates test-resources test-permissions test-e2e test-sglang test-engine test-gitops test-units test-others e2e bench check image sbom release generate page docs lock cluster cluster-down cluster-env

help:  ## List all targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/installed  ## Make .venv with the kimi-linear command in it

.venv/installed: requirements/dev.txt pyproject.toml
	@echo "Installing the Python packages into .venv (about a minute the first time) ..." >&2
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version) if sys.version_info < (3, 11) else None'
	@$(PYTHON) -m venv .venv
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements/dev.txt
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --editable .
	@touch $@

demo: setup  ## Start a local cluster with a Ready server, and show what happens after a mistake
	@$(BIN)/python deploy/local/demo.py

test: setup  ## Run all tests; the first time, build what they need (about half an hour)
	@$(BIN)/python deploy/local/cluster.py build
	@$(BIN)/python deploy/local/sglang_client.py
	@PYTHONPATH=tests:deploy/local $(BIN)/python -m cpu_engine.environment
	@echo "The tests run in ten parts, five at a time (45 minutes), and the checks of style and types beside them. You see the output of one part immediately, and the output of each other part when it has ended." >&2
	@rm -rf $(ASKED)
	@$(MAKE) --no-print-directory --jobs=5 --keep-going --output-sync=target $(PARTS) test-permissions

test-integration:
	@rm -rf $(ASKED)
	@$(MAKE) --no-print-directory test-permissions

test-permissions: test-operation test-servers test-templates test-resources
	@$(BIN)/pytest --asked=$(ASKED) $(PERMISSIONS)

# The plus makes `make` show this part's output immediately.
test-operation:
	+@$(BIN)/pytest $(OF_CLUSTERS) --asked=$(ASKED) --ignore=$(PERMISSIONS) $(OPERATION)

test-servers:
	@$(BIN)/pytest $(OF_CLUSTERS) --asked=$(ASKED) $(addprefix --ignore=,$(TEMPLATES)) $(SERVERS)

test-templates:
	@$(BIN)/pytest $(OF_CLUSTERS) --asked=$(ASKED) $(TEMPLATES)

test-resources:
	@$(BIN)/pytest $(OF_CLUSTERS) --asked=$(ASKED) $(addprefix --ignore=,$(OPERATION) $(SERVERS)) tests/integration

test-e2e:
	@$(BIN)/pytest $(OF_CLUSTERS) --ignore=$(SGLANG) tests/e2e

test-sglang:
	@$(BIN)/pytest $(OF_CLUSTERS) $(SGLANG)

test-engine test-gitops: test-%:
	@$(BIN)/pytest $(OF_CLUSTERS) tests/$*

test-units:
	@$(BIN)/pytest $(UNITS)

test-others:
	@$(BIN)/pytest $(OF_CLUSTERS) $(addprefix --deselect=,$(UNITS)) $(addprefix --deselect=tests/,integration e2e engine gitops)

e2e: setup  ## Run the tests in real pods, on a real node (root on Debian) or on kind (other Linux with Docker)
	@$(BIN)/python deploy/local/cluster.py build-e2e
	@$(BIN)/pytest $(OF_CLUSTERS) tests/e2e

bench: setup  ## Measure the operator's speed and cost (an hour; SIZES="200 1000" takes less)
	@PYTHONPATH=tests:deploy/local $(BIN)/python -m benchmarks.bench --sizes $(SIZES)

check: setup  ## Check style, format, types, and the contracts between layers, without a cluster
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

image: setup  ## Build the operator's image as a docker-archive, without a container engine (root on Debian)
	@$(BIN)/python deploy/local/images.py

sbom: setup  ## List the Python packages of the image with their hashes, as CycloneDX
	@$(BIN)/python deploy/local/sbom.py $(SBOM)

release: setup  ## Make all files of a release in dist/ from its tag, and publish nothing: make release TAG=v0.1.0 (root on Debian)
	@$(BIN)/python deploy/local/release.py $(TAG)

generate: setup  ## Write the generated files anew
	@$(BIN)/kimi-linear crd --write crds
	@$(BIN)/python -m kimi_linear_operator.reference docs
	@$(BIN)/python deploy/local/dashboards.py
	@$(BIN)/python deploy/local/chart.py

page: setup  ## Build the configurator's page anew, with Node
	@$(BIN)/python deploy/local/configurator_page.py

docs: setup  ## Build the documentation site in build/site, for a browser or for any web server
	@$(BIN)/python deploy/local/documentation_site.py

pictures: setup  ## Take the pictures of the documentation anew
	@PYTHONPATH=tests:deploy/local $(BIN)/python -m browser.picture

lock: setup  ## Pin all requirements anew, with hashes
	@$(COMPILE) --output-file requirements/runtime.txt pyproject.toml
	@$(COMPILE) --extra dev --output-file requirements/dev.txt pyproject.toml
	@$(COMPILE) --build-deps-for wheel --only-build-deps --output-file requirements/build.txt pyproject.toml
	@$(COMPILE) --output-file requirements/docs.txt requirements/docs.in
	@$(COMPILE) --output-file requirements/sglang-client.txt requirements/sglang-client.in
	@cat requirements/sglang.txt >> requirements/sglang-client.txt
	@$(COMPILE) --output-file requirements/sglang-arguments.txt requirements/sglang-arguments.in
	@for list in requirements/sglang-router-*.in; do $(COMPILE) --output-file $${list%.in}.txt $$list || exit; done
	@for list in requirements/sglang-server-*.in; do $(BIN)/python deploy/local/pins.py $$list || exit; done

cluster: setup  ## Start a local Kubernetes with simulated AMD GPU nodes, or with REAL=1 a real node and a stand-in for SGLang
	@$(if $(REAL),KIMI_LINEAR_CLUSTER=real) $(BIN)/python deploy/local/cluster.py up

cluster-down: setup  ## Stop the local Kubernetes and remove its files
	@$(BIN)/python deploy/local/cluster.py down

cluster-env: setup  ## Print the variables that point kubectl at the local Kubernetes: eval "$(make -s cluster-env)"
	@$(BIN)/python deploy/local/cluster.py env
