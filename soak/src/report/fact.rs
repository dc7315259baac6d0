//! Facts of a soak for a table: every number and word of `run.json` and `summary.json`, under the names that they have there.

use serde_json::Value;

use super::unit::{Unit, span};

/// A name and what is there.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fact {
    pub(crate) name: String,
    pub(crate) text: String,
}

/// The facts of an object, and of the objects in it.
pub(crate) fn facts(value: &Value) -> Vec<Fact> {
    let mut facts = Vec::new();
    gather("", "", value, &mut facts);
    facts
}

fn gather(path: &str, name: &str, value: &Value, facts: &mut Vec<Fact>) {
    let text = match value {
        Value::Object(fields) => {
            for (field, value) in fields {
                gather(&format!("{path} {}", words(field)), field, value, facts);
            }
            return;
        }
        Value::Null => return,
        Value::Array(values) if values.iter().all(|value| value.is_string() || value.is_number()) => {
            let words: Vec<String> = values.iter().map(|value| scalar(name, value)).collect();
            if words.is_empty() {
                return;
            }
            words.join(", ")
        }
        // A table has no place among facts.
        Value::Array(_) => return,
        scalar_value => scalar(name, scalar_value),
    };
    facts.push(Fact { name: path.trim().to_owned(), text });
}

/// A field's name without its unit, which stands with the number.
fn words(field: &str) -> String {
    let bare = ["_ns", "_ms", "_per_s", "_s", "_bytes"]
        .iter()
        .find_map(|unit| field.strip_suffix(unit))
        .unwrap_or(field);
    bare.replace('_', " ")
}

fn scalar(name: &str, value: &Value) -> String {
    let Some(number) = value.as_f64() else {
        return value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    };
    if name.ends_with("_ns") {
        Unit::Ns.text(number)
    } else if name.ends_with("_ms") {
        Unit::Ns.text(number * 1e6)
    } else if name.ends_with("_per_s") {
        Unit::PerSecond.text(number)
    } else if name.ends_with("_unix_s") {
        value.to_string()
    } else if name.ends_with("_s") || name == "seconds" {
        span(number)
    } else if name.ends_with("bytes") {
        Unit::Bytes.text(number)
    } else {
        grouped(value)
    }
}

/// A whole number with its thousands apart.
fn grouped(value: &Value) -> String {
    let Some(number) = value.as_u64() else { return value.to_string() };
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_fact_has_the_name_of_its_field_and_the_unit_with_its_number() {
        let value = json!({"workloads": ["echo", "wake"], "latency": {"p99_ns": 1500}, "messages": 1234567, "peak_bytes": 2048,
            "nothing": null, "took_s": 3600, "rate_per_s": 5000, "rows": [{"a": 1}]});
        let facts: Vec<(String, String)> =
            facts(&value).into_iter().map(|fact| (fact.name, fact.text)).collect();
        let expected = [
            ("latency p99", "1.5 µs"),
            ("messages", "1,234,567"),
            ("peak", "2 KiB"),
            ("rate", "5k/s"),
            ("took", "1:00:00"),
            ("workloads", "echo, wake"),
        ];
        let expected: Vec<_> =
            expected.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        assert_eq!(facts, expected);
    }
}
