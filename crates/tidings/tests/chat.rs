//! Two people, one server, as processes: what `tidings chat --plain` promises, with the server and the clients killed in
//! between.

#![allow(clippy::unwrap_used, reason = "a test's helper may fail the test")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Longer than anything here takes on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);

struct Server {
    child: Child,
    /// `127.0.0.1:PORT`.
    address: String,
    /// Kept open: the server says more than one line.
    _output: BufReader<ChildStdout>,
}

impl Server {
    fn start(data: &TempDir) -> Self {
        Self::at(data, "127.0.0.1:0")
    }

    fn at(data: &TempDir, address: &str) -> Self {
        let mut child = tidings()
            .args(["serve", "--demo", "--listen", address, "--data"])
            .arg(data.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = String::new();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        output.read_line(&mut ready).unwrap();
        let (_, address) = ready.trim().rsplit_once("//").unwrap_or_else(|| panic!("not ready: {ready:?}"));
        Self { child, address: address.to_owned(), _output: output }
    }

    /// SIGKILL: nothing is said goodbye to.
    fn kill(mut self) -> String {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.address.clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Chat {
    child: Child,
    input: Option<ChildStdin>,
    output: Receiver<Vec<String>>,
    /// Lines that were read, split into fields.
    seen: Vec<Vec<String>>,
    /// Up to here [`Chat::wait`] has looked.
    looked: usize,
}

impl Chat {
    fn start(address: &str, name: &str, state: &Path) -> Self {
        Self::with(address, name, state, &[])
    }

    fn with(address: &str, name: &str, state: &Path, more: &[&str]) -> Self {
        let mut child = tidings()
            .args(["chat", "--plain", "--as", name, "--server", &format!("http://{address}"), "--state"])
            .arg(state.join(name))
            .args(more)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (lines, output) = channel();
        let stdout = child.stdout.take().unwrap();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = lines.send(line.split('\t').map(str::to_owned).collect());
            }
        });
        let input = child.stdin.take();
        Self { child, input, output, seen: Vec::new(), looked: 0 }
    }

    fn say(&mut self, line: &str) {
        writeln!(self.input.as_mut().unwrap(), "{line}").unwrap();
    }

    /// The next line that begins with these fields.
    fn wait(&mut self, fields: &[&str]) -> Vec<String> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            while self.looked < self.seen.len() {
                self.looked += 1;
                let line = &self.seen[self.looked - 1];
                if line.len() >= fields.len() && line.iter().zip(fields).all(|(one, other)| one == other) {
                    return line.clone();
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.output.recv_timeout(left) {
                Ok(line) => self.seen.push(line),
                Err(_) => panic!("no line {fields:?} came; these did: {:#?}", self.seen),
            }
        }
    }

    /// The next message of this text.
    fn wait_message(&mut self, text: &str) -> Vec<String> {
        loop {
            let line = self.wait(&["entry"]);
            if line[3] == "message" && line[5] == text {
                return line;
            }
        }
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Ends the input and waits for the end. Everything that was printed.
    fn finish(mut self) -> Vec<Vec<String>> {
        drop(self.input.take());
        let deadline = Instant::now() + DEADLINE;
        while let Ok(line) = self.output.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            self.seen.push(line);
        }
        assert!(self.child.wait().unwrap().success());
        std::mem::take(&mut self.seen)
    }
}

impl Drop for Chat {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn tidings() -> Command {
    Command::new(env!("CARGO_BIN_EXE_tidings"))
}

fn directory() -> TempDir {
    TempDir::new().unwrap()
}

/// The texts of the messages of a conversation among the lines.
fn texts<'a>(lines: &'a [Vec<String>], conversation: &str) -> Vec<&'a str> {
    let entries =
        lines.iter().filter(|line| line[0] == "entry" && line[1] == conversation && line[3] == "message");
    entries.map(|line| line[5].as_str()).collect()
}

/// Fails unless each entry of the conversation is there once, in order, from `first` on.
fn check_seqs(lines: &[Vec<String>], conversation: &str, first: usize) {
    let entries = lines.iter().filter(|line| line[0] == "entry" && line[1] == conversation);
    let seqs: Vec<usize> = entries.map(|line| line[2].parse().unwrap()).collect();
    assert!(!seqs.is_empty() && seqs.iter().copied().eq(first..first + seqs.len()), "{seqs:?} from {first}");
}

#[test]
fn two_people_talk_while_the_server_is_killed_and_nothing_is_lost_or_doubled() {
    let (data, state) = (directory(), directory());
    let server = Server::start(&data);
    let mut alice = Chat::start(&server.address, "alice", state.path());
    let mut bob = Chat::start(&server.address, "bob", state.path());
    bob.wait(&["caught_up"]);
    alice.say("/new bob");
    alice.say("before");
    alice.wait(&["accepted"]);
    let message = bob.wait_message("before");
    assert_eq!(message[4], "alice");

    let address = server.kill();
    alice.wait(&["offline"]);
    alice.say("while away");
    let queued = alice.wait(&["queued"]);
    let server = Server::at(&data, &address);
    assert_eq!(alice.wait(&["accepted"])[1], queued[1]);
    bob.wait_message("while away");
    bob.say("/open alice");
    bob.say(r"back\slash");
    alice.wait_message(r"back\\slash");
    let address = server.kill();
    let _server = Server::at(&data, &address);

    for lines in [alice.finish(), bob.finish()] {
        check_seqs(&lines, &message[1], 1);
        assert_eq!(texts(&lines, &message[1]), ["before", "while away", r"back\\slash"]);
    }
}

