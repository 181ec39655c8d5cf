# One command a job; each sets itself up in .venv. CI runs the same commands.
.ONESHELL:
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
AS_IT_IS := --no-build-isolation --no-deps  # built by what .venv has: what is compiled stays compiled
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --durations 20
SOURCES := $(shell find cmake csrc python CMakeLists.txt pyproject.toml constraints.txt -type f -not -name '*.pyc' 2>/dev/null)
NATIVE := $(shell find csrc tests/native -name '*.h' -o -name '*.cpp' -o -name '*.cu' 2>/dev/null)

.PHONY: demo test docs lint format stubs sanitize isas bench gpu-check weights wheel clean

# the demo needs no more than nmfuse itself; where the tools are there already, so is all of it
demo: $(if $(wildcard $(VENV)/tools),$(VENV)/installed,$(VENV)/demo)  ## fuse a sample pair (or A=path B=path) into demo/
	$(BIN)/nmfuse demo $(if $(A),"$(A)" "$(B)",) --output demo

test: $(VENV)/installed  ## the whole suite, with what this build is first
	$(BIN)/nmfuse info
	$(PYTEST) $(TESTS)

docs: $(VENV)/installed  ## the site, in build/docs
	$(PIP) install --quiet -c constraints.txt -r requirements-docs.txt
	$(BIN)/python -m sphinx -W --keep-going docs build/docs

lint: $(VENV)/tools  ## style, types, floors
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	PYTHONPATH=python $(BIN)/lint-imports
	$(BIN)/clang-format --dry-run --Werror $(NATIVE)

format: $(VENV)/tools  ## make the code look as lint wants it
	$(BIN)/ruff check --fix --quiet . || true
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(NATIVE)

stubs: $(VENV)/installed  ## what the type checker knows of the native modules, after a change of a binding
	$(BIN)/python csrc/python/stubs.py | $(BIN)/ruff format - > $(VENV)/operations.py
	mv $(VENV)/operations.py python/nmfuse/kernels/_operations.py

sanitize: $(VENV)/tools  ## native tests under ASan+UBSan, then TSan
	for preset in asan tsan; do
	  $(BIN)/cmake --preset $$preset
	  $(BIN)/cmake --build --preset $$preset
	  $(BIN)/ctest --preset $$preset
	done

isas: $(VENV)/installed  ## the kernels' tests on each narrower instruction set than the widest
	for isa in baseline avx2; do
	  echo "NMFUSE_FORCE_ISA=$$isa"
	  NMFUSE_FORCE_ISA=$$isa $(PYTEST) -q tests/kernels -m "not cuda" -k "not simt" -p no:cacheprovider
	done

bench: $(VENV)/installed  ## the kernels beside what else there is, on the CPU (and CUDA, where it is)
	$(BIN)/python -m pytest benchmarks -q $(if $(QUICK),--quick,) --results benchmarks/results/cpu-latest.json

gpu-check:  ## on a machine with a GPU: build for it, whole suite, compute-sanitizer, benchmarks; needs no network
	PYTHON=$(PYTHON) bash benchmarks/gpu_check.sh

