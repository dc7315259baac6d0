//! The same echo as tasks of a single-threaded tokio runtime.
//!
//! The tasks share one buffer: it is never held across an `await`, and a buffer for each would cost tokio the processor's
//! caches.

use std::cell::RefCell;
use std::io;

use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;

use crate::os::{self, would_block};
use crate::servers::{EVENTS_PER_WAIT, READ_BYTES};

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
}

/// Serves for ever.
pub(super) fn serve(announce: impl Fn(u16)) -> io::Result<()> {
    let listener = os::listener()?;
    announce(listener.local_addr()?.port());
    let runtime =
        Builder::new_current_thread().enable_io().max_io_events_per_tick(EVENTS_PER_WAIT).build()?;
    runtime.block_on(async move {
        // The task of `block_on` is polled beside the others; accepting in a task of its own spares that.
        tokio::spawn(async move {
            let listener = TcpListener::from_std(listener)?;
            loop {
                let (stream, _) = listener.accept().await?;
                tokio::spawn(echo(stream));
            }
        })
        .await?
    })
}

/// Echoes until the connection is over; how it ended does not matter here.
async fn echo(mut stream: TcpStream) -> io::Result<()> {
    loop {
        stream.readable().await?;
        let Some(unsent) = BUFFER.with_borrow_mut(|buffer| echo_once(&stream, buffer))? else {
            return Ok(());
        };
        if !unsent.is_empty() {
            stream.write_all(&unsent).await?;
        }
    }
}

/// Echoes what has arrived; answers what the kernel had no room for, and nothing at the end of the stream.
fn echo_once(stream: &TcpStream, buffer: &mut [u8]) -> io::Result<Option<Vec<u8>>> {
    let length = match stream.try_read(buffer) {
        Ok(0) => return Ok(None),
        Ok(length) => length,
        Err(error) if would_block(&error) => return Ok(Some(Vec::new())),
        Err(error) => return Err(error),
    };
    match stream.try_write(&buffer[..length]) {
        Ok(sent) => Ok(Some(buffer[sent..length].to_vec())),
        Err(error) if would_block(&error) => Ok(Some(buffer[..length].to_vec())),
        Err(error) => Err(error),
    }
}
