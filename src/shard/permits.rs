//! Permits for connections: how many all cores together may serve, lent to cores in leases so that they seldom ask.
//!
//! Not here: whether a core's own table has room, what becomes of a connection without a permit (`server/accept`).
//! Invariant: what is free and what cores hold add up to the limit, whichever core dies when; so no more connections
//! are served than the limit. What a core holds and does not use is idle, and by so much another may be refused early:
//! by nothing while a lease is one permit, else by at most a thirty-second of the limit.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::ids::CoreId;

/// Leases into which each core's share of the limit is cut. A core keeps fewer than two of them idle.
const LEASES_PER_CORE: u64 = 64;
/// As many as nobody ever has: where there is no limit.
const PLENTY: u64 = u64::MAX / 2;

/// What all cores have in common. The numbers are counts and nothing is read by their leave, so their order with other
/// memory does not matter.
#[derive(Debug)]
pub struct PermitPool {
    /// Free at first.
    most: u64,
    /// How many may be lent before a connection is one beyond the soft limit.
    soft: u64,
    /// What a core borrows and gives back at a time.
    lease: u64,
    free: AtomicU64,
    /// What each core holds, written by that core only.
    held: Box<[AtomicU64]>,
}

/// One core's part.
#[derive(Debug)]
pub struct Permits {
    /// None where there is no limit and nobody asks how many there are.
    pool: Option<&'static PermitPool>,
    core: usize,
    held: u64,
    used: u64,
}

/// How a connection stands that has a permit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// There are no more than the soft limit says.
    Within,
    /// There are more, and somebody should hear of it.
    BeyondSoft,
}

impl PermitPool {
    /// For so many cores; without a limit if there is no `hard` one.
    pub fn new(cores: usize, soft: u64, hard: Option<u64>) -> PermitPool {
        let lease = hard.unwrap_or(soft) / (LEASES_PER_CORE * cores.max(1) as u64);
        let most = hard.unwrap_or(PLENTY);
        let held = (0..cores).map(|_| AtomicU64::new(0)).collect();
        PermitPool { most, soft, lease: lease.max(1), free: AtomicU64::new(most), held }
    }

    /// The limit, if there is one.
    pub fn hard(&self) -> Option<u64> {
        (self.most < PLENTY).then_some(self.most)
    }

    /// Takes a lease, or what is left of one.
    fn borrow(&self) -> u64 {
        let less = |free: u64| (free > 0).then(|| free.saturating_sub(self.lease));
        self.free.fetch_update(Relaxed, Relaxed, less).map_or(0, |free| free.min(self.lease))
    }

    fn lent(&self) -> u64 {
        self.most - self.free.load(Relaxed)
    }
}

impl Permits {
    /// A core begins a life: what it held in the one before is free, its connections being gone.
    pub fn new(pool: &'static PermitPool, core: CoreId) -> Permits {
        let left = pool.held[core.index()].swap(0, Relaxed);
        pool.free.fetch_add(left, Relaxed);
        Permits { pool: Some(pool), core: core.index(), held: 0, used: 0 }
    }

    /// Of no pool: without a limit.
    pub const fn unlimited() -> Permits {
        Permits { pool: None, core: 0, held: 0, used: 0 }
    }

    /// The limit of all cores together, if there is one.
    pub fn hard(&self) -> Option<u64> {
        self.pool.and_then(PermitPool::hard)
    }

    /// How many are taken here.
    pub fn used(&self) -> usize {
        self.used as usize
    }

    /// A permit for one more connection, if there is one.
    pub fn take(&mut self) -> Option<Standing> {
        let Some(pool) = self.pool else {
            self.used += 1;
            return Some(Standing::Within);
        };
        if self.used == self.held {
            let lease = pool.borrow();
            if lease == 0 {
                return None;
            }
            self.holds(pool, self.held + lease);
        }
        self.used += 1;
        Some(if pool.lent() > pool.soft { Standing::BeyondSoft } else { Standing::Within })
    }

    /// A connection that had a permit is gone.
    pub fn give(&mut self) {
        debug_assert!(self.used > 0, "only what was taken is given back");
        self.used -= 1;
        let Some(pool) = self.pool else { return };
        let lease = pool.lease;
        // Not at once, so that one that comes and goes does not have the pool asked each time.
        if self.held - self.used > 2 * (lease - 1) {
            self.holds(pool, self.held - lease);
            pool.free.fetch_add(lease, Relaxed);
        }
    }

