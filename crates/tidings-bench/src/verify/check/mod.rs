//! The judge: reads a journal and nothing else, so a hand-made journal shows what it finds.
//!
//! The *truth* is what REST answers at the end, when nobody writes any more. What was acknowledged must be in it; what was
//! delivered must be in it, in its order and only to those who were members at that entry; every socket must have
//! carried every entry between where it began and where it ended, or have named the range it left out.

mod ending;
mod seen;
mod sends;
mod sockets;
mod truth;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use super::journal::Journal;
use seen::Seen;
pub(crate) use truth::Truth;

/// Examples kept of each kind.
const EXAMPLES_MAX: usize = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Acknowledged or delivered, and not there (or different) at the end.
    Lost,
    /// One message at two seqs, two entries at one seq, one seq twice on one socket.
    Doubled,
    /// Seqs or times run back, or two devices saw different orders.
    Reordered,
    /// A seq was skipped without a word.
    Gap,
    /// A device did not get everything in the end.
    NotCaughtUp,
    /// An entry for somebody who was not a member at that entry.
    Leaked,
    /// A message that nobody wrote.
    Invented,
    /// A repeated send was not answered as the first time.
    RetryWrong,
    /// A refusal without a reason.
    RefusedWrong,
    /// The two sides count different frames.
    CountWrong,
    /// A frame that does not belong to the protocol.
    Strange,
    /// The server did not start again, ended by itself, or reported a bug.
    Server,
    /// The run did not exercise what it is for.
    Idle,
}

#[derive(Debug, Default)]
pub(crate) struct Findings {
    counts: BTreeMap<Kind, u64>,
    /// With ids, never with content.
    examples: BTreeMap<Kind, Vec<String>>,
}

impl Findings {
    pub(crate) fn add(&mut self, kind: Kind, text: impl Into<String>) {
        *self.counts.entry(kind).or_default() += 1;
        let examples = self.examples.entry(kind).or_default();
        if examples.len() < EXAMPLES_MAX {
            examples.push(text.into());
        }
    }

    /// Takes over what another part found.
    pub(crate) fn extend(&mut self, other: Self) {
        other.counts.into_iter().for_each(|(kind, count)| *self.counts.entry(kind).or_default() += count);
        for (kind, texts) in other.examples {
            let examples = self.examples.entry(kind).or_default();
            examples.extend(texts);
            examples.truncate(EXAMPLES_MAX);
        }
    }

    pub(crate) fn count(&self, kind: Kind) -> u64 {
        self.counts.get(&kind).copied().unwrap_or(0)
    }

    /// Kind by kind.
    pub(crate) fn examples(&self) -> impl Iterator<Item = String> + '_ {
        let with_kind = |(kind, texts): (&Kind, &Vec<String>)| {
            let kind = *kind;
            texts.iter().map(move |text| format!("{kind:?}: {text}")).collect::<Vec<_>>()
        };
        self.examples.iter().flat_map(with_kind)
    }
}

/// Everything that is wrong. Without an ending only what contradicts itself can be found.
pub(crate) fn check(journal: &Journal) -> Findings {
    let mut findings = Findings::default();
    let mut seen = Seen::default();
    seen.collect(journal);
    seen.check(&mut findings);
    sends::check_answers(journal, &mut findings);
    sends::check_order(journal, &mut findings);
    let truth = journal.ending.as_ref().map(|ending| Truth::of(&ending.reads));
    sockets::check(journal, &mut findings);
    if let (Some(truth), Some(ending)) = (&truth, &journal.ending) {
        truth.check(&mut findings);
        seen.check_against(truth, &mut findings);
        sends::check_against(journal, truth, &mut findings);
        sockets::check_against(journal, truth, &mut findings);
        ending::check(journal, ending, truth, &mut findings);
    }
    findings
}
