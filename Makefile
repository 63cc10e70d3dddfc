# The commands a contributor needs; `make` alone lists them.
.PHONY: help install test lint versions

help:  ## list these commands
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 20

install:  ## install the package in editable mode, with everything that tests and lint need
	pip install -e '.[plot,test,dev]' && pre-commit install

test:  ## run the tests, as continuous integration does
	pytest

lint:  ## check style, types and spelling, as continuous integration does
	ruff check . && ruff format --check . && mypy && codespell

versions:  ## run the whole suite on each supported Python, and with the lowest versions of the dependencies
	tox run-parallel

