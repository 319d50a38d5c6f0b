//! System calls, by seccomp: those that computing needs, and no others.
//!
//! Two kinds of filters lie on top of each other; the stricter word counts. The refusals answer
//! with an error what the C library or a driver tries and can do without. The list names what is
//! let through; any other call ends the process, and the kernel's log says which one it was.
//!
//! The list was found by tracing engines through loads, answers, aborts and a change of threads,
//! and has some neighbours of what was seen, for other versions of the C library.

use std::collections::BTreeMap;

use libc::{
    CLONE_NEWCGROUP, CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWUSER,
    CLONE_NEWUTS, CLONE_THREAD, CLONE_VM, ENOSYS, EPERM, O_ACCMODE, O_CREAT, O_RDWR, O_TRUNC,
    O_WRONLY, PR_GET_NAME, PR_SET_NAME, PR_SET_NO_NEW_PRIVS, PROT_EXEC,
};
use seccompiler::{
    BpfProgram, Error, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch,
};

use super::Gear;

/// `PR_SET_VMA`: newer C libraries give names to the memory that they map.
const PR_SET_VMA: u64 = 0x5356_4d41;

/// Computing, reading what was named, talking over the socket, ending.
#[rustfmt::skip] // grouped by purpose
const ALLOWED: &[i64] = &[
    // Memory.
    libc::SYS_mmap, libc::SYS_munmap, libc::SYS_mremap, libc::SYS_mprotect, libc::SYS_madvise,
    libc::SYS_brk, libc::SYS_mincore, libc::SYS_membarrier,
    // Files, which others hold to reading.
    libc::SYS_openat, libc::SYS_close, libc::SYS_read, libc::SYS_readv, libc::SYS_pread64,
    libc::SYS_preadv, libc::SYS_lseek, libc::SYS_fstat, libc::SYS_newfstatat, libc::SYS_statx,
    libc::SYS_readlinkat, libc::SYS_faccessat, libc::SYS_faccessat2, libc::SYS_getdents64,
    libc::SYS_fadvise64, libc::SYS_fcntl, libc::SYS_dup, libc::SYS_getcwd, libc::SYS_ioctl,
    // The socket and standard error.
    libc::SYS_write, libc::SYS_writev, libc::SYS_sendto, libc::SYS_recvfrom, libc::SYS_shutdown,
    libc::SYS_ppoll,
    // Threads.
    libc::SYS_clone3, libc::SYS_set_robust_list, libc::SYS_rseq, libc::SYS_futex,
    libc::SYS_sched_yield, libc::SYS_sched_getaffinity, libc::SYS_sched_setaffinity,
    libc::SYS_sched_setscheduler, libc::SYS_setpriority, libc::SYS_getcpu, libc::SYS_gettid,
    libc::SYS_getpid, libc::SYS_exit, libc::SYS_exit_group, libc::SYS_prctl,
    // Signals to itself.
    libc::SYS_rt_sigaction, libc::SYS_rt_sigprocmask, libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack, libc::SYS_restart_syscall,
    // Time.
    libc::SYS_clock_gettime, libc::SYS_clock_getres, libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep, libc::SYS_gettimeofday,
    // What the machine is like.
    libc::SYS_sysinfo, libc::SYS_uname, libc::SYS_getrandom, libc::SYS_getrusage,
    libc::SYS_getuid, libc::SYS_geteuid, libc::SYS_getgid, libc::SYS_getegid, libc::SYS_getppid,
    libc::SYS_get_mempolicy, libc::SYS_set_mempolicy, libc::SYS_mbind, libc::SYS_mlock,
    libc::SYS_munlock,
];

/// The same by the names that only this processor has.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const ALLOWED_HERE: &[i64] = &[
    libc::SYS_open, libc::SYS_stat, libc::SYS_lstat, libc::SYS_access, libc::SYS_readlink,
    libc::SYS_poll, libc::SYS_time, libc::SYS_arch_prctl,
];
#[cfg(not(target_arch = "x86_64"))]
const ALLOWED_HERE: &[i64] = &[];

