//! How values are written in scripts, and read back.

use reactor::sys::{EpollMask, Errno, KeventFlags};

use super::probe::{EXCLUSIVE, POLL_INVALID, PRI, WideFilter, WideNotes};

const BITS: [(&str, u32); 10] = [
    ("IN", EpollMask::IN.bits()),
    ("PRI", PRI),
    ("OUT", EpollMask::OUT.bits()),
    ("ERR", EpollMask::ERR.bits()),
    ("HUP", EpollMask::HUP.bits()),
    ("NVAL", POLL_INVALID),
    ("RDHUP", EpollMask::RDHUP.bits()),
    ("EXCLUSIVE", EXCLUSIVE),
    ("ONESHOT", EpollMask::ONESHOT.bits()),
    ("ET", EpollMask::ET.bits()),
];

const FILTERS: [(&str, WideFilter); 6] = [
    ("READ", WideFilter::Read),
    ("WRITE", WideFilter::Write),
    ("USER", WideFilter::User),
    ("TIMER", WideFilter::Timer),
    ("SIGNAL", WideFilter::Signal),
    ("BAD", WideFilter::Bad),
];

/// Event bits as names, or `0`; a bit without a name as a number.
pub(crate) fn mask(bits: u32) -> String {
    if bits == 0 {
        return "0".to_owned();
    }
    let mut rest = bits;
    let mut names = Vec::new();
    for (name, bit) in BITS {
        if rest & bit != 0 {
            names.push(name.to_owned());
            rest &= !bit;
        }
    }
    if rest != 0 {
        names.push(format!("{rest:#x}"));
    }
    names.join("|")
}

/// The bits that names stand for.
pub(crate) fn parse_mask(text: &str) -> Option<u32> {
    text.split('|').try_fold(0, |bits, name| {
        let bit = BITS.iter().find(|(known, _)| *known == name).map(|(_, bit)| *bit);
        let number = name.strip_prefix("0x").map_or_else(
            || name.parse().ok().filter(|number: &u32| *number == 0),
            |digits| u32::from_str_radix(digits, 16).ok(),
        );
        bit.or(number).map(|bit| bits | bit)
    })
}

pub(crate) fn filter(filter: WideFilter) -> &'static str {
    FILTERS.iter().find(|(_, known)| *known == filter).map_or("BAD", |(name, _)| name)
}

pub(crate) fn parse_filter(text: &str) -> Option<WideFilter> {
    FILTERS.iter().find(|(name, _)| *name == text).map(|(_, filter)| *filter)
}

pub(crate) fn kevent_flags(flags: KeventFlags) -> String {
    flags.iter_names().map(|(name, _)| name).collect::<Vec<_>>().join("|")
}

pub(crate) fn parse_kevent_flags(text: &str) -> Option<KeventFlags> {
    if text.is_empty() {
        return Some(KeventFlags::empty());
    }
    text.split('|')
        .try_fold(KeventFlags::empty(), |flags, name| KeventFlags::from_name(name).map(|flag| flags | flag))
}

pub(crate) fn notes(notes: WideNotes) -> String {
    let user = notes & WideNotes::USER_BITS;
    let control = notes & WideNotes::FFCOPY;
    let mut names = Vec::new();
    match control {
        WideNotes::FFAND => names.push("FFAND".to_owned()),
        WideNotes::FFOR => names.push("FFOR".to_owned()),
        WideNotes::FFCOPY => names.push("FFCOPY".to_owned()),
        _ => {}
    }
    let rest = notes - WideNotes::USER_BITS - WideNotes::FFCOPY;
    names.extend(rest.iter_names().map(|(name, _)| name.to_owned()));
    if !user.is_empty() {
        names.push(format!("{:#x}", user.bits()));
    }
    names.join("|")
}

pub(crate) fn parse_notes(text: &str) -> Option<WideNotes> {
    text.split('|').try_fold(WideNotes::empty(), |notes, name| {
        let number = name.strip_prefix("0x").and_then(|digits| u32::from_str_radix(digits, 16).ok());
        let note = match number {
            Some(number) => WideNotes::from_bits(number)?,
            None => WideNotes::from_name(name)?,
        };
        Some(notes | note)
    })
}

/// The error with this C name.
pub(crate) fn parse_errno(text: &str) -> Option<Errno> {
    if text == "Unsupported" {
        return Some(Errno::Unsupported);
    }
    Errno::LISTED.iter().copied().find(|errno| errno.name() == text)
}

const UNITS: [(&str, i64); 4] = [("ns", 1), ("us", 1_000), ("ms", 1_000_000), ("s", 1_000_000_000)];

/// A time in its largest whole unit.
pub(crate) fn time(ns: Option<i64>) -> String {
    let Some(ns) = ns else { return "forever".to_owned() };
    if ns == 0 {
        return "0ms".to_owned();
    }
    let (unit, scale) = UNITS.iter().rev().find(|(_, scale)| ns % scale == 0).copied().unwrap_or(("ns", 1));
    format!("{}{unit}", ns / scale)
}

/// `50ms`, `-3s`, `forever`.
pub(crate) fn parse_time(text: &str) -> Option<Option<i64>> {
    if text == "forever" {
        return Some(None);
    }
    let digits = text.find(|c: char| c.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at(digits);
    let (_, scale) = UNITS.iter().find(|(name, _)| *name == unit)?;
    Some(Some(number.parse::<i64>().ok()?.checked_mul(*scale)?))
}

/// `5`, `-1`, `64K`, `1M`, `0x10`.
pub(crate) fn parse_number(text: &str) -> Option<i64> {
    if let Some(digits) = text.strip_prefix("0x") {
        return i64::from_str_radix(digits, 16).ok();
    }
    let (digits, scale) = match text.as_bytes().last()? {
        b'K' => (&text[..text.len() - 1], 1 << 10),
        b'M' => (&text[..text.len() - 1], 1 << 20),
        _ => (text, 1),
    };
    digits.parse::<i64>().ok()?.checked_mul(scale)
}

/// Bytes between quotes; what is not plain is escaped.
pub(crate) fn quoted(bytes: &[u8]) -> String {
    let mut text = String::from("\"");
    for &byte in bytes {
        match byte {
            b'"' | b'\\' => {
                text.push('\\');
                text.push(char::from(byte));
            }
            b' '..=b'~' => text.push(char::from(byte)),
            _ => text += &format!("\\x{byte:02x}"),
        }
    }
    text.push('"');
    text
}

/// The bytes that [`quoted`] wrote.
pub(crate) fn parse_quoted(text: &str) -> Option<Vec<u8>> {
    let inner = text.strip_prefix('"')?.strip_suffix('"')?;
    let mut bytes = Vec::new();
    let mut rest = inner.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        match rest.next()? {
            b'x' => {
                let digits = [rest.next()?, rest.next()?];
                bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
            }
            b'n' => bytes.push(b'\n'),
            other => bytes.push(other),
        }
    }
    Some(bytes)
}

/// Names of descriptors, numbers and waits begin with a capital, so that they are never taken for words.
pub(crate) fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_uppercase())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}
