//! The options of one agent, a struct for each component. Defaults are those of `penstock agent`; what `penstock
//! dev` sets beside them stands in [`DEV_PROFILE`].

use std::path::PathBuf;
use std::time::Duration;

use crate::address::{HostLimits, HostPort, ObjectStoreUrl};
use crate::metadata::MetadataKind;
use crate::options::options;
use crate::value::{ByteSize, choice};

/// What `penstock dev` sets before file, environment and flags: nobody bills the requests of a laptop's disk.
pub const DEV_PROFILE: &[(&str, &str)] = &[("flush.put.budget.per.second", "1000")];

choice! {
    /// The checksum that an upload carries and that the object store verifies.
    pub enum UploadChecksum {
        /// None beyond the transport's own.
        None = "none",
        /// CRC-64/NVME: cheap, known to S3 and MinIO since 2025.
        Crc64Nvme = "crc64nvme",
        /// SHA-256: known to every store, dear in CPU.
        Sha256 = "sha256",
    }
}

choice! {
    /// What an agent is there for.
    pub enum Roles {
        /// Clients and jobs.
        All = "all",
        /// Clients are sent to it; it runs no background jobs.
        Clients = "clients",
        /// It runs background jobs; clients are not sent to it.
        Jobs = "jobs",
    }
}

choice! {
    /// How log lines look.
    pub enum LogFormat {
        /// For people.
        Text = "text",
        /// One JSON object a line.
        Json = "json",
    }
}

options! {
    "Node"
    /// Who this agent is and where its data lies.
    pub struct NodeOptions {
        /// The agent's id, unique in its cluster: the broker id that Kafka clients see. -1: the metadata store gives one
        /// out, the smallest that no other agent has. An agent that is given a number that another one has waits for
        /// the end of its lease, and gives up if it is alive.
        "node.id" => node_id: i32 = "-1", in "-1" to "2147483647";
        /// A name that no other agent of the cluster has: an agent with a name gets the id that it had before. For agents that
        /// come back under the same name (a StatefulSet's); names that change with each start use up ids. Empty: no name.
        "node.name" => node_name: String = "";
        /// How long the other agents wait for a sign of life before they take this one for dead: its groups then move, and
        /// clients are no longer sent here. Short times move them sooner; long ones bear longer pauses of the process or the
        /// metadata store. The lease is renewed four times in this time.
        "node.lease.ms" => lease: Duration = "6s", in "500ms" to "5min";
        /// What this agent is there for: `all`, `clients` (it runs no background jobs) or `jobs` (clients are not sent to it;
        /// who connects is served all the same).
        "roles" => roles: Roles = "all";
        /// The availability zone (Kafka's rack). Clients of the same zone are pointed at this agent first. Empty: no
        /// zone.
        "zone" => zone: String = "";
        /// The directory of everything that this agent keeps on local disk: the embedded metadata store
        /// (`metadata/`) and, unless `object.store` names another place, the data objects (`objects/`). One process
        /// at a time; created if missing.
        "data.dir" => data_dir: PathBuf = "./penstock-data";
        /// The metadata store: `embedded` is durable and serves one agent; `fdb:CLUSTER_FILE` is a FoundationDB and
        /// serves any number of them (see "FoundationDB" below); `memory` forgets everything at exit and goes with
        /// `object.store=memory:///` only.
        "metadata" => metadata: MetadataKind = "embedded";
        /// Where data objects are kept: `file:///PATH`, `s3://BUCKET/PREFIX` (credentials, region and endpoint from
        /// the usual `AWS_*` variables) or `memory:///`. Empty: `objects/` in `data.dir`.
        "object.store" => object_store: Option<ObjectStoreUrl> = "";
        /// How long a stopping agent may take to finish what is in flight. Past it the process exits with an error;
        /// what was not acknowledged is then the clients' to send again.
        "shutdown.deadline.ms" => shutdown_deadline: Duration = "30s", in "0ms" to "1h";
        /// How long a stopping agent waits for its clients to move to other agents, at most half of
        /// `shutdown.deadline.ms`. It tells them to, and goes on as soon as none sends records or fetches any more.
        "drain.grace.ms" => drain_grace: Duration = "10s", in "0ms" to "1h";
    }
}

