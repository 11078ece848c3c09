//! Asking a silent peer whether it is still there.

use std::time::Duration;

use outrigger_model::TcpKeepalive;

/// The options of a socket; what `asked` leaves open is ours.
pub(crate) fn options(asked: Option<TcpKeepalive>) -> socket2::TcpKeepalive {
    let asked = asked.unwrap_or_default();
    let within = |wanted: Option<Duration>| wanted.unwrap_or(QUIET).clamp(Duration::from_secs(1), LONGEST);
    socket2::TcpKeepalive::new()
        .with_time(within(asked.time))
        .with_interval(within(asked.interval))
        .with_retries(asked.probes.unwrap_or(PROBES).clamp(1, PROBES_MAX))
}

/// Silence after which a peer is asked, and how long it has to answer each time; Linkerd's value.
pub(crate) const QUIET: Duration = Duration::from_secs(10);
/// Questions without an answer after which it is gone.
const PROBES: u32 = 3;
/// The most that Linux takes (`MAX_TCP_KEEPIDLE`, `MAX_TCP_KEEPCNT`): more would be refused, and the default of two hours
/// stay.
const LONGEST: Duration = Duration::from_secs(32_767);
const PROBES_MAX: u32 = 127;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_get_what_is_asked_for_as_far_as_they_take_it() {
        let seconds = Duration::from_secs;
        let asked = |time, interval, probes| {
            Some(TcpKeepalive { time: Some(time), interval: Some(interval), probes: Some(probes) })
        };
        for (asked, want) in [
            (None, (seconds(10), seconds(10), 3)),
            (asked(seconds(7200), seconds(75), 9), (seconds(7200), seconds(75), 9)),
            (asked(Duration::from_millis(1), Duration::ZERO, 0), (seconds(1), seconds(1), 1)),
            (asked(seconds(100_000), seconds(100_000), 1000), (seconds(32_767), seconds(32_767), 127)),
            (Some(TcpKeepalive { time: Some(seconds(60)), ..TcpKeepalive::default() }), (seconds(60), seconds(10), 3)),
        ] {
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
            socket.set_tcp_keepalive(&options(asked)).unwrap();
            let time = socket.tcp_keepalive_time().unwrap();
            let set = (time, socket.tcp_keepalive_interval().unwrap(), socket.tcp_keepalive_retries().unwrap());
            assert_eq!(set, want, "{asked:?}");
        }
    }
}