    /// Says what is held before it is missing or there twice for whoever looks after this core's death.
    fn holds(&mut self, pool: &PermitPool, held: u64) {
        self.held = held;
        pool.held[self.core].store(held, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pool(cores: usize, soft: u64, hard: Option<u64>) -> (&'static PermitPool, Vec<Permits>) {
        let pool: &PermitPool = Box::leak(Box::new(PermitPool::new(cores, soft, hard)));
        let permits = (0..cores).map(|core| Permits::new(pool, CoreId(core as u16))).collect();
        (pool, permits)
    }

    fn is_whole(pool: &PermitPool) -> bool {
        let held: u64 = pool.held.iter().map(|held| held.load(Relaxed)).sum();
        pool.free.load(Relaxed) + held == pool.most
    }

    #[test]
    fn small_limits_are_exact_on_whichever_core_connections_come() {
        // The original's first phase: an alert from the 151st on, and the 201st is refused.
        let (_, mut permits) = pool(2, 150, Some(200));
        for number in 1..=200 {
            let standing = if number > 150 { Standing::BeyondSoft } else { Standing::Within };
            assert_eq!(permits[usize::from(number % 5 == 0)].take(), Some(standing), "{number}");
        }
        assert_eq!((permits[0].take(), permits[1].take()), (None, None));
        permits[1].give();
        assert_eq!(permits[0].take(), Some(Standing::BeyondSoft), "what one has no more, the other may have");
        (0..160).for_each(|_| permits[0].give());
        (0..160).for_each(|_| assert!(permits[1].take().is_some()));
        assert_eq!(permits[1].take(), None);
    }

    #[test]
    fn without_a_limit_there_is_always_one() {
        let (pool, mut permits) = pool(1, 2, None);
        let beyond = (0..100_000).filter(|_| permits[0].take() == Some(Standing::BeyondSoft)).count();
        assert_eq!((beyond, pool.hard()), (99_998, None));
        assert!(Permits::unlimited().take() == Some(Standing::Within));
    }

    #[test]
    fn what_comes_and_goes_asks_the_pool_seldom() {
        let (pool, mut permits) = pool(2, 75_000, Some(100_000));
        assert_eq!(pool.lease, 781);
        (0..781).for_each(|_| assert!(permits[0].take().is_some()));
        let mut asked = 0;
        for _ in 0..10_000 {
            let before = permits[0].held;
            permits[0].take();
            permits[0].give();
            asked += u64::from(permits[0].held != before);
        }
        assert_eq!(asked, 1, "the first found none idle");
    }

    #[test]
    fn cores_that_race_get_all_of_them_and_no_more() {
        let (pool, permits) = pool(4, 1, Some(1_000));
        let threads = permits.into_iter().map(|mut permits| {
            std::thread::spawn(move || {
                for round in 0..20_000 {
                    match round % 3 == 2 && permits.used > 0 {
                        true => permits.give(),
                        false => drop(permits.take()),
                    }
                }
                permits
            })
        });
        let threads: Vec<_> = threads.collect();
        let permits: Vec<_> = threads.into_iter().map(|thread| thread.join().expect("no panic")).collect();
        let used: u64 = permits.iter().map(|permits| permits.used).sum();
        assert!(used <= 1_000 && is_whole(pool), "{used}");
        assert!(used >= 1_000 - 1_000 / 32 - 4, "and each stopped one short of full at most: {used}");
    }

    proptest! {
        /// However cores take, give and die: never more than the limit, none lost, and nobody is refused while more
        /// than the stated error is idle elsewhere.
        #[test]
        fn permits_are_conserved(
            cores in 1usize..5,
            hard in 1u64..3_000,
            steps in proptest::collection::vec((0usize..5, 0u8..40), 1..400),
        ) {
            let (pool, mut permits) = pool(cores, hard * 3 / 4, Some(hard));
            for (core, what) in steps {
                let core = core % cores;
                match what {
                    0 => permits[core] = Permits::new(pool, CoreId(core as u16)),
                    1..=12 => (0..permits[core].used.min(7 * u64::from(what))).for_each(|_| permits[core].give()),
                    // As many as fill a limit within some steps.
                    _ => for _ in 0..u64::from(what) * hard / 200 + 1 {
                        let used: u64 = permits.iter().map(|permits| permits.used).sum();
                        let (soft, early) = (hard * 3 / 4, hard / 32);
                        match permits[core].take() {
                            Some(Standing::Within) => prop_assert!(used < soft),
                            Some(Standing::BeyondSoft) => prop_assert!(used < hard && used + early + 1 > soft),
                            None => prop_assert!(used + early >= hard, "{} of {}", used, hard),
                        }
                    },
                }
                prop_assert!(is_whole(pool));
            }
        }
    }
}
