//! What `sim conform` makes of scripts and machines that ask for, or grant, too much or too little.

use std::process::{Command, Output};

fn conform(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sim"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SIM_") {
            command.env_remove(name);
        }
    }
    command.arg("conform").args(arguments).output().expect("the binary can be started")
}

/// What became of a script on one kernel: what is printed, and the exit code.
fn ran(on: &str, script: &str) -> (String, Option<i32>) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("given.script");
    std::fs::write(&path, format!("# T0: given\n{script}\n")).expect("it can be written");
    let output = conform(&["--on", on, path.to_str().expect("a plain name")]);
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    (printed + &String::from_utf8_lossy(&output.stderr), output.status.code())
}

#[test]
fn a_step_that_asks_for_more_memory_than_a_machine_has_is_refused() {
    let most = "at most 64M";
    let piece = "a piece has 1 to 64M bytes";
    for (step, wrong) in [
        ("recv A 67108865", most),
        ("read A 9000000000", most),
        ("writev A 2 67108865", most),
        ("sendmsg A 2 67108865", most),
        ("send A 67108865x", most),
        ("fill A 67108865", piece),
        ("fill A 0", piece),
        ("drain A 67108865", piece),
        ("drain A -1", piece),
        ("wait E 2000000000 0ms", "EINVAL"),
        ("writev A 2000000000 9", "EINVAL"),
        ("sendmsg A 2000000000 9", "EMSGSIZE"),
    ] {
        for on in ["linux", "live"] {
            if on == "live" && !cfg!(target_os = "linux") {
                continue;
            }
            let (said, code) = ran(on, &format!("A B = pair\nE = epoll\n{step}"));
            assert_eq!(code, Some(1), "{on}: {step}: {said}");
            assert!(said.contains(step) && said.contains(wrong), "{on}: {step}: {said}");
        }
    }
    for on in ["freebsd", "macos"] {
        let (said, code) = ran(on, "on freebsd macos\nK = kqueue\nkwait K 1000001 0ms -> []");
        assert_eq!(code, Some(1), "{on}: {said}");
        assert!(said.contains("room for at most a million events"), "{on}: {said}");
    }
}

#[test]
fn as_much_as_is_permitted_is_taken() {
    let (said, code) = ran("linux", "A B = pair\nsend B \"abc\" -> 3\nrecv A 67108864 -> \"abc\"");
    assert_eq!(code, Some(0), "{said}");
    let (said, code) = ran("macos", "on freebsd macos\nK = kqueue\nkwait K 1000000 0ms -> []");
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn where_no_script_is_about_the_kernel_nothing_was_run_and_that_is_no_pass() {
    let (said, code) = ran("freebsd", "E = epoll");
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("nothing was run: no script is about freebsd"), "{said}");
    assert_eq!(ran("linux", "E = epoll").1, Some(0));
}

#[test]
fn a_script_that_is_missing_ends_with_7_and_one_that_makes_no_sense_with_2() {
    let output = conform(&["no-such.script"]);
    assert_eq!(output.status.code(), Some(7), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("sim: cannot read no-such.script: "));
    assert_eq!(ran("linux", "A = sock").1, Some(2));
}

/// With too few descriptors for what every script is made of, each difference would be the machine's.
#[cfg(target_os = "linux")]
#[test]
fn a_machine_that_refuses_a_needed_call_is_no_reference() {
    let few = "ulimit -n 10; exec \"$0\" conform --runs 1";
    let output = Command::new("sh").args(["-c", few, env!("CARGO_BIN_EXE_sim")]).output().expect("a shell");
    assert_eq!(output.status.code(), Some(7), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.starts_with("sim: no live kernel to compare with: a call that every script needs"),
        "{said}"
    );
    assert!(said.contains("answers EMFILE"), "{said}");
    assert!(output.stdout.is_empty(), "{output:?}");
}
