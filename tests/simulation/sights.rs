//! Sights: what happened in a run that it is there to try. A run that never saw something proves nothing about it.
//!
//! Not here: quirks (`chance`), which are caused; sights are what came of them.
//! Invariant: a sight is counted where a client or a core sees it, not where it was hoped for.

/// What may be seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sight {
    /// A call was answered that its caller had taken back.
    AnsweredTooLate,
    /// A batch was answered by an array.
    ArrayOfAnswers,
    /// Of a batch over HTTP something was answered later.
    BatchStream,
    /// A question of a tool was answered.
    QuestionAnswered,
    /// A parcel went from core to core.
    Parcel,
    /// A parcel found its ring full.
    RingFull,
    /// A call was refused because too many were in flight.
    RefusedAtLimit,
    /// A call's time was up.
    Deadline,
    /// An answer was fetched after its connection was lost.
    Resumed,
    /// A session that was known to a core that died is known to the next.
    SessionSurvived,
    /// A session's stream told of a change.
    Updated,
    /// Who reads nothing was cut off.
    CutOff,
    /// A core slept and was waked by a bell.
    WakedByBell,
    /// The core of a session was lost, and who waited for it was told.
    CoreLost,
}

impl Sight {
    /// All of them.
    pub const ALL: [Sight; 14] = [
        Sight::AnsweredTooLate,
        Sight::ArrayOfAnswers,
        Sight::BatchStream,
        Sight::QuestionAnswered,
        Sight::Parcel,
        Sight::RingFull,
        Sight::RefusedAtLimit,
        Sight::Deadline,
        Sight::Resumed,
        Sight::SessionSurvived,
        Sight::Updated,
        Sight::CutOff,
        Sight::WakedByBell,
        Sight::CoreLost,
    ];
}

/// How often each was seen.
#[derive(Clone, Copy, Default)]
pub struct Sights([u64; Sight::ALL.len()]);

impl Sights {
    /// It was seen.
    #[inline]
    pub fn see(&mut self, sight: Sight) {
        self.0[sight as usize] += 1;
    }

    /// How often.
    pub fn count(&self, sight: Sight) -> u64 {
        self.0[sight as usize]
    }

    /// What others saw as well.
    pub fn add(&mut self, others: &Sights) {
        for (sum, more) in self.0.iter_mut().zip(others.0) {
            *sum += more;
        }
    }
}
