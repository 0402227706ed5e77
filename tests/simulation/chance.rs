//! Chance: the one source of everything that is left open, and the places where a seed may make the world unkind.
//!
//! Not here: what a quirk does, which is where it happens (`net`, `machine`, `world`, `client`).
//! Invariant: the same seed draws the same numbers; nothing else in the simulator is random.

/// Numbers from a seed (splitmix64).
#[derive(Clone)]
pub struct Chance(u64);

impl Chance {
    /// The numbers of a seed.
    pub fn of(seed: u64) -> Chance {
        let mut chance = Chance(seed ^ 0x5eed);
        chance.next();
        chance
    }

    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `most`, which is not 0.
    pub fn below(&mut self, most: u64) -> u64 {
        // The high half of a product: as even as anybody needs here, without a division.
        ((u128::from(self.next()) * u128::from(most)) >> 64) as u64
    }

    /// An index into something that long.
    pub fn index(&mut self, length: usize) -> usize {
        self.below(length as u64) as usize
    }

    /// A number from a range, its ends included.
    pub fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.below(most - least + 1)
    }

    /// Once in so many.
    pub fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// One of these.
    pub fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.index(choices.len())]
    }
}

/// Where the world may be unkind. Each seed makes use of about a third of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Quirk {
    /// Bytes arrive few at a time.
    TornFrames,
    /// The kernel takes few bytes of a send at a time.
    PartialSends,
    /// A client does not read for a while.
    SlowPeers,
    /// A client breaks off its connection.
    Resets,
    /// A client says that it will send no more, and listens on.
    HalfCloses,
    /// A client takes back what it asked.
    Cancels,
    /// A client says what nobody understands.
    Nonsense,
    /// A bell is heard late.
    LateBells,
    /// A connection takes its time to close.
    LateCloses,
    /// A core's thread dies, and another takes its place.
    CoreDeaths,
    /// A core is not scheduled for a while.
    Stalls,
    /// Everybody sleeps for a while, as when a virtual machine is stopped.
    Leaps,
    /// Somebody sets the host's clock.
    ClockSteps,
    /// A core wakes up without a reason.
    FalseAlarms,
    /// Payloads that do not fit into a ring's slots.
    LargePayloads,
    /// A client asks for more at once than it may.
    Greed,
}

impl Quirk {
    /// All of them.
    pub const ALL: [Quirk; 16] = [
        Quirk::TornFrames,
        Quirk::PartialSends,
        Quirk::SlowPeers,
        Quirk::Resets,
        Quirk::HalfCloses,
        Quirk::Cancels,
        Quirk::Nonsense,
        Quirk::LateBells,
        Quirk::LateCloses,
        Quirk::CoreDeaths,
        Quirk::Stalls,
        Quirk::Leaps,
        Quirk::ClockSteps,
        Quirk::FalseAlarms,
        Quirk::LargePayloads,
        Quirk::Greed,
    ];
}

/// Which quirks a seed has, and how often each showed.
#[derive(Clone, Default)]
pub struct Quirks {
    active: u32,
    /// The world has become kind.
    is_over: bool,
    shown: [u64; Quirk::ALL.len()],
}

impl Quirks {
    /// Some of them, as chance will have it.
    pub fn some(chance: &mut Chance) -> Quirks {
        let mut quirks = Quirks::default();
        for quirk in Quirk::ALL {
            if chance.once_in(3) {
                quirks.active |= 1 << quirk as u32;
            }
        }
        quirks
    }

    /// Whether the seed has it.
    pub fn has(&self, quirk: Quirk) -> bool {
        !self.is_over && self.had(quirk)
    }

    /// Whether it shows here: never if the seed does not have it, else once in so many.
    #[inline]
    pub fn show(&mut self, chance: &mut Chance, quirk: Quirk, times: u64) -> bool {
        let shows = self.has(quirk) && chance.once_in(times);
        self.shown[quirk as usize] += u64::from(shows);
        shows
    }

    /// Whether the seed has it, or had it before the world became kind.
    pub fn had(&self, quirk: Quirk) -> bool {
        self.active & (1 << quirk as u32) != 0
    }

    /// From now on the world is kind.
    pub fn end(&mut self) {
        self.is_over = true;
    }

    /// How often each showed.
    pub fn shown(&self) -> [u64; Quirk::ALL.len()] {
        self.shown
    }

    /// The names of those that the seed has, or had.
    pub fn names(&self) -> Vec<String> {
        Quirk::ALL.iter().filter(|quirk| self.had(**quirk)).map(|quirk| format!("{quirk:?}")).collect()
    }
}
