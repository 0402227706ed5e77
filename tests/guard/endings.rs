//! How children end, and everything they started with them: stopped, by themselves, or because whoever is above them
//! was killed.

use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use corelane::sys::guard::{CLOSING_GRACE, ChildNews, Ending, SpawnError};

use super::Test;
use super::rig::*;

pub const TESTS: &[Test] = &[
    // The slow ones first: they wait for somebody to be late.
    (
        "endings::a_guard_that_does_not_move_is_killed_when_it_is_late",
        a_guard_that_does_not_move_is_killed_when_it_is_late,
    ),
    (
        "endings::a_keeper_that_does_not_move_is_killed_when_it_is_late",
        a_keeper_that_does_not_move_is_killed_when_it_is_late,
    ),
    ("endings::stopping_one_ends_all_that_it_started", stopping_one_ends_all_that_it_started),
    ("endings::who_ignores_sigterm_is_killed_after_the_grace", who_ignores_sigterm_is_killed_after_the_grace),
    ("endings::who_starts_others_when_asked_to_end_ends_too", who_starts_others_when_asked_to_end_ends_too),
    ("endings::who_flees_from_process_to_process_is_caught", who_flees_from_process_to_process_is_caught),
    ("endings::what_a_child_leaves_behind_ends_with_it", what_a_child_leaves_behind_ends_with_it),
    ("endings::a_stopped_process_is_ended_like_others", a_stopped_process_is_ended_like_others),
    ("endings::corelane_killed_leaves_nobody", corelane_killed_leaves_nobody),
    (
        "endings::corelane_killed_while_its_descriptors_live_on_leaves_nobody",
        corelane_killed_while_its_descriptors_live_on_leaves_nobody,
    ),
    ("endings::the_guard_and_a_keeper_killed_take_the_child_along", the_guard_and_a_keeper_killed_take_the_child_along),
    ("endings::the_guard_killed_leaves_nobody", the_guard_killed_leaves_nobody),
    ("endings::a_keeper_killed_leaves_nobody_of_its_own", a_keeper_killed_leaves_nobody_of_its_own),
    ("endings::signals_of_a_terminal_end_no_guard", signals_of_a_terminal_end_no_guard),
    ("endings::the_end_of_the_guard_is_told_to_all", the_end_of_the_guard_is_told_to_all),
];

/// A child, one that left its group and session, one that left and lost its parent, one that stayed and lost it.
const FAMILY: &str = "setsid sleep $M & (setsid sleep $M &) ; (sleep $M &) ; exec sleep $M";
/// The same, and none of them hears SIGTERM.
const STUBBORN: &str = "trap '' TERM HUP INT; setsid sleep $M & (setsid sleep $M &) ; (sleep $M &) ; exec sleep $M";
const FAMILY_SIZE: usize = 4;

fn signalled(signal: i32) -> Ending {
    Ending::Exited(ExitStatus::from_raw(signal))
}

fn stopping_one_ends_all_that_it_started() {
    let guarded = guarded();
    let (marker, other) = (marker(), marker());
    let running = guarded.start(script(FAMILY, &marker));
    let neighbour = guarded.start(script(FAMILY, &other));
    until_sleeping(FAMILY_SIZE, &marker);
    until_sleeping(FAMILY_SIZE, &other);
    let began = Instant::now();
    guarded.handle.stop(running.id, GRACE);
    assert_eq!(running.ending(), signalled(libc::SIGTERM));
    let took = began.elapsed();
    println!("measured: a family of {FAMILY_SIZE} ended in {took:?}");
    assert!(took < CLOSING_GRACE, "each of them heard SIGTERM, none had to be killed");
    assert_eq!(sleepers(&marker), [0; 0], "nobody is left when the end is told");
    assert!(neighbour.has_no_news());
    assert_eq!(sleepers(&other).len(), FAMILY_SIZE, "the neighbour's are not touched");
    // Nobody minds being asked again.
    guarded.handle.stop(running.id, Duration::ZERO);
    guarded.handle.stop(neighbour.id, Duration::ZERO);
    assert!(matches!(neighbour.ending(), Ending::Exited(_)));
    assert_eq!(sleepers(&other), [0; 0]);
    guarded.end();
}

