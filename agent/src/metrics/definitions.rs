//! Every metric of the agent: name, unit, labels, description. The reference page is generated from here.
//!
//! Names follow Prometheus: the unit last, counters get `_total` behind it. Those of the process are the standard
//! ones.

use std::fmt::Write as _;

/// What a metric does over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, from 0 at the process's start.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by size.
    Histogram,
}

/// One metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MetricDefinition {
    /// The name, of a counter without `_total`.
    pub name: &'static str,
    /// What it does over time.
    pub kind: Kind,
    /// What it counts or measures in.
    pub unit: &'static str,
    /// The labels' names.
    pub labels: &'static [&'static str],
    /// What it means.
    pub help: &'static str,
}

impl MetricDefinition {
    /// The name as it is scraped.
    pub fn exposed_name(&self) -> String {
        match self.kind {
            Kind::Counter => format!("{}_total", self.name),
            Kind::Gauge | Kind::Histogram => self.name.to_owned(),
        }
    }
}

macro_rules! metrics {
    ($($(#[doc = $doc:literal])+ $constant:ident: $kind:ident $name:literal in $unit:literal by [$($label:literal),*];)+) => {
        $($(#[doc = $doc])+
        pub const $constant: &MetricDefinition = &MetricDefinition {
            name: $name,
            kind: Kind::$kind,
            unit: $unit,
            labels: &[$($label),*],
            help: concat!($($doc),+).trim_ascii(),
        };)+

        /// All of them, in the order of the page.
        pub const ALL: &[&MetricDefinition] = &[$($constant),+];
    };
}

metrics! {
    /// CPU time of the process, user and system together.
    PROCESS_CPU: Counter "process_cpu_seconds" in "seconds" by [];
    /// Memory of the process that is in RAM.
    PROCESS_RESIDENT_MEMORY: Gauge "process_resident_memory_bytes" in "bytes" by [];
    /// The most memory that the process ever had in RAM.
    PROCESS_RESIDENT_MEMORY_PEAK: Gauge "process_resident_memory_peak_bytes" in "bytes" by [];
    /// Open file descriptors.
    PROCESS_OPEN_FILES: Gauge "process_open_fds" in "descriptors" by [];
    /// The most file descriptors that the process may have open.
    PROCESS_MAX_FILES: Gauge "process_max_fds" in "descriptors" by [];
    /// When the agent started, since 1970.
    PROCESS_START: Gauge "process_start_time_seconds" in "seconds" by [];
    /// 1, with the version of the agent as a label.
    BUILD: Gauge "penstock_build" in "1" by ["version"];
    /// 1 while the agent is ready, 0 while it starts or drains.
    READY: Gauge "penstock_ready" in "1" by [];

    /// Open connections of Kafka clients.
    SERVER_CONNECTIONS: Gauge "penstock_connections" in "connections" by [];
    /// Connections accepted, those included that were closed at once.
    SERVER_ACCEPTED: Counter "penstock_connections_accepted" in "connections" by [];
    /// Failures to accept a connection.
    SERVER_ACCEPT_ERRORS: Counter "penstock_connections_accept_errors" in "failures" by [];
    /// Connections closed, by the reason.
    SERVER_CLOSED: Counter "penstock_connections_closed" in "connections" by ["reason"];
    /// Bytes received from Kafka clients.
    SERVER_RECEIVED: Counter "penstock_received_bytes" in "bytes" by [];
    /// Bytes sent to Kafka clients.
    SERVER_SENT: Counter "penstock_sent_bytes" in "bytes" by [];
    /// Requests received, by Kafka's name of the API.
    REQUESTS: Counter "penstock_requests" in "requests" by ["api"];
    /// From a request's receipt to the moment its answer was ready to be sent.
    REQUEST_LATENCY: Histogram "penstock_request_latency_seconds" in "seconds" by ["api"];
    /// Topics that this agent knows.
    TOPICS: Gauge "penstock_topics" in "topics" by [];
    /// Partitions of all topics that this agent knows.
    PARTITIONS: Gauge "penstock_partitions" in "partitions" by [];

    /// Record batches that producers sent, by what became of them: appended, in the log already, or refused.
    BATCHES: Counter "penstock_produced_batches" in "batches" by ["outcome"];
    /// Records appended.
    RECORDS_APPENDED: Counter "penstock_appended_records" in "records" by [];
    /// Data objects whose upload began.
    FLUSHES: Counter "penstock_flushes" in "objects" by [];
    /// Bytes of record batches in those objects.
    FLUSHED: Counter "penstock_flushed_bytes" in "bytes" by [];
    /// Data objects that failed for good; their producers got a retriable error.
    FLUSHES_FAILED: Counter "penstock_flushes_failed" in "objects" by [];
    /// Data objects that are being uploaded or wait for their commit.
    OBJECTS_IN_FLIGHT: Gauge "penstock_objects_in_flight" in "objects" by [];
    /// Produce requests that are not yet answered, as they count against produce.memory.bytes.
    PRODUCE_MEMORY: Gauge "penstock_produce_memory_bytes" in "bytes" by [];
    /// Transactions of the metadata store that appended objects to the log.
    COMMITS: Counter "penstock_commits" in "transactions" by [];
    /// Attempts at such a transaction that were repeated.
    COMMIT_RETRIES: Counter "penstock_commit_retries" in "attempts" by [];
    /// Attempts at such a transaction that may or may not have happened, until that was found out.
    COMMIT_UNKNOWNS: Counter "penstock_commit_unknowns" in "attempts" by [];

    /// Fetches answered.
    FETCHES: Counter "penstock_fetches" in "requests" by [];
    /// Bytes of record batches in those answers.
    FETCHED: Counter "penstock_fetched_bytes" in "bytes" by [];
    /// Fetches that waited for records.
    FETCH_WAITS: Counter "penstock_fetch_waits" in "requests" by [];
    /// Wake-ups of waiting fetches.
    FETCH_WAKES: Counter "penstock_fetch_wakes" in "wake-ups" by [];
    /// Answers that were looked up anew because an object had gone meanwhile.
    FETCH_RELOOKS: Counter "penstock_fetch_relooks" in "requests" by [];
    /// Blocks and written objects that reads asked the cache for, by whether they were there.
    CACHE_LOOKUPS: Counter "penstock_cache_lookups" in "entries" by ["result"];
    /// Bytes that reads asked the cache for.
    CACHE_SERVED: Counter "penstock_cache_served_bytes" in "bytes" by [];
    /// Bytes that the cache loaded from the object store.
    CACHE_LOADED: Counter "penstock_cache_loaded_bytes" in "bytes" by [];
    /// Requests of the cache to the object store.
    CACHE_LOADS: Counter "penstock_cache_loads" in "requests" by [];
    /// Those among them that were made ahead of a lagging consumer.
    CACHE_READAHEAD: Counter "penstock_cache_readahead_loads" in "requests" by [];
    /// Loads that failed or took too long.
    CACHE_LOAD_FAILURES: Counter "penstock_cache_load_failures" in "requests" by [];
    /// Entries displaced by others.
    CACHE_EVICTIONS: Counter "penstock_cache_evictions" in "entries" by [];
    /// Memory of the cache, with entries that are evicted and still being sent.
    CACHE_HELD: Gauge "penstock_cache_held_bytes" in "bytes" by [];

    /// Incremental fetch sessions (KIP-227).
    FETCH_SESSIONS: Gauge "penstock_fetch_sessions" in "sessions" by [];
    /// Partitions of all fetch sessions.
    FETCH_SESSION_PARTITIONS: Gauge "penstock_fetch_session_partitions" in "partitions" by [];
    /// Fetch sessions that gave way to others or grew too large; their consumers begin anew.
    FETCH_SESSION_EVICTIONS: Counter "penstock_fetch_session_evictions" in "sessions" by [];

    /// Agents of the cluster that are alive, as this one sees it, by what they do.
    CLUSTER_AGENTS: Gauge "penstock_cluster_agents" in "agents" by ["phase"];
    /// What is left of this agent's lease; 0 when it has none and coordinates no groups.
    LEASE_LEFT: Gauge "penstock_lease_left_seconds" in "seconds" by [];

    /// Consumer groups that this agent has in memory, by Kafka's name of their state.
    GROUPS: Gauge "penstock_groups" in "groups" by ["state"];
    /// Members of those groups.
    GROUP_MEMBERS: Gauge "penstock_group_members" in "members" by [];
    /// Rebalances that this agent coordinated: generations begun.
    GROUP_REBALANCES: Counter "penstock_group_rebalances" in "rebalances" by [];

    /// Partitions whose log rows were folded into their index.
    SEALS: Counter "penstock_seals" in "partitions" by [];
    /// Log rows folded.
    SEALED_ROWS: Counter "penstock_sealed_rows" in "rows" by [];
    /// Index values written for them.
    SEALED_VALUES: Counter "penstock_sealed_index_values" in "values" by [];
    /// Seals that conflicted or failed and are tried again.
    SEAL_FAILURES: Counter "penstock_seal_failures" in "partitions" by [];
    /// Time spent sealing.
    SEAL_SECONDS: Counter "penstock_seal_seconds" in "seconds" by [];
    /// Partitions with log rows that are not sealed yet, as far as this agent knows.
    SEAL_BACKLOG_PARTITIONS: Gauge "penstock_seal_backlog_partitions" in "partitions" by [];
    /// Those log rows.
    SEAL_BACKLOG_ROWS: Gauge "penstock_seal_backlog_rows" in "rows" by [];

    /// Checkpoints of the sealed log written to the object store, one a slot of partitions.
    CHECKPOINTS: Counter "penstock_checkpoints" in "checkpoints" by [];
    /// Objects put for checkpoints.
    CHECKPOINT_OBJECTS: Counter "penstock_checkpoint_objects" in "objects" by [];
    /// Bytes of those objects.
    CHECKPOINT_BYTES: Counter "penstock_checkpoint_bytes" in "bytes" by [];
    /// Objects of old checkpoints deleted.
    CHECKPOINT_DELETES: Counter "penstock_checkpoint_deletes" in "objects" by [];
    /// Checkpoints that failed and are tried again.
    CHECKPOINT_FAILURES: Counter "penstock_checkpoint_failures" in "checkpoints" by [];
    /// Slots of partitions whose checkpoint is behind what is sealed.
    CHECKPOINT_BACKLOG: Gauge "penstock_checkpoint_backlog_slots" in "slots" by [];

    /// States of idempotent producers that the last walk over them found.
    PRODUCER_STATES: Gauge "penstock_producer_states" in "states" by [];
    /// States of idle producers that this agent removed.
    PRODUCER_STATES_EXPIRED: Counter "penstock_producer_states_expired" in "states" by [];

    /// Batches that have expired by age or size, and that this agent deleted.
    RETENTION_BATCHES: Counter "penstock_retention_batches" in "batches" by [];
    /// Bytes of those batches.
    RETENTION_BYTES: Counter "penstock_retention_bytes" in "bytes" by [];
    /// Batches below a log start that this agent took out of the index, expired or deleted otherwise.
    RETENTION_TRIMMED: Counter "penstock_retention_trimmed_batches" in "batches" by [];
    /// Times that this agent has looked at all its partitions for what has expired.
    RETENTION_ROUNDS: Counter "penstock_retention_rounds" in "rounds" by [];
    /// Looks that failed, and are made again.
    RETENTION_FAILURES: Counter "penstock_retention_failures" in "failures" by [];
    /// 1 while nothing expires by age, since the clock is further ahead than it may be.
    RETENTION_WAITS_FOR_CLOCK: Gauge "penstock_retention_waits_for_clock" in "clocks" by [];
    /// How far the clocks of the live agents were apart when this agent looked last.
    RETENTION_CLOCKS_APART: Gauge "penstock_retention_clocks_apart_milliseconds" in "milliseconds" by [];

    /// Objects that nothing referred to any more, deleted from the bucket by this agent.
    COLLECTED_OBJECTS: Counter "penstock_collected_objects" in "objects" by [];
    /// Bytes of those objects.
    COLLECTED_BYTES: Counter "penstock_collected_bytes" in "bytes" by [];
    /// Objects that this agent found to be referred to by nothing any more.
    BURIED_OBJECTS: Counter "penstock_buried_objects" in "objects" by [];
    /// Objects of which more has left the log than was ever appended: a contradiction, to be looked at.
    BURIAL_CONTRADICTIONS: Counter "penstock_burial_contradictions" in "objects" by [];
    /// Deleted topics whose rows this agent took out of the metadata store.
    COLLECTED_TOPICS: Counter "penstock_collected_topics" in "topics" by [];
    /// Rounds of the collector that failed, and are made again.
    COLLECTION_FAILURES: Counter "penstock_collection_failures" in "rounds" by [];
    /// Sweeps of the bucket that went to the end.
    SWEEPS: Counter "penstock_sweeps" in "sweeps" by [];
    /// Objects that were never committed, deleted by a sweep of this agent's.
    SWEPT_OBJECTS: Counter "penstock_swept_objects" in "objects" by [];
    /// Rows of objects that nobody needs any more, cleared by a sweep of this agent's.
    SWEPT_ROWS: Counter "penstock_swept_rows" in "rows" by [];
    /// Objects of earlier incarnations that nothing refers to, found by the last sweep: left to an operator.
    SWEEP_FOREIGN: Gauge "penstock_sweep_foreign_objects" in "objects" by [];
    /// Sweeps that failed, and are made again.
    SWEEP_FAILURES: Counter "penstock_sweep_failures" in "sweeps" by [];

    /// Stretches of the log that this agent has merged.
    MERGE_UNITS: Counter "penstock_merge_units" in "units" by [];
    /// Objects that this agent read to merge them.
    MERGE_INPUTS: Counter "penstock_merge_inputs" in "objects" by [];
    /// Bytes that this agent read to merge them.
    MERGE_READ_BYTES: Counter "penstock_merge_read_bytes" in "bytes" by [];
    /// Requests for those bytes.
    MERGE_GETS: Counter "penstock_merge_gets" in "requests" by [];
    /// Objects that this agent wrote by merging others.
    MERGE_OUTPUTS: Counter "penstock_merge_outputs" in "objects" by [];
    /// Bytes of those objects.
    MERGE_WRITTEN_BYTES: Counter "penstock_merge_written_bytes" in "bytes" by [];
    /// Batches that the log refers to in objects that this agent wrote by merging others.
    MERGE_BATCHES: Counter "penstock_merge_batches" in "batches" by [];
    /// Values of the packed index that this agent joined with the next.
    MERGE_JOINED: Counter "penstock_merge_joined_index_values" in "values" by [];
    /// Batches that can't be merged, since the bucket doesn't hold what the log says: to be looked at.
    MERGE_UNREADABLE: Counter "penstock_merge_unreadable_batches" in "batches" by [];
    /// Merged objects that nothing came to refer to, given up by this agent.
    MERGE_GIVEN_UP: Counter "penstock_merge_given_up_outputs" in "objects" by [];
    /// Stretches of the log whose merging failed, and is begun again.
    MERGE_FAILURES: Counter "penstock_merge_failures" in "units" by [];
    /// Stretches of the log that are due to be merged, by whatever agent.
    MERGE_WAITING_UNITS: Gauge "penstock_merge_waiting_units" in "units" by [];
    /// Bytes of the objects in them.
    MERGE_WAITING_BYTES: Gauge "penstock_merge_waiting_bytes" in "bytes" by [];
    /// How long ago the first batch in them was committed, by the metadata store's time.
    MERGE_WAITING_SECONDS: Gauge "penstock_merge_waiting_seconds" in "seconds" by [];
    /// How long ago the oldest of what isn't merged was committed, due or not, by the metadata store's time.
    MERGE_QUEUE_SECONDS: Gauge "penstock_merge_queue_seconds" in "seconds" by [];

    /// Runs of log compaction over a partition that this agent has made to their end.
    COMPACTION_RUNS: Counter "penstock_compaction_runs" in "runs" by [];
    /// Batches that this agent has read for log compaction, for their keys or to be filtered.
    COMPACTION_BATCHES: Counter "penstock_compaction_batches" in "batches" by [];
    /// Records in batches that log compaction has filtered.
    COMPACTION_RECORDS: Counter "penstock_compaction_records" in "records" by [];
    /// Bytes that this agent has read for log compaction.
    COMPACTION_READ_BYTES: Counter "penstock_compaction_read_bytes" in "bytes" by [];
    /// Requests for those bytes.
    COMPACTION_GETS: Counter "penstock_compaction_gets" in "requests" by [];
    /// Records that log compaction has dropped: a newer one has the key, or their time as tombstones is over.
    COMPACTION_DROPPED: Counter "penstock_compaction_dropped_records" in "records" by [];
    /// Those of them whose time as tombstones was over.
    COMPACTION_TOMBSTONES: Counter "penstock_compaction_dropped_tombstones" in "records" by [];
    /// Batches that log compaction has rewritten.
    COMPACTION_REWRITTEN: Counter "penstock_compaction_rewritten_batches" in "batches" by [];
    /// Batches that lay between those and were copied with them.
    COMPACTION_COPIED: Counter "penstock_compaction_copied_batches" in "batches" by [];
    /// Batches that log compaction has taken out of the log altogether.
    COMPACTION_GONE: Counter "penstock_compaction_gone_batches" in "batches" by [];
    /// Objects that this agent has written for log compaction.
    COMPACTION_OUTPUTS: Counter "penstock_compaction_outputs" in "objects" by [];
    /// Bytes of those objects.
    COMPACTION_WRITTEN_BYTES: Counter "penstock_compaction_written_bytes" in "bytes" by [];
    /// Objects written for log compaction that nothing came to refer to, given up by this agent.
    COMPACTION_GIVEN_UP: Counter "penstock_compaction_given_up_outputs" in "objects" by [];
    /// Runs that ended where keys no longer fitted the memory for them, to be followed by others at once.
    COMPACTION_MAP_FULL: Counter "penstock_compaction_map_full" in "runs" by [];
    /// Partitions whose compaction failed, and is begun again.
    COMPACTION_FAILURES: Counter "penstock_compaction_failures" in "partitions" by [];
    /// Runs that ended at a batch that can't be read, or isn't what the log says: to be looked at.
    COMPACTION_UNREADABLE: Counter "penstock_compaction_unreadable" in "runs" by [];
    /// 1 while nothing is compacted since the clock can't be believed.
    COMPACTION_WAITS_FOR_CLOCK: Gauge "penstock_compaction_waits_for_clock" in "clocks" by [];
    /// Partitions of this agent's that are due to be compacted.
    COMPACTION_DUE_PARTITIONS: Gauge "penstock_compaction_due_partitions" in "partitions" by [];
    /// Bytes of this agent's compacted partitions that were not compacted so far, due or not.
    COMPACTION_DIRTY_BYTES: Gauge "penstock_compaction_dirty_bytes" in "bytes" by [];
    /// For how long the partition that is due for the longest has been so.
    COMPACTION_OVERDUE_SECONDS: Gauge "penstock_compaction_overdue_seconds" in "seconds" by [];
    /// The largest share of such bytes in a partition (Kafka: max-dirty-percent).
    COMPACTION_MAX_DIRTY_RATIO: Gauge "penstock_compaction_max_dirty_ratio" in "ratio" by [];

    /// Commits of the embedded metadata store, by whether they succeeded or were refused for a conflict or their age.
    STORE_COMMITS: Counter "penstock_store_commits" in "transactions" by ["outcome"];
    /// Groups of commits that the embedded metadata store wrote together, by the number of their commits.
    STORE_GROUP_COMMITS: Histogram "penstock_store_group_commits" in "transactions" by [];
    /// Times that the embedded metadata store brought a write to stable storage.
    STORE_FSYNCS: Counter "penstock_store_fsyncs" in "fsyncs" by [];
    /// Time of its writes, most of it waiting for stable storage.
    STORE_WRITE_SECONDS: Counter "penstock_store_write_seconds" in "seconds" by [];
    /// Rows that it wrote, removals included.
    STORE_ROWS: Counter "penstock_store_written_rows" in "rows" by [];
    /// Bytes of keys and values of those rows.
    STORE_BYTES: Counter "penstock_store_written_bytes" in "bytes" by [];
    /// Commits that wait for it.
    STORE_QUEUED: Gauge "penstock_store_queued_commits" in "transactions" by [];
    /// Bytes of its tables on disk, journals not counted.
    STORE_DISK: Gauge "penstock_store_disk_bytes" in "bytes" by [];

    /// Requests sent to the object store, with retries and hedges: what the store bills.
    OBJECT_STORE_REQUESTS: Counter "penstock_object_store_requests" in "requests" by ["operation"];
    /// Operations on the object store that succeeded, each counted once however many requests it took.
    OBJECT_STORE_OPERATIONS: Counter "penstock_object_store_operations" in "operations" by ["operation"];
    /// Bytes of uploads and reads that succeeded.
    OBJECT_STORE_BYTES: Counter "penstock_object_store_bytes" in "bytes" by ["operation"];
    /// Requests to the object store that failed, by the kind of failure.
    OBJECT_STORE_ERRORS: Counter "penstock_object_store_errors" in "requests" by ["class"];
    /// Requests to the object store that were sent again after a failure.
    OBJECT_STORE_RETRIES: Counter "penstock_object_store_retries" in "requests" by [];
    /// Second copies of slow uploads.
    OBJECT_STORE_HEDGES: Counter "penstock_object_store_hedges" in "requests" by [];
    /// Uploads whose second copy was answered first.
    OBJECT_STORE_HEDGE_WINS: Counter "penstock_object_store_hedge_wins" in "uploads" by [];
    /// Time of uploads and reads, retries included.
    OBJECT_STORE_LATENCY: Histogram "penstock_object_store_latency_seconds" in "seconds" by ["operation"];
}

/// The reference page, as it stands in `docs/metrics.md`.
pub fn markdown() -> String {
    let mut page = String::from(
        "# Metrics\n\n\
         <!-- Generated from agent/src/metrics/definitions.rs by `make docs`; a test fails when it is out of date. \
         -->\n\n\
         Served at `/metrics` of the agent's `http` address in OpenMetrics' text format.\n\n\
         | Name | Type | Unit | Labels | Meaning |\n|---|---|---|---|---|\n",
    );
    for definition in ALL {
        let kind = match definition.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let labels: Vec<String> = definition.labels.iter().map(|label| format!("`{label}`")).collect();
        let _ = writeln!(
            page,
            "| `{}` | {kind} | {} | {} | {} |",
            definition.exposed_name(),
            definition.unit,
            labels.join(", "),
            definition.help,
        );
    }
    page
}
