#!/usr/bin/env bash
# Everything that must hold before a change is shared. All steps run even if one fails; the last line counts: one for
# each test that cargo ran and one for each other step.
set -uo pipefail
cd "$(dirname "$0")/.."

locked=${CI:+--locked}
passed=0
failed=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT

step() {
    local name=$1
    shift
    printf '\n== %s\n' "$name"
    if "$@"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        printf 'FAILED: %s\n' "$name"
    fi
}

tests() {
    printf '\n== tests\n'
    # shellcheck disable=SC2086
    cargo test --workspace --no-fail-fast $locked 2>&1 | tee "$log"
    local status=${PIPESTATUS[0]}
    local ran broke
    ran=$(awk '/^test result:/ { n += $4 } END { print n + 0 }' "$log")
    broke=$(awk '/^test result:/ { n += $6 } END { print n + 0 }' "$log")
    # Not even built, or a test process that died: no line counts it.
    if [ "$status" -ne 0 ] && [ "$broke" -eq 0 ]; then
        broke=1
    fi
    passed=$((passed + ran))
    failed=$((failed + broke))
}

step 'format' cargo fmt --all --check
# shellcheck disable=SC2086
step 'lints' cargo clippy --workspace --all-targets --quiet $locked -- -D warnings
tests
step 'direction of dependencies' cargo run -q -p xtask -- direction
step 'licences' cargo run -q -p xtask -- licences
step 'house rules' cargo run -q -p xtask -- house

printf '\n%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ]