SECOND := --steps 1500 --batch 1 --crop 256 --lr 0.002  # pass of fusion training, on larger crops
weights: $(VENV)/installed  ## the shipped weight files, from PHOTOS=folder of photographs and PAIRS=folder of pairs
	@test -d "$(PHOTOS)" -a -d "$(PAIRS)" || { echo "PHOTOS, PAIRS: give a folder of photographs and one of pairs"; exit 1; }
	for variant in lite full; do \
	  $(BIN)/nmfuse train focus --images "$(PHOTOS)" --variant $$variant -o python/nmfuse/nets/weights/$$variant.safetensors \
	    --overwrite --notes "Trained on photographs (Kodak; CID22, CC BY-SA 4.0), sharp beside blurred." || exit 1; \
	done
	$(BIN)/nmfuse train fusion --photos "$(PHOTOS)" --phantoms 40 -o $(VENV)/fusion.safetensors --overwrite
	$(BIN)/nmfuse train fusion --photos "$(PHOTOS)" --phantoms 40 $(SECOND) --start $(VENV)/fusion.safetensors \
	  -o python/nmfuse/nets/weights/fusion.safetensors --overwrite \
	  --notes "Trained on free material alone: photographs (Kodak; CID22, CC BY-SA 4.0) with synthetic focus, exposure and modality changes, and our own digital brain phantoms, some with textures of these photographs; with small signals put into one source at a time."
	$(BIN)/nmfuse train fusion --data "$(PAIRS)" --photos "$(PHOTOS)" --phantoms 40 -o $(VENV)/fusion_all.safetensors --overwrite
	$(BIN)/nmfuse train fusion --data "$(PAIRS)" --photos "$(PHOTOS)" --phantoms 40 $(SECOND) --start $(VENV)/fusion_all.safetensors \
	  -o python/nmfuse/nets/weights/fusion_all.safetensors --overwrite \
	  --notes "Trained on registered MRI-CT, MRI-PET, MRI-SPECT and infrared-visible pairs that carry no licence, and on photographs and phantoms: for research only; with small signals put into one source at a time."
	$(BIN)/nmfuse train dictionaries --images "$(PHOTOS)" -o python/nmfuse/methods/rivals/dictionaries.npz --overwrite
	rm -f python/nmfuse/nets/weights/*.csv python/nmfuse/nets/weights/*.png

wheel: $(VENV)/tools  ## dist/nmfuse-*.whl
	$(PIP) wheel $(AS_IT_IS) --wheel-dir dist .

clean:
	rm -rf $(VENV) build dist demo

# the demo's build is for this machine alone
WIDEST := $(shell grep -qs avx512vl /proc/cpuinfo && echo avx512 || { grep -qs avx2 /proc/cpuinfo && echo avx2; })
$(VENV)/demo: $(SOURCES)  # what nmfuse needs, and nmfuse; CUDA only where a card is
	@echo "The first run sets up $(VENV), in about two minutes of processor time, most of it the compiler's; later runs take seconds."
	$(PYTHON) -m venv $(VENV)
	list() { $(PYTHON) -c "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb')); print(*$$1, sep='\n')" > $(VENV)/$$2; }
	list "p['build-system']['requires'], 'cmake', 'ninja'" build.txt
	list "p['project']['dependencies']" runtime.txt
	$(PIP) install --quiet --no-compile -c constraints.txt -r $(VENV)/build.txt
	echo "Compiling nmfuse, and installing the packages that it needs beside that ..."
	$(PIP) install --quiet --no-compile -c constraints.txt -r $(VENV)/runtime.txt & packages=$$!
	NMFUSE_CUDA=$(if $(wildcard /dev/nvidiactl),AUTO,OFF) $(PIP) install $(AS_IT_IS) --quiet -C cmake.define.NMFUSE_ISAS=$(WIDEST) .
	wait "$$packages"
	touch $@

$(VENV)/tools: constraints.txt requirements-dev.txt pyproject.toml  # what nmfuse needs, and what its makers need
	$(PYTHON) -m venv $(VENV)
	$(PYTHON) -c 'import tomllib; p = tomllib.load(open("pyproject.toml", "rb"))["project"]; o = p["optional-dependencies"]; print(*p["dependencies"], *o["compare"], *o["classify"], *o["sklearn"], *o["medical"], *o["photo"], *o["big"], *o["dask"], *o["video"], *o["onnx"], *o["monai"], *o["torchio"], sep="\n")' > $(VENV)/runtime.txt
	PIP_CONSTRAINT=constraints.txt $(PIP) install --quiet -c constraints.txt -r requirements-dev.txt -r $(VENV)/runtime.txt
	touch $@

$(VENV)/installed: $(VENV)/tools $(SOURCES)
	NMFUSE_SIMT=ON $(PIP) install $(AS_IT_IS) --quiet .
	touch $@