options! {
    "Kafka listener"
    /// Connections of Kafka clients and their bounds.
    pub struct ServerOptions {
        /// Where Kafka clients connect. A wildcard address (0.0.0.0, ::) needs `advertise`.
        "listen" => listen: HostPort = "127.0.0.1:9092";
        /// The address that clients are told to connect to, where it is not that of `listen`.
        "advertise" => advertise: Option<HostPort> = "";
        /// The zone of the clients that connect to this listener, where all of them are of one: they are told of this
        /// zone's agents only. A client whose client.id says `zone=NAME` is taken at its word instead. Empty: not known.
        "listen.zone" => listen_zone: String = "";
        /// Connections at a time; further ones are closed at once. Each holds a file descriptor and its buffers.
        "max.connections" => max_connections: u32 = "10000", in "1" to "1000000", unit "connections";
        /// Connections from one address at a time; further ones are closed at once. A small number keeps one host from
        /// taking all of `max.connections`; clients behind one NAT or proxy share an address.
        "max.connections.per.ip" => max_connections_per_ip: u32 = "2147483647", in "0" to "2147483647", unit "connections";
        /// Other limits than `max.connections.per.ip` for some hosts, by address or name: `10.0.0.7:200,proxy:1000`. Names
        /// are looked up at the start; one that can't be found keeps the agent from starting.
        "max.connections.per.ip.overrides" => max_connections_per_ip_overrides: HostLimits = "";
        /// A connection without a request for so long is closed.
        "connections.max.idle.ms" => connections_max_idle: Duration = "10min", in "1s" to "7d";
        /// The largest request. A larger one closes its connection. Bounds what one request can hold in memory.
        "socket.request.max.bytes" => socket_request_max: ByteSize = "100MiB", in "64KiB" to "1GiB";
        /// Requests of one connection that are worked on at the same time; past it the socket is not read. Answers
        /// keep the requests' order. Small values slow pipelining producers.
        "connection.requests.max" => connection_requests_max: u32 = "64", in "1" to "4096", unit "requests";
        /// Bytes of all requests that were received, or begun, and not yet taken over by their handlers. Past it sockets
        /// are not read, but for one request at a time, so that there is always progress. Large requests need room
        /// here: half of it goes to whoever announces one, the other half is given out as bytes arrive.
        "queued.max.request.bytes" => queued_max_request: ByteSize = "256MiB", in "1MiB" to "4095MiB";
        /// Unused buffers of large requests that are kept for the next ones. Fresh memory costs more CPU than the
        /// request itself; what is kept is not there for anything else.
        "request.buffers.retained.bytes" => request_buffers_retained: ByteSize = "64MiB", in "0" to "16GiB";
        /// What requests may take of memory in their decoded form until they are answered, all together, beside their
        /// bytes. Past it further requests wait.
        "queued.max.decoded.bytes" => queued_max_decoded: ByteSize = "128MiB", in "1MiB" to "4095MiB";
        /// What one request may take in its decoded form, beside twice its length. One that takes more closes its
        /// connection. Too little refuses long lists of topics or partitions.
        "request.decoded.max.bytes" => request_decoded_max: ByteSize = "16MiB", in "64KiB" to "1GiB";
        /// How long a request may take to arrive, from its first byte, beside what its length needs at
        /// `request.receive.min.bytes.per.second`. Past it the connection is closed. Long times let slow clients hold
        /// memory, short ones cut off clients on bad lines.
        "request.receive.timeout.ms" => request_receive_timeout: Duration = "30s", in "100ms" to "1h";
        /// The slowest rate at which a large request may arrive.
        "request.receive.min.bytes.per.second" => request_receive_min_rate: u32 = "262144", in "1" to "1073741824", unit "bytes per second";
        /// While requests wait for `queued.max.request.bytes`: a request that holds some of it, and comes slower than
        /// `request.receive.min.bytes.per.second` for so long, loses its connection, so that stalled clients keep nobody
        /// waiting.
        "request.receive.contended.ms" => request_receive_contended: Duration = "2s", in "10ms" to "1h";
        /// How long requests of a connection that is about to be closed may take to be answered. When the agent stops,
        /// no longer than `shutdown.deadline.ms` less two seconds.
        "connection.drain.ms" => connection_drain: Duration = "30s", in "0ms" to "1h";
    }
}

