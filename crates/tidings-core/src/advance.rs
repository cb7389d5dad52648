//! How an entry changes the facts. The writer applies it to what is pending, the projector to the tables, a start to
//! both: replaying the log through here is recovery.

use std::sync::Arc;

use tidings_types::{
    Body, Entry, Epoch, Head, Member, PersonalFact, PersonalState, PersonalSubject, Role, Seq, UserId,
};

/// The head after `entry`. `head` is the one before it: `None` exactly when the entry is `Created`. `incarnation` is
/// that of the deployment's log, and no conversation's epoch is below it.
///
/// # Panics
/// If the entry does not follow the head: that is a bug of the caller, which must stop before it is stored.
#[must_use]
pub fn advance(head: Option<&Head>, entry: &Entry, incarnation: Epoch) -> Head {
    let mut next = match (head, &entry.body) {
        (None, Body::Created { kind, title, members: _, hash }) => Head {
            space: entry.space,
            kind: *kind,
            title: title.clone(),
            creator: entry.sender,
            created_hash: *hash,
            created_at: entry.created_at,
            seq: Seq::ZERO,
            version: 0,
            floor: Seq(1),
            epoch: incarnation,
            messages: 0,
            last_message: Seq::ZERO,
            last_at: entry.created_at,
            member_count: 0,
        },
        (Some(head), body) if !matches!(body, Body::Created { .. }) => {
            Head { epoch: head.epoch.max(incarnation), ..head.clone() }
        }
        (head, _) => panic!("{} of {} cannot follow {head:?}", entry.seq, entry.conversation),
    };
    assert!(
        entry.seq == next.seq.next() || tidings_types::planted("seq_reused"),
        "{} follows {}",
        entry.seq,
        next.seq
    );
    next.seq = entry.seq;
    next.version = entry.version;
    next.messages = entry.messages;
    next.last_at = entry.created_at;
    if entry.body.is_message() {
        next.last_message = entry.seq;
    }
    next.member_count = match &entry.body {
        Body::Created { members, .. } => count(members.len()),
        Body::MembersAdded { users } => next.member_count + count(users.len()),
        Body::MemberRemoved { .. } | Body::MemberLeft => next.member_count.saturating_sub(1),
        _ => next.member_count,
    };
    next
}

fn count(len: usize) -> u32 {
    u32::try_from(len).expect("members of one call are bounded far below 2^32")
}

/// What an entry does to one user's membership.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberChange {
    /// The row becomes exactly this.
    Joined(Member),
    /// The row's `left` becomes this seq; the rest stays.
    Left(Seq),
}

impl MemberChange {
    /// The row after the change.
    ///
    /// # Panics
    /// If a user leaves who never was a member: entries are only made for present members.
    #[must_use]
    pub fn applied_to(self, row: Option<Member>) -> Member {
        match self {
            Self::Joined(member) => member,
            Self::Left(seq) => Member { left: Some(seq), ..row.expect("only a member can leave") },
        }
    }
}

/// The memberships that `entry` changes.
pub fn changed_members(entry: &Entry, mut changed: impl FnMut(UserId, MemberChange)) {
    let joined = |role| {
        MemberChange::Joined(Member {
            role,
            joined_at: entry.created_at,
            visible_from: entry.seq,
            left: None,
        })
    };
    match &entry.body {
        Body::Created { members, .. } => {
            members.iter().for_each(|(user, role)| changed(*user, joined(*role)));
        }
        Body::MembersAdded { users } => users.iter().for_each(|user| changed(*user, joined(Role::Member))),
        Body::MemberRemoved { user } => changed(*user, MemberChange::Left(entry.seq)),
        Body::MemberLeft => changed(entry.sender, MemberChange::Left(entry.seq)),
        Body::Message { .. } | Body::Joined { .. } | Body::Left { .. } | Body::DeviceRemoved { .. } => {}
    }
}

/// The personal fact that `entry` sets, if it is one of a personal log.
#[must_use]
pub fn changed_personal(entry: &Entry) -> Option<(PersonalSubject, PersonalFact)> {
    let fact = |state, cause| PersonalFact { state, cause };
    match &entry.body {
        Body::Joined { conversation, seq } => {
            Some((PersonalSubject::Conversation(*conversation), fact(PersonalState::Joined, *seq)))
        }
        Body::Left { conversation, seq } => {
            Some((PersonalSubject::Conversation(*conversation), fact(PersonalState::Left, *seq)))
        }
        Body::DeviceRemoved { device } => {
            Some((PersonalSubject::Device(*device), fact(PersonalState::DeviceRemoved, Seq::ZERO)))
        }
        _ => None,
    }
}

/// An upper estimate of an entry's size in the log, for bounds in bytes.
#[must_use]
pub(crate) fn weight_bytes(entry: &Arc<Entry>) -> usize {
    const FIXED: usize = 192;
    FIXED
        + match &entry.body {
            Body::Created { title, members, .. } => {
                title.as_ref().map_or(0, |title| title.len()) + 24 * members.len()
            }
            Body::Message { content, .. } => content.len_bytes(),
            Body::MembersAdded { users } => 24 * users.len(),
            _ => 0,
        }
}
