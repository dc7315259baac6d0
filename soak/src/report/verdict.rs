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
    let failure = match &summary["failure"] {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.get("text").and_then(Value::as_str).map_or_else(|| other.to_string(), str::to_owned),
    };
    if !failure.is_empty() {
        Ending { word: "failed", class: "bad", text: failure }
    } else if summary["interrupted"] == Value::Bool(true) {
        Ending { word: "interrupted", class: "open", text: String::new() }
    } else {
        Ending { word: "passed", class: "", text: String::new() }
    }
}
