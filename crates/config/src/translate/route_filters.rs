//! What the filters of an HTTPRoute or GRPCRoute ask for, gathered; those of a rule come first, then those of the chosen backend.

use std::sync::Arc;

use outrigger_model::{Cors, HeaderEdits, HeaderName, HeaderValue, PathRewrite, Redirect, RedirectPath, RedirectPort};

use crate::kind::http_route_filter::{Filter, FilterType, MirrorFilter, PathModifier, RedirectFilter};
use crate::node::Spanned;

/// What a list of filters asks for.
#[derive(Debug, Default)]
pub(crate) struct Effects<'f> {
    /// On the request's headers.
    pub(crate) request: HeaderEdits,
    /// On the response's headers.
    pub(crate) response: HeaderEdits,
    /// The authority to send on with: of a rewrite's `hostname` or an edit of `Host`, the last.
    pub(crate) authority: Option<HeaderValue>,
    /// The path to send on with.
    pub(crate) path: Option<&'f PathModifier>,
    /// The answer instead of sending on.
    pub(crate) redirect: Option<&'f RedirectFilter>,
    /// Cross-origin policy.
    pub(crate) cors: Option<&'f Cors>,
    /// Copies.
    pub(crate) mirrors: Vec<&'f MirrorFilter>,
    /// The first filter that cannot be obeyed at all: to pass it over could let through what it is there to stop.
    pub(crate) unsupported: Option<&'f Spanned<Filter>>,
}

impl<'f> Effects<'f> {
    /// Gathers a list.
    pub(crate) fn of(filters: &'f [Spanned<Filter>]) -> Self {
        let mut effects = Self::default();
        for filter in filters {
            match &filter.value {
                Filter::RequestHeaders(operations) => {
                    effects.request = folded(operations.edits.clone());
                    effects.authority = operations.authority.clone().or(effects.authority);
                }
                Filter::ResponseHeaders(operations) => effects.response = folded(operations.edits.clone()),
                Filter::Mirror(mirror) => effects.mirrors.push(mirror),
                Filter::Redirect(redirect) => effects.redirect = Some(redirect),
                Filter::Rewrite(rewrite) => {
                    effects.path = rewrite.path.as_ref();
                    effects.authority = rewrite.hostname.as_deref().and_then(authority).or(effects.authority);
                }
                Filter::Cors(cors) => effects.cors = Some(cors),
                Filter::Extension(_) | Filter::ExternalAuth(_) => {
                    effects.unsupported = effects.unsupported.or(Some(filter));
                }
            }
        }
        effects
    }

    /// Adds what the filters of the only backend ask for, as if they stood behind those of the rule. `Err`: the type of a
    /// filter that cannot be in both.
    pub(crate) fn absorb(&mut self, backend: Self) -> Result<(), FilterType> {
        if backend.cors.is_some() && self.cors.is_some() {
            return Err(FilterType::Cors);
        }
        if backend.path.is_some() && self.path.is_some() {
            return Err(FilterType::UrlRewrite);
        }
        if backend.redirect.is_some() && (self.path.is_some() || self.authority.is_some()) {
            return Err(FilterType::RequestRedirect);
        }
        self.request = then(&self.request, &backend.request);
        self.response = then(&self.response, &backend.response);
        self.authority = backend.authority.or(self.authority.take());
        self.path = backend.path.or(self.path);
        self.redirect = backend.redirect;
        self.cors = backend.cors.or(self.cors);
        self.mirrors.extend(backend.mirrors);
        Ok(())
    }

    /// The type of a filter that one of several backends cannot have: the model decides on it before it chooses one.
    pub(crate) fn of_rules_only(&self) -> Option<FilterType> {
        let found = [
            (self.redirect.is_some(), FilterType::RequestRedirect),
            (self.path.is_some(), FilterType::UrlRewrite),
            (self.cors.is_some(), FilterType::Cors),
        ];
        found.into_iter().find(|(there, _)| *there).map(|(_, kind)| kind)
    }

    /// The change of the path.
    pub(crate) fn path_rewrite(&self) -> PathRewrite {
        match self.path {
            None => PathRewrite::Keep,
            Some(PathModifier::Full(path)) => PathRewrite::Full(path.clone()),
            Some(PathModifier::Prefix(prefix)) => PathRewrite::Prefix(prefix.clone()),
        }
    }
}

fn authority(host: &str) -> Option<HeaderValue> {
    HeaderValue::parse(host).ok()
}

