//! Where one device is in each of its conversations. Small, because every idle connection has one per conversation.

use tidings_types::{ConversationId, Cursor, Seq};

#[derive(Default)]
pub(super) struct Tracks {
    /// Sorted by id.
    tracks: Vec<Track>,
    unopened: usize,
    opening: usize,
    behind: usize,
    level: usize,
    /// Some track may have `sent < head`.
    some_lag: bool,
    /// Where the search for a lagging or unopened one goes on, so that none waits for ever behind a busy one.
    search_from: usize,
}

struct Track {
    id: ConversationId,
    /// The last seq queued for the socket.
    sent: Seq,
    /// The highest seq heard of.
    head: Seq,
    phase: Phase,
}

/// What only some conversations need for a while is boxed, so that the others are small.
enum Phase {
    Unopened(Box<Opening>),
    Opening(Box<Opening>),
    /// What the device missed before it joined reaches up to `target`.
    Behind {
        target: Seq,
    },
    Level,
}

#[derive(Clone, Copy, Default)]
pub(super) struct Opening {
    pub(super) cursor: Option<Cursor>,
    /// The `subscribe` that waits for it.
    pub(super) reply: Option<u32>,
    /// It was followed when it was subscribed to again.
    pub(super) was_open: bool,
    /// It was listed or joined meanwhile, to be followed from this cursor: if the opening fails, which may be older
    /// than the joining, it is opened for this.
    pub(super) inserted: Option<Option<Cursor>>,
}

impl Tracks {
    pub(super) fn len(&self) -> usize {
        self.tracks.len()
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = ConversationId> + '_ {
        self.tracks.iter().map(|track| track.id)
    }

    /// Conversations whose facts are being asked for.
    pub(super) fn opening(&self) -> usize {
        self.opening
    }

    pub(super) fn is_opening(&self, id: ConversationId) -> bool {
        self.find(id).is_ok_and(|at| !self.tracks[at].is_open())
    }

    /// Adds a conversation that is to be opened; one that is open already stays as it is.
    pub(super) fn insert(&mut self, id: ConversationId, cursor: Option<Cursor>) {
        match self.find(id) {
            Ok(at) => {
                if let Phase::Unopened(opening) | Phase::Opening(opening) = &mut self.tracks[at].phase {
                    opening.inserted = Some(cursor);
                }
            }
            Err(at) => self.insert_at(at, id, Opening { cursor, ..Opening::default() }),
        }
    }

    fn insert_at(&mut self, at: usize, id: ConversationId, opening: Opening) {
        let phase = Phase::Unopened(Box::new(opening));
        self.tracks.insert(at, Track { id, sent: Seq::ZERO, head: Seq::ZERO, phase });
        self.unopened += 1;
    }

    /// Opens a conversation again from `cursor`.
    pub(super) fn reopen(&mut self, id: ConversationId, cursor: Option<Cursor>, reply: Option<u32>) {
        let opening = Opening { cursor, reply, ..Opening::default() };
        match self.find(id) {
            Ok(at) => {
                let was_open = self.tracks[at].is_open();
                self.set_phase(at, Phase::Unopened(Box::new(Opening { was_open, ..opening })));
            }
            Err(at) => self.insert_at(at, id, opening),
        }
    }

    /// Goes on with a conversation as it was before it was opened again.
    pub(super) fn resume(&mut self, id: ConversationId) {
        let Ok(at) = self.find(id) else { return };
        let Track { sent, head, .. } = self.tracks[at];
        self.begin(id, sent, head);
    }

    /// The next conversation to open; it counts as being opened from now on.
    pub(super) fn next_unopened(&mut self) -> Option<ConversationId> {
        if self.unopened == 0 {
            return None;
        }
        let at = self.search(|track| matches!(track.phase, Phase::Unopened(_)))?;
        if let Phase::Unopened(opening) = &self.tracks[at].phase {
            self.set_phase(at, Phase::Opening(opening.clone()));
        }
        Some(self.tracks[at].id)
    }

