//! The planted bugs: what each breaks, and how many seeds it may take to find it.

/// A planted bug.
#[derive(Debug, Clone, Copy)]
pub struct Planted {
    /// Its name, as in `penstock_types::planted!`.
    pub name: &'static str,
    /// What it breaks.
    pub breaks: &'static str,
    /// Seeds within which it has to be found; 0 for one that takes too many, to be planted by hand.
    pub seeds: u64,
    /// Kinds of faults without which nobody finds it.
    pub with: &'static [&'static str],
}

/// All of them.
///
/// Those of log compaction that are planted by hand have unit tests in `compaction/src/compact/tests`: `compact-last-batch-goes`
/// has `the_last_batch_of_a_run_stays_empty`, and the two that need transactions, which the simulation hasn't,
/// `nothing_is_touched_from_the_first_open_transaction_on` and `aborted_records_go_and_make_nothing_older_go`.
/// `compact-out-of-order` shows while a run stands between two swaps, and 150 seeds didn't meet that:
/// `what_was_deleted_does_not_come_back_whenever_runs_die` in `compaction/src/compact/tests/failing.rs`.
#[rustfmt::skip]
pub const PLANTED: &[Planted] = &[
    Planted { name: "object-row-not-read", seeds: 400, with: &[], breaks: "a commit of unknown outcome is tried again without looking whether it happened" },
    Planted { name: "late-attempt-lands", seeds: 500, with: &[], breaks: "an object's row is read without guarding it: a late first attempt lands beside the second" },
    Planted { name: "producer-state-unguarded", seeds: 300, with: &[], breaks: "a producer's state is read without guarding it" },
    Planted { name: "feed-half-stamped", seeds: 60, with: &[], breaks: "a commit to several slots stamps the feed of one" },
    Planted { name: "own-offset-of-the-version", seeds: 1000, with: &[], breaks: "the offsets told for a commit count what others appended at the same version" },
    Planted { name: "own-offset-is-the-end", seeds: 20, with: &[], breaks: "the offset told is where the batch ends" },
    Planted { name: "numbers-reused", seeds: 100, with: &[], breaks: "the batches of each object of a transaction are numbered from 0" },
    Planted { name: "sequence-window-of-one", seeds: 100, with: &[], breaks: "only a producer's last batch is known as a duplicate" },
    Planted { name: "old-epoch-appends", seeds: 300, with: &[], breaks: "a batch of a former epoch is appended" },
    Planted { name: "sequence-not-checked", seeds: 60, with: &[], breaks: "any sequence follows" },
    Planted { name: "view-outlives-seal", seeds: 60, with: &[], breaks: "a view does not restart where the seal has passed it" },
    Planted { name: "seal-forgets-too-much", seeds: 1000, with: &[], breaks: "a view forgets an entry that is not sealed" },
    Planted { name: "look-joined-too-late", seeds: 100, with: &[], breaks: "a fetch shares a look at the feed that began before it" },
    Planted { name: "stale-view-served", seeds: 40, with: &[], breaks: "views are not refreshed" },
    Planted { name: "seal-unguarded", seeds: 300, with: &[], breaks: "two seals of a partition both succeed" },
    Planted { name: "seal-clears-too-much", seeds: 60, with: &[], breaks: "a seal clears rows that it did not fold" },
    Planted { name: "lookup-skips-a-record", seeds: 60, with: &[], breaks: "a look-up in the index skips a batch of one record" },
    Planted { name: "producer-ids-unguarded", seeds: 300, with: &[], breaks: "two agents are given the same producer ids" },
    Planted { name: "coordinator-not-fenced", seeds: 0, with: &["pause"], breaks: "a former coordinator of a group still writes" },
    Planted { name: "old-generation-commits", seeds: 1000, with: &[], breaks: "offsets of a former generation are taken" },
    Planted { name: "generation-not-raised", seeds: 60, with: &[], breaks: "a rebalance does not begin a generation" },
    Planted { name: "old-assignment-given", seeds: 500, with: &[], breaks: "a member is given what it had before the rebalance" },
    Planted { name: "offsets-answered-unstored", seeds: 500, with: &[], breaks: "a commit of offsets that failed is acknowledged" },
    Planted { name: "deleted-topic-appends", seeds: 400, with: &[], breaks: "a commit is not guarded against the deletion of its topics" },
    Planted { name: "commit-before-upload", seeds: 100, with: &[], breaks: "an object is committed while it is uploaded" },
    Planted { name: "failed-upload-committed", seeds: 60, with: &[], breaks: "an object is committed though its upload failed" },
    Planted { name: "pump-forgotten", seeds: 60, with: &[], breaks: "an upload that ends sometimes starts no commit" },
    Planted { name: "acknowledged-before-commit", seeds: 60, with: &[], breaks: "a batch is acknowledged when its object is in the bucket" },
    Planted { name: "unknown-given-up", seeds: 100, with: &[], breaks: "a commit of unknown outcome is taken for one that did not happen" },
    Planted { name: "duplicate-gets-a-new-offset", seeds: 100, with: &[], breaks: "a duplicate is told another offset than the first one" },
    Planted { name: "lane-out-of-order", seeds: 100, with: &[], breaks: "objects are committed as their uploads end" },
    Planted { name: "memory-not-given-back", seeds: 60, with: &[], breaks: "a request that fails keeps its memory" },
    Planted { name: "base-offset-of-the-first", seeds: 20, with: &[], breaks: "all batches of a read are shown at the offset of the first" },
    Planted { name: "large-batch-never-sent", seeds: 60, with: &[], breaks: "a batch larger than the fetch's limit is not sent" },
    Planted { name: "session-keeps-old-offset", seeds: 60, with: &[], breaks: "a fetch session goes on from the first offset" },
    Planted { name: "session-forgets-news", seeds: 500, with: &[], breaks: "a fetch session does not name partitions with records" },
    Planted { name: "answers-overtake", seeds: 60, with: &[], breaks: "answers leave a connection in another order than the requests" },
    Planted { name: "load-failure-untold", seeds: 1000, with: &[], breaks: "who waits for a load is not told that it failed" },
    Planted { name: "cache-without-object", seeds: 60, with: &[], breaks: "blocks are cached without their object" },
    Planted { name: "short-read-accepted", seeds: 100, with: &[], breaks: "a body that ends early is taken for whole" },
    Planted { name: "turned-away-forgotten", seeds: 600, with: &["admin", "restart", "store", "cut-store"], breaks: "what comes behind a batch that was turned away is appended in its place" },
    Planted { name: "held-id-by-the-clock", seeds: 0, with: &[], breaks: "an agent that stood still while it joined takes its own id for somebody else's" },
    Planted { name: "unasked-answer", seeds: 60, with: &[], breaks: "a produce request with acks=0 is answered" },
    Planted { name: "cutoff-without-incarnation", seeds: 100, with: &["restore"], breaks: "an object of the older life is committed in the new one" },
    Planted { name: "rows-of-the-first-life", seeds: 60, with: &["restore"], breaks: "rows of the log are written without the incarnation" },
    Planted { name: "claim-not-compared", seeds: 60, with: &["restore"], breaks: "an agent starts though the bucket is claimed by another incarnation" },
    Planted { name: "feeds-outlive-the-raise", seeds: 0, with: &["restore"], breaks: "raising the incarnation leaves the feeds as they are" },
    Planted { name: "delete-without-delay", seeds: 100, with: &["delete", "restore"], breaks: "what nothing refers to is deleted at once, though a backup may refer to it" },
    Planted { name: "sweep-uncommitted", seeds: 60, with: &["delete"], breaks: "the sweeper deletes objects that are yet to be committed" },
    Planted { name: "cutoff-not-committed", seeds: 200, with: &["delete", "pause"], breaks: "the sweeper believes in a cutoff that nobody who commits has seen" },
    Planted { name: "collected-row-goes-at-once", seeds: 0, with: &["delete", "unknown"], breaks: "the row of an object goes with it, so that a late commit refers to what was deleted" },
    Planted { name: "trim-too-much", seeds: 60, with: &["delete"], breaks: "trimming takes out the batch in which the log starts" },
    Planted { name: "trim-unguarded", seeds: 500, with: &["delete"], breaks: "two that trim a partition count its batches twice" },
    Planted { name: "buried-alive", seeds: 60, with: &["delete"], breaks: "an object is garbage once one of its batches is dead" },
    Planted { name: "burial-walk-blind", seeds: 200, with: &["delete", "kill"], breaks: "what somebody died before burying is never buried" },
    Planted { name: "log-start-goes-back", seeds: 0, with: &["delete", "unknown"], breaks: "a log start is written, whatever it is by then" },
    Planted { name: "deletion-untold", seeds: 60, with: &["delete"], breaks: "other agents don't learn that a log start has moved" },
    Planted { name: "expires-with-the-first", seeds: 60, with: &["delete"], breaks: "behind a batch that has expired all have" },
    Planted { name: "deleted-topic-uncounted", seeds: 100, with: &["delete", "admin"], breaks: "the batches of a deleted topic are not counted as dead" },
    Planted { name: "refused-object-forgotten", seeds: 100, with: &["delete"], breaks: "an object of which nothing was appended is never garbage" },
    Planted { name: "collects-from-any-bucket", seeds: 0, with: &["delete", "restore"], breaks: "objects are deleted without a look at the bucket's claim" },
    Planted { name: "swap-unguarded", seeds: 60, with: &["merge", "delete"], breaks: "a merge writes values of the index that others have changed since it read them" },
    Planted { name: "swap-into-the-swept", seeds: 0, with: &["merge", "pause"], breaks: "the index refers to a merged object that was swept before" },
    Planted { name: "swap-behind-the-end", seeds: 0, with: &["merge"], breaks: "a merge goes on after another agent has ended the unit, which finds nothing that is left" },
    Planted { name: "merged-uncounted", seeds: 60, with: &["merge"], breaks: "the batches that were merged are not counted as dead where they were" },
    Planted { name: "swap-untold", seeds: 0, with: &["merge"], breaks: "other agents don't learn that batches are elsewhere" },
    Planted { name: "copies-askew", seeds: 60, with: &["merge"], breaks: "the index refers to a place in front of where a batch was copied to" },
    Planted { name: "merge-changes-place", seeds: 60, with: &["merge"], breaks: "merged batches forget their places in the order of commits" },
    Planted { name: "planner-passes-below", seeds: 60, with: &["merge"], breaks: "a level is merged though something in front is still merged below" },
    Planted { name: "failed-unit-ended", seeds: 0, with: &["merge", "bucket"], breaks: "what couldn't be merged isn't merged again" },
    Planted { name: "swap-before-put", seeds: 60, with: &["merge", "bucket", "kill"], breaks: "the index refers to a merged object before it is in the bucket" },
    Planted { name: "gives-up-what-is-used", seeds: 60, with: &["merge", "unknown"], breaks: "a merged object of which only some was swapped is given up, and deleted" },
    Planted { name: "output-counts-one-swap", seeds: 60, with: &["merge"], breaks: "of a merged object only the batches of the last swap are counted" },
    Planted { name: "compact-drops-newest", seeds: 60, with: &["compact"], breaks: "log compaction drops the newest record of a key, too" },
    Planted { name: "tombstone-early", seeds: 100, with: &["compact"], breaks: "tombstones go before delete.retention.ms has passed" },
    Planted { name: "compact-young", seeds: 100, with: &["compact"], breaks: "what is younger than min.compaction.lag.ms is compacted" },
    Planted { name: "compact-out-of-order", seeds: 0, with: &["compact", "kill", "pause"], breaks: "newer batches of a log are replaced before older ones" },
    Planted { name: "compact-last-batch-goes", seeds: 0, with: &["compact", "kill"], breaks: "the last batch of a run leaves the log when nothing is left in it" },
    Planted { name: "finish-too-far", seeds: 300, with: &["compact"], breaks: "a run whose keys did not fit says that it came to the end" },
    Planted { name: "compact-swap-before-put", seeds: 60, with: &["compact", "bucket", "kill"], breaks: "the index refers to an output of log compaction before it is in the bucket" },
    Planted { name: "compacted-uncounted", seeds: 60, with: &["compact"], breaks: "the batches that log compaction replaced are not counted as dead where they were" },
    Planted { name: "compacts-past-stable", seeds: 0, with: &["compact"], breaks: "log compaction goes past the first open transaction" },
    Planted { name: "compacts-aborted-into-map", seeds: 0, with: &["compact"], breaks: "a record of an aborted transaction replaces the one before it" },
];

/// The planted bug of that name.
pub fn find(name: &str) -> Option<&'static Planted> {
    PLANTED.iter().find(|planted| planted.name == name)
}
