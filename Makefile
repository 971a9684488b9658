# `make help` lists the targets: each has its line of help after ##.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
SOURCES = shared services tests benchmarks helm docs

.DEFAULT_GOAL := help
.PHONY: $(shell sed -n 's/^\([a-z-]*\):.*\#\#.*/\1/p' $(firstword $(MAKEFILE_LIST)))

help: ## list these targets
	@echo 'usage: make TARGET [VENV=.venv] [PYTHON=python3]'
	@sed -n 's/^\([a-z-]*\):.*## /\1	/p' $(firstword $(MAKEFILE_LIST)) | expand -t 20

demo: $(VENV)/.trainer $(VENV)/.explorer ## run the whole pipeline on handwritten digits, and write a report
	$(BIN)/datamodels run digits

# In as many processes as there are cores, four at most. Each takes whole files, because the tests of a file share
# services and trained runs, and takes them in order, because the longest files come early. See also tests/conftest.py.
test: $(VENV)/.test lint ## run the linters and the tests
	$(BIN)/pytest --numprocesses=auto --maxprocesses=4 --dist=loadfile --no-loadscope-reorder

# A failure prints its example and how to try it again; `make search SEED=N` repeats a whole search.
ifndef SEED
SEED := $(shell od -An -N4 -tu4 /dev/urandom | tr -d ' ')
endif
search: $(VENV)/.test ## run the property tests with many new examples, for some minutes
	$(BIN)/pytest -m hypothesis --hypothesis-profile=search --hypothesis-seed=$(SEED) --timeout=0
	$(BIN)/python -m tests.fit.search --seconds 120

# TORTURE has rows and options: TORTURE="calls --minutes 60". The exit status says whether there was a fault.
torture: $(VENV)/.test ## torture the services and stores: minutes, or hours with TORTURE="--minutes 120"
	$(BIN)/python -m tests.torture $(TORTURE)

# Without a GPU, each of these tests says why it is skipped.
test-gpu: $(VENV)/.test ## run the tests that need an NVIDIA GPU
	$(BIN)/pytest -m gpu -rs

# Builds the device first, in a minute or two, from packages of PyPI: tests/hostcuda/README.md. Without g++ or network, it
# says so and succeeds.
test-host-device: $(VENV)/.test ## run the tests of the fit that need a GPU on a device that is the host
	$(BIN)/python -m tests.hostcuda $(VENV)/hostcuda

lint: $(VENV)/.test ## run ruff and the type checker
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy

