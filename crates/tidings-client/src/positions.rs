//! What this device has of each conversation, and what comes next: the machine that turns frames and fetched pages into
//! entries in order, without doubles and without holes. No clock, no socket.
//!
//! For every conversation it knows the last seq it handed out (`cursor`) and the highest it has heard of (`head`). An
//! entry that follows the cursor is handed out at once. Anything else only raises `head` and is kept if there is room;
//! whenever the next entry is not at hand, a page after the cursor is fetched over REST.

use std::collections::{BTreeMap, HashMap};

use tidings_types::{ConversationId, Cursor, Seq};
use tidings_wire::{Entry, EntryBody, Gap, Snapshot};

/// What the caller is to do, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Deliver(Entry),
    /// From here on the conversation begins anew at the snapshot's cursor.
    Reset {
        snapshot: Snapshot,
        cursor: Cursor,
    },
    /// These entries are left for history.
    Skipped {
        conversation: ConversationId,
        cursor: Cursor,
        from: Seq,
    },
    /// Entries of this conversation after `after`, over REST.
    Fetch(Fetch),
    /// Ask the server for what follows the cursor, or, without one, where the conversation stands.
    Subscribe {
        conversation: ConversationId,
        cursor: Option<Cursor>,
    },
    /// The user is not in this conversation any more.
    Forget(ConversationId),
}

/// A page to be fetched. `round` tells an answer to an older question apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fetch {
    pub(crate) conversation: ConversationId,
    pub(crate) after: Seq,
    round: u64,
}

/// Entries kept behind a hole, per conversation. What does not fit is fetched like the hole itself.
const HELD_MAX: usize = 256;

pub(crate) struct Positions {
    tracks: HashMap<ConversationId, Track>,
    /// Whether a gap right behind a snapshot is fetched.
    backfill: bool,
    round: u64,
    activity: u64,
}

struct Track {
    cursor: Cursor,
    head: Seq,
    held: BTreeMap<Seq, Entry>,
    /// The round of the page on its way.
    fetching: Option<u64>,
    /// Nothing but the snapshot is known yet.
    fresh: bool,
    /// The personal log says that the user left by this entry.
    left_at: Option<Seq>,
    /// When something last happened here, in counted steps.
    active_at: u64,
}

impl Positions {
    pub(crate) fn new(saved: impl IntoIterator<Item = (ConversationId, Cursor)>, backfill: bool) -> Self {
        let tracks = saved.into_iter().map(|(id, cursor)| (id, Track::at(cursor))).collect();
        Self { tracks, backfill, round: 0, activity: 0 }
    }

    /// A new socket: what was on its way is void, what the user left is dropped. The cursors for `connect`, at most
    /// `cursors_max`, the most active conversations first.
    pub(crate) fn reconnect(&mut self, cursors_max: usize) -> (Vec<Step>, Vec<(ConversationId, Cursor)>) {
        let gone: Vec<_> =
            self.tracks.iter().filter(|(_, track)| track.left_at.is_some()).map(|(id, _)| *id).collect();
        let forgotten = gone.into_iter().filter_map(|id| self.forget(id)).collect();
        for track in self.tracks.values_mut() {
            track.held.clear();
            track.fetching = None;
            track.head = track.cursor.seq;
        }
        let mut tracks: Vec<_> = self.tracks.iter().collect();
        tracks.sort_unstable_by_key(|(id, track)| (std::cmp::Reverse(track.active_at), **id));
        (forgotten, tracks.into_iter().take(cursors_max).map(|(id, track)| (*id, track.cursor)).collect())
    }

    /// Every entry this device heard of has been handed out.
    pub(crate) fn is_level(&self) -> bool {
        self.tracks.values().all(|track| track.cursor.seq >= track.head)
    }

