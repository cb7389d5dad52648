#!/usr/bin/env bash
# RUSTC_WORKSPACE_WRAPPER of scripts/planted.sh: our own crates with the deliberate faults compiled in. Dependencies
# are built without it, so they are shared with the ordinary build.
exec "$@" --cfg planted
