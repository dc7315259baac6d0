//! What files of this project are made of: a first line that says what the file is, then frames with checksums.
//!
//! ```text
//! MAGIC VERSION                        the first line
//! frame*                               kind: u8, length: varint, payload, CRC-32 of kind and payload: u32, little-endian
//! ```
//!
//! Numbers are LEB128. A payload may be text in lines `name value`. A file that was cut off is read up to its last whole
//! frame.

pub(crate) mod varint;

use std::collections::BTreeMap;
use std::fmt;

/// What a file begins with.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Format {
    /// The first line, without the version.
    pub magic: &'static str,
    /// The version that is written, and the newest that is read.
    pub version: u32,
    /// What such a file is.
    pub what: &'static str,
}

/// Why bytes are not what they should be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FileError {
    /// Something else altogether.
    Foreign(Format),
    /// It begins with the right word, and then with no version that there is.
    NoVersion(Format),
    /// Made by a newer program.
    Newer {
        /// Its version of the format.
        version: u64,
        /// The newest version that is read.
        newest: u32,
    },
    /// The ends of its lines were changed, and so was the rest.
    CarriageReturns,
    /// Too short to have so much as a whole header.
    Truncated,
    /// A frame is not what its checksum says.
    Damaged {
        /// Where the frame begins, in bytes.
        offset: usize,
    },
    /// A frame makes no sense.
    Senseless {
        /// Where the frame begins, in bytes.
        offset: usize,
        /// What is wrong with it.
        what: String,
    },
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FileError::Foreign(Format { magic, what, .. }) => {
                write!(f, "it does not begin with `{magic}`, so it is no {what}")
            }
            FileError::NoVersion(Format { magic, version, what }) => write!(
                f,
                "its first line is not `{magic} {version}`, nor of another version from 1 on, so it is no {what} that can be read"
            ),
            FileError::CarriageReturns => f.write_str(
                "its lines end with a carriage return: it was copied as text, which damages it; copy it again, as it is (git: `-text`)"
            ),
            FileError::Newer { version, newest } => write!(
                f,
                "it has version {version} of the format, and this program reads up to {newest}: take a newer `sim`"
            ),
            FileError::Truncated => {
                f.write_str("it ends before its header does, so nothing of it can be used")
            }
            FileError::Damaged { offset } => {
                write!(
                    f,
                    "it is damaged: the frame at byte {offset} does not match its checksum; copy it again, or make the run again \
                     from its seed"
                )
            }
            FileError::Senseless { offset, what } => {
                write!(f, "the frame at byte {offset} makes no sense: {what}")
            }
        }
    }
}

impl std::error::Error for FileError {}

/// Digits of the largest version that is taken for one.
const VERSION_DIGITS_MAX: usize = 9;

impl Format {
    /// The first line.
    pub(crate) fn first_line(self) -> Vec<u8> {
        format!("{} {}\n", self.magic, self.version).into_bytes()
    }

    /// The bytes after the first line.
    pub(crate) fn after_first_line(self, bytes: &[u8]) -> Result<&[u8], FileError> {
        let rest = bytes.strip_prefix(self.magic.as_bytes()).ok_or(FileError::Foreign(self))?;
        if rest.len() <= 1 && b" ".starts_with(rest) {
            return Err(FileError::Truncated);
        }
        let rest = rest.strip_prefix(b" ").ok_or(FileError::NoVersion(self))?;
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (digits, rest) = rest.split_at(digits.min(VERSION_DIGITS_MAX));
        let version = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
        match (version, rest) {
            (None | Some(0), _) => Err(FileError::NoVersion(self)),
            (Some(_), []) => Err(FileError::Truncated),
            (Some(_), [b'\r', b'\n', ..]) => Err(FileError::CarriageReturns),
            (Some(version), [b'\n', ..]) if version > u64::from(self.version) => {
                Err(FileError::Newer { version, newest: self.version })
            }
            (Some(_), [b'\n', rest @ ..]) => Ok(rest),
            (Some(_), _) => Err(FileError::NoVersion(self)),
        }
    }
}

