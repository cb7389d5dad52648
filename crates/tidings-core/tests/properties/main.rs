//! The machines against models, with random inputs. A failure prints what it takes to see it again; the inputs are
//! shrunk first.

#![allow(clippy::unwrap_used, reason = "a test's helper may fail the test")]

#[path = "../harness/mod.rs"]
mod harness;

mod link;
mod tail;
mod writer;

use std::cell::{Cell, RefCell};
use std::collections::hash_map::RandomState;
use std::fmt::Debug;
use std::hash::BuildHasher;
use std::sync::Once;

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngSeed, TestCaseError, TestRunner};

/// Runs `test`, which panics if the property does not hold, on `cases` random values.
fn check<S: Strategy>(name: &str, cases: u32, strategy: &S, test: impl Fn(S::Value))
where
    S::Value: Debug,
{
    let seed = std::env::var("TIDINGS_SEED")
        .ok()
        .map_or_else(|| RandomState::new().hash_one(name), |seed| seed.parse().expect("a 64-bit number"));
    let config = Config {
        cases,
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None,
        max_shrink_iters: 20_000,
        max_shrink_time: 30_000,
        ..Config::default()
    };
    let outcome = TestRunner::new(config).run(&strategy, |value| quietly(|| test(value)));
    if let Err(error) = outcome {
        panic!("{error}\nAgain: TIDINGS_SEED={seed} cargo test -p tidings-core --test properties {name}");
    }
}

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Keeps what a panic says instead of printing it: shrinking panics a thousand times.
fn quietly(test: impl FnOnce()) -> Result<(), TestCaseError> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let printing = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if QUIET.get() {
                PANIC.set(panic.to_string());
            } else {
                printing(panic);
            }
        }));
    });
    QUIET.set(true);
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(test));
    QUIET.set(false);
    outcome.map_err(|_| TestCaseError::fail(PANIC.take()))
}
