//! Which conversations are on a page of the list, newest activity first, while conversations go on moving to its top.
//!
//! A cursor pins the moment of the first page. The pages go down by activity; at the end come those that were active
//! since that moment, because one of them may have jumped from below the cursor to above it. They come in the order of
//! their ids, which does not change, so the list has an end however busy it is. Promise: every conversation that was in
//! the list when it was begun is on some page, and on two pages at most.

use std::cmp::Reverse;

use tidings_types::{ConversationId, Timestamp};

use super::cursor::{self, CursorKind, Opened};
use super::problem::Failure;

/// An entry gets its time before it is durable and is seen after that. What is this much older than the first page may
/// still have been on its way to the disk then.
const IN_FLIGHT_MS: u64 = 2_000;

/// A conversation of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) id: ConversationId,
    pub(super) last_at: Timestamp,
}

/// Where a page begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Position {
    First {
        moment: Timestamp,
    },
    /// Below this conversation, by activity.
    Below {
        moment: Timestamp,
        last: Listed,
    },
    /// Those active since `moment`, by id, behind this one.
    Since {
        moment: Timestamp,
        after: ConversationId,
    },
}

/// One page of `all`, and where the next one begins; `None` after the last.
pub(super) fn page(
    all: &[Listed],
    from: Position,
    items_max: usize,
) -> (Vec<ConversationId>, Option<Position>) {
    match from {
        Position::First { moment } => {
            let (items, next) = below(all, moment, None, items_max);
            (ids(&items), next)
        }
        Position::Below { moment, last } => {
            let (items, next) = below(all, moment, Some(last), items_max);
            let jumped = all.iter().any(|listed| listed.last_at >= moment && !items.contains(listed));
            (ids(&items), next.or_else(|| jumped.then_some(Position::Since { moment, after: BEFORE_ALL })))
        }
        Position::Since { moment, after } => since(all, moment, after, items_max),
    }
}

/// No conversation has this id: it is neither chosen nor derived.
const BEFORE_ALL: ConversationId = ConversationId::from_bytes([0; 16]);

fn below(
    all: &[Listed],
    moment: Timestamp,
    last: Option<Listed>,
    items_max: usize,
) -> (Vec<Listed>, Option<Position>) {
    let key = |listed: &Listed| (listed.last_at, listed.id);
    let mut rest: Vec<Listed> =
        all.iter().copied().filter(|listed| last.is_none_or(|last| key(listed) < key(&last))).collect();
    rest.sort_unstable_by_key(|listed| Reverse(key(listed)));
    let more = rest.len() > items_max;
    rest.truncate(items_max);
    let next = rest.last().filter(|_| more).map(|&last| Position::Below { moment, last });
    (rest, next)
}

fn since(
    all: &[Listed],
    moment: Timestamp,
    after: ConversationId,
    items_max: usize,
) -> (Vec<ConversationId>, Option<Position>) {
    let active = all.iter().filter(|listed| listed.last_at >= moment && listed.id > after);
    let mut rest: Vec<ConversationId> = active.map(|listed| listed.id).collect();
    rest.sort_unstable();
    let more = rest.len() > items_max;
    rest.truncate(items_max);
    let next = rest.last().filter(|_| more).map(|&after| Position::Since { moment, after });
    (rest, next)
}

fn ids(items: &[Listed]) -> Vec<ConversationId> {
    items.iter().map(|listed| listed.id).collect()
}

impl Position {
    pub(super) fn first(now: Timestamp) -> Self {
        Self::First { moment: now.minus_ms(IN_FLIGHT_MS) }
    }

    pub(super) fn parse(cursor: &str) -> Result<Self, Failure> {
        let opened = Opened::new(cursor)?;
        if let Some(bytes) = opened.read::<32>(CursorKind::ConversationsByActivity) {
            let (moment, rest) = cursor::split::<32, 24>(bytes);
            let (last_at, id) = cursor::split(rest);
            return Ok(Self::Below { moment, last: Listed { id: ConversationId::from_bytes(id), last_at } });
        }
        let bytes = opened.read::<24>(CursorKind::ConversationsById).ok_or_else(cursor::foreign)?;
        let (moment, id) = cursor::split(bytes);
        Ok(Self::Since { moment, after: ConversationId::from_bytes(id) })
    }

    /// The cursor's text; the first page has none.
    pub(super) fn text(self) -> String {
        let ms = |at: Timestamp| at.as_ms().to_be_bytes();
        match self {
            Self::First { .. } => String::new(),
            Self::Below { moment, last } => cursor::encode(
                CursorKind::ConversationsByActivity,
                &[&ms(moment), &ms(last.last_at), last.id.as_bytes()],
            ),
            Self::Since { moment, after } => {
                cursor::encode(CursorKind::ConversationsById, &[&ms(moment), after.as_bytes()])
            }
        }
    }
}