/// Appends a frame.
pub(crate) fn put(bytes: &mut Vec<u8>, kind: u8, payload: &[u8]) {
    bytes.extend_from_slice(&head(kind, payload));
    bytes.extend_from_slice(payload);
    bytes.extend_from_slice(&checksum(kind, payload).to_le_bytes());
}

/// What a frame begins with, before its payload.
pub(crate) fn head(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut head = vec![kind];
    varint::put(&mut head, payload.len() as u64);
    head
}

/// What a frame ends with.
pub(crate) fn checksum(kind: u8, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[kind]);
    hasher.update(payload);
    hasher.finalize()
}

/// A part of a file.
pub(crate) struct Frame<'a> {
    pub(crate) kind: u8,
    pub(crate) payload: &'a [u8],
}

/// The next whole frame; `None` at the end, or where the file was cut off.
pub(crate) fn next<'a>(rest: &mut &'a [u8], offset: usize) -> Result<Option<Frame<'a>>, FileError> {
    let mut ahead = *rest;
    let Some((&kind, after)) = ahead.split_first() else { return Ok(None) };
    ahead = after;
    let Some(length) = varint::take(&mut ahead) else { return Ok(None) };
    let Ok(length) = usize::try_from(length) else { return Ok(None) };
    let Some(whole) = length.checked_add(4).filter(|&whole| whole <= ahead.len()) else { return Ok(None) };
    let (payload, sum) = ahead[..whole].split_at(length);
    if checksum(kind, payload).to_le_bytes() != *sum {
        return Err(FileError::Damaged { offset });
    }
    *rest = &ahead[whole..];
    Ok(Some(Frame { kind, payload }))
}

/// Appends a line `name value`; no value breaks the line.
pub(crate) fn line(text: &mut String, name: &str, value: &str) {
    let value = value.replace('\\', "\\\\").replace('\n', "\\n");
    text.push_str(&format!("{name} {value}\n"));
}

/// Reads lines `name value`.
pub(crate) fn lines(payload: &[u8]) -> Result<BTreeMap<&str, String>, String> {
    let text = std::str::from_utf8(payload).map_err(|_| "it is not text".to_owned())?;
    let mut found = BTreeMap::new();
    // Not `lines()`, which takes a carriage return off the end of a value.
    for line in text.split_terminator('\n') {
        let (name, value) = line.split_once(' ').ok_or_else(|| format!("{line:?} has no value"))?;
        found.insert(name, unescaped(value));
    }
    Ok(found)
}

fn unescaped(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    let mut letters = value.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => text.push(if letters.next() == Some('n') { '\n' } else { '\\' }),
            _ => text.push(letter),
        }
    }
    text
}

/// The value of a line.
pub(crate) fn named<T>(
    lines: &BTreeMap<&str, String>,
    name: &str,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<T, String> {
    let value = lines.get(name).ok_or_else(|| format!("no {name} is named"))?;
    parse(value).ok_or_else(|| format!("there is no {name} {value:?} here"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_line_that_is_nearly_right_says_what_is_wrong_with_it() {
        let format = Format { magic: "sim-log", version: 3, what: "kept run" };
        let of = |bytes: &[u8]| format.after_first_line(bytes).map(<[u8]>::len);
        assert_eq!(of(b"sim-log 3\nrest"), Ok(4));
        for nearly in [
            &b"sim-log x\n"[..],
            b"sim-log 0\n",
            b"sim-log 3x\n",
            b"sim-logs\n",
            b"sim-log \n",
            b"sim-log -1\n",
        ] {
            assert_eq!(of(nearly), Err(FileError::NoVersion(format)), "{nearly:?}");
        }
        // More digits than any version has.
        assert_eq!(of(b"sim-log 99999999999999999999\n"), Err(FileError::NoVersion(format)));
        assert_eq!(of(b"sim-log 4\n"), Err(FileError::Newer { version: 4, newest: 3 }));
        assert_eq!(of(b"sim-log 3\r\nrest"), Err(FileError::CarriageReturns));
        for cut in [&b"sim-log"[..], b"sim-log ", b"sim-log 3"] {
            assert_eq!(of(cut), Err(FileError::Truncated), "{cut:?}");
        }
        assert_eq!(of(b"sim-l"), Err(FileError::Foreign(format)));
    }
}
