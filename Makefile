# make demo   what this is, in one command: builds, then runs everything once into demo/
# make test   everything that must hold
# make test-all  the same, with some thousands of random merges
# make setup  what the build needs beside Rust (called by the other two)

export CMAKE := $(CURDIR)/.tools/bin/cmake

.PHONY: demo test test-all setup test-rust test-python

# The tests' profile: the crates that do the work are optimised, the rest is built fast. A release
# build takes twice as long.
demo: setup
	cargo build
	@.ci/demo

test: test-rust test-python

test-all: export ANNFUSION_MERGE_CASES = 3000
test-all: test

# The lints compile the examples; to link each with all of DataFusion takes minutes and gigabytes.
test-rust: setup
	cargo fmt --check
	cargo lint
	cargo test --lib --bins --tests

test-python: setup
	cargo build
	.ci/test-python

setup:
	@.ci/setup