/// What a graphics processor's libraries do besides.
#[rustfmt::skip]
const ALLOWED_WITH_DEVICES: &[i64] = &[
    libc::SYS_memfd_create, libc::SYS_ftruncate, libc::SYS_eventfd2, libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl, libc::SYS_epoll_pwait, libc::SYS_pipe2, libc::SYS_dup3,
    libc::SYS_flock, libc::SYS_statfs, libc::SYS_fstatfs, libc::SYS_msync, libc::SYS_mlock2,
    libc::SYS_timerfd_create, libc::SYS_timerfd_settime, libc::SYS_getsockopt,
    libc::SYS_sched_getparam, libc::SYS_sched_getscheduler, libc::SYS_sched_get_priority_max,
    libc::SYS_sched_get_priority_min, libc::SYS_getpriority,
    // Refused below: they look for daemons of their maker and for a place to keep things.
    libc::SYS_socket, libc::SYS_socketpair, libc::SYS_mkdirat, libc::SYS_unlinkat,
];

/// Whether it holds.
pub(super) fn close(gear: Gear) -> bool {
    programs(gear).is_ok_and(|programs| {
        // The list comes last: it does not let through what installs filters.
        programs
            .iter()
            .all(|program| seccompiler::apply_filter_all_threads(program).is_ok())
    })
}

