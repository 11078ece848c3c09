# Everything there is to do here; `just` alone lists it.

_list:
    @just --list --unsorted

# What CI runs before the checks against real peers, in the same order.
check: fmt clippy tidy test doc

# Formatting, as a check.
fmt:
    cargo fmt --all --check

# Lints, as errors.
clippy:
    cargo clippy --workspace --all-targets --locked -- -D warnings

# Crate dependencies, sizes, forbidden words, examples, generated documents.
tidy:
    cargo xtask tidy

# The tests.
test:
    cargo test --workspace --locked

# The documentation of the crates, without warnings.
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --workspace --locked

# Licences, banned crates and sources.
deny:
    cargo deny check licenses bans sources

# Writes the generated documents under docs/ anew.
docs:
    cargo xtask docs

# Checks against real peers: Prometheus with the queries of dashboards, curl, nginx, databases, gRPC, Envoy side by side.
peers:
    cargo xtask peers

# CPU per request and gigabyte, latency and memory beside nginx, HAProxy and Envoy; `--only h2,grpc` takes parts.
bench *ARGS:
    cargo xtask bench {{ARGS}}

# Start-up, memory and reload with 10,000 Services and 50,000 endpoints.
scale *ARGS:
    cargo xtask scale {{ARGS}}

# Runs an example with simulated pods.
run EXAMPLE="canary":
    cargo run --release -- run examples/{{EXAMPLE}} --simulate

# All of CI, as it runs on a clean machine.
ci:
    .ci/run
