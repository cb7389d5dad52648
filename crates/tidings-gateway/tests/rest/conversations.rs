//! Conversations and who is in them.

use std::collections::BTreeSet;

use serde_json::json;
use tidings_types::{Code, ConversationId, ConversationKind, Role, Seq, UserId};
use tidings_wire::rest::{AddMembers, Conversation, CreateConversation, Member, Message, Page};

use crate::support::{Person, Server, until};
use crate::{group, message, say};

/// Everything in the list, by pages; `between` runs after each.
async fn listed(person: &Person<'_>, limit: usize, between: impl AsyncFn(usize)) -> Vec<Vec<ConversationId>> {
    let mut pages = Vec::new();
    let mut path = format!("/v1/conversations?limit={limit}");
    loop {
        let page: Page<Conversation> = person.get(&path).await.json(200);
        assert!(page.items.len() <= limit);
        pages.push(page.items.iter().map(|conversation| conversation.conversation_id).collect());
        assert!(pages.len() < 20, "the list has an end");
        let Some(cursor) = page.next_cursor else { return pages };
        between(pages.len()).await;
        path = format!("/v1/conversations?limit={limit}&cursor={cursor}");
    }
}

/// Waits until a person's list has so many.
async fn listing(person: &Person<'_>, count: usize) -> Vec<Conversation> {
    until("conversations in the list", async || {
        let page: Page<Conversation> = person.get("/v1/conversations?limit=100").await.json(200);
        (page.items.len() == count).then_some(page.items)
    })
    .await
}

#[tokio::test]
async fn a_group_is_created_once() {
    let server = Server::start().await;
    let (alice, bob) = (server.sign_up("alice").await, server.sign_up("bob").await);
    let conversation_id = server.conversation_id();
    let create = |title: &str| CreateConversation::Group {
        conversation_id,
        title: Some(title.into()),
        member_ids: vec![bob.id()],
    };
    let answer = alice.post("/v1/conversations", &create("Tea")).await;
    assert_eq!(answer.header("location"), format!("/v1/conversations/{conversation_id}"));
    let made: Conversation = answer.json(201);
    assert_eq!(
        (made.kind, made.title.as_deref(), made.member_count),
        (ConversationKind::Group, Some("Tea"), 2)
    );
    assert_eq!((made.head, made.floor, made.visible_from), (Seq(1), Seq(1), Seq(1)));
    assert_eq!((made.members.clone(), made.last_message.clone()), (None, None));

    let again: Conversation = alice.post("/v1/conversations", &create("Tea")).await.json(201);
    assert_eq!(again, made);
    alice.post("/v1/conversations", &create("Coffee")).await.refused(Code::IdConflict, 409);
    bob.post("/v1/conversations", &create("Tea")).await.refused(Code::IdConflict, 409);
    let seen: Conversation = bob.get(answer.header("location")).await.json(200);
    assert_eq!(seen, made);
}

#[tokio::test]
async fn two_people_have_one_direct_conversation() {
    let server = Server::start().await;
    let (alice, bob) = (server.sign_up("alice").await, server.sign_up("bob").await);
    let with = |user: UserId| json!({ "kind": "direct", "user_id": user.to_string() });
    let hers: Conversation = alice.post("/v1/conversations", &with(bob.id())).await.json(201);
    let his: Conversation = bob.post("/v1/conversations", &with(alice.id())).await.json(201);
    assert_eq!(hers, his);
    let mut names: Vec<_> =
        hers.members.unwrap().into_iter().map(|member| (member.username, member.role)).collect();
    names.sort_by(|(a, _), (b, _)| a.cmp(b));
    let expected = ["alice", "bob"].map(|name| (Some(name.to_owned()), Role::Member));
    assert_eq!(names, expected);

    alice.post("/v1/conversations", &with(alice.id())).await.refused(Code::Invalid, 400);
    let nobody = UserId::from_bytes(*server.message_id().as_bytes());
    alice.post("/v1/conversations", &with(nobody)).await.refused(Code::NotFound, 404);
    let members = format!("/v1/conversations/{}/members", hers.conversation_id);
    alice.post(&members, &AddMembers { user_ids: vec![] }).await.refused(Code::Forbidden, 403);
    alice.delete(&format!("{members}/{}", bob.id())).await.refused(Code::Forbidden, 403);
}

