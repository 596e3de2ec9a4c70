# `make help` lists what there is. Everything that a target needs is installed by it, into .venv.
SHELL := bash
PYTHON ?= python3
VENV := .venv
TRAINING := .venv-training
QUALITY := .venv-quality
INFRA := .venv-infra
AZURITE := .azurite
TYPESCRIPT := .typescript
BIN := $(VENV)/bin
# of pytest: one more than the cores of CI, because a quarter of the time is waiting
PROCESSES ?= 3

.DEFAULT_GOAL := help

.PHONY: help
help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

$(VENV)/run: requirements.txt pyproject.toml clients/python/pyproject.toml
	@PYTHON=$(PYTHON) scripts/install-for-run $(VENV)
	@touch $@

$(VENV)/dev: $(VENV)/run requirements-dev.txt
	@echo "Installing what tests and checks need into $(VENV) ..."
	@scripts/pip-install $(VENV) --require-hashes -r requirements-dev.txt
	@touch $@

$(TRAINING)/done: training/requirements.txt
	@test -x $(TRAINING)/bin/python || $(PYTHON) -m venv $(TRAINING)
	@echo "Installing PyTorch for parity tests and training into $(TRAINING) ..."
	@$(TRAINING)/bin/pip install --quiet --disable-pip-version-check -r training/requirements.txt
	@touch $@

$(QUALITY)/done: $(VENV)/dev
	@echo "Installing SSIMULACRA2 as well ..."
	@scripts/pip-install $(VENV) --no-deps --upgrade --target $(QUALITY) ssimulacra2==0.3.0 scipy==1.17.1
	@touch $@

$(AZURITE)/done: tests/support/azurite-npm/package.json tests/support/azurite-npm/package-lock.json
	@command -v npm >/dev/null || { echo "Azurite needs npm (Debian: apt-get install nodejs npm)."; exit 1; }
	@echo "Installing Azurite, an emulator of Azure Blob Storage, into $(AZURITE) ..."
	@mkdir -p $(AZURITE) && cp $^ $(AZURITE)/
	@npm ci --prefix $(AZURITE) --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

$(TYPESCRIPT)/done: clients/typescript/package.json clients/typescript/package-lock.json
	@command -v npm >/dev/null || { echo "TypeScript needs npm (Debian: apt-get install nodejs npm)."; exit 1; }
	@echo "Installing TypeScript into $(TYPESCRIPT) ..."
	@mkdir -p $(TYPESCRIPT) && cp $^ $(TYPESCRIPT)/
	@npm ci --prefix $(TYPESCRIPT) --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

$(INFRA)/done: tests/infra/requirements.txt
	@test -x $(INFRA)/bin/python || $(PYTHON) -m venv $(INFRA)
	@echo "Installing an AWS simulator and scanners into $(INFRA) ..."
	@$(INFRA)/bin/pip install --quiet --disable-pip-version-check --require-hashes -r tests/infra/requirements.txt
	@touch $@

.PHONY: run
run: $(VENV)/run ## Install and serve on 127.0.0.1:8000 (PIXTOOLS_PORT, PIXTOOLS_DATA_DIR)
	@MALLOC_ARENA_MAX=2 exec $(BIN)/pixtools serve

.PHONY: test
test: $(VENV)/dev $(TRAINING)/done ## Install what is missing, start private servers and run every test
	@scripts/install-test-servers
	@$(BIN)/python -m pytest --numprocesses $(PROCESSES) --dist loadgroup --no-loadscope-reorder $(ARGS)

.PHONY: test-fast
test-fast: $(VENV)/dev ## Units, services on SQLite and the API of the single process, one of each table of cases; 65 seconds
	@$(BIN)/python -m pytest --numprocesses $(PROCESSES) --dist loadgroup --no-loadscope-reorder -m fast $(ARGS)

.PHONY: test-full
test-full: $(AZURITE)/done ## Every test, and the whole corpora and long runs that `make test` only samples; five to six times as long
	@TEST_WHOLE=1 $(MAKE) test ARGS="-m 'full or not full' --timeout 1800 $(ARGS)"

.PHONY: azurite
azurite: $(AZURITE)/done ## Install the emulator of Azure Blob Storage that the tests of stores use

