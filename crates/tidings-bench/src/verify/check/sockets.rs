//! Every socket by itself: seq after seq, and what is left out is named.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tidings_types::{ConversationId, Seq};
use tidings_wire::{Entry, Gap, Snapshot};

use super::{Findings, Kind, Truth};
use crate::verify::journal::{DeviceJournal, Event, Journal, SocketJournal};

pub(super) fn check(journal: &Journal, findings: &mut Findings) {
    for device in &journal.devices {
        for (number, socket) in device.sockets.iter().enumerate() {
            let mut reader = Reader {
                name: format!("device {} socket {number}", device.number),
                streams: begin(socket),
                findings,
            };
            socket.events.iter().for_each(|event| reader.read(event));
        }
    }
}

/// One conversation on one socket.
struct Stream {
    /// The seq that must come next.
    next: Seq,
    /// Since the client asked for it, or was told to begin anew.
    seen: HashSet<Seq>,
    first: Seq,
    at_ms: u64,
}

struct Reader<'a> {
    name: String,
    streams: HashMap<ConversationId, Stream>,
    findings: &'a mut Findings,
}

fn begin(socket: &SocketJournal) -> HashMap<ConversationId, Stream> {
    socket.cursors.iter().map(|(id, cursor)| (*id, Stream::from(cursor.seq.next()))).collect()
}

impl Stream {
    fn from(next: Seq) -> Self {
        Self { next, seen: HashSet::new(), first: next, at_ms: 0 }
    }
}

impl Reader<'_> {
    fn read(&mut self, event: &Event) {
        match event {
            Event::Snapshot(snapshot) => self.on_snapshot(snapshot),
            Event::Gap(gap) => self.on_gap(gap),
            Event::Subscribed { conversation, cursor: Some(cursor) } => {
                self.streams.insert(*conversation, Stream::from(cursor.seq.next()));
            }
            // A snapshot must follow.
            Event::Subscribed { conversation, cursor: None } => drop(self.streams.remove(conversation)),
            Event::Entry(entry) => self.on_entry(entry),
            Event::Fetched { conversation, entries, .. } => self.on_fetched(*conversation, entries),
            Event::Pong { claimed, counted } if claimed != counted => {
                let text = format!("{}: {claimed} frames sent, {counted} arrived", self.name);
                self.findings.add(Kind::CountWrong, text);
            }
            Event::Pong { .. } => {}
            Event::Strange(what) => self.findings.add(Kind::Strange, format!("{}: {what}", self.name)),
            Event::ClosedForGood(code) => {
                self.findings.add(Kind::RefusedWrong, format!("{}: closed with {code}", self.name));
            }
        }
    }

    fn on_snapshot(&mut self, snapshot: &Snapshot) {
        let first = snapshot.floor.max(snapshot.visible_from);
        self.streams.insert(snapshot.conversation_id, Stream::from(first));
    }

    fn on_gap(&mut self, gap: &Gap) {
        let id = gap.conversation_id;
        match self.streams.get_mut(&id) {
            Some(stream) if gap.from_seq == stream.next && gap.to_seq >= gap.from_seq => {
                stream.next = gap.to_seq.next();
            }
            known => {
                let next = known.map(|stream| stream.next);
                let text =
                    format!("{}: {id} names {} to {}, next is {next:?}", self.name, gap.from_seq, gap.to_seq);
                self.findings.add(Kind::Gap, text);
                self.streams.insert(id, Stream::from(gap.to_seq.next()));
            }
        }
    }

    fn on_entry(&mut self, entry: &Entry) {
        let Entry { conversation_id: id, seq, created_at_ms, .. } = *entry;
        let Some(stream) = self.streams.get_mut(&id) else {
            let text = format!("{}: {id} seq {seq} without a cursor or a snapshot", self.name);
            self.findings.add(Kind::Gap, text);
            self.streams.insert(id, Stream::from(seq.next()));
            return;
        };
        let place = format!("{}: {id} seq {seq}", self.name);
        if !stream.seen.insert(seq) || seq < stream.first {
            self.findings.add(Kind::Doubled, format!("{place} again"));
        } else if seq < stream.next {
            self.findings.add(Kind::Reordered, format!("{place} after {}", stream.next.previous()));
        } else if seq > stream.next {
            self.findings.add(Kind::Gap, format!("{place} after {}", stream.next.previous()));
        }
        if created_at_ms < stream.at_ms {
            self.findings.add(Kind::Reordered, format!("{place}: its time runs back"));
        }
        stream.at_ms = created_at_ms.max(stream.at_ms);
        stream.next = stream.next.max(seq.next());
    }

    fn on_fetched(&mut self, conversation: ConversationId, entries: &[Arc<Entry>]) {
        let holes = entries.windows(2).filter(|pair| pair[1].seq != pair[0].seq.next());
        for pair in holes {
            let (after, seq) = (pair[0].seq, pair[1].seq);
            self.findings
                .add(Kind::Gap, format!("{}: {conversation} seq {seq} after {after} by REST", self.name));
        }
    }
}

