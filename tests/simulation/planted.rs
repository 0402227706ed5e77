//! Bugs that are planted in the simulator's own seams, to see that it would find them in the product.
//!
//! Each stands where the product's own would show: between a core and its bell, its rings, its service, its settings.
//! So nothing of them is in the product, in no build of it.
//! Invariant: without one the seams do nothing.

/// A planted bug.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bug {
    /// A call that ends without an answer keeps what it had taken: its service is not told that it is over.
    CreditLeak,
    /// A call is answered, and once more right behind that.
    DoubleCompletion,
    /// A bell that is owed is not rung.
    LostWakeUp,
    /// One call more than may be is let in.
    OffByOneBound,
    /// An answer from another core comes in under the ticket of another request.
    WrongTicket,
}

impl Bug {
    /// All of them.
    pub const ALL: [Bug; 5] =
        [Bug::CreditLeak, Bug::DoubleCompletion, Bug::LostWakeUp, Bug::OffByOneBound, Bug::WrongTicket];
}
