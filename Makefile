# make demo   what this is, in one command: builds, then runs everything once into demo/
# make test   everything that must hold
# make test-all  the same, with some thousands of random merges
# make setup  what the build needs beside Rust (called by the other two)

export CMAKE := $(CURDIR)/.tools/bin/cmake

.PHONY: demo test test-all setup test-rust test-python

# The features that the whole workspace asks for, so that all of it shares one build of everything below;
# what the program does not need is not built.
build := cargo build --workspace --bin annfusion

# The tests' profile: the crates that do the work are optimised, the rest is built fast. A release
# build takes twice as long.
demo: setup
	$(build)
	@.ci/demo

test: test-rust test-python

test-all: export ANNFUSION_MERGE_CASES = 3000
test-all: test

# The lints are the tests' compiler: `cargo lint` would go through every dependency once more, for
# half the time that it takes to build them. Examples are compiled as modules of the tests: to link
# each with all of DataFusion takes minutes and gigabytes. The benchmark is run once, on little data.
linted := RUSTC_WORKSPACE_WRAPPER=clippy-driver CLIPPY_ARGS=-Dwarnings

test-rust: setup
	cargo fmt --all --check
	$(linted) cargo test --workspace --lib --bins --tests --bench read_x

test-python: setup
	$(linted) $(build)
	.ci/test-python

setup:
	@.ci/setup
