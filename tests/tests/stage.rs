//! The parts of a stage that the chat of the guide does without: messages from other threads, clients with a handler of their own,
//! servers that die; and kept runs of which a part is missing.

use std::cell::Cell;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use reactor::{Config, Context, Handler, Origin, Token};
use sim::shard::Shard;
use sim::stage::{Environment, Reason};
use sim::{Check, Conversation, Oracle, Weather};

/// Sends back every line, and the messages of other threads to whoever asks for news.
#[derive(Default)]
struct Relay {
    waiting: Vec<Token>,
    has_been_asked_early: bool,
    heard: Vec<u32>,
}

impl Relay {
    fn tell(&self, ctx: &mut Context<'_>, to: Token) {
        for message in &self.heard {
            let _ = ctx.write(to, format!("news {message}\n").as_bytes());
        }
    }
}

impl Handler for Relay {
    type Connection = ();
    type Message = u32;

    fn on_open(&mut self, _: &mut Context<'_>, _: Token, _: Origin) {}

    fn on_data(&mut self, ctx: &mut Context<'_>, token: Token, _: &mut (), bytes: &[u8]) -> usize {
        let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        for line in bytes[..whole].split_inclusive(|&byte| byte == b'\n') {
            match line {
                b"news?\n" if self.heard.is_empty() => {
                    self.has_been_asked_early = true;
                    self.waiting.push(token);
                }
                b"news?\n" => self.tell(ctx, token),
                _ => drop(ctx.write(token, line)),
            }
        }
        whole
    }

    fn on_message(&mut self, ctx: &mut Context<'_>, message: u32) {
        self.heard.push(message);
        for member in std::mem::take(&mut self.waiting) {
            self.tell(ctx, member);
        }
    }
}

/// A client that asks again and again, and counts what it is answered.
struct Asker {
    to: SocketAddr,
    rounds: u64,
    answered: u64,
    begun: Rc<Cell<u32>>,
}

impl Handler for Asker {
    type Connection = ();
    type Message = ();

    fn on_open(&mut self, ctx: &mut Context<'_>, token: Token, _: Origin) {
        let _ = ctx.write(token, b"?\n");
    }

    fn on_data(&mut self, ctx: &mut Context<'_>, token: Token, _: &mut (), bytes: &[u8]) -> usize {
        let answers = bytes.iter().filter(|&&byte| byte == b'\n').count() as u64;
        self.answered += answers;
        if answers == 0 {
            // The end of the answer is still to come.
        } else if self.answered < self.rounds {
            let _ = ctx.write(token, b"?\n");
        } else {
            ctx.close(token);
        }
        bytes.len()
    }
}

fn quick(runs: u64) -> Environment {
    Environment {
        runs: Some(runs),
        shrink_runs: Some(0),
        out: Some(folder("quick")),
        ..Environment::default()
    }
}

fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("stage-{name}"))
}

#[test]
fn what_is_posted_comes_to_the_handler_once_and_after_its_delay_and_the_run_waits_for_it() {
    let made = Check::new("stage-post").environment(quick(60)).try_run(|stage| {
        let server = stage.serve("the relay", Config::default(), Relay::default);
        let late = Duration::from_secs(stage.draw("seconds until the news", 0..=3));
        for message in [7, 8] {
            stage.post(&server, late, message);
        }
        // The client has gone long before the news comes, if that comes late.
        stage.client("short", server.address(), Conversation::new().send("hello\n").expect_line("hello"));
        let (some, none) = (stage.sometimes("the news is late"), stage.sometimes("the news is early"));
        some.when(late > Duration::ZERO);
        none.when(late == Duration::ZERO);
        stage.check("the news came", move |ended| {
            let mut heard = ended.server(&server).heard.clone();
            heard.sort_unstable();
            assert_eq!(heard, [7, 8]);
        });
    });
    assert_eq!(made.unwrap().runs, 60);
}

#[test]
fn a_client_hears_of_what_was_posted() {
    let made = Check::new("stage-news").environment(quick(60)).try_run(|stage| {
        let server = stage.serve("the relay", Config::default(), Relay::default);
        stage.post(&server, Duration::from_secs(30), 7);
        let talk =
            Conversation::new().send("hello\n").expect_line("hello").send("news?\n").expect_line("news 7");
        stage.client("waits", server.address(), talk);
        let calm = stage.weather() == Weather::Calm;
        stage.check("the news comes after its delay", move |ended| {
            assert!(!calm || ended.server(&server).has_been_asked_early);
        });
    });
    assert_eq!(made.unwrap().runs, 60);
    // Without the message the client waits in vain, and that is seen.
    let failed = Check::new("stage-no-news").environment(quick(60)).try_run(|stage| {
        let server = stage.serve("the relay", Config::default(), Relay::default);
        let talk =
            Conversation::new().send("hello\n").expect_line("hello").send("news?\n").expect_line("news 7");
        stage.client("waits", server.address(), talk);
    });
    assert_eq!(failed.unwrap_err().failure().map(|it| it.oracle), Some(Oracle::Liveness));
}

fn asks(name: &str, rounds: u64, done_at: u64) -> Result<u64, Box<sim::stage::Failed>> {
    let made = Check::new(name).environment(quick(60)).try_run(move |stage| {
        let server = stage.serve("the relay", Config::default(), Relay::default);
        let to = server.address();
        let begun = Rc::new(Cell::new(0));
        let counted = Rc::clone(&begun);
        let client = stage.client_with(
            "the asker",
            Config::default(),
            move || Asker { to, rounds, answered: 0, begun: Rc::clone(&counted) },
            |asker, ctx| {
                asker.begun.set(asker.begun.get() + 1);
                ctx.connect(asker.to, 0).expect("there is room for one connection");
            },
            move |asker| asker.answered >= done_at,
        );
        stage.check("everything was answered", move |ended| {
            assert_eq!(ended.client(&client).answered, rounds);
            assert_eq!(begun.get(), 1);
        });
    });
    made.map(|made| made.runs)
}

