//! What a run tells: a table for people, one object for scripts.

use std::fmt;

use serde::Serialize;

use super::check::{Findings, Kind};
use super::world::Counters;

const VIOLATIONS_MAX: usize = 20;

#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) acknowledged: u64,
    pub(crate) lost: u64,
    pub(crate) doubled: u64,
    pub(crate) reordered: u64,
    /// Of these, `not_caught_up`.
    pub(crate) gaps: u64,
    pub(crate) not_caught_up: u64,
    pub(crate) leaked: u64,
    pub(crate) invented: u64,
    pub(crate) retried: u64,
    pub(crate) retries_wrong: u64,
    pub(crate) refused: u64,
    pub(crate) refused_wrong: u64,
    pub(crate) counts_wrong: u64,
    pub(crate) strange_frames: u64,
    pub(crate) server_failures: u64,
    pub(crate) sent: u64,
    pub(crate) delivered: u64,
    pub(crate) connects: u64,
    pub(crate) snapshots: u64,
    pub(crate) gaps_named: u64,
    pub(crate) membership_changes: u64,
    pub(crate) devices: usize,
    pub(crate) users: usize,
    pub(crate) conversations: usize,
    pub(crate) restarts: u64,
    pub(crate) seconds: u64,
    pub(crate) seed: u64,
    /// The first of them, with ids and without content.
    pub(crate) violations: Vec<String>,
}

/// What was asked for.
pub(crate) struct Setting {
    pub(crate) devices: usize,
    pub(crate) users: usize,
    pub(crate) conversations: usize,
    pub(crate) seconds: u64,
    pub(crate) seed: u64,
    pub(crate) is_killing: bool,
}

impl Report {
    pub(crate) fn new(setting: &Setting, counters: &Counters, mut findings: Findings) -> Self {
        add_idle(setting, counters, &mut findings);
        let count = |kind| findings.count(kind);
        Self {
            acknowledged: counters.acknowledged.value(),
            lost: count(Kind::Lost),
            doubled: count(Kind::Doubled),
            reordered: count(Kind::Reordered),
            gaps: count(Kind::Gap) + count(Kind::NotCaughtUp),
            not_caught_up: count(Kind::NotCaughtUp),
            leaked: count(Kind::Leaked),
            invented: count(Kind::Invented),
            retried: counters.retried.value(),
            retries_wrong: count(Kind::RetryWrong),
            refused: counters.refused.value(),
            refused_wrong: count(Kind::RefusedWrong),
            counts_wrong: count(Kind::CountWrong),
            strange_frames: count(Kind::Strange),
            server_failures: count(Kind::Server),
            sent: counters.sent.value(),
            delivered: counters.delivered.value(),
            connects: counters.connects.value(),
            snapshots: counters.snapshots.value(),
            gaps_named: counters.gaps_named.value(),
            membership_changes: counters.membership_changes.value(),
            devices: setting.devices,
            users: setting.users,
            conversations: setting.conversations,
            restarts: counters.restarts.value(),
            seconds: setting.seconds,
            seed: setting.seed,
            violations: findings.examples().take(VIOLATIONS_MAX).collect(),
        }
    }

    pub(crate) fn is_clean(&self) -> bool {
        self.violations.is_empty()
    }
}

/// A check that could not have failed is none.
fn add_idle(setting: &Setting, counters: &Counters, findings: &mut Findings) {
    let exercised = [
        ("no message was acknowledged", counters.acknowledged.value() > 0),
        ("nothing was delivered", counters.delivered.value() > 0),
        ("the server was never killed", !setting.is_killing || counters.restarts.value() > 0),
        ("no send was retried", !setting.is_killing || counters.retried.value() > 0),
    ];
    for (text, _) in exercised.iter().filter(|(_, was_exercised)| !was_exercised) {
        findings.add(Kind::Idle, *text);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { devices, users, conversations, seconds, restarts, seed, .. } = self;
        writeln!(
            f,
            "{devices} devices of {users} users, {conversations} conversations, {seconds} s, {restarts} restarts, seed {seed}"
        )?;
        let rows = [
            ("acknowledged", self.acknowledged),
            ("retried", self.retried),
            ("refused", self.refused),
            ("delivered", self.delivered),
            ("connects", self.connects),
            ("snapshots", self.snapshots),
            ("gaps named", self.gaps_named),
            ("membership changes", self.membership_changes),
        ];
        for (name, value) in rows {
            writeln!(f, "  {name:<20}{value:>10}")?;
        }
        let wrong = [
            ("lost", self.lost),
            ("doubled", self.doubled),
            ("reordered", self.reordered),
            ("gaps", self.gaps),
            ("  not caught up", self.not_caught_up),
            ("leaked", self.leaked),
            ("invented", self.invented),
            ("retries wrong", self.retries_wrong),
            ("refused wrong", self.refused_wrong),
            ("counts wrong", self.counts_wrong),
            ("strange frames", self.strange_frames),
            ("server failures", self.server_failures),
        ];
        writeln!(f, "violations")?;
        for (name, value) in wrong {
            writeln!(f, "  {name:<20}{value:>10}")?;
        }
        self.violations.iter().try_for_each(|text| writeln!(f, "  {text}"))
    }
}
