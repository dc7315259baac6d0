//! Facts of a soak for a table: numbers and words of `run.json` and `summary.json`, under the names that they have there.

use serde_json::Value;

use super::unit::{Unit, span};

/// A name and what is there.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fact {
    pub(crate) name: String,
    pub(crate) text: String,
}

/// The facts of what was asked for, and of how it ended.
pub(crate) fn facts(run: Option<&Value>, summary: Option<&Value>) -> Vec<Fact> {
    /// Repeated, told elsewhere on the page, or of no use to a reader.
    const LEFT_OUT: [&str; 8] =
        ["schema", "process", "command_line", "workloads", "slopes", "failures", "failure", "exit_code"];
    /// Groups whose name says nothing beside the names in them.
    const OPENED: [&str; 3] = ["options", "machine", "counters"];
    let mut facts: Vec<Fact> = Vec::new();
    for (field, value) in run.into_iter().chain(summary).filter_map(Value::as_object).flatten() {
        if LEFT_OUT.contains(&field.as_str()) {
            continue;
        }
        let mut more = Vec::new();
        let path = if OPENED.contains(&field.as_str()) { String::new() } else { words(field) };
        gather(&path, field, value, &mut more);
        // The summary repeats what was asked for; a counter at zero says that there was nothing to tell.
        more.retain(|fact| !facts.contains(fact) && (field != "counters" || fact.text != "0"));
        facts.extend(more);
    }
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
    let bare = ["_ns", "_unix_ms", "_ms", "_per_s", "_s", "_bytes"]
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
    } else if name.ends_with("_unix_ms") {
        value.as_u64().map_or_else(|| value.to_string(), |ms| day_and_time(ms / 1000))
    } else if name.ends_with("_ms") {
        Unit::Ns.text(number * 1e6)
    } else if name.ends_with("_per_s") {
        Unit::PerSecond.text(number)
    } else if name.ends_with("_s") || name == "seconds" {
        span(number)
    } else if name.ends_with("bytes") {
        Unit::Bytes.text(number)
    } else {
        grouped(value)
    }
}

/// Seconds since 1970 as a day and a time of day, in UTC.
fn day_and_time(unix_s: u64) -> String {
    let (days, second) = (unix_s / 86_400, unix_s % 86_400);
    // Years from March on, so that the day that some of them have more is their last (H. Hinnant, days_from_civil).
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year}-{month:02}-{day:02} {:02}:{:02}:{:02} UTC", second / 3600, second / 60 % 60, second % 60)
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
    fn a_moment_is_told_as_day_and_time() {
        assert_eq!(day_and_time(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(day_and_time(951_827_696), "2000-02-29 12:34:56 UTC");
        assert_eq!(day_and_time(4_107_542_399), "2100-02-28 23:59:59 UTC");
        assert_eq!(day_and_time(4_107_542_400), "2100-03-01 00:00:00 UTC");
    }

    #[test]
    fn a_fact_has_the_name_of_its_field_and_the_unit_with_its_number() {
        let value = json!({"options": {"workloads": ["echo", "wake"]}, "latency": {"p99_ns": 1500}, "messages": 1234567, "peak_bytes": 2048,
            "nothing": null, "took_s": 3600, "rate_per_s": 5000, "rows": [{"a": 1}], "schema": 1,
            "counters": {"shed": 0, "turns": 7}});
        let facts: Vec<(String, String)> =
            facts(Some(&value), None).into_iter().map(|fact| (fact.name, fact.text)).collect();
        let expected = [
            ("turns", "7"),
            ("latency p99", "1.5 µs"),
            ("messages", "1,234,567"),
            ("workloads", "echo, wake"),
            ("peak", "2 KiB"),
            ("rate", "5k/s"),
            ("took", "1:00:00"),
        ];
        let expected: Vec<_> =
            expected.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        assert_eq!(facts, expected);
    }
}
