//! The chat of the guide, tested as a user would: the check finds the bug of the first attempt, and passes what came of it.

#[path = "chat/server.rs"]
mod server;

use std::path::PathBuf;

use reactor::Config;
use server::Chat;
use sim::stage::{Environment, Failed, Reason, Summary};
use sim::{Check, Conversation, Oracle, Stage};

/// Everybody joins, says a few lines, and goes when all lines of all have come.
fn everybody_talks(stage: &mut Stage<'_>, chat: fn() -> Chat) {
    let server = stage.serve("the chat", Config::default(), chat);
    let members = stage.draw("members", 2..=4);
    let lines = stage.draw("lines of each", 1..=3);
    let says = |member, line| format!("line {line} of member {member}");
    let heard = |member: u64| (0..lines).map(move |line| format!("member-{member}: {}", says(member, line)));
    for member in 0..members {
        let mut talk =
            Conversation::new().send(format!("member-{member}\n")).skip_to_line(format!("* {members} here"));
        for line in 0..lines {
            talk = talk.send(format!("{}\n", says(member, line)));
        }
        talk = talk.expect_lines_in_any_order((0..members).flat_map(heard));
        stage.client(&format!("member-{member}"), server.address(), talk);
    }
    let split = stage.sometimes("a line comes in two reads");
    stage.check("nobody is left", move |ended| {
        let chat = ended.server(&server);
        assert_eq!(chat.members(), 0);
        split.when(chat.partial_lines > 0);
    });
}

