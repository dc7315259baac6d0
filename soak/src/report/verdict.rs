//! How a soak ended, in a word.

use serde_json::Value;

use super::source::Source;

/// A word for the head of a report, and whether it is a bad one.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Ending {
    pub(crate) word: &'static str,
    /// The style of the word.
    pub(crate) class: &'static str,
    /// What was wrong.
    pub(crate) text: String,
}

/// How this soak ended, as its summary says.
pub(crate) fn ending(source: &Source) -> Ending {
    let Some(summary) = &source.summary else {
        return Ending { word: "cut off or running", class: "open", text: String::new() };
    };
    let failures: Vec<&str> =
        summary["failures"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let text = failures.join("\n");
    match summary["exit_code"].as_u64() {
        Some(0) if failures.is_empty() => Ending { word: "passed", class: "", text },
        Some(130) if failures.is_empty() => Ending { word: "interrupted", class: "open", text },
        // Whatever else it is, it is no pass.
        _ => Ending { word: "failed", class: "bad", text },
    }
}
