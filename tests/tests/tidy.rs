//! House rules that no compiler checks, over the files that git knows or would add.
//!
//! A rule is a function from a file to what is wrong with it. Each has two cases: one over the repository, one over
//! planted text, which shows that the rule can fail. Outside a git checkout there is nothing to check.

use std::path::Path;
use std::process::Command;

/// Where `unsafe` is allowed: the system calls, also those of the loops that the benchmark compares with and those that only
/// scripts make of the live kernel, and the guard that a simulated run puts around the clock.
const UNSAFE_PLACES: [&str; 4] =
    ["reactor/src/sys/", "reactor/benches/echo/os.rs", "sim/src/guard/", "sim/src/script/live"];

/// Above this a file is split by sub-noun.
const LINES_MAX: usize = 900;

/// Names that say nothing about what is inside.
const EMPTY_NAMES: [&str; 6] = ["util", "utils", "common", "helper", "helpers", "misc"];

// The patterns that follow are put together here, so that this file does not break its own rules.
const UNSAFE: &str = concat!("un", "safe");
const MARKERS: [&str; 4] =
    [concat!("to", "do!"), concat!("unimpl", "emented!"), concat!("FIX", "ME"), concat!("XX", "X")];
const HOST_PATHS: [&str; 3] = [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/")];

/// A text file: its path from the root of the repository, with forward slashes, and what it says.
struct File {
    path: String,
    text: String,
}

impl File {
    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Its lines, numbered from one.
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        (1..).zip(self.text.lines())
    }
}

/// The text files of the repository; `None` where there is no git, or no checkout.
fn repository() -> Option<Vec<File>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let listed = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output();
    let listed = match listed {
        Ok(output) if output.status.success() => String::from_utf8(output.stdout).unwrap(),
        Ok(output) => {
            println!("skipped, not a git checkout: {}", String::from_utf8_lossy(&output.stderr).trim());
            return None;
        }
        Err(error) => {
            println!("skipped, git does not run: {error}");
            return None;
        }
    };
    // What cannot be read as text is a picture or an input of the fuzzer, or has just been deleted.
    let read = |path: &str| {
        std::fs::read_to_string(root.join(path)).ok().map(|text| File { path: path.to_owned(), text })
    };
    Some(listed.split_terminator('\0').filter_map(read).collect())
}

/// Applies a rule to every file, and fails with all that is wrong.
fn check(rule: fn(&File) -> Vec<String>) {
    let Some(files) = repository() else { return };
    let wrong: Vec<String> = files.iter().flat_map(rule).collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// What a rule says about planted text.
fn planted(rule: fn(&File) -> Vec<String>, path: &str, text: &str) -> Vec<String> {
    rule(&File { path: path.to_owned(), text: text.to_owned() })
}

/// A line without its comment and without what its string literals say.
fn code_of(line: &str) -> String {
    let mut code = String::new();
    let mut rest = line.chars().peekable();
    let mut in_string = false;
    while let Some(next) = rest.next() {
        match next {
            '\\' if in_string => drop(rest.next()),
            '"' => in_string = !in_string,
            _ if in_string => {}
            // A quote as a character.
            '\'' if rest.peek() == Some(&'"') => drop(rest.next()),
            '/' if rest.peek() == Some(&'/') => break,
            _ => code.push(next),
        }
    }
    code
}

fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|letter: char| !letter.is_alphanumeric() && letter != '_')
}

fn begins_without_a_purpose(file: &File) -> Vec<String> {
    let exempt = !file.is_rust() || file.path.ends_with("build.rs");
    if exempt || file.text.starts_with("//! ") {
        return Vec::new();
    }
    vec![format!("{}: the first line is not `//! ` and what the file is for", file.path)]
}

fn unsafe_elsewhere(file: &File) -> Vec<String> {
    if !file.is_rust() || UNSAFE_PLACES.iter().any(|place| file.path.starts_with(place)) {
        return Vec::new();
    }
    file.lines()
        .filter(|(_, line)| words(&code_of(line)).any(|word| word == UNSAFE))
        .map(|(number, _)| format!("{}:{number}: {UNSAFE} outside {UNSAFE_PLACES:?}", file.path))
        .collect()
}

fn too_long(file: &File) -> Vec<String> {
    let lines = file.text.lines().count();
    if !file.is_rust() || lines <= LINES_MAX {
        return Vec::new();
    }
    vec![format!("{}: {lines} lines, more than {LINES_MAX}: split it by sub-noun", file.path)]
}

fn unfinished(file: &File) -> Vec<String> {
    // Hashes in a lock file may spell anything.
    if file.path.ends_with("Cargo.lock") {
        return Vec::new();
    }
    // As a word of its own: templates of temporary names have a longer row of the same letter.
    let is_part = |letter: char| letter.is_alphanumeric() || letter == '_';
    let has = |line: &str, marker: &str| {
        line.match_indices(marker)
            .any(|(at, _)| !line[..at].ends_with(is_part) && !line[at + marker.len()..].starts_with(is_part))
    };
    let marked = |line: &str| MARKERS.into_iter().find(|marker| has(line, marker));
    file.lines()
        .filter_map(|(number, line)| marked(line).map(|marker| format!("{}:{number}: {marker}", file.path)))
        .collect()
}

