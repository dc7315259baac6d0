//! What `soak/overnight.sh` refuses before it builds anything, and that it leaves nothing behind then.

use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

/// Runs the script; the hard limit of open files is lowered first where one is given.
fn overnight(arguments: &[&str], files_max: Option<u32>) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("overnight.sh");
    let lower = files_max.map(|files| format!("ulimit -n {files}; ")).unwrap_or_default();
    let mut command = Command::new("bash");
    command.arg("-c").arg(format!("{lower}exec \"$@\"")).arg("bash").arg(script).args(arguments);
    command.output().unwrap()
}

fn refused(code: i32, words: &str, arguments: &[&str]) {
    let output = overnight(arguments, None);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
    assert!(text.contains(words), "{arguments:?}: {text}");
}

#[test]
fn the_help_teaches() {
    let output = overnight(&["--help"], None);
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8(output.stdout).unwrap();
    for word in ["--out DIR", "--hours H", "--smoke", "--resume", "Exit codes:", "nohup", "tmux", "systemd"] {
        assert!(text.contains(word), "{word}");
    }
}

#[test]
fn a_command_line_that_makes_no_sense_is_refused() {
    let scratch = TempDir::new().unwrap();
    let out = scratch.path().join("night");
    let out = out.to_str().unwrap();
    refused(2, "--out DIR is missing", &[]);
    refused(2, "there is no option '--ours'", &["--ours", "8"]);
    refused(2, "--hours needs a value", &["--out", out, "--hours"]);
    refused(2, "whole number", &["--out", out, "--hours", "0"]);
    refused(2, "whole number", &["--out", out, "--minutes", "1.5"]);
    refused(2, "one of --hours, --minutes and --smoke", &["--out", out, "--hours", "1", "--smoke"]);
    refused(2, "is no seed", &["--out", out, "--seed", "monday"]);
    refused(2, "is no folder but an option", &["--out", "--smoke"]);
    assert_eq!(scratch.path().read_dir().unwrap().count(), 0);
}

#[test]
fn an_address_that_is_not_this_machine_is_refused() {
    let scratch = TempDir::new().unwrap();
    let out = scratch.path().join("night");
    let out = out.to_str().unwrap();
    for address in ["0.0.0.0", "192.0.2.1", "127.0.0.1.example.org", "localhost.example.org", "::", "[::1]"] {
        refused(2, "127.0.0.1 only", &["--out", out, "--address", address, "--check"]);
    }
    assert_eq!(scratch.path().read_dir().unwrap().count(), 0);
}

#[test]
fn a_folder_that_exists_is_refused_and_one_without_a_night_is_not_resumed() {
    let scratch = TempDir::new().unwrap();
    std::fs::write(scratch.path().join("thesis.txt"), "years of work").unwrap();
    let out = scratch.path().to_str().unwrap();
    refused(2, "exists already; nothing was touched", &["--out", out, "--check"]);
    refused(2, "holds no night to go on with", &["--out", out, "--resume"]);
    std::fs::write(scratch.path().join("night.json"), "{}").unwrap();
    refused(2, "has no programs/soak", &["--out", out, "--resume"]);
    refused(2, "keeps its length and its seed", &["--out", out, "--resume", "--hours", "1"]);
    assert_eq!(scratch.path().read_dir().unwrap().count(), 2);
}

#[test]
fn a_machine_that_cannot_bear_a_night_is_refused_and_no_folder_stays() {
    let scratch = TempDir::new().unwrap();
    let out = scratch.path().join("night");
    let out = out.to_str().unwrap();
    refused(7, "make room, or say --disk-mib", &["--out", out, "--disk-mib", "9999999", "--check"]);
    let file = scratch.path().join("file");
    std::fs::write(&file, "").unwrap();
    refused(7, "cannot be made", &["--out", file.join("night").to_str().unwrap(), "--check"]);
    let output = overnight(&["--out", out, "--check"], Some(100));
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(7), "{text}");
    assert!(text.contains("only 100 files may be open"), "{text}");
    assert_eq!(scratch.path().read_dir().unwrap().count(), 1);
}

#[test]
fn a_machine_that_can_bear_a_night_is_told_what_it_has() {
    let scratch = TempDir::new().unwrap();
    let out = scratch.path().join("night");
    let output = overnight(&["--out", out.to_str().unwrap(), "--disk-mib", "1", "--check"], None);
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(text.contains("open files: ") && text.contains("disk: "), "{text}");
    assert!(!out.exists());
}
