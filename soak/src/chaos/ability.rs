//! What this machine can give of networks and memory: tried once, and undone at once.

use std::sync::OnceLock;

use super::ground::{Ground, Shape};
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
    let linked = Ground::make().and_then(|mut other| {
        ground.link(&mut other)?;
        Ok(other)
    });
    let tried = |shape: Shape| {
        let tried = linked.as_ref().map_err(String::clone).and_then(|_| ground.shape(shape));
        ground.unshape();
        tried.err()
    };
    let kilobits_per_s = 1000;
    let link = tried(Shape::Tbf { kilobits_per_s }).or_else(|| tried(Shape::Htb { kilobits_per_s }));
    let netem = tried(Shape::Netem { delay_ms: 1, loss_percent: 1 });
    Ability { ports, link, netem: netem.map(|reason| format!("this kernel has no netem ({reason})")), memory }
}
