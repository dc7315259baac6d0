//! The whole loop under one workload: every decision of the simulated world is drawn from the bytes.

use super::Target;
use sim::WorkloadKind;

/// Clients of every temper against an echo service.
#[derive(Debug)]
pub enum LoopEcho {}

/// Timers against a model.
#[derive(Debug)]
pub enum LoopTimers {}

/// Messages from other threads.
#[derive(Debug)]
pub enum LoopWake {}

/// Hosts that ask each other while some die.
#[derive(Debug)]
pub enum LoopCluster {}

impl Target for LoopEcho {
    const NAME: &'static str = "loop_echo";

    fn check(bytes: &[u8]) {
        sim::check_bytes(WorkloadKind::Echo, bytes);
    }

    fn tell(bytes: &[u8]) -> String {
        sim::tell_bytes(WorkloadKind::Echo, bytes)
    }
}

impl Target for LoopTimers {
    const NAME: &'static str = "loop_timers";

    fn check(bytes: &[u8]) {
        sim::check_bytes(WorkloadKind::Timers, bytes);
    }

    fn tell(bytes: &[u8]) -> String {
        sim::tell_bytes(WorkloadKind::Timers, bytes)
    }
}

impl Target for LoopWake {
    const NAME: &'static str = "loop_wake";

    fn check(bytes: &[u8]) {
        sim::check_bytes(WorkloadKind::Wake, bytes);
    }

    fn tell(bytes: &[u8]) -> String {
        sim::tell_bytes(WorkloadKind::Wake, bytes)
    }
}

impl Target for LoopCluster {
    const NAME: &'static str = "loop_cluster";

    fn check(bytes: &[u8]) {
        sim::check_bytes(WorkloadKind::Cluster, bytes);
    }

    fn tell(bytes: &[u8]) -> String {
        sim::tell_bytes(WorkloadKind::Cluster, bytes)
    }
}