#[test]
fn a_client_with_a_handler_of_its_own_begins_once_and_the_run_waits_until_it_is_done() {
    assert_eq!(asks("stage-client", 5, 5).unwrap(), 60);
    let failed = asks("stage-client-undone", 5, 6).unwrap_err();
    assert_eq!(failed.failure().map(|it| it.oracle), Some(Oracle::Liveness), "{failed}");
    assert!(failed.to_string().contains("what it was to do until it is done has not come about"), "{failed}");
}

#[test]
fn servers_that_may_die_are_started_again_with_a_fresh_handler_and_those_that_may_not_stay() {
    let made_in = |mortal: bool| {
        let check = Check::new(if mortal { "stage-mortal" } else { "stage-immortal" });
        let check = if mortal { check.processes_may_die() } else { check };
        check.environment(quick(200)).try_run(move |stage| {
            let made = Rc::new(Cell::new(0_u32));
            let counted = Rc::clone(&made);
            let make = move || {
                counted.set(counted.get() + 1);
                Relay::default()
            };
            let server = stage.serve("the relay", Config::default(), make);
            stage.post(&server, Duration::from_millis(5), 7);
            let talk =
                Conversation::new().send("hello\n").expect_line("hello").send("again\n").expect_line("again");
            let client = stage.client("talks", server.address(), talk);
            let died = mortal.then(|| stage.sometimes("a server is made again"));
            let survived = mortal.then(|| stage.sometimes("the client hears everything all the same"));
            let lost = mortal.then(|| stage.sometimes("the news is lost with its process"));
            stage.check("who is cut off can say why", move |ended| {
                let cut_off = ended.client(&client).was_cut_off();
                let news = ended.server(&server).heard.as_slice();
                assert!(news == [7] || (mortal && news.is_empty()), "{news:?}");
                if let Some(died) = &died {
                    died.when(made.get() > 1);
                    survived.as_ref().expect("as died").when(!cut_off);
                    lost.as_ref().expect("as died").when(news.is_empty());
                } else {
                    assert!(!cut_off);
                }
            });
        })
    };
    assert_eq!(made_in(true).unwrap().runs, 200);
    assert_eq!(made_in(false).unwrap().runs, 200);
}

/// Whoever forgets to look at a result has no test; so there is none to look at.
#[test]
#[should_panic(expected = "FAILED check")]
fn a_check_with_options_fails_its_test_by_itself() {
    Check::new("stage-wrong").environment(quick(1)).run(|stage| {
        stage.serve("the relay", Config::default(), Relay::default);
        stage.check("one is two", |_| assert_eq!(1, 2));
    });
}

#[test]
fn a_kept_run_that_was_cut_off_is_told_as_one() {
    let kept_in = folder("cut");
    let environment = Environment { out: Some(kept_in.clone()), ..quick(20) };
    let check = |environment, wrong: bool| {
        Check::new("stage-cut").environment(environment).try_run(move |stage| {
            let server = stage.serve("the relay", Config::default(), Relay::default);
            let talk = Conversation::new().send("hello\n").expect_line("hello");
            stage.client("talks", server.address(), talk);
            stage.check("it is so", move |_| assert!(!wrong, "it is not"));
        })
    };
    let failed = check(environment.clone(), true).unwrap_err();
    let Reason::Run { kept: Some(kept), .. } = failed.reason() else { panic!("{failed}") };
    let whole = std::fs::read(kept).unwrap();
    let cut = kept_in.join("cut.simlog");
    std::fs::write(&cut, &whole[..whole.len() / 2]).unwrap();
    let replay = Environment { replay: Some(cut.clone()), ..environment.clone() };
    let told = check(replay, true).unwrap_err().to_string();
    assert!(told.contains("replayed  was cut off: "), "{told}");
    let shrink = Environment { shrink: Some(cut), ..environment };
    let told = check(shrink, false).unwrap_err().to_string();
    assert!(told.contains("the run passes") && told.contains("(it was cut off: "), "{told}");
    let _ = std::fs::remove_dir_all(kept_in);
}

#[test]
fn parts_of_a_check_make_its_runs_between_them_and_a_check_may_make_every_run_twice() {
    let made = |environment: Environment| {
        let built = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&built);
        let summary = Check::new("stage-parts").environment(environment).try_run(move |stage| {
            counted.fetch_add(1, Ordering::Relaxed);
            let server = stage.serve("the relay", Config::default(), Relay::default);
            let talk = Conversation::new().send("hello\n").expect_line("hello");
            stage.client("talks", server.address(), talk);
        });
        (summary.unwrap(), built.load(Ordering::Relaxed))
    };
    let (whole, _) = made(quick(20));
    let parts = [1, 2, 3].map(|number| {
        let shard = Some(Shard::new(number, 3).expect("there is such a part"));
        made(Environment { shard, ..quick(20) }).0
    });
    assert_eq!(parts.map(|part| part.runs), [7, 7, 6]);
    assert_eq!(parts.map(|part| part.calls).iter().sum::<u64>(), whole.calls);
    let (twice, built) = made(Environment { check_determinism: true, ..quick(20) });
    assert_eq!((twice, built), (whole, 40));
}
