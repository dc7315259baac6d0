//! A scratch night for tests: a folder, a table of parts made of shell lines, and the program under test.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

/// The program under test.
pub(crate) const SOAK: &str = env!("CARGO_BIN_EXE_soak");

/// A folder that is removed at the end, in which the parts of a night run.
#[derive(Debug)]
pub(crate) struct Night {
    scratch: TempDir,
}

impl Night {
    pub(crate) fn new() -> Night {
        Night { scratch: TempDir::new().unwrap() }
    }

    /// A file beside the night's folder, where its parts run.
    pub(crate) fn place(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    pub(crate) fn out(&self) -> PathBuf {
        self.place("night")
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        // Made and filled are two steps.
        fs::read_to_string(self.place(name)).is_ok_and(|text| text.ends_with('\n') || name == "second")
    }

    /// A part that runs a line of shell in the scratch folder.
    pub(crate) fn part(&self, name: &str, kind: &str, line: &str) -> Value {
        let line = format!("cd {} && {{ {line}\n}}", self.scratch.path().display());
        self.command_part(name, kind, &["sh", "-c", &line])
    }

    /// Its limit is far away: who waits for it to end a part waits in vain.
    pub(crate) fn command_part(&self, name: &str, kind: &str, command: &[&str]) -> Value {
        json!({"name": name, "kind": kind, "seconds": 1, "limit_seconds": 100_000, "command": command})
    }

    /// Writes the table of parts.
    pub(crate) fn parts(&self, parts: &[Value]) {
        let table = json!({"seed": "0x0000000000000007", "seconds": 60, "processors": "any", "parts": parts});
        fs::write(self.place("parts.json"), table.to_string()).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(SOAK);
        command.arg("night").args(arguments).arg("--out").arg(self.out());
        command.arg("--parts").arg(self.place("parts.json"));
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    pub(crate) fn start(&self, arguments: &[&str]) -> Child {
        let said = fs::File::create(self.place("said")).unwrap();
        let mut command = self.command(arguments);
        if arguments.is_empty() {
            command.stdout(Stdio::piped());
        } else {
            command.stdout(said);
        }
        command.stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Whether a night with arguments has printed this.
    pub(crate) fn said(&self, words: &str) -> bool {
        fs::read_to_string(self.place("said")).unwrap().contains(words)
    }

    pub(crate) fn resume(&self) -> Output {
        Command::new(SOAK).arg("night").arg("--resume").arg(self.out()).output().unwrap()
    }

    pub(crate) fn results(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.out().join("parts.jsonl")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    pub(crate) fn append_to_results(&self, text: &str) {
        let path = self.out().join("parts.jsonl");
        fs::OpenOptions::new().append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
    }

    pub(crate) fn pid_in(&self, name: &str) -> u32 {
        fs::read_to_string(self.place(name)).unwrap().trim().parse().unwrap()
    }
}

/// Whether a process runs; one that has ended and that nobody has waited for does not.
pub(crate) fn is_running(pid: u32) -> bool {
    let output = Command::new("ps").args(["-o", "stat=", "-p", &pid.to_string()]).output().unwrap();
    let state = String::from_utf8(output.stdout).unwrap();
    !state.trim().is_empty() && !state.trim().starts_with('Z')
}

/// Waits for something that will come; gives up after a time that is long on any machine.
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if is_so() {
            return;
        }
        pause();
    }
    panic!("it did not come to pass that {what}");
}

#[expect(
    clippy::disallowed_methods,
    reason = "another process is waited for, which tells nobody of its progress"
)]
fn pause() {
    std::thread::sleep(Duration::from_millis(10));
}

pub(crate) fn interrupt(child: &Child) {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
}

pub(crate) fn lines_of(bytes: &[u8]) -> Vec<String> {
    String::from_utf8(bytes.to_vec()).unwrap().lines().map(str::to_owned).collect()
}