fn who_ignores_sigterm_is_killed_after_the_grace() {
    const SHORT: Duration = Duration::from_millis(400);
    let guarded = guarded();
    let marker = marker();
    let running = guarded.start(script(STUBBORN, &marker));
    until_sleeping(FAMILY_SIZE, &marker);
    let began = Instant::now();
    guarded.handle.stop(running.id, SHORT);
    std::thread::sleep(SHORT / 2);
    assert_eq!(sleepers(&marker).len(), FAMILY_SIZE, "they have their grace");
    assert_eq!(running.ending(), signalled(libc::SIGKILL));
    let took = began.elapsed();
    println!("measured: killed {:?} after a grace of {SHORT:?}", took - SHORT);
    assert!(took >= SHORT && took < SHORT + Duration::from_secs(1), "{took:?}");
    assert_eq!(sleepers(&marker), [0; 0]);

    // Asked again, it has less time; never more.
    let running = guarded.start(script(STUBBORN, &marker));
    until_sleeping(FAMILY_SIZE, &marker);
    guarded.handle.stop(running.id, Duration::MAX);
    guarded.handle.stop(running.id, SHORT);
    guarded.handle.stop(running.id, Duration::MAX);
    assert_eq!(running.ending(), signalled(libc::SIGKILL));
    guarded.end();
}

fn who_starts_others_when_asked_to_end_ends_too() {
    let guarded = guarded();
    let marker = marker();
    let text = "trap 'setsid sleep $M & (setsid sleep $M &)' TERM; sleep $M & while :; do wait; sleep 0.01; done";
    let running = guarded.start(script(text, &marker));
    until_sleeping(1, &marker);
    guarded.handle.stop(running.id, Duration::from_millis(500));
    until("it starts others", || sleepers(&marker).len() > 1);
    assert_eq!(running.ending(), signalled(libc::SIGKILL));
    assert_eq!(sleepers(&marker), [0; 0]);
    guarded.end();
}

fn who_flees_from_process_to_process_is_caught() {
    let guarded = guarded();
    let marker = marker();
    // Each says so, starts the next one and ends; after so many it stops by itself, should it ever get that far.
    let text = "trap '' TERM; flee() { echo; [ $1 -gt 100000 ] || { flee $(($1 + 1)) & }; }; flee 0; exec sleep 1000";
    let mut running = guarded.start(command(&["sh", "-c", text, &marker]));
    let mut hops = [0; 100];
    running.stdout.read_exact(&mut hops).expect("it flees");
    let began = Instant::now();
    guarded.handle.stop(running.id, Duration::ZERO);
    assert_eq!(running.ending(), signalled(libc::SIGKILL));
    println!("measured: caught after {:?}", began.elapsed());
    assert_eq!(sleepers(&marker), [0; 0]);
    let hops = running.output().len();
    assert!(hops < 100_000, "it would have gone on, and nobody is left who holds the pipe");
    guarded.end();
}

fn what_a_child_leaves_behind_ends_with_it() {
    let guarded = guarded();
    let marker = marker();
    let text = "setsid sleep $M & (setsid sleep $M &) ; read line; exit 7";
    let mut running = guarded.start(script(text, &marker));
    until_sleeping(2, &marker);
    drop(running.stdin.take());
    assert_eq!(running.ending(), Ending::Exited(ExitStatus::from_raw(7 << 8)));
    assert_eq!(sleepers(&marker), [0; 0]);
    let mut running = guarded.start(script(&format!("trap '' TERM; {text}"), &marker));
    until_sleeping(2, &marker);
    let began = Instant::now();
    drop(running.stdin.take());
    assert_eq!(running.ending(), Ending::Exited(ExitStatus::from_raw(7 << 8)));
    assert!(began.elapsed() >= CLOSING_GRACE);
    assert_eq!(sleepers(&marker), [0; 0], "nor one that would rather stay");
    guarded.end();
}

