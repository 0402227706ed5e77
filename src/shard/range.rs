//! Which core owns which shard: contiguous ranges, and the one table of their boundaries.
//!
//! Not here: which shard a name or a connection hashes to (`shard` and `sys::steer` do that), and moving a shard to
//! another core, which is not a thing corelane does.
//! Invariant: the ranges of one split lie end to end from shard 0 to the last, one for each core, none empty, and their
//! sizes differ by at most one. It holds by construction: range `i` runs from `i * S / N` to where range `i + 1`
//! starts.

use crate::ids::{CoreId, ShardId};
use crate::limits::{CORES_MAX, SHARDS_MAX};

/// Connections one shard is meant to carry; the default number of shards follows from it.
pub const CONNECTIONS_PER_SHARD: usize = 782;
/// Fewest shards that [`default_shards`] proposes, so that a small host can still be spread over more cores later.
pub const SHARDS_DEFAULT_MIN: usize = 16;

/// Why a number of shards cannot be split over a number of cores.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SplitError {
    /// There are no cores, or more than [`CORES_MAX`].
    #[error("{cores} cores were asked for, 1 to {max} are possible; list fewer CPUs or set a smaller number of cores",
        max = CORES_MAX)]
    Cores {
        /// The number asked for.
        cores: usize,
    },
    /// A core would own nothing.
    #[error(
        "{shards} shards cannot be spread over {cores} cores, because every core must own at least one; \
         set at least {cores} shards or use at most {shards} cores"
    )]
    FewerShardsThanCores {
        /// The number of shards asked for.
        shards: usize,
        /// The number of cores asked for.
        cores: usize,
    },
    /// There are no shards, or more than [`SHARDS_MAX`].
    #[error("{shards} shards were asked for, 1 to {max} are possible; \
         leave the setting out to have it chosen from the expected connections", max = SHARDS_MAX)]
    Shards {
        /// The number asked for.
        shards: usize,
    },
}

/// A run of consecutive shards with one owner. Never empty.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ShardRange {
    first: u16,
    end: u16,
}

impl ShardRange {
    /// Cuts `shards` into one range per core, in core order.
    ///
    /// # Errors
    /// When either number is outside its limits, or a core would be left without a shard.
    pub fn split(shards: usize, cores: usize) -> Result<Vec<ShardRange>, SplitError> {
        if !(1..=CORES_MAX).contains(&cores) {
            return Err(SplitError::Cores { cores });
        }
        if !(1..=SHARDS_MAX).contains(&shards) {
            return Err(SplitError::Shards { shards });
        }
        if shards < cores {
            return Err(SplitError::FewerShardsThanCores { shards, cores });
        }
        let boundary = |core: usize| (core * shards / cores) as u16;
        Ok((0..cores).map(|core| ShardRange { first: boundary(core), end: boundary(core + 1) }).collect())
    }

    /// The first shard of the range.
    pub fn first(self) -> ShardId {
        ShardId(self.first)
    }

    /// The last shard of the range.
    pub fn last(self) -> ShardId {
        ShardId(self.end - 1)
    }

    /// How many shards the range holds; at least one.
    pub fn count(self) -> usize {
        usize::from(self.end - self.first)
    }

    /// Whether the shard lies in the range.
    pub fn contains(self, shard: ShardId) -> bool {
        (self.first..self.end).contains(&shard.0)
    }

    /// The shard's place within the range, counted from 0: where its owner keeps it.
    pub fn place_of(self, shard: ShardId) -> Option<usize> {
        self.contains(shard).then(|| usize::from(shard.0 - self.first))
    }

    /// The shards of the range, in order.
    pub fn iter(self) -> impl ExactSizeIterator<Item = ShardId> {
        (self.first..self.end).map(ShardId)
    }
}

impl std::fmt::Display for ShardRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.first, self.end - 1)
    }
}

/// The one table that says who owns what. The router, the steering program and the tests all read it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BoundaryTable {
    ranges: Box<[ShardRange]>,
}

impl BoundaryTable {
    /// The table of [`ShardRange::split`].
    ///
    /// # Errors
    /// As [`ShardRange::split`].
    pub fn new(shards: usize, cores: usize) -> Result<Self, SplitError> {
        ShardRange::split(shards, cores).map(|ranges| Self { ranges: ranges.into() })
    }

