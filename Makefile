# The commands of this project; `make` alone lists them.

SHELL := /bin/bash -euo pipefail
export CGO_ENABLED ?= 1

GOLANGCI_LINT_VERSION := v2.15.0
KCP := $(if $(KCP_BIN),,bin/kcp)
KUBERNETES := $(strip $(if $(ETCD_BIN),,bin/etcd) $(if $(KUBE_APISERVER_BIN),,bin/kube-apiserver) \
	$(if $(KUBE_CONTROLLER_MANAGER_BIN),,bin/kube-controller-manager) $(if $(KUBE_SCHEDULER_BIN),,bin/kube-scheduler) \
	$(if $(KWOK_BIN),,bin/kwok) $(if $(KUBECTL_BIN),,bin/kubectl))

.PHONY: help
help: ## List the commands.
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: run
run: ## Place the examples on a real, local kcp. ONCE=1 exits after printing, PHYSICAL=2 adds clusters with pods, KCP_BIN=path uses your kcp.
	@go build -o bin/run ./test/run
	@$(if $(PHYSICAL),go build -trimpath -o bin/ ./cmd/placement-agent)
	@exec bin/run $(if $(PHYSICAL),--physical $(PHYSICAL))

.PHONY: test
test: $(KCP) $(KUBERNETES) ## Run all tests: policy suites and scenarios, unit tests with -race, end to end on a real kcp and real clusters.
	go tool opa check --strict --schema policies/schemas/input.json --capabilities policies/capabilities.json policies test/policies
	go tool opa fmt --fail --list policies test/policies
	go tool opa test --capabilities policies/capabilities.json policies test/policies
	go run ./cmd/kubectl-placement test policies test/policies cmd/kubectl-placement/internal/starter/files examples/team-global --threshold 95
	for suite in policies/library cmd/kubectl-placement/internal/starter/files examples/team-shop examples/team-ml examples/team-global; do \
		go run ./cmd/kubectl-placement check --strict $$suite; done
	go test -race -timeout 45m ./...

.PHONY: build
build: ## Build the programs into bin/.
	go build -trimpath -o bin/ ./cmd/...

.PHONY: generate
generate: ## Generate deep copies, CRDs, APIResourceSchemas and the allow-list of Rego's functions.
	go tool controller-gen object crd paths=./crds/v1alpha1 output:crd:dir=crds/manifests
	go tool apigen --input-dir crds/manifests --output-dir crds/kcp 2>/dev/null
	go tool apigen --input-dir test/kcp/workloads/crds --output-dir test/kcp/workloads/kcp 2>/dev/null
	sed -i.old 's/group: core$$/group: ""/' test/kcp/workloads/kcp/apiexport-core.yaml && rm test/kcp/workloads/kcp/apiexport-core.yaml.old
	UPDATE_CAPABILITIES=1 go test -count=1 ./policies
	go tool opa fmt --write policies test/policies

.PHONY: console
console: internal/console/web/node_modules/.package-lock.json ## Bundle the console's pages, which are committed; needs Node.js and npm.
	npm --prefix internal/console/web run --silent build

# A mirror may fail for a moment, and a test may be installing something else.
APT_GET := DEBIAN_FRONTEND=noninteractive apt-get -o Acquire::Retries=5 -o DPkg::Lock::Timeout=600

internal/console/web/node_modules/.package-lock.json: internal/console/web/package-lock.json internal/console/web/.npmrc
	@{ command -v node && command -v npm; } >/dev/null || \
		{ test "$$(id -u)" = 0 && command -v apt-get && $(APT_GET) update && $(APT_GET) install -y --no-install-recommends nodejs npm; } >&2 || \
		{ echo "the console's pages are bundled with Node.js 18 or later: install nodejs and npm, as root with apt-get install nodejs npm" >&2; exit 1; }
	cd internal/console/web && npm ci --no-audit --no-fund --fetch-retries 5
	@touch $@

GENERATED := crds test/kcp policies test/policies internal/console/web/dist test/console/axe.min.js

.PHONY: verify
verify: generate console ## Fail where what is generated is not what is committed.
	@git diff --exit-code --stat -- $(GENERATED) || \
		{ echo "generated files are stale: commit what 'make generate console' changed" >&2; exit 1; }
	@test -z "$$(git status --porcelain -- $(GENERATED))" || \
		{ git status --short -- $(GENERATED); echo "generated files are not committed" >&2; exit 1; }

.PHONY: lint
lint: bin/golangci-lint-$(GOLANGCI_LINT_VERSION) ## Run the formatter, go vet and the linters.
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { gofmt -l $$(git ls-files '*.go'); echo "run gofmt -w on these" >&2; exit 1; }
	go vet ./...
	bin/golangci-lint-$(GOLANGCI_LINT_VERSION) run

.PHONY: bench
bench: ## Measure the engine against its limits and draw docs/performance.svg; takes some minutes.
	@mkdir -p bin
	go test -run '^$$' -bench . -benchmem -benchtime 500ms -count 3 -timeout 30m ./engine ./engine/capacity | tee bin/bench.txt
	go run ./test/bench -plot docs/performance.svg bin/bench.txt

.PHONY: bench-packing
bench-packing: ## Replay traces and draw docs/packing.svg: OPENB=folder has the CSV files of Alibaba's openb, see docs/performance.md.
	@test -n "$(OPENB)" || { echo "set OPENB to the folder of openb_node_list_all_node.csv and openb_pod_list_*.csv" >&2; exit 1; }
	@mkdir -p bin
	OPENB="$(abspath $(OPENB))" go test -run '^$$' -bench OpenB -benchtime 1x -timeout 30m ./engine | tee bin/packing.txt
	go run ./test/bench -packing docs/packing.svg bin/packing.txt

.PHONY: bench-churn
bench-churn: ## Replay arrivals and departures and draw docs/churn.svg: OPENB=folder as for bench-packing.
	@test -n "$(OPENB)" || { echo "set OPENB to the folder of openb_node_list_all_node.csv and openb_pod_list_default.csv" >&2; exit 1; }
	go run ./test/churn -openb "$(abspath $(OPENB))" -every 16 -most 600 -plot docs/churn.svg

.PHONY: bench-e2e
bench-e2e: $(KCP) ## Measure the controller on a real kcp: a burst, a steady stream, a restart, delivery. ARGS=-h lists the flags.
	@go build -trimpath -o bin/ ./cmd/placement-controller ./cmd/placement-agent
	@go build -o bin/bench-e2e ./test/benche2e
	@exec bin/bench-e2e $(ARGS)

.PHONY: clean
clean: ## Remove what was built and the local kcp's data.
	rm -rf bin .kcp

# The server of the tests and of `make run`, from the Go modules that test/kcp/server pins.
bin/kcp:
	go run ./test/kcp/build

# The physical clusters of the tests and kubectl, from the Go modules that test/kubernetes/server and test/kubernetes/kwok pin.
# All are built at once.
ifneq ($(KUBERNETES),)
$(KUBERNETES) &:
	go run ./test/kubernetes/build
endif

bin/golangci-lint-$(GOLANGCI_LINT_VERSION):
	GOBIN=$(CURDIR)/bin go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT_VERSION)
	mv bin/golangci-lint $@