/// In the order in which they are to be installed.
fn programs(gear: Gear) -> Result<[BpfProgram; 3], Error> {
    Ok([
        refusal(not_supported(), ENOSYS)?,
        refusal(not_permitted(gear)?, EPERM)?,
        filter(
            allowed(gear)?,
            SeccompAction::KillProcess,
            SeccompAction::Allow,
        )?,
    ])
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// The flags of this one lie in memory, where no filter sees them; the C library then takes the
/// older call, whose flags can be seen.
fn not_supported() -> Rules {
    [(libc::SYS_clone3, Vec::new())].into()
}

fn not_permitted(gear: Gear) -> Result<Rules, Error> {
    let mut rules: Rules = [
        // Where it runs, and before whom, is for others to say.
        libc::SYS_sched_setaffinity,
        libc::SYS_sched_setscheduler,
        libc::SYS_setpriority,
    ]
    .map(|call| (call, Vec::new()))
    .into();
    rules.insert(
        libc::SYS_prctl,
        vec![rule(vec![
            argument(0, SeccompCmpOp::Ne, bits(PR_SET_NAME))?,
            argument(0, SeccompCmpOp::Ne, bits(PR_GET_NAME))?,
            argument(0, SeccompCmpOp::Ne, PR_SET_VMA)?,
            // Said again with each filter; it can only be said, not taken back.
            argument(0, SeccompCmpOp::Ne, bits(PR_SET_NO_NEW_PRIVS))?,
        ])?],
    );
    match gear {
        Gear::Processor => {
            rules.insert(libc::SYS_openat, writing(2)?);
            #[cfg(target_arch = "x86_64")]
            rules.insert(libc::SYS_open, writing(1)?);
            rules.extend([
                (libc::SYS_ioctl, Vec::new()),
                (libc::SYS_get_mempolicy, Vec::new()),
                (libc::SYS_set_mempolicy, Vec::new()),
                (libc::SYS_mbind, Vec::new()),
                (libc::SYS_mlock, Vec::new()),
                (libc::SYS_munlock, Vec::new()),
            ]);
            // Code that was not there at the start has no business here.
            rules.insert(libc::SYS_mmap, vec![has_bits(2, PROT_EXEC, PROT_EXEC)?]);
            rules.insert(libc::SYS_mprotect, vec![has_bits(2, PROT_EXEC, PROT_EXEC)?]);
        }
        Gear::Devices => rules.extend(
            [
                libc::SYS_socket,
                libc::SYS_socketpair,
                libc::SYS_mkdirat,
                libc::SYS_unlinkat,
            ]
            .map(|call| (call, Vec::new())),
        ),
    }
    Ok(rules)
}

/// Opening for anything but reading.
fn writing(flags: u8) -> Result<Vec<SeccompRule>, Error> {
    [
        (O_ACCMODE, O_WRONLY),
        (O_ACCMODE, O_RDWR),
        (O_ACCMODE, O_ACCMODE),
        (O_CREAT, O_CREAT),
        (O_TRUNC, O_TRUNC),
    ]
    .into_iter()
    .map(|(mask, value)| has_bits(flags, mask, value))
    .collect()
}

fn allowed(gear: Gear) -> Result<Rules, Error> {
    let devices = match gear {
        Gear::Processor => &[][..],
        Gear::Devices => ALLOWED_WITH_DEVICES,
    };
    let mut rules: Rules = [ALLOWED, ALLOWED_HERE, devices]
        .concat()
        .into_iter()
        .map(|call| (call, Vec::new()))
        .collect();
    // Threads of its own, no processes, no namespaces.
    let spaces = CLONE_NEWNS
        | CLONE_NEWUSER
        | CLONE_NEWPID
        | CLONE_NEWNET
        | CLONE_NEWIPC
        | CLONE_NEWUTS
        | CLONE_NEWCGROUP;
    let thread = CLONE_THREAD | CLONE_VM;
    rules.insert(libc::SYS_clone, vec![has_bits(0, thread | spaces, thread)?]);
    // Signals to itself alone: an abort is one.
    let me = u64::from(std::process::id());
    for call in [libc::SYS_tgkill, libc::SYS_kill] {
        rules.insert(call, vec![rule(vec![argument(0, SeccompCmpOp::Eq, me)?])?]);
    }
    // Limits are looked at, never set, and nobody else's.
    rules.insert(
        libc::SYS_prlimit64,
        vec![rule(vec![
            argument(0, SeccompCmpOp::Eq, 0)?,
            SeccompCondition::new(2, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, 0)?,
        ])?],
    );
    Ok(rules)
}

fn refusal(rules: Rules, error: i32) -> Result<BpfProgram, Error> {
    let error = SeccompAction::Errno(error.unsigned_abs());
    filter(rules, SeccompAction::Allow, error)
}

fn filter(
    rules: Rules,
    otherwise: SeccompAction,
    matched: SeccompAction,
) -> Result<BpfProgram, Error> {
    let processor = TargetArch::try_from(std::env::consts::ARCH)?;
    let filter = SeccompFilter::new(rules, otherwise, matched, processor)?;
    Ok(filter.try_into()?)
}

fn rule(conditions: Vec<SeccompCondition>) -> Result<SeccompRule, Error> {
    Ok(SeccompRule::new(conditions)?)
}

/// The lower half of an argument: all of these are 32 bits wide.
fn argument(at: u8, how: SeccompCmpOp, value: u64) -> Result<SeccompCondition, Error> {
    Ok(SeccompCondition::new(
        at,
        SeccompCmpArgLen::Dword,
        how,
        value,
    )?)
}

fn has_bits(at: u8, mask: i32, value: i32) -> Result<SeccompRule, Error> {
    let how = SeccompCmpOp::MaskedEq(bits(mask));
    rule(vec![argument(at, how, bits(value))?])
}

fn bits(flags: i32) -> u64 {
    u64::from(flags.cast_unsigned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each refusal is of a call that the list lets through; else it would end the process before
    /// its error is seen.
    #[test]
    fn what_is_refused_by_an_error_is_never_fatal() {
        for gear in [Gear::Processor, Gear::Devices] {
            let allowed = allowed(gear).unwrap();
            let refused = not_permitted(gear).unwrap();
            for call in refused.keys().chain(not_supported().keys()) {
                assert!(allowed.contains_key(call), "{call} with {gear:?}");
            }
        }
    }

    #[test]
    fn what_an_intruder_would_want_is_on_no_list() {
        let wanted = [
            libc::SYS_execve,
            libc::SYS_execveat,
            libc::SYS_ptrace,
            libc::SYS_process_vm_readv,
            libc::SYS_process_vm_writev,
            libc::SYS_mount,
            libc::SYS_connect,
            libc::SYS_bind,
            libc::SYS_bpf,
            libc::SYS_io_uring_setup,
            libc::SYS_unshare,
            libc::SYS_setns,
            libc::SYS_keyctl,
            libc::SYS_init_module,
            libc::SYS_pidfd_getfd,
            libc::SYS_seccomp,
        ];
        for gear in [Gear::Processor, Gear::Devices] {
            let allowed = allowed(gear).unwrap();
            assert!(wanted.iter().all(|call| !allowed.contains_key(call)));
        }
        let allowed = allowed(Gear::Processor).unwrap();
        assert!(!allowed.contains_key(&libc::SYS_socket));
    }

    #[test]
    fn the_filters_are_small_enough_for_the_kernel() {
        const MOST: usize = 4096; // BPF_MAXINSNS
        for gear in [Gear::Processor, Gear::Devices] {
            let programs = programs(gear).unwrap();
            assert!(programs.iter().all(|it| (1..=MOST).contains(&it.len())));
        }
    }
}
