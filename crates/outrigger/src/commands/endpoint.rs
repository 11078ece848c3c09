//! `outrigger endpoint`: an endpoint in the hand of an operator.

use clap::{Args, Subcommand};
use serde_json::Value;

use super::admin::HandArgs;
use crate::cli::Verdict;

const EXAMPLES: &str = "\
Examples:
  outrigger endpoint drain cart-v1-0 --cluster 'outbound|80||cart.shop.svc.cluster.local' --ttl 10m --admin-token-file token
      Send a pod no more requests while somebody looks at it; those on their way go on
  outrigger endpoint restore cart-v1-0 --cluster 'outbound|80||cart.shop.svc.cluster.local' --admin-token-file token
      Let it have requests again, before the time is over
  outrigger endpoint reset-ejection 10.0.0.7:8080 --cluster 'outbound|80||cart.shop.svc.cluster.local' --admin-token-file token
      Bring back an endpoint that outlier detection has ejected

`/clusters` of the admin interface lists clusters and endpoints. Exit status: 0 done; 1 refused, with the reason; 2 nothing
could be asked.";

/// Flags of `outrigger endpoint`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct EndpointArgs {
    #[command(subcommand)]
    command: EndpointCommand,
}

#[derive(Debug, Subcommand)]
enum EndpointCommand {
    /// Send an endpoint no more requests until the time is over
    Drain {
        #[command(flatten)]
        which: Which,
        /// For how long, at most 24h: 90s, 5m, 1h30m
        #[arg(long, env = "OUTRIGGER_TTL", value_name = "TIME")]
        ttl: String,
        #[command(flatten)]
        hand: HandArgs,
    },
    /// End a drain
    Restore {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        hand: HandArgs,
    },
    /// End an ejection by outlier detection
    ResetEjection {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        hand: HandArgs,
    },
}

/// One endpoint of one cluster.
#[derive(Args, Debug)]
struct Which {
    /// Address, or name of the pod
    #[arg(value_name = "ENDPOINT")]
    endpoint: String,
    /// The cluster
    #[arg(long, env = "OUTRIGGER_CLUSTER", value_name = "NAME")]
    cluster: String,
}

impl Which {
    fn query(&self) -> [(&'static str, &str); 2] {
        [("cluster", &self.cluster), ("endpoint", &self.endpoint)]
    }
}

/// Asks for the change.
pub(crate) fn run(args: &EndpointArgs) -> anyhow::Result<Verdict> {
    let text = |told: &Value, member: &str| told[member].as_str().unwrap_or_default().to_owned();
    let name = |told: &Value| format!("{} ({})", text(told, "endpoint"), text(told, "address"));
    match &args.command {
        EndpointCommand::Drain { which, ttl, hand } => {
            let [cluster, endpoint] = which.query();
            hand.change("endpoints/drain", &[cluster, endpoint, ("ttl", ttl)], |told| {
                format!("{} is drained until {}", name(told), text(told, "until"))
            })
        }
        EndpointCommand::Restore { which, hand } => hand.change("endpoints/restore", &which.query(), |told| {
            let was = if told["was_drained"] == true { "is no longer drained" } else { "was not drained" };
            format!("{} {was}", name(told))
        }),
        EndpointCommand::ResetEjection { which, hand } => {
            hand.change("endpoints/reset-ejection", &which.query(), |told| {
                let was = if told["was_ejected"] == true { "is no longer ejected" } else { "was not ejected" };
                format!("{} {was}", name(told))
            })
        }
    }
}
