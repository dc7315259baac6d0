//! The packets of a run as a capture: pcapng, raw IPv4, times in nanoseconds.
//!
//! Each packet is seen where its sender puts it on the link, so lost ones are there too, with a comment that says so. What the
//! simulated network has no notion of is made up: IPv4 and TCP headers, with right checksums; the sequence number of a stream's
//! first byte is 1. Segments are as large as the simulation makes them, but for those that would not fit into one packet. Bytes
//! that the run no longer kept (see [`crate::scene::BYTES_MAX`]) are missing from the capture, not from the lengths it tells.

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddrV4};

use super::{View, name_of_connection};
use crate::scene::{Packet, PacketKind, SceneConnection};

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const ENHANCED_PACKET: u32 = 6;
const BYTE_ORDER: u32 = 0x1a2b_3c4d;
/// Packets begin with their IP header.
const LINK_TYPE_RAW: u16 = 101;
const OPTION_COMMENT: u16 = 1;
const OPTION_HARDWARE: u16 = 2;
const OPTION_APPLICATION: u16 = 4;
const OPTION_NAME: u16 = 2;
const OPTION_RESOLUTION: u16 = 9;
/// A power of ten: nanoseconds.
const NANOSECONDS: u8 = 9;
/// An IPv4 packet has at most 65,535 bytes.
const PAYLOAD_MAX: u64 = 65_000;
const HEADERS: usize = 40;

pub(super) fn write(view: &View<'_>, out: &mut dyn Write) -> io::Result<()> {
    let mut body = Vec::new();
    for word in [BYTE_ORDER, 1] {
        // The version is 1.0: two halves, the greater one first.
        body.extend(word.to_le_bytes());
    }
    // The length of the section is left open.
    body.extend(u64::MAX.to_le_bytes());
    let outcome = view.outcome;
    let run = format!(
        "{} on {} in {} weather, from {}",
        outcome.workload, outcome.kernel, outcome.weather, view.source
    );
    option(&mut body, OPTION_COMMENT, run.as_bytes());
    option(&mut body, OPTION_HARDWARE, b"simulated");
    option(&mut body, OPTION_APPLICATION, format!("sim {}", env!("CARGO_PKG_VERSION")).as_bytes());
    end_of_options(&mut body);
    block(out, SECTION, &body)?;

    body.clear();
    body.extend(LINK_TYPE_RAW.to_le_bytes());
    body.extend([0; 2]);
    // No limit to what is captured of a packet.
    body.extend(0_u32.to_le_bytes());
    option(&mut body, OPTION_NAME, b"sim0");
    option(&mut body, OPTION_RESOLUTION, &[NANOSECONDS]);
    end_of_options(&mut body);
    block(out, INTERFACE, &body)?;

    let mut packets: Vec<&Packet> = view.scene.packets.iter().collect();
    packets.sort_by_key(|packet| packet.sent);
    let mut identification = 0_u16;
    for packet in packets {
        let connection = &view.scene.connections[packet.connection as usize];
        for part in parts(packet) {
            identification = identification.wrapping_add(1);
            write_packet(view, out, connection, &part, identification)?;
        }
    }
    Ok(())
}

/// The packet, cut so that each part fits.
fn parts(packet: &Packet) -> impl Iterator<Item = Packet> + '_ {
    let count = packet.length.div_ceil(PAYLOAD_MAX).max(1);
    (0..count).map(move |part| {
        let offset = part * PAYLOAD_MAX;
        Packet {
            position: packet.position + offset,
            length: (packet.length - offset).min(PAYLOAD_MAX),
            end: packet.end && part + 1 == count,
            ..*packet
        }
    })
}

