//! The parameters of a request.

use axum::extract::Query as UrlQuery;
use axum::http::{StatusCode, Uri};
use axum::response::Response;

use super::reply::sentence;

/// Decoded parameters of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Of a request; the answer to give where they cannot be read.
    pub(super) fn read(uri: &Uri) -> Result<Self, Response> {
        match UrlQuery::<Vec<(String, String)>>::try_from_uri(uri) {
            Ok(UrlQuery(pairs)) => Ok(Self(pairs)),
            Err(error) => Err(sentence(StatusCode::BAD_REQUEST, &format!("the query cannot be read: {error}"))),
        }
    }

    /// The first value of a parameter.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Whether a parameter is there, with or without a value.
    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// All parameters in order.
    pub fn pairs(&self) -> &[(String, String)] {
        &self.0
    }
}

impl FromIterator<(String, String)> for Query {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(pairs: I) -> Self {
        Self(pairs.into_iter().collect())
    }
}
