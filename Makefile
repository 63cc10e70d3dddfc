# The commands a contributor needs; `make` alone lists them.
.PHONY: help install test lint versions mutants

help:  ## list these commands
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 20

install:  ## install the package in editable mode, with everything that tests and lint need
	pip install -e '.[plot,test,dev]' && pre-commit install

test:  ## run the tests, as continuous integration does
	pytest

lint:  ## check style, types and spelling, as continuous integration does
	ruff check . && ruff format --check . && mypy && codespell

mutants:  ## change the gates a little, one place at a time, and see whether the tests notice
	python scripts/mutate.py layerflow/gates layerflow/blocks --tests tests/gates tests/blocks --mutants 60

versions:  ## run the whole suite on each supported Python, and with the lowest versions of the dependencies
	tox run-parallel

