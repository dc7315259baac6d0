//! Files as the simulator reads and writes them: never more memory than a file may have, never half a file in place of a whole one.

use std::borrow::Cow;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

/// The largest file that is read in one piece: a run of ten million calls has less.
pub const BYTES_MAX: u64 = 1 << 28;

/// Reads a file, or a pipe up to its end.
///
/// # Errors
/// Those of the system; what is neither a file nor a pipe, which may have no end; what is longer than [`BYTES_MAX`].
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    // Opening some devices, and pipes that nobody writes to, takes for ever: of those only pipes are asked for.
    let about = fs::metadata(path)?;
    if about.is_dir() {
        return Err(io::Error::from(io::ErrorKind::IsADirectory));
    }
    if is_endless(&about) {
        return Err(io::Error::other("it is a device, not a file"));
    }
    read_bounded(File::open(path)?, about.len(), BYTES_MAX)
}

/// Reads a file that should be text, see [`read`].
///
/// # Errors
/// As [`read`]; text that is not UTF-8 is `InvalidData`.
pub fn read_text(path: &Path) -> io::Result<String> {
    let not_text = |_| io::Error::new(io::ErrorKind::InvalidData, "it is not text (UTF-8)");
    String::from_utf8(read(path)?).map_err(not_text)
}

/// Text that came from a file, as it may be shown: without anything that a terminal would obey.
pub fn shown(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return Cow::Borrowed(text);
    }
    let escaped = |letter: char| {
        if letter.is_control() { letter.escape_default().to_string() } else { letter.to_string() }
    };
    Cow::Owned(text.chars().map(escaped).collect())
}

fn read_bounded(input: impl Read, length: u64, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // The length that a system tells is not always the one that there is, so the reading itself is bounded too.
    if length <= most {
        input.take(most + 1).read_to_end(&mut bytes)?;
    }
    if length.max(bytes.len() as u64) > most {
        let text = format!("it has more than {most} bytes, and nothing that is read here is that long");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
    }
    Ok(bytes)
}

#[cfg(unix)]
fn is_endless(about: &fs::Metadata) -> bool {
    use std::os::unix::fs::FileTypeExt;
    about.file_type().is_char_device() || about.file_type().is_block_device()
}

#[cfg(not(unix))]
fn is_endless(_: &fs::Metadata) -> bool {
    false
}

/// Writes a file beside its place, and puts it there once it is whole: a full disk leaves what was there before. What is
/// there already and is no file, as `/dev/stdout`, is written to directly.
///
/// # Errors
/// Those of the system, and of `content`.
pub fn replace(path: &Path, content: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    if fs::metadata(path).is_ok_and(|about| !about.is_file()) {
        return fill(File::create(path)?, content);
    }
    // A link stays one: what it leads to is replaced.
    let place = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let beside = beside(&place);
    let written = File::create(&beside).and_then(|file| fill(file, content));
    let placed = written.and_then(|()| fs::rename(&beside, &place));
    if placed.is_err() {
        // It may never have come to be.
        let _ = fs::remove_file(&beside);
    }
    placed
}

/// [`replace`] with these bytes.
///
/// # Errors
/// As [`replace`].
pub fn replace_with(path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace(path, |out| out.write_all(bytes))
}

/// [`replace_with`] in a folder that is made where it is missing.
///
/// # Errors
/// As [`replace`].
pub fn keep(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    replace_with(path, bytes)
}

/// Two processes that write the same file do not write into each other's.
fn beside(place: &Path) -> PathBuf {
    let mut name = place.as_os_str().to_owned();
    name.push(format!(".{}.partial", std::process::id()));
    PathBuf::from(name)
}

fn fill(file: File, content: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let mut out = BufWriter::new(file);
    content(&mut out)?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_end_is_read_up_to_the_bound_whatever_length_it_claims() {
        assert_eq!(read_bounded(&b"four"[..], 0, 4).unwrap(), b"four");
        for (input, claimed) in [(&b"fives"[..], 0), (&b"five"[..], 5)] {
            let error = read_bounded(input, claimed, 4).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
        }
        let error = read_bounded(io::repeat(0), 0, 4).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
        #[cfg(unix)]
        assert!(read(Path::new("/dev/zero")).is_err());
    }

    #[test]
    fn what_cannot_be_written_whole_leaves_what_was_there_and_nothing_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/kept");
        assert_eq!(replace_with(&path, b"first").unwrap_err().kind(), io::ErrorKind::NotFound);
        keep(&path, b"first").unwrap();
        let full = |out: &mut dyn Write| {
            out.write_all(b"sec")?;
            Err(io::Error::from(io::ErrorKind::StorageFull))
        };
        assert_eq!(replace(&path, full).unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(fs::read(&path).unwrap(), b"first");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        replace_with(&path, b"second").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"second");
    }

    #[test]
    fn a_terminal_is_not_told_anything_by_a_file() {
        assert_eq!(shown("plain, and \u{e9}"), "plain, and \u{e9}");
        assert_eq!(shown("a\u{1b}[2Jb\n\u{9b}c"), "a\\u{1b}[2Jb\\n\\u{9b}c");
    }

    #[test]
    #[cfg(unix)]
    fn a_link_and_a_device_stay_what_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        fs::write(&file, b"first").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        replace_with(&link, b"second").unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"second");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        replace_with(Path::new("/dev/null"), b"third").unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
    }
}
