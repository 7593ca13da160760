//! Memory that is asked for before it is taken: a size that cannot be had is an error with the
//! setting that decides it, before any work, and not a process that the system ends hours later.

use std::fs;

use sysinfo::System;

use crate::error::{Error, Result};

/// Bytes that this process can still take: what the machine, the container and the process's own
/// limit on addresses have left, the least of them. `None` where the system says nothing.
pub fn available() -> Option<u64> {
    [machine(), addresses()].into_iter().flatten().min()
}

/// Fails where `bytes` more cannot be had for `place`. `next` says which setting makes them fewer.
/// A floor of what the work takes is enough: it must never refuse what would have gone well.
///
/// # Errors
/// Too little memory.
pub fn ask(place: &str, bytes: u64, next: &str) -> Result<()> {
    // Most requests are small, and the answer costs a read of /proc.
    if bytes < 64 << 20 {
        return Ok(());
    }
    grant(place, bytes, available(), next)
}

fn grant(place: &str, bytes: u64, available: Option<u64>, next: &str) -> Result<()> {
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    match available {
        Some(left) if left < bytes => Err(Error::failed(
            place,
            format!("needs at least {} MiB of memory, and {} MiB can be had", mib(bytes), left >> 20),
        )
        .next(next)),
        _ => Ok(()),
    }
}

/// What the machine or the container has left, swap included.
fn machine() -> Option<u64> {
    let mut system = System::new().ok()?;
    system.refresh_memory();
    let left = system.available_memory().saturating_add(system.free_swap());
    // What files hold in a container's cache is given up when it is needed.
    let container = system.cgroup_limits().map(|c| c.total_memory.saturating_sub(c.rss).saturating_add(c.free_swap));
    (left > 0).then(|| container.map_or(left, |c| c.min(left)))
}

/// What `ulimit -v` leaves.
fn addresses() -> Option<u64> {
    let limit = limit_of(&fs::read_to_string("/proc/self/limits").ok()?)?;
    let taken = taken_of(&fs::read_to_string("/proc/self/status").ok()?)?;
    Some(limit.saturating_sub(taken))
}

fn limit_of(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|l| l.strip_prefix("Max address space"))?;
    line.split_whitespace().next()?.parse().ok()
}

fn taken_of(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|l| l.strip_prefix("VmSize:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_had_is_refused_with_the_way_out() {
        let refused = grant("graph.lightgcn.dim", 3 << 30, Some(1 << 30), "set a smaller dim").unwrap_err();
        assert_eq!(refused.exit_code(), 1);
        let said = refused.to_string();
        assert!(said.contains("3072 MiB") && said.contains("1024 MiB") && said.contains("a smaller dim"), "{said}");
        assert!(grant("a", 1 << 30, Some(1 << 30), "").is_ok() && grant("a", u64::MAX, None, "").is_ok());
    }

    #[test]
    fn limits_are_read_as_the_system_writes_them() {
        let limits = "Limit   Soft Limit  Hard Limit  Units\nMax address space         524288000            unlimited            bytes\n";
        assert_eq!(limit_of(limits), Some(524_288_000));
        assert_eq!(limit_of("Max address space         unlimited            unlimited            bytes\n"), None);
        assert_eq!(taken_of("Name:\tx\nVmPeak:\t  10 kB\nVmSize:\t  1024 kB\n"), Some(1 << 20));
        if cfg!(target_os = "linux") {
            assert!(available().is_some_and(|bytes| bytes > 0), "Linux says how much is left");
        }
    }
}