fn empty_name(file: &File) -> Vec<String> {
    if !file.is_rust() {
        return Vec::new();
    }
    let in_path = file.path.trim_end_matches(".rs").split('/').filter(|name| EMPTY_NAMES.contains(name));
    let declared = file.lines().filter_map(|(_, line)| {
        let code = line.trim_start().trim_start_matches("pub ");
        let name = code.strip_prefix("mod ")?.split([' ', ';', '{']).next()?;
        EMPTY_NAMES.contains(&name).then_some(name)
    });
    in_path
        .chain(declared)
        .map(|name| format!("{}: `{name}` says nothing; name the module for what it has", file.path))
        .collect()
}

fn dependency_without_reason(file: &File) -> Vec<String> {
    if file.path != "Cargo.toml" {
        return Vec::new();
    }
    let mut wrong = Vec::new();
    let mut in_dependencies = false;
    let mut previous = "";
    for (number, line) in file.lines() {
        if line.starts_with('[') {
            in_dependencies = line == "[workspace.dependencies]";
        }
        // A member of the workspace needs no reason; a line that goes on inside brackets is not a new dependency.
        let names_one = line.starts_with(|first: char| first.is_ascii_alphanumeric()) && line.contains('=');
        if in_dependencies && names_one && !line.contains("path =") && !previous.starts_with("# ") {
            wrong.push(format!("{}:{number}: no comment above says why: {line}", file.path));
        }
        previous = line;
    }
    wrong
}

fn host_path(file: &File) -> Vec<String> {
    let names = |line: &str| HOST_PATHS.iter().find(|path| line.contains(**path)).copied();
    file.lines()
        .filter_map(|(number, line)| {
            names(line).map(|path| format!("{}:{number}: a path of one machine: {path}", file.path))
        })
        .collect()
}

#[test]
fn every_rust_file_begins_with_what_it_is_for() {
    check(begins_without_a_purpose);
}

#[test]
fn a_rust_file_without_a_purpose_is_found() {
    assert_eq!(planted(begins_without_a_purpose, "a/src/b.rs", "use std::fmt;\n").len(), 1);
    assert_eq!(planted(begins_without_a_purpose, "a/src/b.rs", "").len(), 1);
    assert!(planted(begins_without_a_purpose, "a/src/b.rs", "//! The b.\n").is_empty());
    assert!(planted(begins_without_a_purpose, "a/build.rs", "fn main() {}\n").is_empty());
}

#[test]
fn unsafe_code_is_in_its_places_only() {
    check(unsafe_elsewhere);
}

#[test]
fn unsafe_code_elsewhere_is_found() {
    let code = format!("let a = '\"'; {UNSAFE} {{ call() }}\n");
    assert_eq!(planted(unsafe_elsewhere, "sim/src/run.rs", &code).len(), 1);
    assert!(planted(unsafe_elsewhere, "reactor/src/sys/posix.rs", &code).is_empty());
    let spoken = format!("// {UNSAFE}\nlet a = \"\\\" {UNSAFE}\";\n#![deny({UNSAFE}_code)]\n");
    assert!(planted(unsafe_elsewhere, "sim/src/run.rs", &spoken).is_empty());
}

#[test]
fn no_file_is_too_long_to_read() {
    check(too_long);
}

#[test]
fn a_file_that_is_too_long_is_found() {
    assert_eq!(planted(too_long, "sim/src/run.rs", &"\n".repeat(LINES_MAX + 1)).len(), 1);
    assert!(planted(too_long, "sim/src/run.rs", &"\n".repeat(LINES_MAX)).is_empty());
}

#[test]
fn nothing_is_marked_as_unfinished() {
    check(unfinished);
}

#[test]
fn a_mark_of_unfinished_work_is_found() {
    for marker in MARKERS {
        assert_eq!(
            planted(unfinished, "README.md", &format!("fine\n// {marker} later\n")).len(),
            1,
            "{marker}"
        );
    }
    let fine = format!("// What is left to do is in the queue.\nmktemp run.{0}{0}\n", MARKERS[3]);
    assert!(planted(unfinished, "sim/src/run.rs", &fine).is_empty());
}

#[test]
fn every_module_is_named_for_what_it_has() {
    check(empty_name);
}

#[test]
fn a_module_whose_name_says_nothing_is_found() {
    for name in EMPTY_NAMES {
        assert_eq!(planted(empty_name, &format!("sim/src/{name}.rs"), "").len(), 1, "{name}");
        assert_eq!(planted(empty_name, &format!("tests/tests/{name}/mod.rs"), "").len(), 1, "{name}");
        assert_eq!(
            planted(empty_name, "sim/src/lib.rs", &format!("    pub mod {name};\n")).len(),
            1,
            "{name}"
        );
        assert_eq!(planted(empty_name, "sim/src/lib.rs", &format!("mod {name} {{\n")).len(), 1, "{name}");
    }
    assert!(planted(empty_name, "sim/src/commonplace.rs", "mod utility;\n").is_empty());
}

#[test]
fn every_dependency_says_why_it_is_there() {
    check(dependency_without_reason);
}

#[test]
fn a_dependency_without_a_reason_is_found() {
    let manifest = "[workspace.dependencies]\nsim = { path = \"sim\" }\n# Why.\na = \"1\"\nb = \"1\"\n\n[profile]\nc = 1\n";
    let wrong = planted(dependency_without_reason, "Cargo.toml", manifest);
    assert_eq!(wrong, ["Cargo.toml:5: no comment above says why: b = \"1\""]);
}

#[test]
fn no_file_names_a_path_of_one_machine() {
    check(host_path);
}

#[test]
fn a_path_of_one_machine_is_found() {
    for path in HOST_PATHS {
        assert_eq!(planted(host_path, "README.md", &format!("see {path}notes\n")).len(), 1, "{path}");
    }
    assert!(planted(host_path, "README.md", "see the network/ folder\n").is_empty());
}
