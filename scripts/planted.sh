#!/usr/bin/env bash
# Do the checkers find what they are there to find? Builds with `--cfg planted`, switches on one deliberate fault at a
# time and expects `tidings bench verify` to exit 1. A run without a fault must pass first: a checker that always
# fails finds nothing. docs/testing.md lists the faults.
set -uo pipefail
cd "$(dirname "$0")/.."

target=${CARGO_TARGET_DIR:-target}
binary=$target/planted/tidings
faults=(ack_before_write seq_reused ids_forgotten replay_skips_one)
verify=(bench verify --devices "${DEVICES:-60}" --conversations 12 --seconds "${SECONDS_PER_FAULT:-20}" --kill-every 4)

# Our own crates with the faults compiled in; dependencies are shared with the ordinary build.
planted_cargo() {
    RUSTC_WORKSPACE_WRAPPER=$PWD/scripts/rustc-planted.sh cargo "$@"
}

mkdir -p "$target/planted"
planted_cargo build -p tidings || exit 2
cp "$target/debug/tidings" "$binary"
# Both builds end up under the same name; leave the ordinary one there.
cargo build -q -p tidings || exit 2

echo '== without a fault'
if ! "$binary" "${verify[@]}"; then
    echo 'planted: the run without a fault fails, so the others would show nothing'
    exit 1
fi

planted=0
found=0
for fault in "${faults[@]}"; do
    printf '\n== %s\n' "$fault"
    planted=$((planted + 1))
    TIDINGS_PLANTED=$fault "$binary" "${verify[@]}"
    status=$?
    # Any other status is a run that broke, not a violation that was seen.
    if [ "$status" -eq 1 ]; then
        found=$((found + 1))
        echo "found: $fault"
    else
        echo "NOT FOUND: $fault (exit $status)"
    fi
done

# A killed process loses nothing that is in the page cache, so this one is shown on a disk that does: the test passes
# with the fault switched on if and only if it saw acknowledged records vanish.
printf '\n== ack_before_sync\n'
planted=$((planted + 1))
said=$(TIDINGS_PLANTED=ack_before_sync planted_cargo test -p tidings-embedded --lib \
    nothing_acknowledged_is_lost_at_a_power_cut 2>&1)
printf '%s\n' "$said"
if grep '^test result: ok. 1 passed' <<<"$said" >/dev/null; then
    found=$((found + 1))
    echo 'found: ack_before_sync'
else
    echo 'NOT FOUND: ack_before_sync'
fi

printf '\nplanted: %d planted, %d found\n' "$planted" "$found"
[ "$planted" -eq "$found" ]
