//! One device: connects with its cursors, writes, reads, breaks off, lags, forgets, comes back. Everything it is sent goes
//! into its journal before anything else looks at it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tidings_client::{Range, Rest};
use tidings_types::{Code, ConversationId, Cursor, Refusal, Seq, UserId};
use tidings_wire::{
    ClientFrame, Connect, Entry, ErrorFrame, MessageAccepted, Ping, ServerFrame, Subscribe, Target, codes,
};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::dice::Dice;
use super::ending::Goals;
use super::held::Holdings;
use super::journal::{DeviceJournal, Event, Frame, SocketJournal};
use super::outbox::{Answered, Outbox};
use super::socket::{ConnectError, Ended, Socket};
use super::world::{Connected, Phase, World};

/// Written at once just before a kill.
pub(crate) const BURST_MESSAGES: usize = 5;
const TEXT_BYTES_MAX: usize = 160;
/// Messages that name the person instead of the conversation, where both would do.
const BY_PERSON_PERCENT: usize = 15;
/// `page_items_max` of the server.
const PAGE_ITEMS: u32 = 100;

pub(crate) struct Device {
    number: usize,
    user: UserId,
    /// People this user has a direct conversation with.
    peers: Vec<UserId>,
    rest: Rest,
    world: Arc<World>,
    dice: Dice,
    holdings: Holdings,
    outbox: Outbox,
    sockets: Vec<SocketJournal>,
    end: Option<BTreeMap<ConversationId, Seq>>,
    written: u64,
}

/// One socket of a device, while it is open.
struct Session {
    socket: Socket,
    /// Index in the journal.
    number: usize,
    next_reference: u32,
    subscribes: HashMap<u32, (ConversationId, Option<Cursor>)>,
    is_caught_up: bool,
}

/// When a session does what by itself.
struct Timers {
    write_at: Instant,
    ping_at: Instant,
    trouble_at: Instant,
}

/// How a session ends or is troubled.
#[derive(Clone, Copy)]
enum Trouble {
    Cut,
    Close,
    Lag,
}

impl Device {
    pub(crate) fn new(
        number: usize,
        rest: Rest,
        peers: Vec<UserId>,
        world: Arc<World>,
        dice: Dice,
    ) -> Option<Self> {
        let user = rest.tokens()?.user.user_id;
        Some(Self {
            number,
            user,
            peers,
            rest,
            world,
            dice,
            holdings: Holdings::default(),
            outbox: Outbox::default(),
            sockets: Vec::new(),
            end: None,
            written: 0,
        })
    }

    pub(crate) fn into_journal(self) -> DeviceJournal {
        let Self { number, user, sockets, outbox, end, .. } = self;
        DeviceJournal { number, user, sockets, sends: outbox.into_sends(), end }
    }

    /// Until the run is over. Every tenth device comes late.
    pub(crate) async fn live(&mut self) {
        let world = Arc::clone(&self.world);
        let living = async {
            if self.dice.percent(10) {
                let late = self.dice.below(500) as f64 / 1_000.0;
                sleep(world.run.mul_f64(late)).await;
            }
            loop {
                self.live_one_session().await;
                self.rest_between_sessions().await;
            }
        };
        // Dropping it cuts the socket; whatever had arrived is in the journal.
        tokio::select! {
            () = living => {}
            () = world.after(Phase::Live) => {}
        }
    }

    async fn rest_between_sessions(&mut self) {
        let pause = match self.dice.below(100) {
            0..75 => 10..=400,
            75..95 => 1_000..=5_000,
            _ => 8_000..=20_000,
        };
        sleep(self.dice.ms(pause)).await;
        if self.dice.percent(10) {
            self.holdings.forget_one(&mut self.dice);
        }
    }

