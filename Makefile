# make demo   set up everything, train a new style for two minutes, repaint a photo
# make test   set up everything, then lint, type-check and test
# make clean  remove what these made

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUNTIME ?= cpu
DEMO_TIME ?= 00:02:00

.PHONY: demo test lint clean

demo: $(VENV)/demo
	$(BIN)/python data/make_demo.py
	$(BIN)/faststyle weights
	rm -rf out/demo.* out/runs/demo
	$(BIN)/python train.py data/demo/style.png --data data/demo/photos --name demo \
		--max-time $(DEMO_TIME) --out out --runs out/runs --warmup-steps 10
	$(BIN)/python infer.py data/demo/photo.jpg --model out/demo.onnx -o out/demo.jpg

test: $(VENV)/test lint
	$(BIN)/python -m pytest

lint: $(VENV)/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(VENV)/demo: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[$(RUNTIME),train,demo]'
	touch $@

$(VENV)/test: $(VENV)/demo
	$(BIN)/python -m pip install --quiet --editable '.[$(RUNTIME),train,dev]'
	touch $@

clean:
	rm -rf $(VENV) out/demo* out/runs/demo data/demo build *.egg-info .pytest_cache .mypy_cache .ruff_cache