#[tokio::test]
async fn members_are_added_and_see_from_there() {
    let server = Server::start().await;
    let (alice, bob) = (server.sign_up("alice").await, server.sign_up("bob").await);
    let tea = group(&alice, &[]).await.conversation_id;
    say(&alice, tea, "before").await;
    let path = format!("/v1/conversations/{tea}");
    bob.get(&path).await.refused(Code::NotFound, 404);

    let body = AddMembers { user_ids: vec![bob.id(), bob.id()] };
    let added: Page<Member> = alice.post(&format!("{path}/members"), &body).await.json(200);
    let [member] = &added.items[..] else { panic!("one was asked for: {added:?}") };
    assert_eq!((member.user_id, member.visible_from), (bob.id(), Seq(3)));
    assert_eq!((member.username.as_deref(), member.role), (Some("bob"), Role::Member));
    let again: Page<Member> = alice.post(&format!("{path}/members"), &body).await.json(200);
    assert_eq!(again, added);

    let seen: Conversation = bob.get(&path).await.json(200);
    assert_eq!((seen.head, seen.visible_from, seen.last_message), (Seq(3), Seq(3), None));
    say(&alice, tea, "after").await;
    let history: Page<Message> = bob.get(&format!("/v1/messages?conversation_id={tea}")).await.json(200);
    assert_eq!(history.items.iter().map(|message| message.seq).collect::<Vec<_>>(), [Seq(4)]);

    let nobody = AddMembers { user_ids: vec![UserId::from_bytes([7; 16])] };
    alice.post(&format!("{path}/members"), &nobody).await.refused(Code::NotFound, 404);
}

#[tokio::test]
async fn who_is_removed_or_leaves_gets_not_found_everywhere() {
    let server = Server::start().await;
    let (alice, bob) = (server.sign_up("alice").await, server.sign_up("bob").await);
    let carol = server.sign_up("carol").await;
    let tea = group(&alice, &[&bob, &carol]).await.conversation_id;
    let told = say(&bob, tea, "hello").await;
    listing(&bob, 1).await;
    let path = format!("/v1/conversations/{tea}");
    let member = |person: &Person<'_>| format!("{path}/members/{}", person.id());

    bob.delete(&member(&carol)).await.refused(Code::Forbidden, 403);
    alice.delete(&member(&bob)).await.done();
    alice.delete(&member(&bob)).await.done();
    carol.delete(&member(&carol)).await.done();
    for gone in [&bob, &carol] {
        for path in [
            path.clone(),
            format!("{path}/members"),
            format!("{path}/entries"),
            format!("{path}/messages/{}", told.message_id),
            format!("/v1/messages?conversation_id={tea}"),
        ] {
            gone.get(&path).await.refused(Code::NotFound, 404);
        }
        gone.post("/v1/messages", &message(gone, tea, "still here")).await.refused(Code::NotFound, 404);
        gone.post(&format!("{path}/members"), &AddMembers { user_ids: vec![gone.id()] })
            .await
            .refused(Code::NotFound, 404);
        gone.delete(&member(&alice)).await.refused(Code::NotFound, 404);
        listing(gone, 0).await;
    }
    let left: Conversation = alice.get(&path).await.json(200);
    assert_eq!((left.member_count, left.head), (1, Seq(4)), "removing twice is removing once");
}

