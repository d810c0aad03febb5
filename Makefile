# One way to run everything. Each target does its own set-up and is idempotent.
SHELL := /bin/bash
.DEFAULT_GOAL := help
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export PYTHON

.PHONY: help demo test test-faults lint sanity coverage mutation requirements docs unit integration browser molecule test-full lab lab-down bench bench-saving bench-report bench-sweep bench-noop bench-launch bench-warm compat clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: lab ## the main job for real, on the fleet in containers: warm, tune, report
	ansible-playbook tune.yml -i tests/lab/inventory -e @tests/lab/sweep.yml
	@sed -n 's/^# *//p' results/demo/best.yml
	@echo "report: $(CURDIR)/results/demo/report.html"

test: lint unit integration ## everything CI runs

test-faults: venv-dev ## kills, cut networks, restarted engines and a full disk under sweeps on three hosts (root, 12 minutes)
	scripts/ensure_postgresql.sh
	python -m pytest tests/faults -v

lint: venv-dev ## ruff, ansible-lint, mypy, shellcheck
	ruff check .
	ansible-lint --offline --profile production
	mypy
	scripts/ensure_program.sh shellcheck
	shellcheck --severity warning $$(git ls-files '*.sh' .ci/run)

compat: venv-dev ## the tests with other versions of ansible-core and Python: docs/compatibility.md (twenty minutes the first time)
	scripts/compat.sh

sanity: venv-dev ## ansible-test sanity of the collection, with every Python that is here
	scripts/sanity.sh

coverage: venv-dev ## lines of module_utils and plugin_utils that the unit tests run; fails under 90 %
	@rm -rf .lab/coverage && mkdir -p .lab/coverage
	coverage run -m pytest tests/unit -n auto
	@coverage combine --quiet 2>/dev/null # processes that tests kill leave files that say nothing
	@coverage report --fail-under=0
	@coverage report --format=total

mutation: venv-dev ## how many small changes of scoring, planning and verification the unit tests notice (a sample)
	python scripts/mutation.py

requirements: venv-dev ## lock what requirements/*.in ask for, with hashes (UPGRADE=1: the newest versions)
	scripts/requirements.sh $(if $(UPGRADE),--upgrade)

docs: venv-dev ## write docs/reference anew from the code
	python scripts/docs.py

unit: venv-dev ## the unit tests, in seconds
	python -m pytest tests/unit -n auto

integration: venv-dev lab ## end to end on the lab
	python -m pytest tests/integration

browser: venv-dev venv-dashboard ## reports and dashboard in headless Chromium, which it installs; screenshots stay in .lab/browser
	scripts/ensure_program.sh chromium chromium fonts-dejavu-core
	python -m pytest tests/browser

dashboard: venv-dashboard ## Optuna's dashboard on the study of SWEEP=results/demo, also while it runs (PORT=8080)
	python scripts/dashboard.py $(or $(SWEEP),results/demo) --port $(or $(PORT),8080)

molecule: venv-dev lab ## every role on the lab: check mode, converge, idempotence, verify, what breaks is repaired
	molecule test --all

test-full: test sanity demo molecule coverage test-faults mutation browser compat ## all tests there are, with all supported versions

lab: venv ## bring up the fleet in containers (LAB_HOSTS=2)
	tests/lab/lab.sh up

lab-down: ## take the fleet down; its disks and images stay
	tests/lab/lab.sh down

bench: venv lab ## all benchmarks, and their table in docs/performance.md (half an hour, root)
	scripts/ensure_program.sh rsync
	python bench/all.py

bench-saving: venv ## hours that caches save, from the launches of RESULTS=results/NAME (an H100 run unless given)
	python bench/saving.py $(RESULTS)

bench-report: venv ## report.yml with 500 trials: seconds, and bytes of the page
	python bench/report.py

bench-noop: lab ## warm.yml and tune.yml where nothing is to do, up to 500 hosts
	python bench/noop.py

bench-launch: lab ## time to ready by rung of the cache, beside a bare docker run
	python bench/launch.py

bench-sweep: venv ## slots kept busy, TPE beside the grid, overhead per trial (on the lab, where it is up)
	python bench/sweep.py

bench-warm: venv ## a fleet gets warm: the swarm beside its alternatives, and with faults (root)
	scripts/ensure_program.sh rsync
	python bench/warm.py

clean: ## remove all that the others made, containers, images and networks included
	scripts/clean.sh

.PHONY: venv venv-dev venv-dashboard dashboard
venv:
	@scripts/ensure_venv.sh controller
venv-dev:
	@scripts/ensure_venv.sh dev
venv-dashboard: venv
	@python -m pip install -qq --disable-pip-version-check --require-hashes -r requirements/dashboard.txt
