//! What the kernel knows of a process: its memory, its computing time, its children.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};

/// Resident memory.
pub(crate) fn rss_kb(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let line = line.context("a process has memory")?;
    let number = line.split_whitespace().nth(1).context("a number of kB")?;
    Ok(number.parse()?)
}

/// Time that all its threads have spent on a core since each began.
pub(crate) fn busy(pid: u32) -> Result<Duration> {
    let mut busy = Duration::ZERO;
    for thread in threads(pid)? {
        // A thread may end meanwhile.
        let spent = fs::read_to_string(format!("/proc/{pid}/task/{thread}/schedstat"));
        let spent = spent.unwrap_or_default();
        let spent = spent.split_whitespace().next().map(str::parse);
        busy += Duration::from_nanos(spent.transpose()?.unwrap_or(0));
    }
    Ok(busy)
}

/// Processes that it started.
pub(crate) fn children(pid: u32) -> Result<Vec<u32>> {
    let mut children = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Ok(process) = entry?.file_name().to_string_lossy().parse::<u32>() else {
            continue;
        };
        // It may end meanwhile.
        let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
        if parent.is_some_and(|parent| parent.trim() == pid.to_string()) {
            children.push(process);
        }
    }
    Ok(children)
}

fn threads(pid: u32) -> Result<Vec<String>> {
    let threads = fs::read_dir(format!("/proc/{pid}/task"))?;
    threads
        .map(|thread| Ok(thread?.file_name().to_string_lossy().into_owned()))
        .collect()
}