    async fn live_one_session(&mut self) {
        let Some(mut session) = self.connect().await else { return };
        let _counted = Connected::new(&self.world);
        let mut timers = self.timers();
        let mut burst = self.world.burst.subscribe();
        loop {
            let going_on = tokio::select! {
                frame = session.socket.next() => self.on_frame(&mut session, frame).await,
                () = sleep_until(timers.write_at) => {
                    timers.write_at = Instant::now() + self.dice.around(self.world.send_every);
                    self.write(1);
                    self.flush(&mut session).await
                }
                () = sleep_until(timers.ping_at) => {
                    timers.ping_at = Instant::now() + self.dice.ms(1_000..=2_000);
                    self.ping(&mut session).await
                }
                _ = burst.changed() => {
                    self.write(BURST_MESSAGES);
                    self.flush(&mut session).await
                }
                () = sleep_until(timers.trouble_at) => match self.trouble() {
                    Trouble::Cut => return,
                    Trouble::Close => return session.socket.close().await,
                    Trouble::Lag => {
                        sleep(self.dice.ms(1_000..=4_000)).await;
                        timers.trouble_at = self.next_trouble();
                        Ok(())
                    }
                },
            };
            if let Err(ended) = going_on {
                return self.on_ended(&session, ended);
            }
        }
    }

    /// Comes back once more, without writing anything new: everything is answered, then everything is there.
    pub(crate) async fn settle(&mut self, goals: &mut watch::Receiver<Option<Arc<Goals>>>) {
        let mut is_counted = false;
        loop {
            if let Some(session) = self.connect().await {
                let settled = self.settle_session(session, goals, &mut is_counted).await;
                if settled {
                    return;
                }
            }
            sleep(self.dice.ms(20..=200)).await;
        }
    }

    /// Answers whether this device has all it wants.
    async fn settle_session(
        &mut self,
        mut session: Session,
        goals: &mut watch::Receiver<Option<Arc<Goals>>>,
        is_counted: &mut bool,
    ) -> bool {
        let mut ping_at = Instant::now();
        loop {
            if !*is_counted && session.is_caught_up && self.outbox.is_settled() {
                *is_counted = true;
                self.world.counters.settled.add();
            }
            if *is_counted
                && goals.borrow().as_ref().is_some_and(|goals| goals.are_met(self.user, &self.holdings))
            {
                self.end = Some(self.holdings.positions());
                session.socket.close().await;
                return true;
            }
            let going_on = tokio::select! {
                frame = session.socket.next() => self.on_frame(&mut session, frame).await,
                () = sleep_until(ping_at) => {
                    ping_at = Instant::now() + self.dice.ms(500..=1_500);
                    self.ping(&mut session).await
                }
                // Its sender outlives the devices.
                _ = goals.changed() => Ok(()),
            };
            if let Err(ended) = going_on {
                self.on_ended(&session, ended);
                return false;
            }
        }
    }

    async fn connect(&mut self) -> Option<Session> {
        let tokens = self.rest.tokens()?;
        let socket = match Socket::connect(self.world.address, &tokens.access_token).await {
            Ok(socket) => socket,
            Err(ConnectError::Status(401)) => {
                // Whether it worked shows in the next try.
                drop(self.rest.refresh(&tokens.access_token).await);
                return None;
            }
            Err(ConnectError::Status(_) | ConnectError::Unreachable) => return None,
        };
        self.world.counters.connects.add();
        let cursors = self.holdings.cursors();
        let number = self.sockets.len();
        self.sockets.push(SocketJournal { cursors: cursors.iter().copied().collect(), events: Vec::new() });
        self.outbox.on_connected(self.world.server_number());
        let mut session =
            Session { socket, number, next_reference: 1, subscribes: HashMap::new(), is_caught_up: false };
        let connect = ClientFrame::Connect(Connect { reference: session.reference(), cursors });
        session.socket.send(&connect).await.ok()?;
        self.flush(&mut session).await.ok()?;
        Some(session)
    }

    fn on_ended(&mut self, session: &Session, ended: Ended) {
        match ended {
            Ended::Closed(code) if codes::advice(code) == codes::CloseAdvice::Stop => {
                self.note(session, Event::ClosedForGood(code));
            }
            Ended::NotText => self.note(session, Event::Strange("a frame that is not text")),
            Ended::Closed(_) | Ended::Broken => {}
        }
    }

    async fn on_frame(&mut self, session: &mut Session, frame: Result<String, Ended>) -> Result<(), Ended> {
        match self.world.entries.read(frame?) {
            Ok(Frame::Entry(entry)) => {
                self.world.counters.delivered.add();
                self.holdings.on_entry(&entry, self.user);
                self.note(session, Event::Entry(entry));
                Ok(())
            }
            Ok(Frame::Other(frame)) => self.on_other(session, frame).await,
            Err(why) => {
                self.note(session, Event::Strange(why));
                Ok(())
            }
        }
    }

