# make demo   set up, train a small FCN on three photographs, and look at the result
# make test   set up, and run the tests
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

ORIGINAL := build/bvlc

.PHONY: help demo test bvlc test-bvlc parity bench bench-gpu bench-feed lint format proto clean
help:                ## this list
	@echo "Fully Convolutional Networks, Caffe-faithful. Targets:"
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 20

demo: $(READY)       ## train mini-fcn8s on three photographs, score it, segment them: demo/out/
	@$(BIN)/python demo/demo.py

test: $(READY)       ## run every test (a quarter of an hour on two cores)
	$(BIN)/python -m pytest --ignore=tests/parity/test_parity.py

# The original Caffe. It says which Debian packages it needs; with INSTALL=1, or as CI, it installs them.
bvlc:                ## build the original Caffe into build/bvlc (six minutes; CUDA=1: for GPUs)
	@$(PYTHON) bvlc/build.py $(if $(CUDA),--cuda) $(if $(INSTALL)$(CI),--install)

test-bvlc: bvlc      ## run the tests of nets, layers, surgery, score, solve and infer on the original
	PYTHONPATH=$(CURDIR)/$(ORIGINAL)/python:$(CURDIR) $(ORIGINAL)/venv/bin/python -m pytest tests --ignore=tests/engine --ignore=tests/data --ignore=tests/parity

parity: $(READY) bvlc  ## compare the two engines: every layer, solver, file and net (half an hour)
	-@$(BIN)/python data/pascal/prepare.py sample  # without it the training runs are skipped, and say so
	$(BIN)/python -m pytest tests/parity/test_parity.py

bench: $(READY)      ## time our engine beside the original and other runtimes: bench/results/ (40 minutes)
	@$(BIN)/python bench/bench.py

bench-gpu: $(READY)  ## the same on a CUDA GPU
	@$(BIN)/python bench/bench.py --device cuda

bench-feed: $(READY) ## time the data layers, and how long a solver step waits for them: bench/results/
	@$(BIN)/python data/pascal/prepare.py sample
	$(BIN)/python bench/feeding.py

lint: $(READY)       ## check the style of all Python files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(READY)     ## put all Python files into the project's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Made anew only when what is to be installed changed; an interrupted set-up starts over.
$(READY): pyproject.toml pycaffe/pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "Python 3.10 or newer is needed; $(PYTHON) is older. Try: make $(MAKECMDGOALS) PYTHON=python3.11"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "$(PYTHON) lacks its venv module. On Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	@test -x $(BIN)/python && $(BIN)/python -c '' 2>/dev/null || { rm -rf $(VENV); $(PYTHON) -m venv $(VENV); }
	@echo "Installing into $(VENV) (PyTorch is the large part) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ./pycaffe -e '.[test]'
	@touch $@

# The message classes. protoc of this version makes code that every protobuf from 4.25 on accepts.
proto:               ## make caffe_pb2.py from caffe.proto
	$(PYTHON) -m venv build/protoc
	build/protoc/bin/pip install --quiet grpcio-tools==1.62.3 'setuptools<81'
	cd pycaffe && ../build/protoc/bin/python -m grpc_tools.protoc -I. --python_out=. caffe/proto/caffe.proto

clean:               ## remove what make and the scripts made (not downloaded data, not weights)
	rm -rf $(VENV) build demo/out .pytest_cache .ruff_cache .hypothesis *.egg-info pycaffe/*.egg-info
	find . -name __pycache__ -prune -exec rm -rf {} +