fn write_packet(
    view: &View<'_>,
    out: &mut dyn Write,
    connection: &SceneConnection,
    packet: &Packet,
    identification: u16,
) -> io::Result<()> {
    let side = usize::from(packet.side);
    let [from, to] = [connection.addresses[side], connection.addresses[1 - side]];
    let kept = &connection.bytes[side];
    let place = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(kept.len());
    let payload = &kept[place(packet.position)..place(packet.position + packet.length)];
    let bytes = headers(from, to, packet, payload, identification);

    let time = view.since_start(packet.sent);
    let mut body = Vec::with_capacity(bytes.len() + payload.len() + 64);
    // The only interface.
    body.extend(0_u32.to_le_bytes());
    body.extend(((time >> 32) as u32).to_le_bytes());
    body.extend((time as u32).to_le_bytes());
    body.extend(((bytes.len() + payload.len()) as u32).to_le_bytes());
    body.extend((bytes.len() as u32 + packet.length as u32).to_le_bytes());
    body.extend(&bytes);
    body.extend(payload);
    pad(&mut body);
    let mut comment = Vec::new();
    if packet.again {
        comment.push("sent again");
    }
    if packet.lost {
        comment.push("lost on the way");
    }
    if !comment.is_empty() {
        let comment = format!("{}: {}", name_of_connection(connection), comment.join(", "));
        option(&mut body, OPTION_COMMENT, comment.as_bytes());
        end_of_options(&mut body);
    }
    block(out, ENHANCED_PACKET, &body)
}

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const PSH: u8 = 8;
const ACK: u8 = 16;

fn headers(
    from: SocketAddrV4,
    to: SocketAddrV4,
    packet: &Packet,
    payload: &[u8],
    identification: u16,
) -> Vec<u8> {
    // The SYN has the number 0, the first byte 1.
    let (flags, sequence) = match packet.kind {
        PacketKind::Syn => (SYN, 0),
        PacketKind::SynAck => (SYN | ACK, 0),
        PacketKind::Acknowledgement => (ACK, packet.position + 1),
        PacketKind::Data => {
            let push = if packet.length > 0 { PSH } else { 0 };
            (ACK | push | if packet.end { FIN } else { 0 }, packet.position + 1)
        }
        PacketKind::Reset => (RST | ACK, packet.position + 1),
    };
    let acknowledges = if flags & ACK == 0 { 0 } else { packet.acknowledges + 1 };
    let mut ip = Vec::with_capacity(HEADERS);
    ip.extend([0x45, 0]);
    ip.extend((HEADERS as u16 + packet.length as u16).to_be_bytes());
    ip.extend(identification.to_be_bytes());
    // Not to be fragmented; 64 hops; TCP; the checksum follows.
    ip.extend([0x40, 0, 64, 6, 0, 0]);
    ip.extend(from.ip().octets());
    ip.extend(to.ip().octets());
    let sum = checksum(&[&ip]);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());

    let mut tcp = Vec::with_capacity(HEADERS / 2);
    tcp.extend(from.port().to_be_bytes());
    tcp.extend(to.port().to_be_bytes());
    tcp.extend((sequence as u32).to_be_bytes());
    tcp.extend((acknowledges as u32).to_be_bytes());
    tcp.extend([0x50, flags]);
    tcp.extend((packet.window.min(u64::from(u16::MAX)) as u16).to_be_bytes());
    tcp.extend([0; 4]);
    // Of bytes that are not kept there is no sum.
    if payload.len() as u64 == packet.length {
        let pseudo = pseudo_header(*from.ip(), *to.ip(), tcp.len() + payload.len());
        let sum = checksum(&[&pseudo, &tcp, payload]);
        tcp[16..18].copy_from_slice(&sum.to_be_bytes());
    }
    ip.extend(tcp);
    ip
}

fn pseudo_header(from: Ipv4Addr, to: Ipv4Addr, length: usize) -> Vec<u8> {
    let mut header = Vec::with_capacity(12);
    header.extend(from.octets());
    header.extend(to.octets());
    header.extend([0, 6]);
    header.extend((length as u16).to_be_bytes());
    header
}

/// The Internet checksum. Every part but the last has an even length.
fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0_u64;
    for pair in parts.iter().flat_map(|part| part.chunks(2)) {
        sum += u64::from(pair[0]) << 8 | u64::from(pair.get(1).copied().unwrap_or(0));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn pad(body: &mut Vec<u8>) {
    body.resize(body.len().next_multiple_of(4), 0);
}

fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    let value = &value[..value.len().min(usize::from(u16::MAX))];
    body.extend(code.to_le_bytes());
    body.extend((value.len() as u16).to_le_bytes());
    body.extend(value);
    pad(body);
}

fn end_of_options(body: &mut Vec<u8>) {
    body.extend([0; 4]);
}

fn block(out: &mut dyn Write, kind: u32, body: &[u8]) -> io::Result<()> {
    // Both lengths count everything, themselves included.
    let length = (body.len() as u32 + 12).to_le_bytes();
    out.write_all(&kind.to_le_bytes())?;
    out.write_all(&length)?;
    out.write_all(body)?;
    out.write_all(&length)
}