    async fn on_other(&mut self, session: &mut Session, frame: ServerFrame) -> Result<(), Ended> {
        match frame {
            ServerFrame::Connected(connected) => {
                self.rest.clock().set(connected.now_ms);
                self.world.note_personal_log(self.user, connected.personal_id);
            }
            ServerFrame::Snapshot(snapshot) => {
                self.world.counters.snapshots.add();
                self.holdings.on_snapshot(&snapshot);
                self.note(session, Event::Snapshot(Box::new(snapshot)));
            }
            ServerFrame::Gap(gap) => {
                self.world.counters.gaps_named.add();
                self.holdings.on_gap(&gap);
                self.note(session, Event::Gap(gap));
                self.fill_holes(session).await;
            }
            ServerFrame::CaughtUp(_) => {
                session.is_caught_up = true;
                self.fill_holes(session).await;
                return self.maybe_subscribe(session).await;
            }
            ServerFrame::Subscribed(subscribed) => match session.subscribes.remove(&subscribed.reference) {
                Some((conversation, cursor)) => {
                    self.note(session, Event::Subscribed { conversation, cursor });
                }
                None => self.note(session, Event::Strange("a `subscribed` that nobody asked for")),
            },
            ServerFrame::MessageAccepted(accepted) => {
                self.on_accepted(session, &accepted);
                return self.flush(session).await;
            }
            ServerFrame::Pong(pong) => {
                let counted = session.socket.received() - 1;
                self.note(session, Event::Pong { claimed: pong.sent, counted });
            }
            ServerFrame::Error(error) => {
                self.on_error(session, error);
                return self.flush(session).await;
            }
            ServerFrame::Entry(_) | ServerFrame::ReceiveMessage(_) => unreachable!("read as entries"),
        }
        Ok(())
    }

    fn on_accepted(&mut self, session: &Session, accepted: &MessageAccepted) {
        if let Some(direct) = self.outbox.direct_of(accepted) {
            self.world.note_direct(direct, self.user);
        }
        let counters = &self.world.counters;
        match self.outbox.on_accepted(accepted, self.world.server_number(), &mut self.dice) {
            Answered::First => counters.acknowledged.add(),
            Answered::Retry => counters.retried.add(),
            Answered::Later => {}
            Answered::Unknown => {
                self.note(session, Event::Strange("an acknowledgement of nothing that was sent"));
            }
        }
    }

    fn on_error(&mut self, session: &mut Session, error: ErrorFrame) {
        let ErrorFrame { reference, code, message, retry_after_ms } = error;
        let Some(reference) = reference else {
            return self.note(session, Event::Strange("an error that answers nothing"));
        };
        if session.subscribes.remove(&reference).is_some() {
            return;
        }
        match self.outbox.on_refused(reference, &Refusal { code, message, retry_after_ms }) {
            Answered::First => self.world.counters.refused.add(),
            Answered::Retry => self.world.counters.retried.add(),
            Answered::Later => {}
            // The only other requests are `connect` and `ping`, and both were in order.
            Answered::Unknown => self.note(session, Event::Strange("a refusal of nothing that was asked")),
        }
    }

    /// Sends what waits, as far as the link takes it.
    async fn flush(&mut self, session: &mut Session) -> Result<(), Ended> {
        while let Some(frame) = self.outbox.next_frame(session.next_reference, session.number) {
            session.next_reference += 1;
            session.socket.send(&frame).await?;
        }
        Ok(())
    }

    async fn ping(&mut self, session: &mut Session) -> Result<(), Ended> {
        let sent = Some(session.socket.sent());
        let ping = ClientFrame::Ping(Ping { reference: session.reference(), sent });
        session.socket.send(&ping).await?;
        self.outbox.sweep();
        self.flush(session).await?;
        self.fill_holes(session).await;
        Ok(())
    }