    pub(crate) fn on_snapshot(&mut self, snapshot: Snapshot) -> Vec<Step> {
        let start = snapshot.floor.max(snapshot.visible_from).previous();
        let cursor = Cursor { epoch: snapshot.epoch, seq: start };
        let id = snapshot.conversation_id;
        // Not every cursor fits into `connect`. One that was left out, and is still good, goes on where it was: what
        // follows is recognised by its seq.
        let kept = self.tracks.get(&id).is_some_and(|track| {
            track.cursor.epoch == snapshot.epoch && (start..=snapshot.head).contains(&track.cursor.seq)
        });
        if kept {
            return Vec::new();
        }
        self.tracks.insert(id, Track { fresh: true, ..Track::at(cursor) });
        vec![Step::Reset { snapshot, cursor }]
    }

    pub(crate) fn on_gap(&mut self, gap: Gap) -> Vec<Step> {
        let id = gap.conversation_id;
        let backfill = self.backfill;
        let Some(track) = self.tracks.get_mut(&id).filter(|track| track.cursor.epoch == gap.epoch) else {
            return vec![self.subscribe(id)];
        };
        if track.fresh && !backfill && gap.to_seq > track.cursor.seq {
            let from = track.cursor.seq.next();
            track.cursor.seq = gap.to_seq;
            track.fresh = false;
            return vec![Step::Skipped { conversation: id, cursor: track.cursor, from }];
        }
        track.head = track.head.max(gap.to_seq);
        self.proceed(id)
    }

    pub(crate) fn on_entry(&mut self, entry: Entry) -> Vec<Step> {
        self.activity += 1;
        let id = entry.conversation_id;
        let Some(track) = self.tracks.get_mut(&id) else {
            return vec![self.subscribe(id)];
        };
        track.active_at = self.activity;
        if entry.seq <= track.cursor.seq {
            return Vec::new();
        }
        track.head = track.head.max(entry.seq);
        track.held.insert(entry.seq, entry);
        if track.held.len() > HELD_MAX {
            // `head` remembers that it exists.
            track.held.pop_last();
        }
        self.proceed(id)
    }

    /// The answer to a [`Step::Fetch`]: entries after the place asked for, ascending. Empty means that they are not to
    /// be had.
    pub(crate) fn on_page(&mut self, fetch: Fetch, page: Vec<Entry>) -> Vec<Step> {
        let id = fetch.conversation;
        let Some(track) = self.awaiting(fetch) else { return Vec::new() };
        track.fetching = None;
        let next = track.cursor.seq.next();
        let useful: Vec<_> = page.into_iter().filter(|entry| entry.seq >= next).collect();
        if useful.first().map(|entry| entry.seq) != Some(next) && !track.held.contains_key(&next) {
            // The log no longer begins where this device stopped: only a snapshot can say where it does.
            return vec![self.subscribe(id)];
        }
        for entry in useful {
            track.head = track.head.max(entry.seq);
            track.held.insert(entry.seq, entry);
        }
        self.proceed(id)
    }

    /// The server does not show this conversation to the user any more.
    pub(crate) fn on_not_found(&mut self, fetch: Fetch) -> Vec<Step> {
        if self.awaiting(fetch).is_none() {
            return Vec::new();
        }
        self.forget(fetch.conversation).into_iter().collect()
    }

    /// Must this failed fetch be tried again?
    pub(crate) fn still_wanted(&self, fetch: Fetch) -> bool {
        self.tracks.get(&fetch.conversation).is_some_and(|track| track.fetching == Some(fetch.round))
    }

    fn awaiting(&mut self, fetch: Fetch) -> Option<&mut Track> {
        self.tracks.get_mut(&fetch.conversation).filter(|track| track.fetching == Some(fetch.round))
    }

