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

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: u64 = 1_790_000_000_000;

    fn listed(id: u8, last_at_ms: u64) -> Listed {
        Listed { id: ConversationId::from_bytes([id; 16]), last_at: Timestamp::from_ms(last_at_ms) }
    }

    /// The pages by first bytes of the ids; `change` runs before each page but the first.
    fn pages(
        mut all: Vec<Listed>,
        items_max: usize,
        change: impl Fn(usize, &mut Vec<Listed>),
    ) -> Vec<Vec<u8>> {
        let mut from = Position::first(Timestamp::from_ms(NOW_MS));
        let mut pages = Vec::new();
        loop {
            let (ids, next) = page(&all, from, items_max);
            assert!(ids.len() <= items_max);
            pages.push(ids.iter().map(|id| id.as_bytes()[0]).collect());
            let Some(next) = next else { return pages };
            from = Position::parse(&next.text()).unwrap();
            assert_eq!(from, next, "a cursor keeps its position");
            change(pages.len(), &mut all);
        }
    }

    fn quiet() -> Vec<Listed> {
        (1..=5).map(|id| listed(id, NOW_MS - 10_000 - 1_000 * u64::from(id))).collect()
    }

    #[test]
    fn a_quiet_list_is_shown_once() {
        assert_eq!(pages(quiet(), 2, |_, _| ()), [vec![1, 2], vec![3, 4], vec![5]]);
        assert_eq!(pages(quiet(), 5, |_, _| ()), [vec![1, 2, 3, 4, 5]]);
        assert_eq!(pages(Vec::new(), 5, |_, _| ()), [Vec::<u8>::new()]);
    }

    #[test]
    fn equal_times_are_ordered_by_id() {
        let all = (1..=4).map(|id| listed(id, NOW_MS - 60_000)).collect();
        assert_eq!(pages(all, 3, |_, _| ()), [vec![4, 3, 2], vec![1]]);
    }

    #[test]
    fn an_entry_that_was_on_its_way_to_the_disk_is_not_missed() {
        // Its time is before the first page, but nobody could see it then.
        let shown = pages(quiet(), 2, |page, all| {
            if page == 1 {
                all[4] = listed(5, NOW_MS - IN_FLIGHT_MS);
            }
        });
        assert_eq!(shown, [vec![1, 2], vec![3, 4], vec![5]]);
    }

    #[test]
    fn everything_jumping_all_the_time_is_shown_twice_at_most() {
        let shown = pages(quiet(), 1, |page, all| {
            let at = NOW_MS + page as u64;
            all.rotate_left(1);
            all.iter_mut().for_each(|listed| listed.last_at = Timestamp::from_ms(at));
        });
        assert_eq!(shown.concat(), [1, 1, 2, 3, 4, 5]);
    }
}
