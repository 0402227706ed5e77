//! Who is let in while more come than go: a level, moved by what came of letting in so many (DAGOR, "Overload Control
//! for Scaling WeChat Microservices", SoCC 2018).
//!
//! Not here: what overload is (`super`). Invariant: who stands above the level is let in, in the order of classes and,
//! within one, of shares; what is better than a request is always let in, and of requests one share at least.

use super::Nanos;
use super::class::{Class, SHARES};

/// Steps of the level: the shares of all classes, the best first.
const STEPS: usize = Class::COUNT * SHARES as usize;
/// The level is never below: control, what runs, and a share of requests.
const LEAST: usize = Class::Request as usize * SHARES as usize + 1;
/// The level is moved after so many who came, or so much time.
const COUNT: u32 = 2_000;
const TIME: Nanos = 1_000_000_000;
/// By so many hundredths of those who were let in it goes down, by so many of those who came up.
const DOWN_PERCENT: u32 = 5;
const UP_PERCENT: u32 = 1;

/// The level of one queue.
#[derive(Clone, Debug)]
pub struct Levels {
    /// Steps that are let in.
    level: usize,
    /// Who came since it was moved last, by step.
    came: [u32; STEPS],
    total: u32,
    /// Of those who were let in, how many were sent and turned away, and how long the first waited together.
    sent: u32,
    turned: u32,
    waited: Nanos,
    since: Nanos,
}

impl Default for Levels {
    fn default() -> Levels {
        Levels { level: STEPS, came: [0; STEPS], total: 0, sent: 0, turned: 0, waited: 0, since: 0 }
    }
}

impl Levels {
    /// Whether somebody who has to wait is let in; counts them.
    pub fn admits(&mut self, now: Nanos, class: Class, share: u8, target: Nanos) -> bool {
        if self.total == 0 {
            self.since = now;
        } else if self.total >= COUNT || now.saturating_sub(self.since) >= TIME {
            self.move_level(now, target);
        }
        let step = class.index() * usize::from(SHARES) + usize::from(share % SHARES);
        self.came[step] += 1;
        self.total += 1;
        step < self.level
    }

    /// Somebody who was let in was sent after so long.
    pub fn sent(&mut self, waited: Nanos) {
        self.sent += 1;
        self.waited = self.waited.saturating_add(waited);
    }

    /// Somebody who was let in was turned away all the same.
    pub fn turned(&mut self) {
        self.turned += 1;
    }

    /// How many of the steps are let in, in hundredths.
    pub fn percent(&self) -> u64 {
        (self.level * 100 / STEPS) as u64
    }

    /// Too many were let in if they waited for too long in the mean, or more than one in twenty waited in vain.
    fn move_level(&mut self, now: Nanos, target: Nanos) {
        let mean = self.waited / u64::from(self.sent.max(1));
        let in_vain = self.turned * 100 > (self.sent + self.turned) * DOWN_PERCENT;
        let let_in: u32 = self.came[..self.level].iter().sum();
        if mean > target || in_vain {
            let aim = let_in - (let_in * DOWN_PERCENT).div_ceil(100).min(let_in);
            let mut left = let_in;
            while self.level > LEAST && left > aim {
                self.level -= 1;
                left -= self.came[self.level];
            }
        } else {
            let aim = let_in + (self.total * UP_PERCENT).div_ceil(100);
            let mut reached = let_in;
            while self.level < STEPS && reached < aim {
                reached += self.came[self.level];
                self.level += 1;
            }
        }
        *self = Levels { level: self.level, since: now, ..Levels::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Nanos = 1_000_000;

    /// Windows in which as many requests as refreshes come, and those who are let in wait for so long.
    fn windows(levels: &mut Levels, from: u64, count: u64, wait: Nanos) -> (u32, u32) {
        let mut let_in = (0, 0);
        for at in from * u64::from(COUNT)..(from + count) * u64::from(COUNT) {
            let (class, counted) = match at % 2 {
                0 => (Class::Request, &mut let_in.0),
                _ => (Class::Refresh, &mut let_in.1),
            };
            if levels.admits(at, class, (at / 2 % 16) as u8, 5 * MS) {
                *counted += 1;
                levels.sent(wait);
            }
        }
        let_in
    }

    #[test]
    fn the_worst_class_is_shed_before_the_next_and_never_what_runs() {
        let mut levels = Levels::default();
        assert_eq!(windows(&mut levels, 0, 1, 20 * MS), (1000, 1000), "nobody knows yet");
        let (requests, refreshes) = windows(&mut levels, 1, 7, 20 * MS);
        assert_eq!(requests, 7_000, "while there are refreshes to shed");
        assert!((2_000..5_000).contains(&refreshes), "{refreshes}");
        windows(&mut levels, 8, 2, 20 * MS);
        assert_eq!(windows(&mut levels, 10, 1, 20 * MS).1, 0, "all of them in the end");
        windows(&mut levels, 11, 100, 20 * MS);
        assert!(levels.admits(0, Class::Running, 15, MS) && levels.admits(0, Class::Control, 15, MS));
        assert_eq!(windows(&mut levels, 111, 1, 20 * MS).0, 62, "a share of requests is left: {}", levels.level);
        windows(&mut levels, 112, 120, MS);
        assert_eq!(levels.percent(), 100, "and with little to wait all are let in again, step by step");
    }

    #[test]
    fn who_is_let_in_to_be_turned_away_moves_it_too() {
        let mut levels = Levels::default();
        for at in 0..2 * COUNT {
            levels.admits(u64::from(at), Class::Refresh, (at % 16) as u8, MS);
            if at % 10 == 0 { levels.turned() } else { levels.sent(0) }
        }
        assert!(levels.percent() < 100);
    }
}