options! {
    "HTTP"
    /// Metrics and health.
    pub struct HttpOptions {
        /// Where `/metrics`, `/health/live` and `/health/ready` are served. Not authenticated: keep it inside.
        "http" => http: HostPort = "127.0.0.1:9644";
    }
}

options! {
    "Flush"
    /// When what producers sent is put into a data object and uploaded. The policy is cost-bounded latency: a flush
    /// starts at once while the budget of PUT requests allows, else it waits and batches.
    pub struct FlushOptions {
        /// PUT requests that this agent may spend, on average. The bill's ceiling: at 0.005 USD per 1,000 requests,
        /// 4 a second are about 52 USD a month. Low budgets make larger objects and higher latency under light load.
        /// Times `flush.object.max.bytes` it is also the most that the agent takes from producers: 32 MiB/s by default.
        "flush.put.budget.per.second" => put_budget_per_second: f64 = "4", in "0.01" to "100000", unit "PUT/s and agent";
        /// Unused budget that may be saved up, so that traffic after a pause is flushed without waiting.
        "flush.put.burst" => put_burst: u32 = "8", in "1" to "100000", unit "PUT";
        /// A flush is closed at this size, whatever the budget says. Larger objects cost fewer requests and more
        /// memory and time per upload.
        "flush.object.max.bytes" => object_max: ByteSize = "8MiB", in "64KiB" to "256MiB";
        /// A fixed time between flushes instead of flushing as the budget allows (250ms is what others do).
        /// 0: flush as early as the budget allows.
        "flush.interval.ms" => interval: Duration = "0ms", in "0ms" to "10min";
    }
}

options! {
    "Produce"
    /// What producers may have outstanding.
    pub struct ProduceOptions {
        /// Bytes of produce requests that are received but not yet answered, all connections together. Past it sockets
        /// are not read until uploads catch up. Together with the caches the bulk of the agent's memory.
        "produce.memory.bytes" => memory: ByteSize = "256MiB", in "16MiB" to "1TiB";
    }
}

options! {
    "Upload"
    /// How data objects are put into the object store.
    pub struct UploadOptions {
        /// Uploads at the same time. Each holds one object in memory.
        "upload.concurrency" => concurrency: u32 = "16", in "1" to "1024", unit "uploads";
        /// How long an upload is retried before its producers get a retriable error. Above clients'
        /// `request.timeout.ms` they give up first and send again.
        "upload.deadline.ms" => deadline: Duration = "20s", in "100ms" to "10min";
        /// How long one attempt may take before it is given up and retried.
        "upload.attempt.timeout.ms" => attempt_timeout: Duration = "10s", in "100ms" to "10min";
        /// Share of uploads that may be sent a second time when they are slower than most of their size. 0: never.
        /// Each costs a PUT; the tail of the latency shrinks.
        "upload.hedge.ratio" => hedge_ratio: f64 = "0.05", in "0" to "1", unit "hedged PUT per PUT";
        /// The end-to-end checksum that the object store verifies before it answers.
        "upload.checksum" => checksum: UploadChecksum = "crc64nvme";
    }
}

options! {
    "Cache"
    /// What is kept in memory for fetches.
    pub struct CacheOptions {
        /// Blocks of data objects kept in memory. Holds what this agent wrote and what consumers near the end read.
        "cache.bytes" => bytes: ByteSize = "256MiB", in "1MiB" to "1TiB";
        /// Memory of its own for consumers that lag, so that they can't evict what the others read.
        "cache.lagging.bytes" => lagging_bytes: ByteSize = "64MiB", in "1MiB" to "1TiB";
        /// The unit in which objects are cached and read. Larger ones cost fewer GETs and more memory.
        "cache.block.bytes" => block: ByteSize = "1MiB", in "64KiB" to "16MiB";
        /// How far ahead of a lagging consumer objects are read; 0: not at all. With one read more it has to fit into
        /// `cache.lagging.bytes`.
        "cache.readahead.bytes" => readahead: ByteSize = "8MiB", in "0" to "1GiB";
        /// Bytes that are being read from the object store for consumers near the end, and as many again for those that
        /// lag. Past it further reads wait.
        "cache.loading.bytes" => loading: ByteSize = "32MiB", in "16MiB" to "64GiB";
    }
}

