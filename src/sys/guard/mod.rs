//! The guard: a process of its own that starts child processes, passes on their pipes, and ends every one of them and
//! whatever they started, at the latest when this process is gone.
//!
//! ```text
//! corelane ──link── guard ──link── keeper ── child ── its children, and theirs
//!                         ├─link── keeper ── child ── ...
//! ```
//!
//! A signal at a parent's death does not do for this: it comes when the *thread* ends that started the child, and
//! reaches no grandchildren. So the guard is forked while this process has one thread, and forks a keeper for each
//! child. A keeper is a subreaper: whatever its child starts, in whatever session and however often orphaned, stays
//! below it, and so belongs to this child and no other. Each of the three ends what is below it when the link to its
//! parent ends, which the kernel sees to also after kill -9:
//!
//! | killed | who cleans up |
//! |---|---|
//! | corelane | the guard: tells its keepers, ends when they have |
//! | the guard | each keeper |
//! | a keeper | its child dies with it (`PR_SET_PDEATHSIG`, here it is exact); the guard inherits the rest and kills it |
//!
//! Not here: which commands there are, when to restart one, what is said over the pipes.
//! Invariant: a child has ended only when nothing that it started is left; only after that it is reported as ended.

mod broker;
mod census;
mod command;
mod execute;
mod handle;
mod keeper;
mod link;
mod message;
mod process;
mod spawn_error;

pub use command::{ChildLimits, CommandSpec, INHERITED, clean_environment};
pub use handle::{AttendedGuard, Child, ChildId, ChildNews, Ending, Guard, GuardError, GuardHandle};
pub use spawn_error::SpawnError;

use std::time::Duration;

/// How long children may take to end by themselves when nobody is left to say how long.
pub const CLOSING_GRACE: Duration = Duration::from_secs(2);
/// How long is tried to kill what does not die: processes of another user's, or in the midst of a system call that
/// cannot be interrupted. After that it is left to whoever inherits it.
const KILLING_TIME: Duration = Duration::from_secs(10);
/// A keeper that takes longer than everything it has to do is killed by the guard, and so is the guard by corelane.
const LATENESS: Duration = Duration::from_secs(2);
/// Everything the guard may have to do when it is to end: its keepers', and to kill what they left.
const ENDING_TIME: Duration =
    CLOSING_GRACE.saturating_add(KILLING_TIME).saturating_add(LATENESS).saturating_add(KILLING_TIME);