fn a_stopped_process_is_ended_like_others() {
    let guarded = guarded();
    let marker = marker();
    let running = guarded.start(script(FAMILY, &marker));
    until_sleeping(FAMILY_SIZE, &marker);
    sleepers(&marker).into_iter().for_each(|pid| kill(pid, libc::SIGSTOP));
    let began = Instant::now();
    guarded.handle.stop(running.id, GRACE);
    assert_eq!(running.ending(), signalled(libc::SIGTERM));
    assert!(began.elapsed() < CLOSING_GRACE && sleepers(&marker).is_empty());
    guarded.end();
}

/// Kills a process with a guard and waits until nobody is left of it; how long that took.
fn killed(text: &str) -> Duration {
    let marker = marker();
    let (mut victim, guard) = start_victim(text, &marker, false);
    let took = kill_and_wait(&mut victim, guard, &marker);
    println!("measured: kill -9 of corelane: nobody left after {took:?}");
    took
}

fn kill_and_wait(victim: &mut std::process::Child, guard: u32, marker: &str) -> Duration {
    until_sleeping(FAMILY_SIZE, marker);
    let keepers = children_of(guard);
    assert_eq!(keepers.len(), 1);
    let began = Instant::now();
    victim.kill().expect("ours");
    victim.wait().expect("ours");
    until("nobody of the family is left", || sleepers(marker).is_empty());
    // Orphans; who inherits them may take its time to reap them.
    until("neither guard nor keeper is left", || !is_running(guard) && !is_running(keepers[0]));
    began.elapsed()
}

fn corelane_killed_leaves_nobody() {
    assert!(killed(FAMILY) < CLOSING_GRACE);
    let took = killed(STUBBORN);
    assert!(took >= CLOSING_GRACE && took < PROMPT, "{took:?}");
}

fn corelane_killed_while_its_descriptors_live_on_leaves_nobody() {
    let marker = marker();
    let (mut victim, guard) = start_victim(FAMILY, &marker, true);
    let heir = children_of(victim.id()).into_iter().find(|pid| *pid != guard).expect("it forked");
    kill_and_wait(&mut victim, guard, &marker);
    assert!(is_running(heir), "it has held the link all the time");
    kill(heir, libc::SIGKILL);
}

fn the_guard_and_a_keeper_killed_take_the_child_along() {
    let guarded = guarded();
    let marker = marker();
    let running = guarded.start(script("trap '' TERM HUP; exec sleep $M", &marker));
    until_sleeping(1, &marker);
    let both = [guarded.guard.pid(), parent_of(running.pid)];
    // Stopped first, so that neither can do anything about the other's end.
    both.iter().for_each(|pid| kill(*pid, libc::SIGSTOP));
    both.iter().for_each(|pid| kill(*pid, libc::SIGKILL));
    assert_eq!(running.ending(), Ending::Lost);
    until("the child is gone", || sleepers(&marker).is_empty());
}

fn the_guard_killed_leaves_nobody() {
    let guarded = guarded();
    let marker = marker();
    let families = [guarded.start(script(FAMILY, &marker)), guarded.start(script(FAMILY, &marker))];
    let stubborn = guarded.start(script(STUBBORN, &marker));
    until_sleeping(3 * FAMILY_SIZE, &marker);
    let began = Instant::now();
    kill(guarded.guard.pid(), libc::SIGKILL);
    for running in families.iter().chain([&stubborn]) {
        assert_eq!(running.ending(), Ending::Lost);
    }
    until("nobody is left", || sleepers(&marker).is_empty());
    println!("measured: kill -9 of the guard: nobody left after {:?}", began.elapsed());
    let late = guarded.failure(command(&["cat"]));
    assert!(matches!(late, SpawnError::GuardGone), "{late}");
    guarded.handle.stop(stubborn.id, GRACE);
    assert_eq!(children_of(std::process::id()), [0; 0], "the guard was waited for");
    guarded.guard.end();
}

