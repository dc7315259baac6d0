//! The limits of a loop, as lines of a recording.

use reactor::Config;

/// A limit above this is no limit of a loop that ran, and would only cost whoever makes one like it.
const VALUE_MAX: [(&str, u64); 4] = [
    ("read_bytes", 1 << 22),
    ("events_per_wait", 1 << 16),
    ("mailbox_messages_max", 1 << 18),
    ("messages_per_turn", 1 << 18),
];

macro_rules! settings {
    ($($name:ident)*) => {
        /// Every limit by name.
        pub(super) fn named(config: &Config) -> impl Iterator<Item = (&'static str, u64)> {
            // Taken apart, so that a limit that is missing here does not compile.
            let Config { $($name),* } = config.clone();
            [$((stringify!($name), $name as u64)),*].into_iter()
        }

        /// Sets a limit; `None` if there is no such limit, or it does not fit.
        fn set(config: &mut Config, name: &str, value: u64) -> Option<()> {
            match name {
                $(stringify!($name) => config.$name = value.try_into().ok()?,)*
                _ => return None,
            }
            Some(())
        }
    };
}

settings! {
    connections_max events_per_wait read_bytes reads_per_turn pending_bytes_max write_segments_max write_bytes_max
    writes_per_turn flush_early_bytes queue_bytes_high queue_bytes_low queue_bytes_max accepts_per_turn accept_pause_ns
    timers_per_turn tick_ns messages_per_turn mailbox_messages_max drain_ns linger_ns generation_start
}

/// Puts limits together; those that are not named keep their defaults.
pub(super) fn config_of<'a>(values: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Config, String> {
    let mut config = Config::default();
    for (name, value) in values {
        let number = value
            .parse()
            .ok()
            .filter(|number| VALUE_MAX.iter().all(|&(other, most)| other != name || *number <= most));
        number
            .and_then(|number| set(&mut config, name, number))
            .ok_or_else(|| format!("there is no limit {name} of {value:?} here"))?;
    }
    config.check()?;
    Ok(config)
}
