//! On which CPUs the workers run.

use std::fs;
use std::path::{Path, PathBuf};

use crate::config::Cores;

/// CPUs that are looked for in the affinity mask.
const CPUS_MAX: usize = rustix::thread::CpuSet::MAX_CPU;

/// One entry a worker: the CPU to pin it to.
///
/// `Cores::All` is every CPU this process may use, capped by the CPU quota of its control group: more
/// workers than the quota pays for would only take turns at being throttled.
///
/// # Errors
///
/// A listed CPU is not ours: say so and leave.
pub(super) fn choose(cores: &Cores) -> Result<Vec<usize>, String> {
    let allowed = allowed();
    match cores {
        Cores::All => {
            let count = quota().map_or(allowed.len(), |quota| quota.min(allowed.len())).max(1);
            Ok(allowed.into_iter().take(count).collect())
        }
        Cores::Count(count) => Ok(allowed.iter().copied().cycle().take(*count).collect()),
        Cores::Ids(ids) => {
            if let Some(id) = ids.iter().find(|id| !allowed.contains(id)) {
                return Err(format!(
                    "runtime.cores: CPU {id} is not available to this process; its CPUs are {allowed:?}"
                ));
            }
            Ok(ids.clone())
        }
    }
}

fn allowed() -> Vec<usize> {
    let cpus: Vec<usize> = rustix::thread::sched_getaffinity(None)
        .map(|set| (0..CPUS_MAX).filter(|cpu| set.is_set(*cpu)).collect())
        .unwrap_or_default();
    if cpus.is_empty() { vec![0] } else { cpus }
}

/// CPUs' worth of time that the control groups of this process may use, rounded up.
fn quota() -> Option<usize> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let quotas = groups.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        match controllers {
            "" => unified(path),
            names if names.split(',').any(|name| name == "cpu") => legacy(names, path),
            _ => None,
        }
    });
    quotas.min()
}

/// Version 2: the least of this group's and its parents' `cpu.max`.
fn unified(path: &str) -> Option<usize> {
    ancestors(Path::new("/sys/fs/cgroup"), path)
        .filter_map(|folder| parse_cpu_max(&fs::read_to_string(folder.join("cpu.max")).ok()?))
        .min()
}

/// Version 1: `cpu.cfs_quota_us` over `cpu.cfs_period_us`.
fn legacy(controllers: &str, path: &str) -> Option<usize> {
    let root = Path::new("/sys/fs/cgroup").join(controllers);
    ancestors(&root, path)
        .filter_map(|folder| {
            let quota = fs::read_to_string(folder.join("cpu.cfs_quota_us")).ok()?;
            let period = fs::read_to_string(folder.join("cpu.cfs_period_us")).ok()?;
            parse_cpu_max(&format!("{} {}", quota.trim(), period.trim()))
        })
        .min()
}

/// The folder of a group and those of its parents. Inside a container the path may name a folder that
/// is not mounted; the root is always tried.
fn ancestors(root: &Path, path: &str) -> impl Iterator<Item = PathBuf> {
    let folders: Vec<PathBuf> = Path::new(path.trim_start_matches('/'))
        .ancestors()
        .map(|relative| root.join(relative))
        .collect();
    folders.into_iter()
}

/// Parses `QUOTA PERIOD` in microseconds; `max` or -1 is no quota.
fn parse_cpu_max(text: &str) -> Option<usize> {
    let mut words = text.split_whitespace();
    let quota: u64 = words.next()?.parse().ok()?;
    let period: u64 = words.next()?.parse().ok()?;
    (period > 0).then(|| usize::try_from(quota.div_ceil(period)).unwrap_or(usize::MAX).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_is_rounded_up_to_whole_cpus() {
        assert_eq!(parse_cpu_max("max 100000"), None);
        assert_eq!(parse_cpu_max("-1 100000"), None);
        assert_eq!(parse_cpu_max("200000 100000\n"), Some(2));
        assert_eq!(parse_cpu_max("150000 100000"), Some(2));
        assert_eq!(parse_cpu_max("5000 100000"), Some(1));
        assert_eq!(parse_cpu_max("5000 0"), None);
        assert_eq!(parse_cpu_max(""), None);
    }

    #[test]
    fn a_group_is_asked_and_each_of_its_parents() {
        let found: Vec<_> = ancestors(Path::new("/r"), "/a/b").collect();
        assert_eq!(found, ["/r/a/b", "/r/a", "/r/"].map(PathBuf::from));
    }

    #[test]
    fn a_count_may_exceed_the_cpus_and_a_foreign_cpu_is_refused() {
        assert_eq!(choose(&Cores::Count(5)).map(|cpus| cpus.len()), Ok(5));
        assert!(choose(&Cores::Ids(vec![1_000_000])).is_err());
        assert!(choose(&Cores::All).is_ok_and(|cpus| !cpus.is_empty()));
    }
}
