//! Members come and go while the server is being killed. What became of each call is read from the log at the end, so a
//! call whose answer was lost does no harm.

use std::collections::BTreeSet;
use std::sync::Arc;

use tidings_client::{ClientError, Rest};
use tokio::time::sleep;

use super::dice::Dice;
use super::town::{Group, Person, Town};
use super::world::{Phase, World};

/// A restless group, as far as the one who changes it knows.
struct Restless<'a> {
    group: &'a Group,
    inside: BTreeSet<usize>,
}

/// Until the run is over.
pub(crate) async fn change(town: Arc<Town>, world: Arc<World>, mut dice: Dice) {
    let mut groups: Vec<_> =
        town.groups.iter().filter(|group| group.is_restless).map(Restless::new).collect();
    let changing = async {
        while !groups.is_empty() {
            sleep(dice.ms(100..=400)).await;
            let index = dice.below(groups.len());
            if groups[index].change(&town.people, &mut dice).await.is_ok_and(|changed| changed) {
                world.counters.membership_changes.add();
            }
        }
    };
    tokio::select! {
        () = changing => {}
        () = world.after(Phase::Live) => {}
    }
}

impl<'a> Restless<'a> {
    fn new(group: &'a Group) -> Self {
        Self { group, inside: group.members.iter().copied().collect() }
    }

    /// Answers whether there was anything to change.
    async fn change(&mut self, people: &[Person], dice: &mut Dice) -> Result<bool, ClientError> {
        let inside: Vec<usize> = self.inside.iter().copied().collect();
        // Around the size it began with.
        let leaving_percent = if inside.len() > self.group.members.len() { 80 } else { 40 };
        let leaver = dice.pick(&inside).copied().filter(|_| dice.percent(leaving_percent));
        match leaver {
            Some(leaver) => {
                self.let_go(people, leaver, dice).await?;
                // Out and in again at once: devices see both, or a snapshot.
                if dice.percent(25) {
                    self.add(people, vec![leaver]).await?;
                }
                Ok(true)
            }
            None => {
                let mut outside: Vec<usize> = (0..people.len())
                    .filter(|person| *person != self.group.owner && !self.inside.contains(person))
                    .collect();
                dice.shuffle(&mut outside);
                outside.truncate(dice.in_range(1..=3));
                let is_some = !outside.is_empty();
                if is_some {
                    self.add(people, outside).await?;
                }
                Ok(is_some)
            }
        }
    }

    async fn let_go(&mut self, people: &[Person], leaver: usize, dice: &mut Dice) -> Result<(), ClientError> {
        // Believed to be out even if the answer is lost: adding somebody who is in changes nothing.
        self.inside.remove(&leaver);
        let actor = if dice.percent(50) { leaver } else { self.group.owner };
        rest_of(people, actor).remove_member(self.group.id, people[leaver].user).await
    }

    async fn add(&mut self, people: &[Person], new: Vec<usize>) -> Result<(), ClientError> {
        let users = new.iter().map(|index| people[*index].user).collect();
        rest_of(people, self.group.owner).add_members(self.group.id, users).await?;
        self.inside.extend(new);
        Ok(())
    }
}

fn rest_of(people: &[Person], index: usize) -> &Rest {
    &people[index].devices[0]
}