/// The edits that do what `first` and then `second` does.
pub(crate) fn then(first: &HeaderEdits, second: &HeaderEdits) -> HeaderEdits {
    let undone = |name: &HeaderName| second.remove.contains(name) || second.set.iter().any(|(n, _)| n == name);
    let kept = |pairs: &[(HeaderName, HeaderValue)]| -> Vec<(HeaderName, HeaderValue)> {
        pairs.iter().filter(|(name, _)| !undone(name)).cloned().collect()
    };
    let mut both = HeaderEdits { set: kept(&first.set), add: kept(&first.add), remove: first.remove.clone() };
    both.remove.extend(second.remove.iter().filter(|name| !first.remove.contains(name)).cloned());
    both.set.extend(second.set.iter().cloned());
    both.add.extend(second.add.iter().cloned());
    folded(both)
}

/// Edits in which no name is both set and added, as the model has it: what is added goes behind what is set, with a
/// comma, as the documentation of `add` shows.
fn folded(mut edits: HeaderEdits) -> HeaderEdits {
    let HeaderEdits { set, add, .. } = &mut edits;
    add.retain(|(name, more)| {
        let Some((_, value)) = set.iter_mut().find(|(n, _)| n == name) else { return true };
        // Two values that are short enough for the API are so together; were they not, the first would stay alone.
        if let Ok(joined) = HeaderValue::parse(&format!("{value},{more}")) {
            *value = joined;
        }
        false
    });
    edits
}

/// A redirect as the model has it. Without `port`, the scheme's default counts when a scheme is given, else the port of
/// the listener.
pub(crate) fn redirect(filter: &RedirectFilter) -> Redirect {
    let port = match (filter.port, filter.scheme) {
        (Some(port), _) => RedirectPort::Exact(port),
        (None, Some(_)) => RedirectPort::ProtocolDefault,
        (None, None) => RedirectPort::Request,
    };
    let path = match &filter.path {
        None => RedirectPath::Keep,
        Some(PathModifier::Full(path)) => RedirectPath::Full(path.clone()),
        Some(PathModifier::Prefix(prefix)) => RedirectPath::Prefix(prefix.clone()),
    };
    Redirect {
        status: filter.status.unwrap_or(302),
        scheme: filter.scheme.map(|scheme| Arc::from(scheme.as_str())),
        authority: filter.hostname.as_deref().and_then(authority),
        port,
        path,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// `+a=1` adds, `=a=1` sets, `-a` removes.
    fn edits(text: &str) -> HeaderEdits {
        let mut edits = HeaderEdits::default();
        for word in text.split_whitespace() {
            let (name, value) = word[1..].split_once('=').unwrap_or((&word[1..], ""));
            let name = HeaderName::parse(name).unwrap();
            let value = HeaderValue::parse(value).unwrap();
            match &word[..1] {
                "+" => edits.add.push((name, value)),
                "=" => edits.set.push((name, value)),
                _ => edits.remove.push(name),
            }
        }
        edits
    }

    /// What edits make of fields, in the order in which the data plane applies them; values of one name with commas.
    fn apply(edits: &HeaderEdits, fields: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let mut out = fields.clone();
        edits.remove.iter().for_each(|name| drop(out.remove(name.as_str())));
        for (name, value) in &edits.set {
            out.insert(name.to_string(), value.to_string());
        }
        for (name, value) in &edits.add {
            assert!(edits.set.iter().all(|(n, _)| n != name), "{name} is set and added");
            let found = out.entry(name.to_string()).or_default();
            *found = if found.is_empty() { value.to_string() } else { format!("{found},{value}") };
        }
        out
    }

    #[test]
    fn two_edits_in_one_do_what_they_do_one_after_the_other() {
        let all = ["", "-a", "=a=1", "+a=2", "-a =a=3", "-a +a=4", "=a=5 +a=6", "=b=1 -a", "+b=2 +a=1"];
        let fields = BTreeMap::from([("a".to_owned(), "0".to_owned()), ("b".to_owned(), "0".to_owned())]);
        for (first, second) in all.iter().flat_map(|first| all.iter().map(move |second| (first, second))) {
            let (one, two) = (folded(edits(first)), folded(edits(second)));
            let expected = apply(&two, &apply(&one, &fields));
            assert_eq!(apply(&then(&one, &two), &fields), expected, "{first:?} then {second:?}");
        }
    }
}
