//! What this machine can give of networks and memory: tried once, and undone at once.

use std::sync::OnceLock;

use super::ground::Ground;
use super::kind::Kind;
use super::memory_group::MemoryGroup;

/// Why each of them cannot be had; `None` where it can.
#[derive(Debug)]
struct Ability {
    ports: Option<String>,
    link: Option<String>,
    netem: Option<String>,
    memory: Option<String>,
}

/// Why a kind cannot be had on this machine.
pub(super) fn missing(kind: Kind) -> Option<&'static str> {
    static ABILITY: OnceLock<Ability> = OnceLock::new();
    let ability = || ABILITY.get_or_init(look);
    let reason = match kind {
        Kind::Ports => &ability().ports,
        Kind::Link => &ability().link,
        Kind::Netem => &ability().netem,
        Kind::Memory => &ability().memory,
        _ => return None,
    };
    reason.as_deref()
}

fn look() -> Ability {
    let memory = MemoryGroup::make().err();
    let mut ground = match Ground::make() {
        Ok(ground) => ground,
        Err(reason) => {
            let reason = Some(reason);
            return Ability { ports: reason.clone(), link: reason.clone(), netem: reason, memory };
        }
    };
    let ports = ground.limit_ports(None).err();
    // The link is gone with either of its ends.
    let linked = Ground::make().and_then(|mut other| {
        ground.link(&mut other)?;
        ground.lay_queues(false)?;
        other.lay_queues(false).map(|()| other)
    });
    let netem = match &linked {
        Ok(_) => ground.lay_queues(true).err().map(|reason| format!("this kernel has no netem ({reason})")),
        Err(reason) => Some(reason.clone()),
    };
    Ability { ports, link: linked.err(), netem, memory }
}
