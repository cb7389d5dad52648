//! What is refused, what is skipped and what is ignored when frames are read.

use tidings_types::{Code, ConversationId, Cursor, Epoch, Limits, Seq, Timestamp};
use tidings_wire::rest::Problem;
use tidings_wire::{
    ClientFrame, Connect, Content, DecodeError, Entry, EntryBody, ServerFrame, decode_client_frame,
    decode_server_frame, encode_client_frame,
};

const GROUP: &str = "0190b6f0-5a3c-7def-8123-456789abcdef";

/// Decodes `text`, expects a refusal, and checks its code and `ref`.
fn refused(text: &str, code: Code, reference: Option<u32>) -> DecodeError {
    let error = decode_client_frame(text).expect_err(text);
    assert_eq!((error.code, error.reference), (code, reference), "{text}: {error}");
    error
}

#[test]
fn unknown_type_is_unsupported_and_keeps_its_ref() {
    refused(r#"{"type":"dance","ref":7}"#, Code::UnsupportedFrame, Some(7));
    refused(r#"{"type":"dance"}"#, Code::UnsupportedFrame, None);
    refused(r#"{"type":"connected","ref":1}"#, Code::UnsupportedFrame, Some(1));
}

#[test]
fn a_long_unknown_type_is_not_echoed_whole() {
    let error = refused(&format!(r#"{{"type":"{}"}}"#, "ü".repeat(10_000)), Code::UnsupportedFrame, None);
    assert!(error.message.len() < 200, "{}", error.message.len());
}

#[test]
fn what_is_not_a_frame_is_invalid() {
    for text in [
        "",
        "null",
        "[]",
        "{}",
        "{\"type\":5}",
        r#"{"type":"ping","ref":"x"}"#,
        r#"{"type":"ping","ref":-1}"#,
    ] {
        refused(text, Code::Invalid, None);
    }
}

#[test]
fn a_known_frame_with_wrong_fields_is_invalid_and_keeps_its_ref() {
    let wrong = [
        r#""type":"subscribe","ref":9"#.to_owned(),
        r#""type":"subscribe","ref":9,"conversation_id":"nonsense""#.to_owned(),
        format!(r#""type":"subscribe","ref":9,"conversation_id":"{}""#, GROUP.to_uppercase()),
        format!(r#""type":"subscribe","ref":9,"conversation_id":"{GROUP}","epoch":1"#),
        format!(r#""type":"subscribe","ref":9,"conversation_id":"{GROUP}","epoch":1,"seq":9007199254740992"#),
        format!(r#""type":"connect","ref":9,"cursors":{{"{GROUP}":[1]}}"#),
        format!(r#""type":"connect","ref":9,"cursors":{{"{GROUP}":[1,-1]}}"#),
        r#""type":"connect","ref":9,"cursors":{"nonsense":[1,1]}"#.to_owned(),
        send_fields(
            &format!(r#""conversation_id":"{GROUP}","recipient_id":"{GROUP}","#),
            r#"{"type":"text","text":""}"#,
        ),
        send_fields("", r#"{"type":"text","text":""}"#),
        send_fields(&format!(r#""conversation_id":"{GROUP}","#), r#""bare text""#),
        send_fields(&format!(r#""conversation_id":"{GROUP}","#), r#"{"type":"hologram"}"#),
    ];
    for fields in wrong {
        refused(&format!("{{{fields}}}"), Code::Invalid, Some(9));
    }
}

fn send_fields(target: &str, content: &str) -> String {
    format!(r#""type":"send_message","ref":9,{target}"message_id":"{GROUP}","content":{content}"#)
}

#[test]
fn unknown_fields_are_ignored_and_type_may_stand_anywhere() {
    let text = r#"{"sent":3,"from_the_future":{"a":[1]},"ref":4,"type":"ping"}"#;
    let frame = decode_client_frame(text).unwrap();
    assert_eq!(encode_client_frame(&frame), r#"{"type":"ping","ref":4,"sent":3}"#);
}

#[test]
fn a_thousand_cursors_fit_one_frame() {
    let limits = Limits::default();
    // A seq of a conversation with ten billion entries, in an epoch after a thousand restores.
    let cursor = Cursor { epoch: Epoch(1_000), seq: Seq(10_000_000_000) };
    let cursors =
        (0..1_000_u64).map(|n| (ConversationId::v7(Timestamp::from_ms(n), [255; 10]), cursor)).collect();
    let frame = ClientFrame::Connect(Connect { reference: u32::MAX, cursors });
    let text = encode_client_frame(&frame);
    assert!(text.len() <= limits.frame_bytes_max, "{} bytes", text.len());
    assert_eq!(decode_client_frame(&text), Ok(frame));
}

#[test]
fn a_client_skips_frame_types_of_a_newer_server() {
    assert_eq!(decode_server_frame(r#"{"type":"typing","user_id":"x"}"#), Ok(None));
}

#[test]
fn a_client_still_counts_entries_and_contents_of_a_newer_server() {
    let common = format!(
        r#""conversation_id":"{GROUP}","seq":5,"sender_id":"{GROUP}","created_at_ms":1,"messages":2"#
    );
    let entry: Entry =
        serde_json::from_str(&format!(r#"{{{common},"kind":"tombstone","erased_seq":3}}"#)).unwrap();
    assert_eq!((entry.seq, entry.body), (Seq(5), EntryBody::Unsupported));

    let frame = format!(
        r#"{{"type":"receive_message",{common},"message_id":"{GROUP}","content":{{"type":"hologram","depth":3}}}}"#
    );
    let Ok(Some(ServerFrame::ReceiveMessage(message))) = decode_server_frame(&frame) else {
        panic!("{frame}")
    };
    assert_eq!((message.seq, message.content), (Seq(5), Content::Unsupported));
}

#[test]
fn a_code_of_a_newer_server_reads_as_internal() {
    let text = r#"{"type":"error","code":"out_of_tea","message":"no tea"}"#;
    let Ok(Some(ServerFrame::Error(error))) = decode_server_frame(text) else { panic!("{text}") };
    assert_eq!(error.code, Code::Internal);
    let text = r#"{"type":"about:blank","title":"","status":418,"detail":"","code":"out_of_tea"}"#;
    assert_eq!(serde_json::from_str::<Problem>(text).unwrap().code, Code::Internal);
}