    /// What waits for the facts of a conversation being opened.
    pub(super) fn waits_for(&self, id: ConversationId) -> Option<Opening> {
        match &self.tracks[self.find(id).ok()?].phase {
            Phase::Opening(opening) => Some(**opening),
            _ => None,
        }
    }

    /// The facts are there: this device has everything up to `sent`, and the log reached `head` when it was asked.
    pub(super) fn begin(&mut self, id: ConversationId, sent: Seq, head: Seq) {
        let Ok(at) = self.find(id) else { return };
        let track = &mut self.tracks[at];
        track.sent = sent;
        track.head = track.head.max(head);
        self.some_lag |= track.sent < track.head;
        self.set_phase(at, if sent < head { Phase::Behind { target: head } } else { Phase::Level });
    }

    pub(super) fn remove(&mut self, id: ConversationId) {
        if let Ok(at) = self.find(id) {
            let phase = self.tracks.remove(at).phase;
            *self.counter(&phase) -= 1;
        }
    }

    /// Would this live entry be exactly the next one for the device?
    pub(super) fn follows(&self, id: ConversationId, seq: Seq) -> bool {
        self.find(id).is_ok_and(|at| {
            let track = &self.tracks[at];
            track.is_open() && seq == track.sent.next()
        })
    }

    pub(super) fn raise_head(&mut self, id: ConversationId, seq: Seq) {
        if let Ok(at) = self.find(id) {
            let track = &mut self.tracks[at];
            track.head = track.head.max(seq);
            self.some_lag |= track.is_open() && track.sent < track.head;
        }
    }

    pub(super) fn sent(&mut self, id: ConversationId, seq: Seq) {
        let Ok(at) = self.find(id) else { return };
        let track = &mut self.tracks[at];
        track.sent = seq;
        track.head = track.head.max(seq);
        if let Phase::Behind { target } = track.phase
            && seq >= target
        {
            self.set_phase(at, Phase::Level);
        }
    }

    /// After which seq an open conversation is read; `None` if it is not open.
    pub(super) fn reads_after(&self, id: ConversationId) -> Option<Seq> {
        let track = &self.tracks[self.find(id).ok()?];
        track.is_open().then_some(track.sent)
    }

    /// An open conversation whose log has more than the device.
    pub(super) fn next_lagging(&mut self) -> Option<(ConversationId, Seq)> {
        if !self.some_lag {
            return None;
        }
        let Some(at) = self.search(|track| track.is_open() && track.sent < track.head) else {
            self.some_lag = false;
            return None;
        };
        Some((self.tracks[at].id, self.tracks[at].sent))
    }

    pub(super) fn all_caught_up(&self) -> bool {
        self.unopened == 0 && self.opening == 0 && self.behind == 0
    }

    fn search(&mut self, wanted: impl Fn(&Track) -> bool) -> Option<usize> {
        let len = self.tracks.len();
        let start = if self.search_from < len { self.search_from } else { 0 };
        let at = (start..len).chain(0..start).find(|at| wanted(&self.tracks[*at]))?;
        self.search_from = at + 1;
        Some(at)
    }

    fn find(&self, id: ConversationId) -> Result<usize, usize> {
        self.tracks.binary_search_by_key(&id, |track| track.id)
    }

    fn set_phase(&mut self, at: usize, phase: Phase) {
        *self.counter(&phase) += 1;
        let old = std::mem::replace(&mut self.tracks[at].phase, phase);
        *self.counter(&old) -= 1;
    }

    fn counter(&mut self, phase: &Phase) -> &mut usize {
        match phase {
            Phase::Unopened(_) => &mut self.unopened,
            Phase::Opening(_) => &mut self.opening,
            Phase::Behind { .. } => &mut self.behind,
            Phase::Level => &mut self.level,
        }
    }
}

impl Track {
    fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Behind { .. } | Phase::Level)
    }
}
