//! What a circuit went through: its states as the world sees them, since when, why, and how often.

use std::time::Duration;

/// What the world sees of a circuit, in Resilience4j's words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(usize)]
pub enum CircuitState {
    /// Calls pass, and are judged.
    #[default]
    Closed,
    /// No call passes.
    Open,
    /// One call is under way that decides.
    HalfOpen,
    /// No call passes, because somebody wants it so: `forceOpen`, or an operator.
    ForcedOpen,
    /// Calls pass whatever becomes of them: `enabled: false`, `forceClosed`, or an operator.
    Disabled,
}

impl CircuitState {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Closed, Self::Open, Self::HalfOpen, Self::ForcedOpen, Self::Disabled];

    /// The value of the label `state`.
    pub fn label(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
            Self::ForcedOpen => "forced_open",
            Self::Disabled => "disabled",
        }
    }

    /// Whether calls are kept out, but for a probe.
    pub fn is_shut(self) -> bool {
        matches!(self, Self::Open | Self::HalfOpen | Self::ForcedOpen)
    }
}

/// What made a circuit change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CircuitCause {
    /// Too large a share of failures.
    ErrorRate,
    /// Failures in a row.
    Consecutive,
    /// Too large a share of failures, which would have been small enough without calls that were only slow.
    Slow,
    /// It has been open long enough for a probe.
    SleepWindow,
    /// The probe went well.
    ProbeOk,
    /// The probe failed, or nobody knows.
    ProbeFailed,
    /// A person: the policy was written so or changed, or an operator forced it or let it go.
    Manual,
}

impl CircuitCause {
    /// The value of the label `reason`.
    pub fn label(self) -> &'static str {
        match self {
            Self::ErrorRate => "error_rate",
            Self::Consecutive => "consecutive",
            Self::Slow => "slow",
            Self::SleepWindow => "sleep_window",
            Self::ProbeOk => "probe_ok",
            Self::ProbeFailed => "probe_failed",
            Self::Manual => "manual",
        }
    }
}

/// A change of state and its cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Transition {
    /// The state before.
    pub from: CircuitState,
    /// The state after.
    pub to: CircuitState,
    /// Why.
    pub cause: CircuitCause,
}

/// A circuit's history. Times are durations since it was made.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    state: CircuitState,
    since: Duration,
    cause: Option<CircuitCause>,
    in_state: [Duration; CircuitState::ALL.len()],
    /// How often; there are not many that can happen.
    transitions: Vec<(Transition, u64)>,
}

impl Ledger {
    /// For a circuit that begins so.
    pub(super) fn new(state: CircuitState) -> Self {
        Self { state, ..Self::default() }
    }

    /// The state now.
    pub(super) fn state(&self) -> CircuitState {
        self.state
    }

    /// Since when.
    pub(super) fn since(&self) -> Duration {
        self.since
    }

    /// Why; `None` for a circuit that never changed.
    pub(super) fn cause(&self) -> Option<CircuitCause> {
        self.cause
    }

    /// Writes a change down.
    pub(super) fn enter(&mut self, to: CircuitState, cause: CircuitCause, at: Duration) {
        let from = self.state;
        // Calls that end at the same moment on several threads may come in another order.
        let at = at.max(self.since);
        self.in_state[from as usize] += at - self.since;
        (self.state, self.since, self.cause) = (to, at, Some(cause));
        let transition = Transition { from, to, cause };
        match self.transitions.iter_mut().find(|(known, _)| *known == transition) {
            Some((_, count)) => *count += 1,
            None => self.transitions.push((transition, 1)),
        }
    }

    /// How long it was in each state, the present one included.
    pub(super) fn in_state(&self, at: Duration) -> [Duration; CircuitState::ALL.len()] {
        let mut in_state = self.in_state;
        in_state[self.state as usize] += at.saturating_sub(self.since);
        in_state
    }

    /// Each change with its count, in a fixed order.
    pub(super) fn transitions(&self) -> Vec<(Transition, u64)> {
        let mut all = self.transitions.clone();
        all.sort_unstable();
        all
    }
}