fn a_keeper_killed_leaves_nobody_of_its_own() {
    let guarded = guarded();
    let (marker, other) = (marker(), marker());
    let mut running = guarded.start(script(STUBBORN, &marker));
    let neighbour = guarded.start(script(FAMILY, &other));
    until_sleeping(FAMILY_SIZE, &marker);
    until_sleeping(FAMILY_SIZE, &other);
    kill(parent_of(running.pid), libc::SIGKILL);
    assert_eq!(running.ending(), Ending::Lost);
    assert_eq!(sleepers(&marker), [0; 0]);
    assert_eq!(running.output(), "", "its pipes have ended");
    assert!(neighbour.has_no_news() && sleepers(&other).len() == FAMILY_SIZE, "the neighbour's are not touched");
    assert_eq!(guarded.start(command(&["cat"])).echo("and now?\n"), "and now?\n");
    guarded.end();
    assert_eq!(sleepers(&other), [0; 0]);
}

fn a_keeper_that_does_not_move_is_killed_when_it_is_late() {
    let guarded = guarded();
    let (marker, other) = (marker(), marker());
    let running = guarded.start(script(FAMILY, &marker));
    let last = guarded.start(script(FAMILY, &other));
    until_sleeping(FAMILY_SIZE, &marker);
    until_sleeping(FAMILY_SIZE, &other);
    [running.pid, last.pid].into_iter().for_each(|pid| kill(parent_of(pid), libc::SIGSTOP));
    guarded.handle.stop(running.id, Duration::ZERO);
    // Nor does one keep the guard from ending.
    guarded.guard.end();
    assert_eq!((running.ending(), last.ending()), (Ending::Lost, Ending::Lost));
    assert_eq!(sleepers(&marker), [0; 0]);
    assert_eq!(sleepers(&other), [0; 0]);
}

fn a_guard_that_does_not_move_is_killed_when_it_is_late() {
    let guarded = guarded();
    let marker = marker();
    let running = guarded.start(script(FAMILY, &marker));
    until_sleeping(FAMILY_SIZE, &marker);
    kill(guarded.guard.pid(), libc::SIGSTOP);
    guarded.guard.end();
    assert_eq!(running.ending(), Ending::Lost);
    until("its keeper has ended them", || sleepers(&marker).is_empty());
}

fn signals_of_a_terminal_end_no_guard() {
    let guarded = guarded();
    let mut cat = guarded.start(command(&["cat"]));
    for pid in [guarded.guard.pid(), parent_of(cat.pid)] {
        for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM, libc::SIGPIPE, libc::SIGTSTP] {
            kill(pid, signal);
        }
    }
    assert_eq!(cat.echo("still here\n"), "still here\n");
    assert_eq!(guarded.start(command(&["cat"])).echo("so am I\n"), "so am I\n");
    guarded.end();
}

fn the_end_of_the_guard_is_told_to_all() {
    let guarded = guarded();
    let marker = marker();
    let running: Vec<_> = (0..5).map(|_| guarded.start(script(FAMILY, &marker))).collect();
    until_sleeping(5 * FAMILY_SIZE, &marker);
    let handle = guarded.handle.clone();
    // Asked for and ended at once: it may start or not, but its owner is told.
    let asked: Vec<_> = (0..20).map(|_| guarded.ask(script(FAMILY, &marker))).collect();
    guarded.end();
    assert_eq!(sleepers(&marker), [0; 0]);
    for running in &running {
        assert_eq!(running.ending(), signalled(libc::SIGTERM));
    }
    for asked in asked {
        let told: Vec<ChildNews> = asked.news.try_iter().collect();
        match &told[..] {
            [ChildNews::Failed(_)] | [ChildNews::Started(_), ChildNews::Ended(_)] => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(matches!(ask(&handle, command(&["cat"])).next(), ChildNews::Failed(SpawnError::GuardGone)));
    // Dropped, it ends as well.
    let guarded = super::rig::guarded();
    let running = guarded.start(script(FAMILY, &marker));
    until_sleeping(FAMILY_SIZE, &marker);
    drop(guarded);
    assert_eq!(running.ending(), signalled(libc::SIGTERM));
    assert_eq!(sleepers(&marker), [0; 0]);
}