    /// Hands out what follows, and asks for what is missing.
    fn proceed(&mut self, id: ConversationId) -> Vec<Step> {
        let Some(track) = self.tracks.get_mut(&id) else { return Vec::new() };
        let mut steps = Vec::new();
        let mut personal = Vec::new();
        while let Some(entry) = track.held.remove(&track.cursor.seq.next()) {
            track.cursor.seq = entry.seq;
            track.fresh = false;
            if let EntryBody::Left(left) = entry.body {
                personal.push((left.left_conversation_id, left.cause_seq));
            }
            steps.push(Step::Deliver(entry));
        }
        track.held.retain(|seq, _| *seq > track.cursor.seq);
        let left = track.left_at.is_some_and(|left_at| track.cursor.seq >= left_at);
        if !left && track.cursor.seq < track.head && track.fetching.is_none() {
            self.round += 1;
            track.fetching = Some(self.round);
            steps.push(Step::Fetch(Fetch { conversation: id, after: track.cursor.seq, round: self.round }));
        }
        if left {
            steps.extend(self.forget(id));
        }
        for (conversation, cause) in personal {
            steps.extend(self.on_left(conversation, cause));
        }
        steps
    }

    fn subscribe(&self, conversation: ConversationId) -> Step {
        Step::Subscribe { conversation, cursor: self.tracks.get(&conversation).map(|track| track.cursor) }
    }

    /// The personal log may be ahead of the conversation: its last entries are still handed out if they come.
    fn on_left(&mut self, id: ConversationId, cause: Seq) -> Option<Step> {
        let track = self.tracks.get_mut(&id)?;
        track.left_at = Some(cause);
        if track.cursor.seq >= cause {
            // Beyond the entry by which the user left there is only a later membership.
            return if track.cursor.seq == cause { self.forget(id) } else { self.clear_left(id) };
        }
        None
    }

    fn clear_left(&mut self, id: ConversationId) -> Option<Step> {
        self.tracks.get_mut(&id)?.left_at = None;
        None
    }

    fn forget(&mut self, id: ConversationId) -> Option<Step> {
        self.tracks.remove(&id).map(|_| Step::Forget(id))
    }
}

