//! The workloads of `sim` on real sockets.
fn main() {}
