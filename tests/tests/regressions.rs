//! Every failure that was ever found and kept: its run passes, and still comes to the place where things went wrong.

use std::fs;
use std::path::PathBuf;

use sim::regression::{Place, Regression, Relapse};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("regressions")
}

fn every_regression() -> Vec<(String, Regression)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder()).expect("the folder is there") {
        let path = entry.expect("it can be listed").path();
        let name = path.display().to_string();
        assert!(path.extension().is_some_and(|ending| ending == "regression"), "{name} is no regression");
        let text = fs::read_to_string(&path).expect("it can be read");
        found.push((name.clone(), text.parse().unwrap_or_else(|error| panic!("{name}: {error}"))));
    }
    found.sort_by(|one, other| one.0.cmp(&other.0));
    found
}

#[test]
fn every_kept_failure_passes_and_reaches_its_place() {
    let all = every_regression();
    assert!(all.len() >= 12, "{} regressions", all.len());
    let relapses: Vec<String> = all
        .iter()
        .filter_map(|(name, regression)| regression.check().err().map(|relapse| format!("{name}: {relapse}")))
        .collect();
    assert!(relapses.is_empty(), "\n{}", relapses.join("\n"));
}

#[test]
fn what_brings_a_failure_back_is_still_there() {
    for (name, regression) in every_regression() {
        if let Some(patch) = regression.back.strip_prefix("tests/planted/") {
            assert!(
                PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("planted").join(patch).exists(),
                "{name}: {patch}"
            );
        }
        assert!(!regression.story.is_empty() && regression.story.len() <= sim::story::LINES_MAX, "{name}");
    }
}

#[test]
fn a_regression_and_its_text_are_the_same_thing() {
    for (name, regression) in every_regression() {
        assert_eq!(regression.to_string().parse().as_ref(), Ok(&regression), "{name}");
    }
}

#[test]
fn a_run_that_misses_its_place_is_a_relapse() {
    let (_, mut regression) = every_regression().remove(0);
    let nowhere = Place::Decision("no such site".to_owned());
    regression.reaches = nowhere.clone();
    assert_eq!(regression.check(), Err(Relapse::Misses(nowhere)));
}

#[test]
fn a_text_that_is_no_regression_says_where() {
    let (_, regression) = every_regression().remove(0);
    let text = regression.to_string();
    let error = |text: &str| text.parse::<Regression>().expect_err("it is wrong").to_string();
    assert!(error("hello").contains("line 1"));
    assert!(error(&text.replace("kernel ", "colonel ")).contains("kernel"));
    assert!(
        error(&text.replace(&format!("workload  {}", regression.workload), "workload  ecko"))
            .contains("there are: echo")
    );
    assert!(error(&text.replace("reaches   ", "reaches   the ")).contains("counter NAME"));
    assert!(error(&format!("{text}setup 0 = 1\n")).contains("line "));
}
