//! An echo server: `cargo run --release -p reactor --example echo -- 7000`, then `nc -N 127.0.0.1 7000`.

use std::net::{Ipv4Addr, SocketAddr};

use reactor::{Config, Context, Handler, ListenOptions, Origin, Reactor, Token, sys::System};

struct Echo;

impl Handler for Echo {
    type Connection = ();
    type Message = ();

    fn on_open(&mut self, _: &mut Context<'_>, _: Token, _: Origin) {}

    fn on_data(&mut self, ctx: &mut Context<'_>, token: Token, (): &mut (), bytes: &[u8]) -> usize {
        // Queued here, sent before the loop sleeps. Refused only when the connection is closed, or its queue is full.
        let _ = ctx.write(token, bytes);
        bytes.len()
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port = std::env::args().nth(1).map_or(Ok(0), |port| port.parse())?;
    let mut reactor = Reactor::new(System::new(), Config::default(), Echo)?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let listener = reactor.listen(address, &ListenOptions::default(), 0)?;
    println!("listening on {}", reactor.local_address(listener)?);
    Ok(reactor.run()?)
}