options! {
    "Fetch"
    /// What consumers may ask for.
    pub struct FetchOptions {
        /// The largest answer to a fetch, whatever the client asks for; one batch is sent even if it is larger.
        "fetch.max.bytes" => max: ByteSize = "55MiB", in "1KiB" to "1GiB";
        /// Fetch sessions that are remembered (KIP-227); past it the least recently used one gives way.
        "max.incremental.fetch.session.cache.slots" => session_slots: u32 = "1000", in "0" to "1000000", unit "sessions";
        /// Bytes of answers to fetches that are being put together or sent, all connections together. Past it fetches
        /// wait.
        "fetch.memory.bytes" => memory: ByteSize = "256MiB", in "16MiB" to "1TiB";
    }
}

options! {
    "Seal"
    /// When the log rows of a partition are folded into its packed index.
    pub struct SealOptions {
        /// A partition is sealed when it has so many rows. Fewer make tail views cheap to rebuild, and more commits.
        "seal.rows" => rows: u32 = "2000", in "1" to "1000000", unit "rows";
        /// A partition with any rows is sealed when the oldest is this old, so that idle partitions let old objects go.
        "seal.age.ms" => age: Duration = "10min", in "1s" to "7d";
        /// How often partitions are looked at.
        "seal.interval.ms" => interval: Duration = "5s", in "10ms" to "1h";
    }
}

options! {
    "Checkpoint"
    /// Copies of the sealed log's metadata in the bucket, from which topics and offsets can be salvaged if the metadata
    /// store is lost: exactly up to the last checkpoint. One for each of 256 slots of partitions; nothing is written for
    /// a slot in which nothing was sealed.
    pub struct CheckpointOptions {
        /// A slot's checkpoint is written anew no sooner than that after the last. Short intervals cost PUT requests (at
        /// most one a slot and interval, for small clusters), long ones leave more that can't be salvaged exactly.
        "checkpoint.interval.ms" => interval: Duration = "10min", in "1s" to "7d";
        /// How many bytes a second a slot's checkpoints may take on average: a large one is written less often.
        "checkpoint.slot.bytes.per.second" => slot_bytes_per_second: ByteSize = "16KiB", in "1" to "1GiB";
    }
}

options! {
    "Retention and collection"
    /// When records that have expired are deleted, and objects that nothing refers to any more. How long records are kept is
    /// said by Kafka's own options (`retention.ms`, `retention.bytes`), how often they are looked at by
    /// `log.retention.check.interval.ms`.
    pub struct CollectOptions {
        /// How long an object that nothing refers to any more, since its records have expired or were deleted, stays in the
        /// bucket: longer than any fetch takes. It stays a few minutes longer, for the metadata store's time may jump.
        "collect.delay.ms" => delay: Duration = "15min", in "1s" to "30d";
        /// How long an object stays whose records were merged into others; never shorter than `collect.delay.ms`. That is how
        /// old a backup of the metadata may be and still be of use: restored, it refers to these objects, and what it refers to
        /// that is gone can't be read any more. It costs the bytes of what was merged in so long, up to twice what was written.
        "collect.merged.delay.ms" => merged_delay: Duration = "1d", in "1s" to "365d";
        /// How often it is looked for what can be deleted.
        "collect.interval.ms" => interval: Duration = "1min", in "1s" to "1d";
        /// How often the bucket is listed to find objects that were put and never committed. A listing costs a request
        /// per 1,000 objects.
        "sweep.interval.ms" => sweep_interval: Duration = "6h", in "1s" to "30d";
        /// How old an object without an entry in the metadata must be to be deleted, by the metadata store's time. An upload
        /// that is not committed within it is put again.
        "sweep.lag.ms" => sweep_lag: Duration = "2h", in "1s" to "30d";
        /// Where fewer than three agents tell the time: how far their clocks may run ahead of the metadata store's time
        /// between two looks. Beyond it nothing expires by age, and a warning says so: one wrong clock must not delete
        /// what is to be kept. Generous, for laptops that sleep.
        "retention.clock.step.max.ms" => clock_step: Duration = "7d", in "1s" to "3650d";
    }
}

