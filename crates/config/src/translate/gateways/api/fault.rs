//! Why something of the Gateway API does not hold: a false condition and a finding in one, so that the two never differ.

use outrigger_model::Diagnostic;

use crate::codes::CodeInfo;
use crate::node::Pos;
use crate::object::Metadata;
use crate::status::Condition;

/// A reason, with its place.
#[derive(Clone, Debug)]
pub(super) struct Fault<'r> {
    /// The object at fault.
    pub(super) meta: &'r Metadata,
    /// Where in its document.
    pub(super) pos: Pos,
    /// As what it is reported.
    pub(super) code: &'static CodeInfo,
    /// `reason` of the condition.
    pub(super) reason: &'static str,
    /// What was found and what was expected.
    pub(super) message: String,
    /// What to do.
    pub(super) hint: String,
}

impl Fault<'_> {
    /// The finding.
    pub(super) fn finding(&self) -> Diagnostic {
        self.code.about(self.meta, self.pos, self.message.clone(), self.hint.clone())
    }

    /// The condition that is false because of it.
    pub(super) fn condition(&self, kind: &'static str) -> Condition {
        Condition::fails(kind, self.reason, self.message.clone())
    }
}
