//! Units of what is drawn, and numbers as people read them.

/// What a number counts.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Nanoseconds.
    Ns,
    /// Bytes.
    Bytes,
    /// Things.
    Count,
    /// Things a second.
    PerSecond,
    /// Bytes a second.
    BytesPerSecond,
}

impl Unit {
    /// A value in this unit, with three digits that count.
    pub(crate) fn text(self, value: f64) -> String {
        match self {
            Unit::Ns => scaled(value, 1000.0, &[" ns", " µs", " ms", " s"]),
            Unit::Bytes => scaled(value, 1024.0, &[" B", " KiB", " MiB", " GiB", " TiB"]),
            // Small counts are looked at one by one.
            Unit::Count if value.abs() < 10_000.0 && value.fract() == 0.0 => format!("{value}"),
            Unit::Count => scaled(value, 1000.0, &["", "k", "M", "G", "T"]),
            Unit::PerSecond => scaled(value, 1000.0, &["/s", "k/s", "M/s", "G/s"]),
            Unit::BytesPerSecond => scaled(value, 1024.0, &[" B/s", " KiB/s", " MiB/s", " GiB/s"]),
        }
    }

    /// Whether it is a rate: nothing at all is then a place on the axis that matters.
    pub(crate) fn is_rate(self) -> bool {
        matches!(self, Unit::PerSecond | Unit::BytesPerSecond)
    }

    /// Whether steps of an axis are powers of two.
    pub(crate) fn is_binary(self) -> bool {
        matches!(self, Unit::Bytes | Unit::BytesPerSecond)
    }
}

fn scaled(value: f64, base: f64, suffixes: &[&str]) -> String {
    let mut value = value;
    let mut index = 0;
    while value.abs() >= base * 0.9995 && index + 1 < suffixes.len() {
        value /= base;
        index += 1;
    }
    let digits = match value.abs() {
        // Nothing is smaller than the unit itself, but for rates.
        _ if index == 0 && value.fract() == 0.0 => 0,
        v if v < 9.995 => 2,
        v if v < 99.95 => 1,
        _ => 0,
    };
    let number = format!("{value:.digits$}");
    let number =
        if number.contains('.') { number.trim_end_matches('0').trim_end_matches('.') } else { &number };
    format!("{number}{}", suffixes[index])
}

/// A span of seconds, as short as it can be said: `45 s`, `12:30`, `7:05:00`.
pub(crate) fn span(seconds: f64) -> String {
    let whole = seconds.round().max(0.0) as u64;
    match whole {
        0..60 => format!("{whole} s"),
        60..3600 => format!("{}:{:02}", whole / 60, whole % 60),
        _ => format!("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60),
    }
}

/// Text between tags.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_right() {
        assert_eq!(Unit::Ns.text(0.0), "0 ns");
        assert_eq!(Unit::Ns.text(999.0), "999 ns");
        assert_eq!(Unit::Ns.text(1_234_000.0), "1.23 ms");
        assert_eq!(Unit::Ns.text(999_999.0), "1 ms");
        assert_eq!(Unit::Ns.text(72_000_000_000.0), "72 s");
        assert_eq!(Unit::Bytes.text(1024.0 * 1024.0 * 100.0), "100 MiB");
        assert_eq!(Unit::Count.text(1067.0), "1067");
        assert_eq!(Unit::Count.text(15_000.0), "15k");
        assert_eq!(Unit::Count.text(17.0), "17");
        assert_eq!(Unit::PerSecond.text(0.25), "0.25/s");
        assert_eq!(span(59.0), "59 s");
        assert_eq!(span(3725.0), "1:02:05");
    }
}
