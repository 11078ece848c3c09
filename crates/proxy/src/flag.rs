//! Envoy's short response flags: why an answer is not the application's own.

/// One flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Flag {
    /// None.
    None,
    /// `UH`
    NoHealthyUpstream,
    /// `UT`
    UpstreamRequestTimeout,
    /// `UR`
    UpstreamRemoteReset,
    /// `UF`
    UpstreamConnectionFailure,
    /// `UC`
    UpstreamConnectionTermination,
    /// `UO`
    UpstreamOverflow,
    /// `NR`
    NoRouteFound,
    /// `DI`
    DelayInjected,
    /// `FI`
    FaultInjected,
    /// `RL`
    RateLimited,
    /// `DC`
    DownstreamConnectionTermination,
    /// `URX`
    UpstreamRetryLimitExceeded,
    /// `SI`
    StreamIdleTimeout,
    /// `DPE`
    DownstreamProtocolError,
    /// `UMSDR`
    UpstreamMaxStreamDurationReached,
    /// `DT`
    DurationTimeout,
    /// `UPE`
    UpstreamProtocolError,
    /// `NC`
    NoClusterFound,
    /// `OM`
    OverloadManager,
    /// `DF`
    DnsResolutionFailed,
}

impl Flag {
    /// All but none, in Envoy's order.
    const ALL: [Self; 20] = [
        Self::NoHealthyUpstream,
        Self::UpstreamRequestTimeout,
        Self::UpstreamRemoteReset,
        Self::UpstreamConnectionFailure,
        Self::UpstreamConnectionTermination,
        Self::UpstreamOverflow,
        Self::NoRouteFound,
        Self::DelayInjected,
        Self::FaultInjected,
        Self::RateLimited,
        Self::DownstreamConnectionTermination,
        Self::UpstreamRetryLimitExceeded,
        Self::StreamIdleTimeout,
        Self::DownstreamProtocolError,
        Self::UpstreamMaxStreamDurationReached,
        Self::DurationTimeout,
        Self::UpstreamProtocolError,
        Self::NoClusterFound,
        Self::OverloadManager,
        Self::DnsResolutionFailed,
    ];

    /// As it stands in metrics, logs and headers.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::None => "-",
            Self::NoRouteFound => "NR",
            Self::NoClusterFound => "NC",
            Self::NoHealthyUpstream => "UH",
            Self::UpstreamConnectionFailure => "UF",
            Self::UpstreamConnectionTermination => "UC",
            Self::UpstreamOverflow => "UO",
            Self::DurationTimeout => "DT",
            Self::UpstreamProtocolError => "UPE",
            Self::UpstreamRequestTimeout => "UT",
            Self::UpstreamRetryLimitExceeded => "URX",
            Self::DelayInjected => "DI",
            Self::FaultInjected => "FI",
            Self::RateLimited => "RL",
            Self::StreamIdleTimeout => "SI",
            Self::DownstreamConnectionTermination => "DC",
            Self::DownstreamProtocolError => "DPE",
            Self::OverloadManager => "OM",
            Self::DnsResolutionFailed => "DF",
            Self::UpstreamRemoteReset => "UR",
            Self::UpstreamMaxStreamDurationReached => "UMSDR",
        }
    }
}

/// All flags of one exchange.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Flags(u32);

impl Flags {
    /// With one more.
    pub(crate) fn with(self, flag: Flag) -> Self {
        if flag == Flag::None { self } else { Self(self.0 | 1 << flag as u32) }
    }

    /// With those of another.
    pub(crate) fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// As they stand in metrics and logs: with commas, in Envoy's order; `-` where there is none.
    pub(crate) fn text(self) -> String {
        let set: Vec<&str> =
            Flag::ALL.iter().filter(|flag| self.0 & 1 << **flag as u32 != 0).map(|flag| flag.as_str()).collect();
        if set.is_empty() { Flag::None.as_str().to_owned() } else { set.join(",") }
    }
}

impl From<Flag> for Flags {
    fn from(flag: Flag) -> Self {
        Self::default().with(flag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_stand_in_envoys_order_each_once() {
        assert_eq!(Flags::default().text(), "-");
        assert_eq!(Flags::from(Flag::None).text(), "-");
        let both = Flags::from(Flag::UpstreamRetryLimitExceeded).with(Flag::UpstreamConnectionFailure);
        assert_eq!(both.and(Flag::DelayInjected.into()).with(Flag::DelayInjected).text(), "UF,DI,URX");
        let all = Flag::ALL.iter().fold(Flags::default(), |all, flag| all.with(*flag));
        assert_eq!(all.text().split(',').count(), Flag::ALL.len());
    }
}
