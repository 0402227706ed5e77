//! Advice on what a core was refused when it started: said alike by `check`, which tries, and by `serve`, which fails.
//!
//! Not here: verdicts before anything is tried (`host`, `check`). Invariant: nothing is opened or changed.

use std::fmt;

use crate::sys::limits::{self, Resource};

/// Locked memory that an executor wants to see before it starts.
pub(super) const MEMLOCK_BYTES_PER_CORE: u64 = 512 * 1024;

/// What a core's ring or executor said, and what to raise. Both speak in text only, of an error of the kernel's.
pub(super) fn advised(error: &dyn fmt::Display) -> String {
    let error = error.to_string();
    if error.contains(&std::io::Error::from_raw_os_error(libc::EMFILE).to_string()) {
        let soft = limits::read(Resource::Nofile).map_or_else(|_| "so many".to_owned(), |limit| limit.soft.to_string());
        return format!(
            "{error}: this process may open {soft}, and `corelane check` says how many are needed; raise `ulimit -n`, \
             or LimitNOFILE= in the unit, or use fewer cores"
        );
    }
    match limits::read(Resource::Memlock) {
        // The executor looks at the soft limit alone, whatever the process is privileged to do.
        Ok(limit) if limit.soft < MEMLOCK_BYTES_PER_CORE => format!(
            "{error}: it wants a soft limit of locked memory of {MEMLOCK_BYTES_PER_CORE} bytes; \
             `ulimit -Sl {}`, or LimitMEMLOCK= in the unit",
            MEMLOCK_BYTES_PER_CORE / 1024
        ),
        _ => error,
    }
}