/// A folder for kept runs that goes away with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("chat-{name}"));
        let _ = std::fs::remove_dir_all(&folder);
        Folder(folder)
    }

    fn environment(&self) -> Environment {
        Environment { out: Some(self.0.clone()), shrink_runs: Some(300), ..Environment::default() }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn first_attempt(environment: Environment) -> Result<Summary, Box<Failed>> {
    Check::new("chat").environment(environment).try_run(|stage| everybody_talks(stage, Chat::first_attempt))
}

fn second_attempt(environment: Environment) -> Result<Summary, Box<Failed>> {
    Check::new("chat").environment(environment).try_run(|stage| everybody_talks(stage, Chat::default))
}

#[test]
fn every_line_reaches_everybody() {
    sim::check("chat", |stage| everybody_talks(stage, Chat::default));
}

#[test]
fn the_bug_of_the_first_attempt_is_found_told_kept_and_replayed_until_it_is_fixed() {
    let folder = Folder::new("found");
    let failed = first_attempt(folder.environment()).unwrap_err();
    let Reason::Run { failure, kept, story, .. } = failed.reason() else { panic!("{failed}") };
    assert!(matches!(failure.oracle, Oracle::Expectation | Oracle::Liveness), "{failed}");
    assert!(story.as_ref().is_some_and(|story| story.lines().len() <= 12), "{failed}");
    let kept = kept.clone().expect("it is kept");
    assert!(std::fs::read_to_string(kept.with_extension("html")).unwrap().contains("<html"));
    let text = failed.to_string();
    for line in ["SIM_SEED=0x", &format!("SIM_REPLAY={}", kept.display())] {
        assert!(text.contains(line), "{line} is not in:\n{text}");
    }
    assert!(text.contains("cargo test -p tests the_bug_of_the_first_attempt"), "{text}");

    let replay = Environment { replay: Some(kept.clone()), ..folder.environment() };
    let again = first_attempt(replay.clone()).unwrap_err();
    assert_eq!(again.failure().map(|it| it.oracle), Some(failure.oracle), "{again}");
    assert!(again.to_string().contains("reproduced: the same"), "{again}");

    let shrink = Environment { shrink: Some(kept), ..folder.environment() };
    let small = first_attempt(shrink).unwrap_err();
    assert_eq!(small.failure().map(|it| it.oracle), Some(failure.oracle), "{small}");

    let fixed = second_attempt(replay).unwrap();
    assert_eq!(fixed.runs, 1);
}

#[test]
fn a_seed_that_failed_fails_again_alone() {
    let folder = Folder::new("seed");
    let environment = Environment { shrink_runs: Some(0), ..folder.environment() };
    let failed = first_attempt(environment.clone()).unwrap_err();
    let Reason::Run { seed, .. } = failed.reason() else { panic!("{failed}") };
    let alone = Environment { seed: *seed, ..environment };
    let again = first_attempt(alone.clone()).unwrap_err();
    assert_eq!(again.failure(), failed.failure());
    assert_eq!(second_attempt(alone).unwrap().runs, 1);
}

#[test]
fn the_same_runs_have_the_same_hash_and_others_have_another() {
    let of = |runs| {
        let folder = Folder::new("hash");
        let environment = Environment { runs: Some(runs), ..folder.environment() };
        second_attempt(environment).unwrap()
    };
    assert_eq!(of(20), of(20));
    assert_eq!(of(20).runs, 20);
    assert_ne!(of(20).trace_hash, of(21).trace_hash);
}

#[test]
fn what_never_happens_though_it_has_to_fails_the_check() {
    let environment = Environment { runs: Some(20), ..Environment::default() };
    let failed = Check::new("chat-in-one-piece")
        .runs(20)
        .weather(sim::Weather::Calm)
        .environment(environment)
        .try_run(|stage| {
            stage.sometimes("pigs fly").when(false);
            stage.serve("the chat", Config::default(), Chat::default);
        })
        .unwrap_err();
    assert_eq!(*failed.reason(), Reason::NeverHappened(vec!["pigs fly".to_owned()]));
    assert!(failed.to_string().contains("in none of 20 runs: \"pigs fly\""), "{failed}");
}

#[test]
fn a_check_that_fails_and_a_stage_that_cannot_be_built_are_named() {
    let quick = || Environment { shrink_runs: Some(0), ..Folder::new("named").environment() };
    let failed = Check::new("chat-check").environment(quick()).try_run(|stage| {
        stage.serve("the chat", Config::default(), Chat::default);
        stage.check("one is two", |_| assert_eq!(1, 2));
    });
    let failed = failed.unwrap_err();
    let failure = failed.failure().expect("a run failed");
    assert_eq!(failure.oracle, Oracle::Check);
    assert!(failure.details.starts_with("one is two: assertion"), "{failed}");
    let failed = Check::new("chat-empty").environment(quick()).try_run(|_| ()).unwrap_err();
    assert!(failed.to_string().contains("no server"), "{failed}");
}

#[test]
fn a_run_of_another_stage_is_skipped_and_what_is_no_run_is_refused() {
    let folder = Folder::new("foreign");
    let failed = first_attempt(Environment { shrink_runs: Some(0), ..folder.environment() }).unwrap_err();
    let Reason::Run { kept: Some(kept), .. } = failed.reason() else { panic!("{failed}") };
    let other = |path: PathBuf| {
        let environment = Environment { replay: Some(path), ..folder.environment() };
        Check::new("chat-other")
            .environment(environment)
            .try_run(|stage| everybody_talks(stage, Chat::default))
    };
    assert_eq!(other(kept.clone()).unwrap().runs, 0);
    let text = folder.0.join("text");
    std::fs::write(&text, "no run").unwrap();
    assert!(other(text).unwrap_err().to_string().contains("no kept run"));
    assert!(other(folder.0.join("nothing")).unwrap_err().to_string().contains("cannot read"));
}

#[test]
fn a_chat_whose_connections_may_break_stands() {
    let environment = Environment { runs: Some(100), ..Environment::default() };
    let made =
        Check::new("chat-that-breaks").runs(100).connections_may_break().environment(environment).try_run(
            |stage| {
                let server = stage.serve("the chat", Config::default(), Chat::default);
                let members = 0..stage.draw("members", 1..=3);
                let clients: Vec<_> = members
                    .map(|member| {
                        let (name, line) = (format!("member-{member}"), format!("line of {member}"));
                        let talk = Conversation::new()
                            .send(format!("{name}\n"))
                            .send(format!("{line}\n"))
                            .skip_to_line(format!("{name}: {line}"));
                        stage.client(&name, server.address(), talk)
                    })
                    .collect();
                let (broken, whole) =
                    (stage.sometimes("somebody is cut off"), stage.sometimes("nobody is cut off"));
                stage.check("nobody is left", move |ended| {
                    assert_eq!(ended.server(&server).members(), 0);
                    let cut_off = clients.iter().any(|client| ended.client(client).was_cut_off());
                    assert_eq!(cut_off, ended.was_anybody_cut_off());
                    broken.when(cut_off);
                    whole.when(!cut_off);
                });
            },
        );
    assert_eq!(made.unwrap().runs, 100);
}