# Generated files are committed. Tests fail if they are not what their sources generate.
proto: $(VENV)/.test ## generate the code of messages and calls from proto/
	$(BIN)/python -m grpc_tools.protoc -I proto --python_out=shared --pyi_out=shared --grpc_python_out=shared proto/datamodels/v1/*.proto

# Only at a release: until then, calls that no release has had may still change.
proto-baseline: $(VENV)/.test ## record the calls of a release, for the check that no change breaks them
	$(BIN)/buf build proto --exclude-source-info --output proto/released.binpb

# Committed, so that nothing but Python is needed to install and to test. A test says if they are older than their sources.
web: ## build the pages of the explorer; needs Node
	cd services/explorer/web && npm ci --no-audit --no-fund && npm run build

chart-docs: ## generate the table of values in the chart's README
	$(PYTHON) helm/values_table.py

# For a registry of OCI artifacts: helm push build/chart/datamodels-*.tgz oci://REGISTRY/charts
chart: $(VENV)/.test ## package the chart into build/chart
	rm -rf build/chart && mkdir -p build/chart
	$(BIN)/python -c "import helm_python; print(helm_python.package('helm/datamodels', destination='build/chart'))"

reference: $(VENV)/.test ## generate docs/reference from the code
	$(BIN)/python -m docs.generate

# Fails on a broken link between pages, or to a file.
docs: $(VENV)/.docs ## build the site of the documentation in build/site
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going --fresh-env -c docs . build/site

# BASE must have the same version of Python as $(PYTHON). deploy/images/Dockerfile explains the arguments.
BASE ?= python:3.11-slim
FLAVOUR ?= cpu
IMAGE ?= datamodels
VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
TAG = $(VERSION)$(if $(filter-out cpu,$(FLAVOUR)),-$(FLAVOUR))
# The major version of CUDA that the wheel of torch was built for.
CUDA ?= 13
EXTRAS_cpu = trainer,s3,kubernetes,auth,explorer,otel
EXTRAS_cuda = $(EXTRAS_cpu),fitter-cuda$(CUDA)
EXTRAS_cuda-ffcv = $(EXTRAS_cuda),ffcv
# The wheel of OpenCV that FFCV needs asks for the last three.
APT_cuda-ffcv = libopencv-core406 libopencv-imgproc406 libturbojpeg0 libgomp1 libgl1 libglib2.0-0 libxcb1
DOCKER_BUILD = docker build --file deploy/images/Dockerfile --build-arg BASE=$(BASE) --build-arg FLAVOUR=$(FLAVOUR) \
  --build-arg CUDA=$(CUDA) \
  --build-arg VERSION=$(VERSION) --build-arg REVISION=$(shell git rev-parse HEAD) --build-arg APT="$(APT_$(FLAVOUR))"

wheels: $(BIN)/python ## build the wheel and gather those of its dependencies, for the images
	rm -rf build/wheels/$(FLAVOUR) build/lib
	$(BIN)/python -m pip wheel --quiet --constraint constraints.txt --wheel-dir build/wheels/$(FLAVOUR) '.[$(EXTRAS_$(FLAVOUR))]' ministack

images: wheels ## build the container images with Docker
	$(DOCKER_BUILD) --tag $(IMAGE):$(TAG) .
	$(DOCKER_BUILD) --tag $(IMAGE)-devstore:$(TAG) --build-arg SERVICE=devstore .

previous-images: $(VENV)/.test ## build the images of the last two versions of the chart, which a cluster test upgrades from
	rm -rf build/previous
	$(BIN)/python -m tests.cluster.previous | while read commit version; do \
	  mkdir -p build/previous/$$version && git archive $$commit | tar -x -C build/previous/$$version && \
	  $(MAKE) -C build/previous/$$version images BASE=$(BASE) FLAVOUR=$(FLAVOUR) IMAGE=$(IMAGE)-chart-$$version VENV=$(abspath $(VENV)) || exit 1; \
	done

# In the cluster of KUBECONFIG, with the images of `make images`. VALUES=FILE has chart values that the cluster needs.
# DATAMODELS_TEST_OUTAGE=600 lets outages last ten minutes.
test-cluster: $(VENV)/.test ## run the tests that need a Kubernetes cluster and the images
	DATAMODELS_TEST_IMAGE=$(IMAGE) DATAMODELS_TEST_VALUES=$(VALUES) $(BIN)/pytest -m cluster -rA tests/cluster

# BENCH has options of a benchmark's script; most take BENCH=--quick, for a small size.
bench-train: bench-images ## measure training: minutes
	$(BIN)/python benchmarks/train/workloads.py $(BENCH)

bench-images: $(VENV)/.trainer ## measure the training of image networks, on a GPU if there is one
	$(BIN)/python benchmarks/train/images.py $(BENCH)

bench-cost: $(VENV)/.trainer ## compare the training time that `datamodels plan` predicts with the time it takes
	$(BIN)/python benchmarks/train/cost.py $(BENCH)

bench-fit: $(VENV)/.bench $(VENV)/adelie ## compare the solvers with others: speed and accuracy
	$(BIN)/python benchmarks/fit/solvers.py --adelie $(VENV)/adelie/bin/python $(BENCH)
	$(BIN)/python benchmarks/fit/leave_out.py

# BENCH="--wheels FOLDER" installs wheels that `benchmarks/fit/gpu.py carry FOLDER` has downloaded.
bench-gpu: ## measure a GPU machine, in at most 9 minutes: tests, the fit at CIFAR-10's size, ResNet-9
	$(BIN)/python benchmarks/fit/gpu.py $(BENCH)

# adelie needs an older NumPy than ours, so it has an environment of its own.
$(VENV)/adelie:
	$(PYTHON) -m venv $@.new
	$@.new/bin/python -m pip install --quiet adelie==1.1.52 numpy==1.26.4
	mv $@.new $@

# Trains the models of the digits first, unless .datamodels has them.
bench-estimators: $(VENV)/.test ## compare the estimators on six jobs: 25 minutes
	$(BIN)/python benchmarks/fit/estimators.py $(BENCH)

bench-estimator-cost: $(VENV)/.bench ## compare the CPU time of the estimators at the sizes of bench-fit: 5 minutes
	$(BIN)/python benchmarks/fit/estimator_cost.py $(BENCH)

# Trains the models of the digits first, unless .datamodels has them. Stopped, it continues from the parts that are measured.
bench-retraining: $(VENV)/.trainer $(VENV)/.bench ## check fits of 1,000 and 12,000 models of the digits by training: 30 minutes
	$(BIN)/python benchmarks/analyses/retraining.py $(BENCH)

bench-designs: $(VENV)/.test ## compare designs of subsets on the digits: a minute
	$(BIN)/python benchmarks/fit/designs.py $(BENCH)

bench-few-models: $(VENV)/.test ## check the LDS of two models on each subset by that of twenty: 5 minutes
	$(BIN)/python benchmarks/analyses/few_models.py $(BENCH)

bench-recipe: $(VENV)/.test ## compare stored weights of the estimator prior with a recipe for them: 2 minutes
	$(BIN)/python benchmarks/fit/recipe.py $(BENCH)

bench-plan: $(VENV)/.bench ## compare the time and memory predicted for a fit with what it takes: a minute
	$(BIN)/python benchmarks/fit/plan.py $(BENCH)

# Stopped, it continues with the next case. BENCH="--case small" measures one of them.
bench-scale: $(VENV)/.test ## measure fits at the size of CIFAR-10: some hours
	$(BIN)/python benchmarks/fit/scale.py $(BENCH)

# Stopped, it continues with the next step. BENCH="--size 5000,30000,200" rehearses a smaller run.
bench-rehearsal: $(VENV)/.test ## rehearse a whole run at the size of CIFAR-10, with made-up models: half an hour or more, 18 GB of disk
	$(BIN)/python benchmarks/scale/rehearsal.py $(BENCH)

bench-analyses: $(VENV)/.trainer ## check supports and counterfactuals of the digits by training: 2 minutes
	$(BIN)/python benchmarks/analyses/predictions.py $(BENCH)

bench-planted: $(VENV)/.trainer $(VENV)/.bench ## find leaks and wrong labels that were planted in the digits: 2 minutes
	$(BIN)/python benchmarks/analyses/planted.py $(BENCH)

bench-clusters: $(VENV)/.test ## measure clusters and components of 60,000 targets: 3 minutes
	$(BIN)/python benchmarks/analyses/clusters.py $(BENCH)

bench-gradients: $(VENV)/.trainer ## compare TracIn, TRAK and influence functions with other libraries, if they are installed: 2 minutes
	$(BIN)/python benchmarks/analyses/gradients.py $(BENCH)

bench-export: $(VENV)/.test ## measure the export of a run of 60,000 targets: 10 minutes
	$(BIN)/python benchmarks/exchange/export.py $(BENCH)

bench-magic: $(VENV)/.trainer ## compare derivatives through trainings with trainings that lack examples: 5 minutes
	$(BIN)/python benchmarks/analyses/magic.py $(BENCH)

# Fails if one takes 1.2 times as long as recorded. The ratios of CPU times also hold on busy and on other machines.
bench-gate: $(VENV)/.test ## compare the speed of a few pieces with what is recorded in benchmarks/gate.json: a minute
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python benchmarks/gate.py $(BENCH)

bench-storage: $(VENV)/.test ## compare types and encodings for the outputs of models: 3 minutes
	$(BIN)/python benchmarks/fit/storage.py $(BENCH)

bench-aggregate: $(VENV)/.test ## compare commits through the aggregator with bare writes of the same parts
	$(BIN)/python benchmarks/aggregate/commits.py $(BENCH)

bench-watching: $(VENV)/.test ## measure what a driver asks of the API server with 1,000 to 100,000 pods: a minute
	$(BIN)/python -m benchmarks.cluster.watching $(BENCH)

# BENCH="--beside FOLDER" compares with another checkout.
bench-query: $(VENV)/.test ## measure the query service under load: 5 minutes
	$(BIN)/python benchmarks/query/service.py $(BENCH)

bench-explorer: $(VENV)/.test ## measure the explorer on 60,000 targets over 50,000 examples: 3 minutes
	PYTHONPATH=. $(BIN)/python benchmarks/query/explorer.py $(BENCH)

# Stopped, it continues from the parts that are measured.
reproduce: $(VENV)/.trainer $(VENV)/.bench ## check the claims made of datamodels, and write docs/benchmarks/reproduction.md: 12 minutes
	$(BIN)/python benchmarks/analyses/reproduce.py $(BENCH)

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.%: $(BIN)/python pyproject.toml constraints.txt
	@echo 'installs what .[$*] needs into $(VENV); the first time this takes minutes'
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[$*]'
	touch $@

clean: ## remove the virtual environment, all built files, and .datamodels with its runs
	rm -rf $(VENV) .datamodels build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find shared services tests benchmarks helm docs -name __pycache__ -prune -exec rm -rf {} +
