//! Regular files, as far as sendfile(2) needs them.

use reactor::sys::{Errno, Fd};

use super::{Object, cost};
use crate::world::World;

/// An open regular file: its bytes and its offset.
#[derive(Debug)]
pub(crate) struct File {
    bytes: Vec<u8>,
    offset: usize,
}

impl File {
    /// Bytes between the offset and the end.
    pub(crate) fn left(&self) -> usize {
        self.bytes.len().saturating_sub(self.offset)
    }

    /// From the offset to the end; negative where the offset is behind the end.
    pub(crate) fn to_end(&self) -> i64 {
        let place = |bytes: usize| i64::try_from(bytes).unwrap_or(i64::MAX);
        place(self.bytes.len()) - place(self.offset)
    }

    /// What follows the offset, at most `length` bytes.
    fn next(&self, length: usize) -> &[u8] {
        let rest = self.bytes.get(self.offset..).unwrap_or(&[]);
        &rest[..length.min(rest.len())]
    }
}

impl World {
    pub(crate) fn file_create(&mut self, thread: u32, bytes: Vec<u8>) -> Result<Fd, Errno> {
        self.spend(thread, cost::CREATE);
        self.may_create(thread)?;
        let file = self.files.insert(File { bytes, offset: 0 });
        Ok(self.install(thread, Object::File(file)))
    }

    pub(crate) fn file_behind(&mut self, thread: u32, fd: Fd) -> Result<u32, Errno> {
        match self.object(thread, fd)? {
            Object::File(file) => Ok(file),
            _ => Err(Errno::EINVAL),
        }
    }

    /// lseek(2) from the start.
    pub(crate) fn file_seek(&mut self, thread: u32, fd: Fd, offset: u64) -> Result<u64, Errno> {
        self.spend(thread, cost::SETTING);
        let file = self.file_behind(thread, fd)?;
        self.files[file].offset = usize::try_from(offset).map_err(|_| Errno::EINVAL)?;
        Ok(offset)
    }

    pub(crate) fn file_read(&mut self, file: u32, length: usize) -> Vec<u8> {
        let entry = &mut self.files[file];
        let bytes = entry.next(length).to_vec();
        entry.offset += bytes.len();
        bytes
    }

    pub(crate) fn file_write(&mut self, file: u32, bytes: &[u8]) -> usize {
        let entry = &mut self.files[file];
        let end = entry.offset + bytes.len();
        if entry.bytes.len() < end {
            entry.bytes.resize(end, 0);
        }
        entry.bytes[entry.offset..end].copy_from_slice(bytes);
        entry.offset = end;
        bytes.len()
    }

    /// sendfile(2) at the file's offset: bounded by the room of what it goes to, as a send is; what does not go stays in the
    /// file.
    pub(crate) fn sendfile(&mut self, thread: u32, to: Fd, from: Fd, length: usize) -> Result<usize, Errno> {
        let target = self.object(thread, to)?;
        let file = self.file_behind(thread, from)?;
        let offset = self.files[file].offset;
        let bytes = self.files[file].next(length).to_vec();
        if bytes.is_empty() {
            return Ok(0);
        }
        let count = match target {
            Object::Socket(_) => self.send(thread, to, &[std::io::IoSlice::new(&bytes)])?,
            Object::PipeWriter(pipe) => self.pipe_splice(pipe, offset, &bytes)?,
            Object::Unix(unix) => self.unix_send(unix, &bytes, None)?,
            _ => return Err(Errno::EINVAL),
        };
        self.files[file].offset += count;
        Ok(count)
    }
}
