//! What options can belong to, as the wire numbers it (KIP-133, KIP-412, KIP-714, KIP-1142).

/// A kind of thing that has options.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ResourceType {
    /// A topic, by name.
    Topic,
    /// A broker, by id; or the cluster's default, by the empty name.
    Broker,
    /// A broker's loggers, by the broker's id. There are none that clients can change.
    BrokerLogger,
    /// A subscription of client metrics, by name. There are none.
    ClientMetrics,
    /// A group, by name. There are no options of groups.
    Group,
}

impl ResourceType {
    /// Every kind, in the order in which they are listed.
    pub(crate) const ALL: [Self; 5] =
        [Self::Group, Self::ClientMetrics, Self::BrokerLogger, Self::Broker, Self::Topic];

    /// The number on the wire.
    pub(crate) const fn wire(self) -> i8 {
        match self {
            Self::Topic => 2,
            Self::Broker => 4,
            Self::BrokerLogger => 8,
            Self::ClientMetrics => 16,
            Self::Group => 32,
        }
    }

    /// The kind of a number on the wire.
    pub(crate) fn from_wire(number: i8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.wire() == number)
    }
}
