//! Who talks to whom: accounts with their devices, groups of all sizes, pairs that write to each other directly.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tidings_client::{ClientError, MemoryStore, Rest};
use tidings_types::{ConversationId, UserId};
use tidings_wire::rest::{CreateConversation, SignIn, SignUp};

use super::dice::Dice;

/// Devices of the first account; all others have two.
const FIRST_DEVICES_MAX: usize = 6;
const DEVICES: usize = 2;
/// Members of the one group that nearly everybody is in.
const LARGE_GROUP_MAX: usize = 40;
const PASSWORD: &str = "correct horse battery staple";
const SIGN_INS_AT_ONCE: usize = 8;

pub(crate) struct Person {
    pub(crate) user: UserId,
    pub(crate) name: String,
    /// One per device.
    pub(crate) devices: Vec<Rest>,
    /// People this one writes to directly.
    pub(crate) peers: Vec<UserId>,
}

pub(crate) struct Group {
    pub(crate) id: ConversationId,
    /// Index of the person who made it and never leaves.
    pub(crate) owner: usize,
    /// Indices of the others at the beginning.
    pub(crate) members: Vec<usize>,
    /// Members come and go.
    pub(crate) is_restless: bool,
}

pub(crate) struct Town {
    pub(crate) people: Vec<Person>,
    pub(crate) groups: Vec<Group>,
}

impl Town {
    pub(crate) async fn build(
        root: &Rest,
        devices: usize,
        conversations: usize,
        dice: &mut Dice,
    ) -> Result<Self, ClientError> {
        let mut people = sign_up_all(root, &device_counts(devices)).await?;
        let directs = conversations / 4;
        pair_up(&mut people, directs, dice);
        let mut groups: Vec<Group> = Vec::new();
        for number in 0..conversations - directs {
            let order = lonely_first(people.len(), &groups, dice);
            groups.push(create_group(&people, number, order, dice).await?);
        }
        Ok(Self { people, groups })
    }
}

impl Person {
    /// A device that nobody has seen before.
    pub(crate) async fn sign_in_afresh(&self) -> Result<Rest, ClientError> {
        sign_in(&self.devices[0], &self.name).await
    }
}

fn device_counts(devices: usize) -> Vec<usize> {
    let first = FIRST_DEVICES_MAX.min(devices / 3).max(1);
    let mut counts = vec![first];
    let mut left = devices - first;
    while left > 0 {
        counts.push(DEVICES.min(left));
        left -= DEVICES.min(left);
    }
    counts
}

async fn sign_up_all(root: &Rest, device_counts: &[usize]) -> Result<Vec<Person>, ClientError> {
    let mut people = Vec::new();
    for (chunk_number, chunk) in device_counts.chunks(SIGN_INS_AT_ONCE).enumerate() {
        let at_once = chunk.iter().enumerate().map(|(index, devices)| {
            let name = format!("verify{:04}", chunk_number * SIGN_INS_AT_ONCE + index);
            sign_up(root, name, *devices)
        });
        let mut at_once: FuturesUnordered<_> = at_once.collect();
        while let Some(person) = at_once.next().await {
            people.push(person?);
        }
    }
    // In the order of the names, so that a seed means the same people every time.
    people.sort_unstable_by(|one: &Person, other| one.name.cmp(&other.name));
    Ok(people)
}

async fn sign_up(root: &Rest, name: String, devices: usize) -> Result<Person, ClientError> {
    let first = root.with_store(Arc::<MemoryStore>::default());
    let body = SignUp {
        username: name.clone(),
        password: PASSWORD.into(),
        display_name: None,
        device_id: None,
        device_name: None,
    };
    let user = first.sign_up(&body).await?.user.user_id;
    let mut person = Person { user, name, devices: vec![first], peers: Vec::new() };
    for _ in 1..devices {
        let next = person.sign_in_afresh().await?;
        person.devices.push(next);
    }
    Ok(person)
}

async fn sign_in(like: &Rest, name: &str) -> Result<Rest, ClientError> {
    const ATTEMPTS_MAX: u32 = 20;
    let rest = like.with_store(Arc::<MemoryStore>::default());
    let body =
        SignIn { username: name.to_owned(), password: PASSWORD.into(), device_id: None, device_name: None };
    let mut attempt = 1;
    loop {
        match rest.sign_in(&body).await {
            Ok(_) => return Ok(rest),
            Err(error) if error.is_temporary() && attempt < ATTEMPTS_MAX => attempt += 1,
            Err(error) => return Err(error),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn pair_up(people: &mut [Person], pairs: usize, dice: &mut Dice) {
    for _ in 0..pairs {
        let one = dice.below(people.len());
        let other = (one + 1 + dice.below(people.len() - 1)) % people.len();
        let (one_id, other_id) = (people[one].user, people[other].user);
        people[one].peers.push(other_id);
        people[other].peers.push(one_id);
    }
}

/// Everybody in any order, but those in no group yet before the others, so that few stay alone.
fn lonely_first(people: usize, groups: &[Group], dice: &mut Dice) -> Vec<usize> {
    let is_in = |group: &Group, person| group.owner == person || group.members.contains(&person);
    let mut order: Vec<usize> = (0..people).collect();
    dice.shuffle(&mut order);
    order.sort_by_key(|person| groups.iter().any(|group| is_in(group, *person)));
    order
}

async fn create_group(
    people: &[Person],
    number: usize,
    mut order: Vec<usize>,
    dice: &mut Dice,
) -> Result<Group, ClientError> {
    let size = match number {
        0 => LARGE_GROUP_MAX,
        _ => match dice.below(100) {
            0..60 => dice.in_range(2..=6),
            60..90 => dice.in_range(7..=14),
            _ => dice.in_range(15..=28),
        },
    };
    order.truncate(size);
    let (owner, members) = (order[0], order[1..].to_vec());
    let rest = &people[owner].devices[0];
    let body = CreateConversation::Group {
        conversation_id: rest.clock().conversation_id(),
        title: Some(format!("group {number}").into()),
        member_ids: members.iter().map(|index| people[*index].user).collect(),
    };
    let id = rest.create_conversation(&body).await?.conversation_id;
    Ok(Group { id, owner, members, is_restless: number.is_multiple_of(3) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_shared_out_without_rest() {
        for devices in [4, 5, 20, 199, 200] {
            let counts = device_counts(devices);
            assert_eq!(counts.iter().sum::<usize>(), devices);
            assert!(counts.len() >= 2 && counts.iter().all(|count| (1..=6).contains(count)), "{counts:?}");
        }
    }
}
