//! Thresholds of zones: three numbers that ascend, or none.
//!
//! Not here: what they are thresholds of (`table`). Invariant: each is larger than the one before and at least 1.

use super::bounded::Bounded;
use super::given::{Given, Refused, Setting};

/// From which value on yellow, orange and red begin, each at most MAX; none if they never do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Steps<const MAX: u64>(Option<[u64; 3]>);

impl<const MAX: u64> Steps<MAX> {
    /// Steps known when this program is compiled; wrong ones do not compile in a constant.
    pub(crate) const fn known(steps: [u64; 3]) -> Self {
        assert!(ascend(steps, MAX), "a default does not ascend, or is out of bounds");
        Steps(Some(steps))
    }

    /// The thresholds, if there are any.
    pub const fn thresholds(self) -> Option<[u64; 3]> {
        self.0
    }
}

const fn ascend([yellow, orange, red]: [u64; 3], most: u64) -> bool {
    yellow >= 1 && yellow < orange && orange < red && red <= most
}

impl<const MAX: u64> Setting for Steps<MAX> {
    fn allowed() -> String {
        format!("three whole numbers from 1 to {MAX}, each larger than the one before, or [] for none")
    }

    fn read(given: &Given) -> Result<Self, Refused> {
        let list: Vec<Bounded<1, MAX>> =
            Setting::read(given).map_err(|refused: Refused| Refused { allowed: Self::allowed(), ..refused })?;
        let steps: Vec<u64> = list.into_iter().map(Bounded::get).collect();
        match <[u64; 3]>::try_from(steps) {
            Ok(steps) if ascend(steps, MAX) => Ok(Steps(Some(steps))),
            Err(steps) if steps.is_empty() => Ok(Steps(None)),
            _ => Err(given.refused(Self::allowed()).advise("they are where yellow, orange and red begin")),
        }
    }

    fn write(&self) -> String {
        self.0.map_or_else(|| "[]".to_owned(), |[yellow, orange, red]| format!("[{yellow}, {orange}, {red}]"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_ascend_or_there_are_none() {
        let read = |word: &str| Steps::<100>::read(&Given::word(word));
        for (word, steps, written) in [("1,2,3", Some([1, 2, 3]), "[1, 2, 3]"), ("", None, "[]")] {
            let steps_read = read(word).expect("allowed");
            assert_eq!((steps_read.thresholds(), steps_read.write().as_str()), (steps, written));
        }
        for word in ["1", "1,2", "1,2,3,4", "3,2,1", "1,1,2", "0,1,2", "98,99,101", "a,b,c"] {
            let refused = read(word).expect_err(word);
            assert!(refused.allowed.starts_with("three whole numbers from 1 to 100"), "{word}: {}", refused.allowed);
        }
    }
}
