//! A run over a partition: the keys of its dirty part, then everything below the end of that, from the log's start on.

use bytes::Bytes;
use penstock_metadata::fold::BatchSource;
use penstock_metadata::log_compaction::{Fate, Run, aborted, begin, finish};
use penstock_types::{BatchPosition, Offset, TimestampMs};

use super::clean::{Aborted, Cleaner, Mapped, Verdict, map_keys};
use super::draft::Draft;
use super::due::Look;
use super::map::KeyMap;
use super::reading::{checked, unreadable};
use super::scan::{Found, Scan};
use super::{CompactError, Compaction, CompactionParts, add};
use crate::again;
use crate::facts::facts_of;

/// Bytes that are checked and filtered before others get their turn.
const TURN_BYTES: u64 = 1024 * 1024;

/// Lets others have their turn.
#[derive(Debug, Default)]
struct Breath(u64);

impl Breath {
    async fn take(&mut self, bytes: u64) {
        self.0 += bytes;
        if self.0 >= TURN_BYTES {
            self.0 = 0;
            tokio::task::yield_now().await;
        }
    }
}

impl Compaction {
    /// One run over what was looked at: the bytes of what is compacted, if something is left for another run.
    ///
    /// # Errors
    /// After the first failure. What was swapped before is swapped, and a later run finds only the rest.
    pub(super) async fn one_run(
        &self,
        look: &Look,
        clean_bytes: u64,
        now_ms: TimestampMs,
    ) -> Result<Option<u64>, CompactError> {
        let CompactionParts { store, keyspace, incarnation, .. } = &self.parts;
        let partition = look.partition;
        let Some(run) = again!(begin(store, keyspace, *incarnation, partition))? else { return Ok(None) };
        let bound = look.dirty.bound.min(run.end);
        let transactions = again!(aborted(store, keyspace, partition, run.log_start, bound))?;
        let aborted = Aborted::new(&transactions);
        let Some(mapped) = self.map(&run, bound, look.dirty.records, &aborted).await? else {
            return Ok(None);
        };
        self.turns.expects(clean_bytes.saturating_add(mapped.bytes));
        let end = mapped.end;
        let cleaner = Cleaner::new(mapped, aborted, now_ms, look.rules.delete_retention_ms);
        let clean_bytes = self.clean(&run, cleaner).await?;
        let too_far = penstock_types::planted!("finish-too-far");
        let cleaned = if too_far { bound } else { end };
        if !again!(finish(store, keyspace, *incarnation, &run, cleaned, clean_bytes))? {
            return Err(CompactError::RunOver);
        }
        add(&self.stats.runs, 1);
        Ok((end < bound).then_some(clean_bytes))
    }