impl Track {
    const fn at(cursor: Cursor) -> Self {
        Self {
            cursor,
            head: cursor.seq,
            held: BTreeMap::new(),
            fetching: None,
            fresh: false,
            left_at: None,
            active_at: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use tidings_types::{ConversationKind, Epoch, Timestamp, UserId};
    use tidings_wire::Left;

    use super::*;

    fn id(n: u8) -> ConversationId {
        ConversationId::v7(Timestamp::from_ms(1), [n; 10])
    }

    fn cursor(seq: u64) -> Cursor {
        Cursor { epoch: Epoch(1), seq: Seq(seq) }
    }

    fn entry(conversation: ConversationId, seq: u64, body: EntryBody) -> Entry {
        let sender_id = UserId::from_bytes([1; 16]);
        Entry { conversation_id: conversation, seq: Seq(seq), sender_id, created_at_ms: 0, messages: 0, body }
    }

    fn snapshot(floor: u64, head: u64, visible_from: u64) -> Snapshot {
        Snapshot {
            conversation_id: id(1),
            kind: ConversationKind::Group,
            title: None,
            epoch: Epoch(1),
            floor: Seq(floor),
            head: Seq(head),
            visible_from: Seq(visible_from),
            member_count: 2,
        }
    }

    /// Conversation 1 in short form: what goes in, and what comes out as text.
    struct Script(Positions);

    impl Script {
        fn at(seq: u64) -> Self {
            Self(Positions::new([(id(1), cursor(seq))], true))
        }

        fn entries(&mut self, seqs: impl IntoIterator<Item = u64>) -> String {
            let steps =
                seqs.into_iter().flat_map(|seq| self.0.on_entry(entry(id(1), seq, EntryBody::MemberLeft {})));
            told(&steps.collect::<Vec<_>>())
        }

        fn gap(&mut self, from: u64, to: u64) -> String {
            let gap = Gap { conversation_id: id(1), epoch: Epoch(1), from_seq: Seq(from), to_seq: Seq(to) };
            told(&self.0.on_gap(gap))
        }

        fn page(&mut self, after: u64, seqs: impl IntoIterator<Item = u64>) -> String {
            let fetch = Fetch { conversation: id(1), after: Seq(after), round: self.0.round };
            let page = seqs.into_iter().map(|seq| entry(id(1), seq, EntryBody::MemberLeft {})).collect();
            told(&self.0.on_page(fetch, page))
        }

        fn snapshot(&mut self, floor: u64, head: u64, visible_from: u64) -> String {
            told(&self.0.on_snapshot(snapshot(floor, head, visible_from)))
        }
    }

    fn told(steps: &[Step]) -> String {
        let told = steps.iter().map(|step| match step {
            Step::Deliver(entry) => format!("{}", entry.seq),
            Step::Reset { cursor, .. } => format!("reset@{}", cursor.seq),
            Step::Skipped { from, cursor, .. } => format!("skip{from}..{}", cursor.seq),
            Step::Fetch(fetch) => format!("fetch>{}", fetch.after),
            Step::Subscribe { cursor, .. } => {
                cursor.map_or("ask".into(), |cursor| format!("ask@{}", cursor.seq))
            }
            Step::Forget(_) => "forget".into(),
        });
        told.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn entries_in_order_are_handed_out_and_doubles_are_dropped() {
        let mut script = Script::at(4);
        assert_eq!(script.entries([5, 6, 5, 4, 6, 7]), "5 6 7");
        assert!(script.0.is_level());
    }

    #[test]
    fn a_gap_is_fetched_before_what_follows_it() {
        let mut script = Script::at(4);
        assert_eq!(script.gap(5, 8), "fetch>4");
        assert_eq!(script.entries([9, 10]), "", "waits behind the gap");
        assert!(!script.0.is_level());
        assert_eq!(script.page(4, [5, 6]), "5 6 fetch>6");
        assert_eq!(script.page(6, [7, 8, 9]), "7 8 9 10");
        assert!(script.0.is_level());
    }

    #[test]
    fn a_hole_that_nobody_announced_is_fetched_too() {
        let mut script = Script::at(4);
        assert_eq!(script.entries([5, 8, 9]), "5 fetch>5");
        assert_eq!(script.page(5, [6, 7, 8]), "6 7 8 9");
    }

    #[test]
    fn what_does_not_fit_behind_a_hole_is_fetched_again() {
        let mut script = Script::at(0);
        let last = 2 + HELD_MAX as u64 + 10;
        assert_eq!(script.entries(2..=last), "fetch>0");
        let kept: Vec<_> = (1..2 + HELD_MAX as u64).map(|seq| seq.to_string()).collect();
        assert_eq!(script.page(0, [1]), format!("{} fetch>{}", kept.join(" "), kept.len()));
        let rest: Vec<_> = (kept.len() as u64 + 1..=last).collect();
        let told = script.page(kept.len() as u64, rest.clone());
        assert_eq!(told, rest.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "));
    }

    #[test]
    fn a_page_of_before_the_reconnect_changes_nothing() {
        let mut script = Script::at(4);
        assert_eq!(script.gap(5, 8), "fetch>4");
        let (steps, cursors) = script.0.reconnect(10);
        assert_eq!((steps, cursors), (vec![], vec![(id(1), cursor(4))]));
        assert_eq!(script.page(4, [5, 6, 7, 8]), "");
        assert_eq!(script.entries([5]), "5");
    }

    #[test]
    fn a_snapshot_begins_where_the_user_may_see() {
        let mut script = Script(Positions::new([], true));
        assert_eq!(script.snapshot(1, 9, 7), "reset@6");
        assert_eq!(script.entries([7, 8]), "7 8");
        assert_eq!(script.snapshot(12, 20, 7), "reset@11", "the log begins later now");
    }

    #[test]
    fn a_snapshot_for_a_cursor_that_was_left_out_of_connect_changes_nothing() {
        let mut script = Script::at(5);
        assert_eq!(script.snapshot(1, 7, 1), "");
        assert_eq!(script.entries(1..=7), "6 7");
    }

    #[test]
    fn a_snapshot_of_another_epoch_or_behind_the_cursor_begins_anew() {
        let mut script = Script::at(50);
        assert_eq!(script.snapshot(1, 7, 1), "reset@0", "the server lost entries");
        let other = Snapshot { epoch: Epoch(2), ..snapshot(1, 90, 1) };
        assert_eq!(told(&script.0.on_snapshot(other)), "reset@0");
    }

    #[test]
    fn entries_and_gaps_of_unknown_conversations_ask_where_it_stands() {
        let mut script = Script(Positions::new([], true));
        assert_eq!(script.entries([3]), "ask");
        assert_eq!(script.gap(1, 3), "ask");
        let mut script = Script::at(4);
        let foreign = Gap { conversation_id: id(1), epoch: Epoch(9), from_seq: Seq(1), to_seq: Seq(9) };
        assert_eq!(told(&script.0.on_gap(foreign)), "ask@4");
    }

    #[test]
    fn a_page_that_does_not_go_on_asks_where_the_log_begins() {
        let mut script = Script::at(4);
        assert_eq!(script.gap(5, 8), "fetch>4");
        assert_eq!(script.page(4, [7, 8]), "ask@4");
    }

    #[test]
    fn without_backfill_only_the_gap_behind_a_snapshot_is_left_for_history() {
        let mut script = Script(Positions::new([], false));
        assert_eq!(script.snapshot(1, 5_000, 1), "reset@0");
        assert_eq!(script.gap(1, 4_000), "skip1..4000");
        assert_eq!(script.entries([4_001]), "4001");
        assert_eq!(script.gap(4_002, 4_900), "fetch>4001");
    }

    #[test]
    fn a_conversation_the_server_no_longer_shows_is_forgotten() {
        let mut script = Script::at(4);
        assert_eq!(script.gap(5, 8), "fetch>4");
        let fetch = Fetch { conversation: id(1), after: Seq(4), round: script.0.round };
        assert_eq!(told(&script.0.on_not_found(fetch)), "forget");
        assert!(script.0.is_level());
    }

    fn left(cause: u64) -> EntryBody {
        EntryBody::Left(Left { left_conversation_id: id(1), cause_seq: Seq(cause) })
    }

    #[test]
    fn leaving_keeps_the_last_entries_whichever_log_is_faster() {
        let start = || Script(Positions::new([(id(1), cursor(4)), (id(9), cursor(0))], true));
        let mut script = start();
        assert_eq!(script.entries([5]), "5");
        assert_eq!(told(&script.0.on_entry(entry(id(9), 1, left(5)))), "1 forget");

        let mut script = start();
        assert_eq!(told(&script.0.on_entry(entry(id(9), 1, left(5)))), "1");
        assert_eq!(script.entries([5]), "5 forget");

        let mut script = start();
        assert_eq!(told(&script.0.on_entry(entry(id(9), 1, left(5)))), "1");
        let (steps, cursors) = script.0.reconnect(10);
        assert_eq!(told(&steps), "forget", "it ended while this device was away");
        assert_eq!(cursors, [(id(9), cursor(1))]);
    }

    #[test]
    fn an_old_leaving_does_not_end_a_later_membership() {
        let mut script = Script(Positions::new([(id(1), cursor(9)), (id(9), cursor(0))], true));
        assert_eq!(told(&script.0.on_entry(entry(id(9), 1, left(5)))), "1");
        assert_eq!(script.entries([10]), "10");
    }

    #[test]
    fn connect_carries_the_most_active_conversations() {
        let saved = (1..=5).map(|n| (id(n), cursor(1)));
        let mut positions = Positions::new(saved, true);
        positions.on_entry(entry(id(4), 2, EntryBody::MemberLeft {}));
        positions.on_entry(entry(id(2), 2, EntryBody::MemberLeft {}));
        let (_, cursors) = positions.reconnect(2);
        assert_eq!(cursors, [(id(2), cursor(2)), (id(4), cursor(2))]);
    }
}