    /// The core that owns a shard.
    ///
    /// # Panics
    /// When there is no such shard: a shard id is made by hashing into the same table.
    pub fn owner_of(&self, shard: ShardId) -> CoreId {
        assert!(shard.index() < self.shards(), "{shard} does not exist: the table ends at {}", self.shards());
        CoreId(self.ranges.partition_point(|range| range.end <= shard.0) as u16)
    }

    /// The shards of a core.
    ///
    /// # Panics
    /// When there is no such core.
    pub fn range_of(&self, core: CoreId) -> ShardRange {
        self.ranges[core.index()]
    }

    /// How many shards there are; at least as many as cores.
    pub fn shards(&self) -> usize {
        self.ranges.last().map_or(0, |range| usize::from(range.end))
    }

    /// How many cores there are; at least one.
    pub fn cores(&self) -> usize {
        self.ranges.len()
    }

    /// Every core with its range, in core order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (CoreId, ShardRange)> + '_ {
        self.ranges.iter().enumerate().map(|(core, range)| (CoreId(core as u16), *range))
    }
}

/// The number of shards used when none is set: enough for the connections expected, a power of two where that decides,
/// never fewer than the cores and never more than [`SHARDS_MAX`].
pub fn default_shards(expected_connections: usize, cores: usize) -> usize {
    // Clamped first: the next power of two of an absurd expectation would overflow.
    let needed = expected_connections.div_ceil(CONNECTIONS_PER_SHARD).min(SHARDS_MAX);
    needed.next_power_of_two().max(SHARDS_DEFAULT_MIN).max(cores).min(SHARDS_MAX)
}