#[test]
fn what_a_killed_client_had_queued_is_sent_once_by_the_next_one() {
    let (data, state) = (directory(), directory());
    let server = Server::start(&data);
    let mut alice = Chat::start(&server.address, "alice", state.path());
    alice.say("/new bob");
    let conversation = alice.wait(&["opened"])[1].clone();
    alice.say("first");
    alice.wait(&["accepted"]);
    let address = server.kill();
    alice.wait(&["offline"]);
    alice.say("second");
    let queued = alice.wait(&["queued"]);
    alice.kill();

    let _server = Server::at(&data, &address);
    let mut alice = Chat::start(&address, "alice", state.path());
    assert_eq!(alice.wait(&["queued"])[1], queued[1], "it is still in the outbox");
    assert_eq!(alice.wait(&["accepted"])[1], queued[1]);
    assert_eq!(texts(&alice.finish(), &conversation).last(), Some(&"second"));
    let alice = Chat::start(&address, "alice", state.path()).finish();
    assert_eq!(texts(&alice, &conversation), Vec::<&str>::new(), "all of it was printed before");
    let bob = Chat::start(&address, "bob", state.path()).finish();
    assert_eq!(texts(&bob, &conversation), ["first", "second"]);
    check_seqs(&bob, &conversation, 1);
}

#[test]
fn bob_was_away_when_alice_added_him_and_wrote_and_sees_both_in_order() {
    let (data, state) = (directory(), directory());
    let server = Server::start(&data);
    let mut bob = Chat::start(&server.address, "bob", state.path());
    bob.wait(&["caught_up"]);
    bob.finish();

    let mut alice = Chat::start(&server.address, "alice", state.path());
    alice.say("/group \"Tea time\" carol");
    let group = alice.wait(&["opened"]);
    assert_eq!(group[2], "Tea time");
    alice.say("before bob");
    alice.say("/add bob");
    alice.say("for bob");
    alice.wait_message("for bob");
    let bob = Chat::start(&server.address, "bob", state.path()).finish();
    let entries: Vec<_> = bob.iter().filter(|line| line[0] == "entry" && line[1] == group[1]).collect();
    let seen: Vec<_> = entries.iter().map(|line| (line[3].as_str(), line[5].as_str())).collect();
    assert_eq!(seen, [("members_added", "bob"), ("message", "for bob")]);
    check_seqs(&bob, &group[1], 3);
    assert!(
        bob.iter().any(|line| line[0] == "entry" && line[3] == "joined" && line[5] == "Tea time"),
        "{bob:#?}"
    );
}

#[test]
fn a_removed_member_sees_the_removal_and_nothing_after_it() {
    let (data, state) = (directory(), directory());
    let server = Server::start(&data);
    let mut alice = Chat::start(&server.address, "alice", state.path());
    let mut bob = Chat::start(&server.address, "bob", state.path());
    bob.wait(&["caught_up"]);
    alice.say("/group Tea bob carol");
    let group = alice.wait(&["opened"])[1].clone();
    alice.say("welcome");
    bob.wait_message("welcome");
    alice.say("/members");
    for _ in 0..3 {
        alice.wait(&["member"]);
    }
    alice.say("/remove bob");
    alice.say("he is gone");
    alice.wait_message("he is gone");
    bob.wait(&["forgotten", &group]);
    bob.say("/open Tea");
    bob.wait(&["error", "client"]);
    let bob = bob.finish();
    let kinds: Vec<_> =
        bob.iter().filter(|line| line[0] == "entry" && line[1] == group).map(|line| &line[3]).collect();
    assert_eq!(kinds, ["created", "message", "member_removed"]);

    alice.say("/leave");
    alice.wait(&["forgotten", &group]);
    alice.finish();
}

#[test]
fn a_person_signs_up_and_finds_others_and_wrong_words_get_an_answer() {
    let (data, state) = (directory(), directory());
    let server = Server::start(&data);
    let words = ["--sign-up", "--password", "correct horse"];
    let mut erin = Chat::with(&server.address, "erin", state.path(), &words);
    assert_eq!(erin.wait(&["signed_in"])[2], "erin");
    erin.say("nobody hears this");
    erin.wait(&["error", "client"]);
    erin.say("/new nobody");
    erin.wait(&["error", "client"]);
    erin.say("/dance");
    erin.wait(&["error", "client"]);
    erin.say("/new carol");
    erin.say("hello");
    erin.say("//help");
    erin.wait_message("hello");
    erin.wait_message("/help");
    erin.say("/history");
    assert_eq!(erin.wait(&["history"])[5], "hello");
    assert_eq!(erin.wait(&["history"])[5], "/help");
    erin.finish();

    let wrong = tidings()
        .args(["chat", "--plain", "--as", "erin", "--password", "wrong", "--server"])
        .arg(format!("http://{}", server.address))
        .arg("--state")
        .arg(state.path().join("other"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(!wrong.status.success());
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("erin"), "{wrong:?}");
}
