# Everything that one does with Joblogs; `make` alone lists it.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# What tests run on: elasticsearch or opensearch.
ENGINE ?= elasticsearch

# The servers that tests run against, as docker/images.sh chose them.
images_env := $(if $(filter opensearch,$(ENGINE)),opensearch,images).env
with_images := set -a; source docker/.cache/$(images_env); set +a; JOBLOGS_E2E_ENGINE=$(ENGINE)

.PHONY: help up demo down logs passwords images test e2e opensearch soak check unit lint doc kibana deny fmt bench clean

help: ## List all of this
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

up: ## Start everything (installs an engine if there is none) and say where it is
	@docker/up.sh

demo: ## In an installation of its own, sample jobs of a simulated GitLab go all the way: a table, what people ask
	@docker/up.sh demo

down: ## Stop everything, the demo too; data and passwords are kept
	@docker/down.sh

logs: ## Follow the logs of all services (DEMO=1: of the demo's)
	@docker/show.sh logs

passwords: ## Show the passwords
	@docker/show.sh passwords

images: ## Get the images of RabbitMQ, Elasticsearch and Kibana, or build stand-ins (REFRESH=1: ask the registries again)
	@docker/bootstrap.sh
	@docker/images.sh $(ENGINE)

test: check e2e opensearch ## All tests; on OpenSearch the shortest of them

e2e: images ## The tests of the whole way, on real servers (TEST=a part of a name: only those; ENGINE=opensearch: on OpenSearch)
	@docker/tools.sh
	cargo build --locked --bins
	@$(with_images) cargo test --locked -p e2e --test e2e -- $(TEST)

opensearch: ## What goes well, set-up, and all that Kibana asks of the demo's jobs, on OpenSearch: a minute (make e2e ENGINE=opensearch: all of it)
	@$(MAKE) e2e ENGINE=opensearch TEST=happy::
	@$(MAKE) e2e ENGINE=opensearch TEST=setup::
	@$(MAKE) e2e ENGINE=opensearch TEST=kibana::

soak: images ## The same in full length, an hour and more (SOAK_MINUTES=30 of random faults, SEED=a number for the same again)
	@docker/tools.sh
	cargo build --locked --bins
	@$(with_images) JOBLOGS_E2E_FULL=1 JOBLOGS_SOAK_MINUTES=$(SOAK_MINUTES) JOBLOGS_E2E_SEED=$(SEED) \
	  cargo test --locked -p e2e --test e2e -- --test-threads 2 $(TEST)

check: lint unit doc ## Format, lints, licences, unit tests, documentation

lint:
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	@if cargo deny --version >/dev/null 2>&1; then cargo deny --locked check bans licenses sources; \
	  else echo "==> licences are not checked: cargo-deny is missing, 'make deny' installs it" >&2; fi
	@if command -v shellcheck >/dev/null; then shellcheck -x -P SCRIPTDIR docker/*.sh docker/standin/*/*.sh gitlab/*.sh .ci/run; fi

unit:
	cargo test --locked --workspace --exclude e2e
	cargo test --locked -p e2e --lib

doc:
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps

kibana: ## Make what people import into Kibana of what stands in kibana/source
	UPDATE_KIBANA=1 cargo test --locked -q -p e2e --lib kibana::generator

deny: ## Check licences, sources and known vulnerabilities of the dependencies (needs the network)
	@cargo deny --version >/dev/null 2>&1 || cargo install --locked cargo-deny
	cargo deny --locked check

fmt: ## Format the sources
	cargo fmt --all

bench: ## Measure the trace engine beside what only strips escapes
	cargo bench --locked -p trace

clean: ## down, and remove data, passwords and our own images
	@docker/down.sh --volumes