const _: () = assert!(SHARDS_MAX.is_power_of_two() && SHARDS_MAX <= u16::MAX as usize);
const _: () = assert!(CORES_MAX <= SHARDS_MAX && SHARDS_DEFAULT_MIN <= SHARDS_MAX);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::registry::Key;

    #[test]
    fn every_split_is_contiguous_disjoint_complete_and_even() {
        for shards in 1..=SHARDS_MAX {
            for cores in 1..=CORES_MAX.min(shards) {
                let table = BoundaryTable::new(shards, cores).expect("cores <= shards");
                assert_eq!((table.cores(), table.shards()), (cores, shards));
                let (mut next, mut least, mut most) = (0, usize::MAX, 0);
                for (core, range) in table.iter() {
                    assert_eq!(
                        range.first().index(),
                        next,
                        "S={shards} N={cores}: {core} starts where the last one ended"
                    );
                    least = least.min(range.count());
                    most = most.max(range.count());
                    for (place, shard) in range.iter().enumerate() {
                        assert_eq!(table.owner_of(shard), core);
                        assert_eq!(range.place_of(shard), Some(place));
                    }
                    next += range.count();
                }
                assert_eq!(next, shards, "S={shards} N={cores}: every shard has an owner");
                assert!(least >= 1 && most - least <= 1, "S={shards} N={cores}: sizes {least}..{most}");
            }
        }
    }

    #[test]
    fn a_range_knows_its_own() {
        let table = BoundaryTable::new(16, 3).expect("valid");
        let range = table.range_of(CoreId(1));
        assert_eq!((range.first(), range.last(), range.count()), (ShardId(5), ShardId(9), 5));
        assert!(range.contains(ShardId(9)) && !range.contains(ShardId(10)) && !range.contains(ShardId(4)));
        assert_eq!(range.place_of(ShardId(10)), None);
        assert_eq!(range.to_string(), "5-9");
    }

    #[test]
    fn impossible_splits_say_what_to_change() {
        assert_eq!(ShardRange::split(16, 0), Err(SplitError::Cores { cores: 0 }));
        assert_eq!(ShardRange::split(1024, 65), Err(SplitError::Cores { cores: 65 }));
        assert_eq!(ShardRange::split(0, 1), Err(SplitError::Shards { shards: 0 }));
        assert_eq!(ShardRange::split(1025, 1), Err(SplitError::Shards { shards: 1025 }));
        let error = ShardRange::split(4, 6).expect_err("two cores would own nothing");
        assert_eq!(error, SplitError::FewerShardsThanCores { shards: 4, cores: 6 });
        assert!(error.to_string().contains("set at least 6 shards"), "{error}");
    }

    #[test]
    #[should_panic(expected = "does not exist")]
    fn a_shard_outside_the_table_is_a_bug() {
        BoundaryTable::new(16, 2).expect("valid").owner_of(ShardId(16));
    }

    #[test]
    fn the_default_follows_the_expected_connections() {
        assert_eq!(default_shards(0, 1), 16);
        assert_eq!(default_shards(16 * 782, 1), 16);
        assert_eq!(default_shards(16 * 782 + 1, 1), 32);
        assert_eq!(default_shards(100_000, 8), 128);
        assert_eq!(default_shards(10, 20), 20, "never fewer than cores");
        assert_eq!(default_shards(usize::MAX, 64), SHARDS_MAX);
        for cores in 1..=CORES_MAX {
            for expected in [0, 1, 12_511, 100_000, 1_000_000, 10_000_000] {
                assert!(BoundaryTable::new(default_shards(expected, cores), cores).is_ok());
            }
        }
    }
    /// Of all names, how many stay in the shard of their number and how many with their core, once there are other
    /// numbers of shards and cores. Names whose hashes differ by a multiple of both numbers of shards fare alike, so
    /// these stand for all.
    fn stay((shards, cores): (usize, usize), (new_shards, new_cores): (usize, usize)) -> (usize, usize, usize) {
        let table = BoundaryTable::new(shards, cores).expect("valid");
        let new_table = BoundaryTable::new(new_shards, new_cores).expect("valid");
        let all = shards * new_shards / gcd(shards, new_shards);
        let (mut in_shard, mut with_core) = (0, 0);
        for hash in 0..all as u32 {
            let key = Key::from_bytes([hash.to_le_bytes(), [0; 4], [0; 4]].concat().try_into().expect("12 bytes"));
            let (shard, new_shard) = (key.shard(shards), key.shard(new_shards));
            in_shard += usize::from(shard == new_shard);
            with_core += usize::from(table.owner_of(shard) == new_table.owner_of(new_shard));
        }
        (in_shard, with_core, all)
    }

    fn gcd(a: usize, b: usize) -> usize {
        if b == 0 { a } else { gcd(b, a % b) }
    }

    #[test]
    fn nothing_moves_while_the_numbers_stay() {
        for (shards, cores) in [(16, 1), (16, 3), (128, 6), (1000, 7)] {
            assert_eq!(stay((shards, cores), (shards, cores)), (shards, shards, shards));
        }
    }

    #[test]
    fn a_core_more_moves_half_of_the_shards_to_another_core() {
        for cores in 1..16 {
            // Where both splits are even it is half exactly, and elsewhere it differs by half a core's shard each.
            for shards in [cores * (cores + 1), 2 * cores * (cores + 1), 16 + cores, 128, 256] {
                let (in_shard, with_core, all) = stay((shards, cores), (shards, cores + 1));
                assert_eq!(in_shard, all, "no name changes its shard");
                let even = shards.is_multiple_of(cores * (cores + 1));
                assert!((2 * with_core).abs_diff(all) <= if even { 0 } else { cores }, "S={shards} N={cores}");
                assert_eq!(stay((shards, cores + 1), (shards, cores)).1, with_core, "a core less is the same");
            }
        }
    }

    #[test]
    fn twice_the_cores_leave_a_first_part_of_the_first_cores_shards() {
        for cores in 1..17 {
            let shards = 8 * cores;
            let (in_shard, with_core, all) = stay((shards, cores), (shards, 2 * cores));
            assert_eq!((in_shard, with_core * 2 * cores), (all, all), "N={cores}: 1 of 2 N");
        }
    }

    #[test]
    fn twice_the_shards_move_half_of_the_names_to_another_shard_and_all_but_one_of_n_to_another_core() {
        for shards in [16, 32, 64, 128, 256] {
            for cores in [1, 2, 4, 8, 16] {
                let (in_shard, with_core, all) = stay((shards, cores), (2 * shards, cores));
                assert_eq!((in_shard * 2, with_core * cores), (all, all), "S={shards} N={cores}");
            }
        }
        // Any other number: as many as the smaller number of shards, of their least common multiple.
        for (shards, other) in [(16, 24), (100, 64), (7, 13)] {
            let (in_shard, _, all) = stay((shards, 2), (other, 2));
            assert_eq!((in_shard, all), (shards.min(other), shards * other / gcd(shards, other)));
        }
    }
}
