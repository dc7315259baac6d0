//! What a machine must grant so that a script can run live: a sandbox may refuse some calls.
//!
//! A script that needs what is missing is skipped, and the reason says what is missing; it never counts as passed.

use std::collections::BTreeSet;

use super::step::{Action, Call, Script, Step};
use super::verb::Verb;

macro_rules! capabilities {
    ($($capability:ident $name:literal $says:literal,)*) => {
        /// A capability of the machine.
        #[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
        pub enum Capability { $(#[doc = $says] $capability,)* }

        impl Capability {
            /// Every capability.
            pub const ALL: &'static [Capability] = &[$(Capability::$capability),*];

            /// As `needs` names it in scripts.
            pub const fn name(self) -> &'static str {
                match self { $(Capability::$capability => $name,)* }
            }

            /// What it is.
            pub const fn says(self) -> &'static str {
                match self { $(Capability::$capability => $says,)* }
            }
        }
    };
}

capabilities! {
    NetworkNamespace "netns" "A network of its own, by unshare(2): its range of ports and its loopback can be changed.",
    DescriptorLimit "rlimit" "Setting the soft limit on descriptors, by setrlimit(2).",
    ReusePort "reuseport" "`SO_REUSEPORT`.",
    Threads "threads" "Looking at a thread in /proc and sending it a signal, by tgkill(2).",
    File "file" "A file without a name in the folder for temporary files.",
    Pwait2 "pwait2" "epoll_pwait2(2), since Linux 5.11.",
}

impl Capability {
    /// The capability with this name.
    pub fn from_name(name: &str) -> Option<Capability> {
        Capability::ALL.iter().copied().find(|capability| capability.name() == name)
    }

    /// All that a script needs: what it says, and what its verbs take.
    pub fn needed_by(script: &Script) -> BTreeSet<Capability> {
        let mut needed: BTreeSet<Capability> = script.needs.iter().copied().collect();
        needed_by_steps(&script.steps, &mut needed);
        needed
    }

    /// Why the machine does not grant it; `None` if it does. Tries it out, on Linux; elsewhere nothing is granted.
    pub fn missing(self) -> Option<String> {
        #[cfg(target_os = "linux")]
        return super::live::missing(self);
        #[cfg(not(target_os = "linux"))]
        return Some("this machine does not run Linux".to_owned());
    }
}

fn needed_by_steps(steps: &[Step], needed: &mut BTreeSet<Capability>) {
    for step in steps {
        match &step.action {
            Action::Call { call, .. } | Action::Count { call, .. } | Action::Sum { call, .. } => {
                needed.extend(needed_by_call(call));
            }
            Action::Repeat { body, .. } => needed_by_steps(body, needed),
            Action::Until { call, body, .. } => {
                needed.extend(needed_by_call(call));
                needed_by_steps(body, needed);
            }
            Action::Check { .. } => {}
        }
    }
}

fn needed_by_call(call: &Call) -> Option<Capability> {
    match call.verb {
        Verb::Limit => Some(Capability::DescriptorLimit),
        Verb::File => Some(Capability::File),
        Verb::Pwait2 => Some(Capability::Pwait2),
        Verb::StartWait => Some(Capability::Threads),
        // What belongs to the whole machine is changed in a network of its own only.
        Verb::Ports | Verb::Loopback => Some(Capability::NetworkNamespace),
        Verb::Set if call.arguments.iter().any(|argument| argument.to_string() == "reuseport") => {
            Some(Capability::ReusePort)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_needs_what_it_says_and_what_its_verbs_take_inside_of_blocks_too() {
        let text = "# T0\nneeds netns\nA = socket\nrepeat 2 {\nset A reuseport 1\nuntil limit here -> ok {\nclose A\n}\n}\n";
        let needed = Capability::needed_by(&Script::parse(text).unwrap());
        let expected = [Capability::NetworkNamespace, Capability::DescriptorLimit, Capability::ReusePort];
        assert_eq!(needed.into_iter().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_need_that_does_not_exist_is_refused_by_name() {
        let error = Script::parse("# T0\nneeds luck\n").unwrap_err();
        assert!(error.message.contains("luck") && error.message.contains("netns"), "{error}");
    }
}
