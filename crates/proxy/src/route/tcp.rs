//! The choice among the destinations of a connection.

use std::sync::Arc;

use outrigger_model::{Destination, TcpRoute};

use super::split::Split;

/// A [`TcpRoute`] compiled.
#[derive(Debug)]
pub(crate) struct TcpTable {
    route: Arc<TcpRoute>,
    split: Split,
}

impl TcpTable {
    /// Compiles it; one whose shares are as they were goes on with its sequence.
    pub(crate) fn compile(route: &Arc<TcpRoute>, previous: Option<&Self>) -> Self {
        let shares = |route: &TcpRoute| -> Vec<_> {
            route.destinations.iter().map(|destination| (destination.cluster.clone(), destination.weight)).collect()
        };
        let split = match previous {
            Some(previous) if shares(&previous.route) == shares(route) => previous.split.clone(),
            _ => Split::new(&route.destinations.iter().map(|destination| destination.weight).collect::<Vec<_>>()),
        };
        Self { route: route.clone(), split }
    }

    /// The destination of the next connection.
    pub(crate) fn choose(&self) -> &Destination {
        &self.route.destinations[self.split.next()]
    }
}

#[cfg(test)]
mod tests {
    use outrigger_model::ClusterName;

    use super::*;

    fn route(weights: &[u32]) -> Arc<TcpRoute> {
        let destinations = weights.iter().enumerate().map(|(at, weight)| Destination {
            cluster: ClusterName::new(&format!("outbound|443||{at}.example")),
            missing: None,
            weight: *weight,
            authority: None,
            request_headers: Default::default(),
            response_headers: Default::default(),
        });
        Arc::new(TcpRoute { origin: None, destinations: destinations.collect() })
    }

    fn chosen(table: &TcpTable, count: usize) -> String {
        (0..count).map(|_| table.choose().cluster.as_str().rsplit('|').next().unwrap_or("?")[..1].to_owned()).collect()
    }

    #[test]
    fn a_table_goes_on_with_its_shares_until_they_change() {
        let first = TcpTable::compile(&route(&[3, 1]), None);
        let whole = chosen(&first, 4);
        assert_eq!(whole.matches('1').count(), 1, "{whole}");
        let begun = chosen(&first, 2);
        let again = TcpTable::compile(&route(&[3, 1]), Some(&first));
        assert_eq!(begun + &chosen(&again, 2), whole, "the sequence goes on");
        let other = TcpTable::compile(&route(&[0, 1]), Some(&again));
        assert_eq!(chosen(&other, 3), "111", "new shares, new sequence");
    }
}
