//! Why the number of workers moved: the closed set of values of a label.

/// Why the limit is what it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ScaleReason {
    /// No move was made yet.
    #[default]
    Start,
    /// A full batch waited, and no worker was idle: one more is tried.
    Backlog,
    /// Added workers raised throughput and stay.
    ThroughputUp,
    /// Added workers brought too little and went.
    ThroughputFlat,
    /// The store took several times as long for a row as before.
    Latency,
    /// Attempts failed, or the circuit opened.
    Errors,
    /// The circuit closed again.
    Recovered,
    /// Workers had nothing to do.
    Idle,
}

impl ScaleReason {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Start,
        Self::Backlog,
        Self::ThroughputUp,
        Self::ThroughputFlat,
        Self::Latency,
        Self::Errors,
        Self::Recovered,
        Self::Idle,
    ];

    /// The value of the label `reason`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Backlog => "backlog",
            Self::ThroughputUp => "throughput_up",
            Self::ThroughputFlat => "throughput_flat",
            Self::Latency => "latency",
            Self::Errors => "errors",
            Self::Recovered => "recovered",
            Self::Idle => "idle",
        }
    }
}
