PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
SOURCES = shared services tests benchmarks helm docs

.PHONY: demo test search test-gpu test-cluster lint proto proto-baseline chart-docs reference docs wheels images bench-train bench-images bench-cost bench-fit bench-estimators bench-plan bench-analyses bench-planted bench-clusters bench-query reproduce clean

demo: $(VENV)/.trainer
	$(BIN)/datamodels run digits

# In as many processes as there are cores, four at most. Each takes whole files, because the tests of a file share
# services and trained runs, and takes them in order, because the longest files come early.
test: $(VENV)/.test lint
	$(BIN)/pytest --numprocesses=auto --maxprocesses=4 --dist=loadfile --no-loadscope-reorder

# The property tests with many new examples, for some minutes. A failure prints its example and how to try it again;
# `make search SEED=N` repeats a whole search.
ifndef SEED
SEED := $(shell od -An -N4 -tu4 /dev/urandom | tr -d ' ')
endif
search: $(VENV)/.test
	$(BIN)/pytest -m hypothesis --hypothesis-profile=search --hypothesis-seed=$(SEED) --timeout=0
	$(BIN)/python -m tests.fit.search --seconds 120

# What only a GPU can show; where there is none, each test says so.
test-gpu: $(VENV)/.test
	$(BIN)/pytest -m gpu -rs

lint: $(VENV)/.test
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy

# Generated code is committed; a test checks that it is in step with proto/.
proto: $(VENV)/.test
	$(BIN)/python -m grpc_tools.protoc -I proto --python_out=shared --pyi_out=shared --grpc_python_out=shared proto/datamodels/v1/*.proto

# What clients of the last release count on, for the check that no change breaks them. Made anew with each release, and
# only then: until the next one, what a release has not had yet may still change.
proto-baseline: $(VENV)/.test
	$(BIN)/buf build proto --exclude-source-info --output proto/released.binpb

# The table of values in the chart's README; a test checks that it is in step.
chart-docs:
	$(PYTHON) helm/values_table.py

# The pages of docs/reference, from the definitions in the code; tests check that they are in step.
reference: $(VENV)/.test
	$(BIN)/python -m docs.generate

# The site, in build/site. Fails on a broken link between pages, or to a file.
docs: $(VENV)/.docs
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going --fresh-env -c docs . build/site

# Images need Docker. Their base has the Python of $(PYTHON); deploy/images/Dockerfile explains the arguments.
BASE ?= python:3.11-slim
FLAVOUR ?= cpu
IMAGE ?= datamodels
VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
TAG = $(VERSION)$(if $(filter-out cpu,$(FLAVOUR)),-$(FLAVOUR))
# Major version of the CUDA that the wheel of torch was built for.
CUDA ?= 13
EXTRAS_cpu = trainer,s3,kubernetes,auth
EXTRAS_cuda = $(EXTRAS_cpu),fitter-cuda$(CUDA)
EXTRAS_cuda-ffcv = $(EXTRAS_cuda),ffcv
# The last three for the wheel of OpenCV that FFCV wants.
APT_cuda-ffcv = libopencv-core406 libopencv-imgproc406 libturbojpeg0 libgomp1 libgl1 libglib2.0-0 libxcb1
DOCKER_BUILD = docker build --file deploy/images/Dockerfile --build-arg BASE=$(BASE) --build-arg FLAVOUR=$(FLAVOUR) \
  --build-arg CUDA=$(CUDA) \
  --build-arg VERSION=$(VERSION) --build-arg REVISION=$(shell git rev-parse HEAD) --build-arg APT="$(APT_$(FLAVOUR))"

wheels: $(BIN)/python
	rm -rf build/wheels/$(FLAVOUR) build/lib
	$(BIN)/python -m pip wheel --quiet --constraint constraints.txt --wheel-dir build/wheels/$(FLAVOUR) '.[$(EXTRAS_$(FLAVOUR))]' ministack

images: wheels
	$(DOCKER_BUILD) --tag $(IMAGE):$(TAG) .
	$(DOCKER_BUILD) --tag $(IMAGE)-devstore:$(TAG) --build-arg SERVICE=devstore .

# In the cluster of KUBECONFIG, with the images of `make images`. VALUES=FILE has chart values that the cluster asks for.
test-cluster: $(VENV)/.test
	DATAMODELS_TEST_IMAGE=$(IMAGE) DATAMODELS_TEST_VALUES=$(VALUES) $(BIN)/pytest -m cluster -rA tests/cluster

# These take minutes; BENCH=--quick is a small size only.
bench-train: bench-images
	$(BIN)/python benchmarks/train.py $(BENCH)

# On a GPU, where there is one.
bench-images: $(VENV)/.trainer
	$(BIN)/python benchmarks/images.py $(BENCH)

# What `datamodels plan` says that training takes, beside what it takes.
bench-cost: $(VENV)/.trainer
	$(BIN)/python benchmarks/cost.py $(BENCH)

bench-fit: $(VENV)/.bench $(VENV)/adelie
	$(BIN)/python benchmarks/fit.py --adelie $(VENV)/adelie/bin/python $(BENCH)
	$(BIN)/python benchmarks/fit_own.py

# Needs a NumPy that is older than ours, hence an environment of its own.
$(VENV)/adelie:
	$(PYTHON) -m venv $@.new
	$@.new/bin/python -m pip install --quiet adelie==1.1.52 numpy==1.26.4
	mv $@.new $@

# Trains the digits' models where .datamodels has none, then fits: three minutes.
bench-estimators: $(VENV)/.test
	$(BIN)/python benchmarks/estimators.py $(BENCH)

# What a fit is said to take beforehand, beside what it then takes. Takes a minute.
bench-plan: $(VENV)/.bench
	$(BIN)/python benchmarks/plan.py $(BENCH)

# Supports and counterfactuals of the digits, each checked by training models. Takes two minutes.
bench-analyses: $(VENV)/.trainer
	$(BIN)/python benchmarks/analyses.py $(BENCH)

# Leaked examples and wrong labels, planted in the digits and looked for: four and a half CPU minutes, on two cores.
bench-planted: $(VENV)/.trainer $(VENV)/.bench
	$(BIN)/python benchmarks/planted.py $(BENCH)

# Clusters and components of 60,000 targets: time and memory. Takes three minutes.
bench-clusters: $(VENV)/.test
	$(BIN)/python benchmarks/clusters.py $(BENCH)

# The query service under load: five minutes. BENCH="--beside FOLDER" compares with another checkout.
bench-query: $(VENV)/.test
	$(BIN)/python benchmarks/query.py $(BENCH)

# The claims made of datamodels, on the digits: writes docs/benchmarks/reproduction.md, in nine minutes on two cores. Goes on from the
# parts that were measured.
reproduce: $(VENV)/.trainer $(VENV)/.bench
	$(BIN)/python benchmarks/reproduce.py $(BENCH)

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.%: $(BIN)/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[$*]'
	touch $@

clean:
	rm -rf $(VENV) .datamodels
