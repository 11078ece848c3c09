//! Label selectors of workload kinds.

use std::sync::Arc;

use crate::codes;
use crate::decode::Cx;
use crate::node::Pos;
use crate::object::Labels;

crate::object! {
    /// `selector`: all conditions must hold. An empty selector selects everything.
    #[derive(Default)]
    pub struct LabelSelector {
        /// `matchLabels`.
        pub match_labels: Labels = or_default "matchLabels",
        /// `matchExpressions`.
        pub match_expressions: Vec<Expression> = or_default "matchExpressions",
    }
}

crate::object! {
    /// A condition on one label.
    pub struct Expression {
        /// `key`.
        pub key: Arc<str> = required "key",
        /// `operator`.
        pub operator: Operator = required "operator",
        /// `values`; none for `Exists` and `DoesNotExist`.
        pub values: Vec<Arc<str>> = or_default "values",
    }
    check check_expression
}

crate::choices! {
    /// `operator`.
    pub enum Operator {
        /// One of the values.
        In = "In",
        /// Absent, or none of the values.
        NotIn = "NotIn",
        /// Present.
        Exists = "Exists",
        /// Absent.
        DoesNotExist = "DoesNotExist",
    }
}

impl LabelSelector {
    /// Whether labels satisfy every condition.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.match_labels.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.match_expressions.iter().all(|expression| expression.matches(labels))
    }

    /// Whether it has no conditions.
    pub fn is_empty(&self) -> bool {
        self.match_labels.is_empty() && self.match_expressions.is_empty()
    }
}

impl Expression {
    fn matches(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.key);
        match self.operator {
            Operator::In => value.is_some_and(|value| self.values.contains(value)),
            Operator::NotIn => value.is_none_or(|value| !self.values.contains(value)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        }
    }
}

fn check_expression(expression: &Expression, pos: Pos, cx: &mut Cx) {
    let needs_values = matches!(expression.operator, Operator::In | Operator::NotIn);
    if needs_values == expression.values.is_empty() {
        let expected = if needs_values { "at least one value" } else { "no values" };
        let message = format!("values: found {}, expected {expected} with this operator", expression.values.len());
        cx.report(codes::SCHEMA, pos, message, "");
    }
}

/// Reports a workload whose selector does not select its own template, which the API server refuses.
pub(crate) fn check_template(selector: &LabelSelector, labels: &Labels, pos: Pos, cx: &mut Cx) {
    if selector.is_empty() {
        cx.report(codes::SCHEMA, pos, "spec.selector: it is missing or empty, expected `matchLabels`", "");
    } else if !selector.matches(labels) {
        let message = "spec.selector: it does not match spec.template.metadata.labels";
        cx.report(codes::SCHEMA, pos, message, "give the template the labels that the selector asks for");
    }
}