    /// The keys of the dirty part, as far as they fit; `None` if another agent has compacted it.
    async fn map(
        &self,
        run: &Run,
        bound: Offset,
        records: u64,
        aborted: &Aborted,
    ) -> Result<Option<Mapped>, CompactError> {
        let randomness = &self.parts.randomness;
        let secret = (randomness.next_u64(), randomness.next_u64());
        let mut keys = KeyMap::new(records, self.settings.map_bytes, secret);
        let (mut reached, mut bytes_reached): (Option<(Offset, BatchPosition)>, u64) = (None, 0);
        let mut scan = Scan::new(run.partition, run.cleaned.max(run.log_start), bound);
        let mut breath = Breath::default();
        let poisons = penstock_types::planted!("compacts-aborted-into-map");
        let is_wanted = |found: &Found| poisons || !aborted.has(&found.batch);
        'all: loop {
            let mut window = next_of(&mut scan, self).await?;
            if window.is_empty() {
                break;
            }
            let bytes = self.read(run.partition, &mut window, is_wanted).await?;
            for (found, bytes) in window.iter().zip(bytes) {
                if let Some(bytes) = bytes {
                    let header = checked(run.partition, found, &bytes)?;
                    if !keys.makes_room(u64::try_from(header.record_count).unwrap_or(0)) {
                        add(&self.stats.map_full, 1);
                        break 'all;
                    }
                    map_keys(&mut keys, &found.batch, &bytes)
                        .map_err(|error| unreadable(run.partition, found, error.to_string()))?;
                    add(&self.stats.batches, 1);
                }
                reached = Some((found.batch.end_offset(), found.batch.at));
                bytes_reached += found.stored_bytes();
                self.turns.did(found.stored_bytes());
                breath.take(found.stored_bytes()).await;
            }
        }
        Ok(reached.map(|(end, last)| Mapped { keys, end, last, bytes: bytes_reached }))
    }

    /// Drops what is to be dropped below the end of the map: how many bytes are left of it.
    async fn clean(&self, run: &Run, mut cleaner: Cleaner) -> Result<u64, CompactError> {
        let mut scan = Scan::new(run.partition, run.log_start, cleaner.mapped.end);
        let mut draft = Draft::new(run.partition);
        let (mut clean_bytes, mut breath) = (0, Breath::default());
        loop {
            let mut window = next_of(&mut scan, self).await?;
            if window.is_empty() {
                break;
            }
            let bytes = self.read(run.partition, &mut window, |found| cleaner.needs(found)).await?;
            for (found, bytes) in window.iter().zip(&bytes) {
                clean_bytes += match self.decide(run, &mut cleaner, &mut draft, found, bytes.as_ref()) {
                    Ok(left) => left,
                    // What lies below it is decided.
                    Err(unreadable) => return Err(self.write(run, draft).await.err().unwrap_or(unreadable)),
                };
                self.turns.did(found.stored_bytes());
                breath.take(found.stored_bytes()).await;
                if draft.is_full(self.settings.object_bytes) {
                    self.write(run, std::mem::replace(&mut draft, Draft::new(run.partition))).await?;
                }
            }
        }
        self.write(run, draft).await?;
        Ok(clean_bytes)
    }

    /// Decides of one batch: how many bytes are left of it.
    fn decide(
        &self,
        run: &Run,
        cleaner: &mut Cleaner,
        draft: &mut Draft,
        found: &Found,
        bytes: Option<&Bytes>,
    ) -> Result<u64, CompactError> {
        let partition = run.partition;
        if let BatchSource::Marker { producer, .. } = found.batch.source {
            match cleaner.marker(found, producer) {
                Verdict::Goes => draft.goes(found),
                Verdict::Horizon(at) => draft.change(found, Fate::Horizon(at)),
                Verdict::Stays | Verdict::Rewritten { .. } => {}
            }
            return Ok(0);
        }
        let stored = match bytes {
            Some(bytes) => Some((bytes, checked(partition, found, bytes)?)),
            None => None,
        };
        let (verdict, counts) =
            cleaner.batch(found, stored).map_err(|error| unreadable(partition, found, error.to_string()))?;
        add(&self.stats.batches, u64::from(bytes.is_some()));
        add(&self.stats.records, counts.records);
        add(&self.stats.dropped, counts.dropped);
        add(&self.stats.tombstones, counts.tombstones);
        match verdict {
            Verdict::Goes | Verdict::Horizon(_) => {
                draft.goes(found);
                Ok(0)
            }
            Verdict::Stays => {
                if let Some(bytes) = bytes {
                    draft.stays(found, bytes);
                }
                Ok(found.stored_bytes())
            }
            Verdict::Rewritten { bytes, header } => {
                add(&self.stats.rewritten, 1);
                let facts = facts_of(&header, bytes.len());
                draft
                    .rewritten(found, &bytes, facts)
                    .map_err(|error| unreadable(partition, found, error.to_string()))?;
                Ok(bytes.len() as u64)
            }
        }
    }
}

/// The next batches of a scan, of as many bytes as are read at a time.
async fn next_of(scan: &mut Scan, job: &Compaction) -> Result<Vec<Found>, CompactError> {
    let CompactionParts { store, keyspace, .. } = &job.parts;
    Ok(scan.next(store, keyspace, job.settings.read_bytes).await?)
}