.PHONY: check
check: $(VENV)/dev ## Format, lint, types, import contract, API, words, compose, scripts, workflows, manifests, Terraform
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tests.support.words
	$(BIN)/python -m tests.contract.gate
	@if command -v npm >/dev/null && $(MAKE) --no-print-directory $(TYPESCRIPT)/done; \
		then $(MAKE) --no-print-directory check-typescript; \
		else echo "SKIPPED: no npm here, or it cannot install TypeScript: the types of clients/typescript are not checked"; fi
	$(BIN)/yamllint --strict .
	$(BIN)/docker-compose config --quiet
	$(BIN)/docker-compose --file docker-compose.yaml --file docker-compose.lasting.yaml config --quiet
	$(BIN)/shellcheck .ci/run scripts/* tests/docker/*.sh infra/*.sh infra/templates/*.sh tests/infra/stubs/*
	$(BIN)/actionlint -shellcheck $(BIN)/shellcheck -pyflakes ''
	$(BIN)/zizmor --offline --quiet .github
	@if command -v kubectl >/dev/null; then kubectl kustomize k8s >/dev/null; \
		else echo "SKIPPED: no kubectl on this machine, k8s/ is not checked"; fi
	@if command -v terraform >/dev/null; then terraform fmt -check -recursive infra; \
		else echo "SKIPPED: no terraform on this machine, infra/ is not checked"; fi

.PHONY: check-typescript
check-typescript: $(VENV)/dev $(TYPESCRIPT)/done ## The part of `make check` that needs npm: types and examples of clients/typescript
	$(BIN)/python -m pytest tests/repository/test_typescript.py --quiet -m 'full or not full'

.PHONY: client-types
client-types: $(VENV)/dev $(TYPESCRIPT)/done ## Make the types of clients/typescript anew: api.d.ts of the API, types/ of lib/
	$(BIN)/python clients/typescript/make_types.py
	node $(TYPESCRIPT)/node_modules/typescript/bin/tsc --project clients/typescript

.PHONY: api-baseline
api-baseline: $(VENV)/dev ## At a release: make the API of this tree what later ones are held against
	$(BIN)/python -m tests.contract.gate --release

.PHONY: infra-test
infra-test: $(VENV)/dev $(INFRA)/done ## Apply and destroy infra/ in an AWS simulator, scan it, run the nodes' script; minutes
	@scripts/install-test-servers
	@scripts/install-rabbitmq .rabbitmq || echo "SKIPPED: the shipped RabbitMQ cannot be had here, jobs are NOT run on it"
	INFRA_SIMULATOR=1 $(BIN)/python -m pytest tests/infra -m 'full or not full' $(ARGS)

.PHONY: format
format: $(VENV)/dev ## Format the code
	$(BIN)/ruff check --fix --quiet . || true
	$(BIN)/ruff format .

.PHONY: docs
docs: $(VENV)/run ## Write the generated table of docs/operations.md
	@$(BIN)/python -m app.manual

NAME ?= uploads
# These two need more than the tests do.
BENCH_NEEDS_denoise := $(TRAINING)/done
BENCH_NEEDS_quality := $(QUALITY)/done

.PHONY: bench
bench: $(VENV)/dev $(BENCH_NEEDS_$(NAME)) ## Measure: NAME=... of the list that `make benchmarks` shows (default: uploads); ARGS="..."
	$(if $(filter quality,$(NAME)),PYTHONPATH=.:$(QUALITY)) $(BIN)/python -m benchmarks $(NAME) $(ARGS)

.PHONY: benchmarks
benchmarks: $(VENV)/dev ## List what can be measured
	@$(BIN)/python -m benchmarks

.PHONY: chaos
chaos: $(VENV)/dev ## The fault matrix: real processes killed, cut off and misled under load; half an hour
	$(BIN)/python -m tests.chaos

.PHONY: damage
damage: $(VENV)/dev ## 1,400 damaged files against the reference decoders of their formats; both error rates; minutes
	@scripts/install-test-servers
	$(BIN)/python -m tests.damage $(ARGS)

.PHONY: drills
drills: $(VENV)/dev ## Rehearse docs/runbooks: five failures on real servers, and what is seen of them; minutes
	@scripts/install-test-servers
	$(BIN)/python -m tests.drills $(ARGS)

.PHONY: alerts
alerts: $(VENV)/dev ## Stage outages before a real Prometheus; every alert must fire and clear. Draws docs/images/dashboards.svg
	@scripts/install-test-servers
	$(BIN)/python -m tests.outages $(ARGS)

.PHONY: pictures
pictures: $(VENV)/dev ## Draw the pictures of the web page in docs/images, in a real Chromium
	@scripts/install-test-servers
	$(BIN)/python -m tests.page.pictures

.PHONY: train
train: $(TRAINING)/done ## Train the denoiser: IMAGES="folder..." CHECKPOINTS=folder [VALIDATE=folder]; resumes
	nice -n 19 $(TRAINING)/bin/python -m training.train $(IMAGES) --checkpoints $(CHECKPOINTS) $(if $(VALIDATE),--validate $(VALIDATE))

.PHONY: up
up: ## The whole stack by docker compose
	docker compose up --build --detach --wait

.PHONY: up-lasting
up-lasting: ## The same with objects that survive restarts: SeaweedFS in the place of LocalStack
	docker compose --file docker-compose.yaml --file docker-compose.lasting.yaml up --build --detach --wait

.PHONY: down
down: ## Stop the stack; data stays in its volumes
	docker compose down

COMPILE = uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --quiet \
	--upgrade pyproject.toml
IN_IMAGES = --extra cluster --extra tracing
CONSTRAINTS = --constraint requirements-api.txt --constraint requirements.txt

.PHONY: lock
lock: $(VENV)/dev ## Pin the newest allowed versions in requirements*.txt
	$(COMPILE) $(IN_IMAGES) --output-file requirements-api.txt
	$(COMPILE) --extra ml --constraint requirements-api.txt --output-file requirements.txt
	$(COMPILE) $(IN_IMAGES) --extra pixels $(CONSTRAINTS) --output-file requirements-worker.txt
	$(COMPILE) --extra dev $(CONSTRAINTS) --output-file requirements-dev.txt