#[tokio::test]
async fn members_come_in_pages_by_id() {
    let server = Server::start().await;
    let alice = server.sign_up("alice").await;
    let mut others = Vec::new();
    for name in ["bob", "carol", "dave", "erin"] {
        others.push(server.sign_up(name).await);
    }
    let tea = group(&alice, &others.iter().collect::<Vec<_>>()).await.conversation_id;
    let mut expected: Vec<UserId> = others.iter().chain([&alice]).map(Person::id).collect();
    expected.sort_unstable();

    let mut members: Vec<Member> = Vec::new();
    let mut path = format!("/v1/conversations/{tea}/members?limit=2");
    loop {
        let page: Page<Member> = alice.get(&path).await.json(200);
        members.extend(page.items);
        let Some(cursor) = page.next_cursor else { break };
        path = format!("/v1/conversations/{tea}/members?limit=2&cursor={cursor}");
    }
    assert_eq!(members.iter().map(|member| member.user_id).collect::<Vec<_>>(), expected);
    let owners: Vec<_> = members.iter().filter(|member| member.role == Role::Owner).collect();
    assert_eq!(owners.len(), 1);
    assert_eq!(owners[0].username.as_deref(), Some("alice"));
}

#[tokio::test]
async fn the_list_has_newest_activity_first() {
    let server = Server::start().await;
    let (alice, bob) = (server.sign_up("alice").await, server.sign_up("bob").await);
    let mut groups = Vec::new();
    for _ in 0..3 {
        groups.push(group(&alice, &[&bob]).await.conversation_id);
        server.clock.advance(1);
    }
    say(&bob, groups[0], "up").await;
    let list = listing(&alice, 3).await;
    let order: Vec<_> = list.iter().map(|conversation| conversation.conversation_id).collect();
    assert_eq!(order, [groups[0], groups[2], groups[1]]);
    let last = list[0].last_message.as_ref().unwrap();
    assert_eq!((last.sender_id, last.seq, list[0].last_at_ms), (bob.id(), Seq(2), last.created_at_ms));
    assert_eq!(list[1].last_message, None);
}

#[tokio::test]
async fn pages_of_a_quiet_list_have_everything_once() {
    let server = Server::start().await;
    let alice = server.sign_up("alice").await;
    let mut groups = BTreeSet::new();
    for _ in 0..7 {
        groups.insert(group(&alice, &[]).await.conversation_id);
        server.clock.advance(1_000);
    }
    listing(&alice, 7).await;
    server.clock.advance(10_000);
    let pages = listed(&alice, 3, async |_| ()).await;
    assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [3, 3, 1]);
    assert_eq!(pages.concat().into_iter().collect::<BTreeSet<_>>(), groups);
}

#[tokio::test]
async fn a_conversation_that_jumps_up_between_two_pages_is_not_missed() {
    let server = Server::start().await;
    let alice = server.sign_up("alice").await;
    let mut groups = Vec::new();
    for _ in 0..7 {
        groups.push(group(&alice, &[]).await.conversation_id);
        server.clock.advance(1_000);
    }
    listing(&alice, 7).await;
    server.clock.advance(10_000);
    // The one that would have been last, and one that was shown already.
    let pages = listed(&alice, 3, async |page| {
        if page == 1 {
            say(&alice, groups[0], "up").await;
            say(&alice, groups[6], "up").await;
        }
    })
    .await;
    let all = pages.concat();
    assert_eq!(all.iter().copied().collect::<BTreeSet<_>>(), groups.iter().copied().collect());
    assert!(all.len() <= 8, "at most the two that jumped are repeated: {pages:?}");
}

#[tokio::test]
async fn a_list_that_is_busy_all_the_time_has_an_end() {
    let server = Server::start().await;
    let alice = server.sign_up("alice").await;
    let mut groups = Vec::new();
    for _ in 0..5 {
        groups.push(group(&alice, &[]).await.conversation_id);
    }
    listing(&alice, 5).await;
    let pages = listed(&alice, 1, async |_| {
        for group in &groups {
            say(&alice, *group, "busy").await;
        }
    })
    .await;
    let all = pages.concat();
    assert_eq!(all.iter().copied().collect::<BTreeSet<_>>(), groups.iter().copied().collect());
    for group in &groups {
        assert!(all.iter().filter(|id| *id == group).count() <= 2, "{pages:?}");
    }
}