/// What only the whole log can tell: who was allowed to see it, and whether a fetched range was whole.
pub(super) fn check_against(journal: &Journal, truth: &Truth, findings: &mut Findings) {
    for device in &journal.devices {
        let mut told = HashSet::new();
        for event in device.sockets.iter().flat_map(|socket| &socket.events) {
            match event {
                Event::Entry(entry) => check_visible(device, entry, truth, &mut told, findings),
                Event::Fetched { conversation, from, to, entries } => {
                    entries.iter().for_each(|entry| check_visible(device, entry, truth, &mut told, findings));
                    check_whole(device, (*conversation, *from, *to), entries, truth, findings);
                }
                Event::Snapshot(snapshot) => check_begin(device, snapshot, truth, findings),
                _ => {}
            }
        }
    }
}

fn check_visible(
    device: &DeviceJournal,
    entry: &Entry,
    truth: &Truth,
    told: &mut HashSet<(ConversationId, Seq)>,
    findings: &mut Findings,
) {
    let Entry { conversation_id: id, seq, .. } = *entry;
    // An entry that is not there at the end is lost; who was a member at it, nobody knows.
    if truth.entry(id, seq).is_some() && !truth.may_see(device.user, id, seq) && told.insert((id, seq)) {
        findings.add(Kind::Leaked, format!("device {}: {id} seq {seq}", device.number));
    }
}

/// A user who was a member from before the range until the end sees all of it.
fn check_whole(
    device: &DeviceJournal,
    (id, from, to): (ConversationId, Seq, Seq),
    entries: &[Arc<Entry>],
    truth: &Truth,
    findings: &mut Findings,
) {
    let must_see =
        truth.stays(device.user, id).last().is_some_and(|stay| stay.from <= from && stay.to.is_none());
    let ends = (entries.first().map(|entry| entry.seq), entries.last().map(|entry| entry.seq));
    if must_see && ends != (Some(from), Some(to)) {
        findings.add(Kind::Gap, format!("device {}: {id} {from} to {to} came as {ends:?}", device.number));
    }
}

fn check_begin(device: &DeviceJournal, snapshot: &Snapshot, truth: &Truth, findings: &mut Findings) {
    let id = snapshot.conversation_id;
    // A personal log that nobody has written to yet is shown empty; of a log that is gone nobody knows the members.
    let is_unknown = snapshot.head == Seq::ZERO || truth.head(id).is_none();
    let stays = truth.stays(device.user, id);
    if !is_unknown && stays.iter().all(|stay| stay.from != snapshot.visible_from) {
        let text = format!(
            "device {}: {id} shown from {}, no membership begins there",
            device.number, snapshot.visible_from
        );
        findings.add(Kind::Leaked, text);
    }
}