options! {
    "Merging"
    /// When the small objects that agents write, in which partitions are mixed, are merged into larger ones in which each
    /// partition is contiguous: reading from the beginning takes fewer requests then, and what expires together lies
    /// together. Every byte is written three times in all.
    pub struct MergeOptions {
        /// How often it is looked for what to merge.
        "merge.interval.ms" => interval: Duration = "10s", in "100ms" to "1d";
        /// So many bytes are merged together, and held in memory while they are (more, where what an agent committed together has
        /// more). Another copy of up to `merge.object.max.bytes` stands beside them. More make larger contiguous pieces at once.
        "merge.unit.bytes" => unit: ByteSize = "256MiB", in "4KiB" to "16GiB";
        /// What is older than this is merged even if it is less; never sooner than twice `seal.age.ms`. Short ages cost requests
        /// in idle clusters.
        "merge.age.ms" => age: Duration = "1h", in "1s" to "30d";
        /// The same of what was merged once.
        "merge.level.age.ms" => level_age: Duration = "1d", in "1s" to "30d";
        /// What has as many bytes of each of its partitions isn't merged again: it can be read with requests of this size.
        "merge.section.bytes" => section: ByteSize = "8MiB", in "1KiB" to "1GiB";
        /// How large a merged object gets, about. As much, twice, is held in memory.
        "merge.object.max.bytes" => object_max: ByteSize = "128MiB", in "4KiB" to "4GiB";
        /// Bytes that an agent reads and writes for merging, a second.
        "merge.bytes.per.second" => bytes_per_second: ByteSize = "128MiB", in "1KiB" to "1TiB";
        /// Requests that an agent sends to the bucket for merging, a second.
        "merge.requests.per.second" => requests_per_second: u32 = "50", in "1" to "1000000", unit "requests";
    }
}

options! {
    "Log compaction"
    /// When topics with `cleanup.policy=compact` are compacted. What a topic keeps is said by Kafka's own options
    /// (`min.cleanable.dirty.ratio`, `min.compaction.lag.ms`, `max.compaction.lag.ms`, `delete.retention.ms`).
    pub struct CompactOptions {
        /// How often it is looked for what to compact.
        "compact.interval.ms" => interval: Duration = "15s", in "100ms" to "1d";
        /// What was written waits so long to be compacted, unless the topic's `segment.ms` or `max.compaction.lag.ms` is
        /// shorter, or a partition has `compact.bytes` of it. Each time takes reading the whole partition, and writing some of
        /// it: short delays cost requests.
        "compact.delay.ms" => delay: Duration = "10min", in "0s" to "30d";
        /// A partition that has so many bytes that were not compacted is compacted without waiting, once they are
        /// `min.cleanable.dirty.ratio` of it.
        "compact.bytes" => bytes: ByteSize = "64MiB", in "1" to "1TiB";
        /// Memory for the keys of one partition, at 32 bytes each. A partition that has more new keys than fit is compacted in
        /// several passes, each of which reads all of it.
        "compact.map.bytes" => map: ByteSize = "128MiB", in "1KiB" to "64GiB";
        /// How large an object gets that log compaction writes, about. As much, twice, is held in memory.
        "compact.object.max.bytes" => object_max: ByteSize = "64MiB", in "4KiB" to "4GiB";
        /// Bytes that an agent reads and writes for log compaction, a second.
        "compact.bytes.per.second" => bytes_per_second: ByteSize = "64MiB", in "1KiB" to "1TiB";
        /// Requests that an agent sends to the bucket for log compaction, a second.
        "compact.requests.per.second" => requests_per_second: u32 = "50", in "1" to "1000000", unit "requests";
    }
}

options! {
    "Logging"
    /// Log lines, on standard error.
    pub struct LogOptions {
        /// How lines look: `text` for people, `json` one object a line for collectors.
        "log.format" => format: LogFormat = "text";
        /// What is logged: a level (`error`, `warn`, `info`, `debug`, `trace`) or directives such as
        /// `info,penstock_agent::server=debug`.
        "log.filter" => filter: String = "info";
    }
}
