//! `sim list`.

use std::io::{self, Write};

use sim::{Kernel, Oracle, Weather, WorkloadKind};

use super::Trouble;

const fn describe_kernel(kernel: Kernel) -> &'static str {
    match kernel {
        Kernel::Linux => "Linux 6: epoll, edge-triggered, and an eventfd",
        Kernel::Freebsd => "FreeBSD 14: kqueue",
        Kernel::Macos => "macOS 15: kqueue",
    }
}

const fn describe_weather(weather: Weather) -> &'static str {
    match weather {
        Weather::Calm => "no faults",
        Weather::Default => "each kind of fault on in one run of three, at moderate strength",
        Weather::Cruel => "each kind on in two runs of three, and stronger",
        Weather::Tiny => "as default, with buffers of a few bytes, loop budgets of two, few descriptors",
    }
}

pub(super) fn list() -> Result<u8, Trouble> {
    let mut out = io::stdout().lock();
    writeln!(out, "Workloads (--workload)")?;
    for kind in WorkloadKind::ALL {
        writeln!(out, "  {:<20} {}", kind, kind.describe())?;
    }
    writeln!(out, "\nKernels (--kernel)")?;
    for kernel in Kernel::ALL {
        writeln!(out, "  {:<20} {}", kernel, describe_kernel(kernel))?;
    }
    writeln!(out, "\nWeathers (--weather)")?;
    for weather in Weather::ALL {
        writeln!(out, "  {:<20} {}", weather, describe_weather(weather))?;
    }
    writeln!(out, "\nOracles")?;
    for &oracle in Oracle::ALL {
        writeln!(out, "  {:<20} {}", oracle, oracle.describe())?;
    }
    out.flush()?;
    Ok(0)
}
