//! Clients: they speak Kafka's protocol over simulated connections, and tell the oracle what they do and see.

pub mod admin;
pub mod consumer;
pub mod group;
pub mod keys;
pub mod peer;
pub mod producer;
pub mod reader;

/// Kafka's error codes that clients know by name.
pub mod codes {
    /// An offset outside of the log.
    pub const OFFSET_OUT_OF_RANGE: i16 = 1;
    /// The topic or partition isn't known.
    pub const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
    /// Somebody else serves it.
    pub const NOT_LEADER_OR_FOLLOWER: i16 = 6;
    /// The member is not in this generation.
    pub const ILLEGAL_GENERATION: i16 = 22;
    /// The member is not known.
    pub const UNKNOWN_MEMBER_ID: i16 = 25;
    /// The group is between two generations.
    pub const REBALANCE_IN_PROGRESS: i16 = 27;
    /// The topic is there already.
    pub const TOPIC_ALREADY_EXISTS: i16 = 36;
    /// As many partitions, or more, are there already.
    pub const INVALID_PARTITIONS: i16 = 37;
    /// A sequence that does not follow.
    pub const OUT_OF_ORDER_SEQUENCE_NUMBER: i16 = 45;
    /// A batch that is in the log already.
    pub const DUPLICATE_SEQUENCE_NUMBER: i16 = 46;
    /// An epoch that is over.
    pub const INVALID_PRODUCER_EPOCH: i16 = 47;
    /// The session is not known.
    pub const FETCH_SESSION_ID_NOT_FOUND: i16 = 70;
    /// The session is at another epoch.
    pub const INVALID_FETCH_SESSION_EPOCH: i16 = 71;
    /// To be sent again with the id that was given.
    pub const MEMBER_ID_REQUIRED: i16 = 79;
    /// Not stored by as many as should; here: not stored.
    pub const NOT_ENOUGH_REPLICAS: i16 = 19;
    /// No topic has the id.
    pub const UNKNOWN_TOPIC_ID: i16 = 100;

    /// What says, in an answer to Produce, that nothing was appended.
    pub const DID_NOT_HAPPEN: [i16; 6] = [
        UNKNOWN_TOPIC_OR_PARTITION,
        NOT_LEADER_OR_FOLLOWER,
        NOT_ENOUGH_REPLICAS,
        OUT_OF_ORDER_SEQUENCE_NUMBER,
        INVALID_PRODUCER_EPOCH,
        UNKNOWN_TOPIC_ID,
    ];
}
