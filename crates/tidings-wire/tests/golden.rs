//! Every frame, entry kind and REST body has a golden file: exactly the bytes that travel. Encoding must give the file,
//! decoding the file must give the value. `TIDINGS_BLESS=1` writes the files; a changed file is a change of contract.

mod samples;

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::fs;
use std::path::PathBuf;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tidings_types::{Body, Code};
use tidings_wire::codes::{self, Meaning};
use tidings_wire::{
    ClientFrame, Entry, ServerFrame, decode_client_frame, decode_server_frame, encode, encode_client_frame,
    entry_frame,
};

#[test]
fn client_frames() {
    let mut seen = BTreeSet::new();
    for (name, frame) in samples::client_frames() {
        seen.insert(frame.type_name());
        let text = encode_client_frame(&frame);
        check_bytes(&format!("client_{name}"), &text);
        assert_eq!(decode_client_frame(&text), Ok(frame), "{name}");
    }
    assert_eq!(seen, ClientFrame::TYPES.iter().copied().collect(), "every client frame has a sample");
}

#[test]
fn server_frames() {
    let mut seen = BTreeSet::new();
    for (name, frame) in samples::server_frames() {
        seen.insert(frame.type_name());
        let text = String::from_utf8(encode(&frame)).unwrap();
        assert!(
            text.starts_with(&format!(r#"{{"type":"{}""#, frame.type_name())),
            "`type` comes first: {text}"
        );
        check_bytes(&format!("server_{name}"), &text);
        assert_eq!(decode_server_frame(&text), Ok(Some(frame)), "{name}");
    }
    assert_eq!(seen, ServerFrame::TYPES.iter().copied().collect(), "every server frame has a sample");
}

#[test]
fn entries_as_frames_and_over_rest() {
    let mut seen = BTreeSet::new();
    for entry in samples::core_entries() {
        let kind = kind_of(&entry.body);
        seen.insert(kind);
        let frame = String::from_utf8(entry_frame(&entry)).unwrap();
        check_bytes(&format!("server_entry_{kind}"), &frame);
        let rest = Entry::from(&entry);
        check(&format!("rest_entry_{kind}"), &rest);

        let decoded = match decode_server_frame(&frame).unwrap().unwrap() {
            ServerFrame::Entry(entry) => entry,
            ServerFrame::ReceiveMessage(message) => message.into(),
            other => panic!("{other:?}"),
        };
        assert_eq!(decoded, rest, "{kind}: the socket and REST say the same");
    }
    assert_eq!(seen.len(), KINDS, "every kind has a sample");
}

const KINDS: usize = 8;

/// Exhaustive, so that a new kind does not compile until it is here, in [`KINDS`] and in the samples.
fn kind_of(body: &Body) -> &'static str {
    match body {
        Body::Created { .. } => "created",
        Body::Message { .. } => "message",
        Body::MembersAdded { .. } => "members_added",
        Body::MemberRemoved { .. } => "member_removed",
        Body::MemberLeft => "member_left",
        Body::Joined { .. } => "joined",
        Body::Left { .. } => "left",
        Body::DeviceRemoved { .. } => "device_removed",
    }
}

#[test]
fn rest_bodies() {
    check("rest_sign_up", &samples::sign_up());
    check("rest_sign_in", &samples::sign_in());
    check("rest_refresh", &samples::refresh());
    check("rest_tokens", &samples::tokens());
    check("rest_user", &samples::user());
    check("rest_device", &samples::device());
    check("rest_create_group", &samples::create_group());
    check("rest_create_direct", &samples::create_direct());
    check("rest_conversation_group", &samples::group());
    check("rest_conversation_direct", &samples::direct());
    check("rest_member", &samples::member());
    check("rest_add_members", &samples::add_members());
    check("rest_send_message", &samples::send_message());
    check("rest_message_accepted", &samples::message_accepted());
    check("rest_message", &samples::message());
    check("rest_page", &samples::page());
    check("rest_problem", &samples::problem());
}

#[test]
fn codes() {
    let rows = Code::ALL.iter().map(|&code| {
        let Meaning { http_status, close_code, retry, .. } = codes::meaning(code);
        format!(
            r#"{{"code":"{code}","http_status":{http_status},"close_code":{close_code},"retry":{retry}}}"#
        )
    });
    check_bytes("codes", &rows.collect::<Vec<_>>().join("\n"));
}

#[test]
fn codes_page_is_the_table() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/codes.md");
    check_file(&path, &codes::markdown());
}

fn check<T: Serialize + DeserializeOwned + PartialEq + Debug>(name: &str, value: &T) {
    let text = serde_json::to_string(value).expect(name);
    check_bytes(name, &text);
    assert_eq!(&serde_json::from_str::<T>(&text).expect(name), value, "{name}");
}

/// The file is the line that travels and a newline.
fn check_bytes(name: &str, text: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{name}.json"));
    check_file(&path, &format!("{text}\n"));
}

fn check_file(path: &PathBuf, text: &str) {
    if std::env::var_os("TIDINGS_BLESS").is_some() {
        fs::write(path, text).expect("the golden file can be written");
    }
    let golden = fs::read_to_string(path)
        .unwrap_or_else(|error| panic!("{}: {error}; TIDINGS_BLESS=1 writes it", path.display()));
    assert_eq!(text, golden, "{} differs; TIDINGS_BLESS=1 rewrites it", path.display());
}
