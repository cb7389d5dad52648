//! The rules as text. Each folder of `tests/scenarios` is played on one machine; after a change of the rules
//! `TIDINGS_BLESS=1 cargo test -p tidings-core --test scenarios` writes down what now happens, to be read in the diff.

#![allow(clippy::unwrap_used, reason = "a test's helper may fail the test")]

mod harness;

use harness::conversation::Conversations;
use harness::device::Device;
use harness::script::check;
use harness::shard::Shard;

#[test]
fn conversation() {
    check("conversation", Conversations::new);
}

#[test]
fn writer() {
    check("writer", Shard::new);
}

#[test]
fn link() {
    check("link", Device::new);
}