    /// Asks again for one conversation now and then: with the cursor, as after a doubt, or without one.
    async fn maybe_subscribe(&mut self, session: &mut Session) -> Result<(), Ended> {
        if !self.dice.percent(10) {
            return Ok(());
        }
        let open = self.holdings.open();
        let Some(&conversation_id) = self.dice.pick(&open) else { return Ok(()) };
        let cursor = self.holdings.cursor(conversation_id).filter(|_| self.dice.percent(50));
        let reference = session.reference();
        session.subscribes.insert(reference, (conversation_id, cursor));
        let (epoch, seq) = (cursor.map(|cursor| cursor.epoch), cursor.map(|cursor| cursor.seq));
        let subscribe = Subscribe { reference, conversation_id, epoch, seq };
        session.socket.send(&ClientFrame::Subscribe(subscribe)).await
    }

    /// Puts new messages into the outbox.
    fn write(&mut self, messages: usize) {
        for _ in 0..messages {
            let Some(target) = self.target() else { return };
            let text = self.text();
            if !self.outbox.write(self.rest.clock().message_id(), target, text) {
                return;
            }
            self.written += 1;
            self.world.counters.sent.add();
        }
    }

    fn target(&mut self) -> Option<Target> {
        let writable = self.holdings.writable();
        if writable.is_empty() || self.dice.percent(BY_PERSON_PERCENT) {
            let peer = self.dice.pick(&self.peers).copied();
            if let Some(peer) = peer {
                return Some(Target::Recipient(peer));
            }
        }
        self.dice.pick(&writable).copied().map(Target::Conversation)
    }

    /// Says who wrote it as the how-manieth, with letters and lengths that an encoder could get wrong.
    fn text(&mut self) -> String {
        let mut text = format!("{}/{} \"é\\✓\u{1f980}\n", self.number, self.written);
        let bytes = self.dice.below(TEXT_BYTES_MAX);
        text.extend((0..bytes).map(|at| char::from(b'a' + u8::try_from(at % 26).expect("below 26"))));
        text
    }

    async fn fill_holes(&mut self, session: &Session) {
        for (conversation, from, to) in self.holdings.holes() {
            match read_range(&self.rest, conversation, from, to).await {
                Ok(entries) => {
                    let entries = entries.into_iter().map(Arc::new).collect();
                    self.note(session, Event::Fetched { conversation, from, to, entries });
                    self.holdings.fill(conversation, (from, to));
                }
                // The user is out of it meanwhile.
                Err(Some(Code::NotFound)) => self.holdings.fill(conversation, (from, to)),
                // Another time.
                Err(_) => return,
            }
        }
    }

    fn note(&mut self, session: &Session, event: Event) {
        self.sockets[session.number].events.push(event);
    }

    fn timers(&mut self) -> Timers {
        let now = Instant::now();
        Timers {
            write_at: now + self.dice.around(self.world.send_every),
            ping_at: now + self.dice.ms(200..=1_500),
            trouble_at: self.next_trouble(),
        }
    }

    fn next_trouble(&mut self) -> Instant {
        Instant::now() + self.dice.ms(1_000..=12_000)
    }

    fn trouble(&mut self) -> Trouble {
        match self.dice.below(100) {
            0..40 => Trouble::Cut,
            40..80 => Trouble::Close,
            _ => Trouble::Lag,
        }
    }
}

impl Session {
    fn reference(&mut self) -> u32 {
        let reference = self.next_reference;
        self.next_reference += 1;
        reference
    }
}

/// The entries from `from` to `to` that the user may see. The error has the server's code, if it gave one.
pub(crate) async fn read_range(
    rest: &Rest,
    conversation: ConversationId,
    from: Seq,
    to: Seq,
) -> Result<Vec<Entry>, Option<Code>> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut after = from.previous();
    while after < to {
        // There is no seq behind the last one to name.
        let before = (to < Seq::MAX).then(|| to.next());
        let range = Range { after: Some(after), before, limit: Some(PAGE_ITEMS) };
        let page =
            timeout(Duration::from_secs(30), rest.entries(conversation, range)).await.map_err(|_| None)?;
        let items = page.map_err(|error| error.code())?.items;
        let Some(last) = items.last() else { break };
        // A page that goes nowhere would be asked for for ever.
        if last.seq <= after {
            entries.extend(items);
            break;
        }
        after = last.seq;
        entries.extend(items);
    }
    Ok(entries)
}
