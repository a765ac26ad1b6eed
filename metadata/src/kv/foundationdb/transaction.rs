//! A transaction of FoundationDB.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use ::foundationdb::future::FdbValues;
use ::foundationdb::options::{ConflictRangeType, MutationType, StreamingMode, TransactionOption};
use ::foundationdb::{FdbResult, RangeOption};
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::future::{join_all, try_join_all};
use penstock_types::{StoreVersion, Versionstamp};

use super::watch::{PendingWatch, PreparedWatch, native_version};
use super::{Shared, errors};
use crate::kv::admission::{Admission, check_range, check_read_key};
use crate::kv::resolver::range_read;
use crate::kv::{
    Committed, Isolation, KeyRange, Page, Priority, RangeOptions, Row, StoreError, Transaction, Watch,
    WriteConflict, limits,
};

/// A transaction.
pub(super) struct FoundationDbTransaction {
    shared: Arc<Shared>,
    connection: usize,
    /// The native transaction, or why there is none.
    native: Result<::foundationdb::Transaction, StoreError>,
    admission: Admission,
    /// The read version, once it is known here.
    version: Option<StoreVersion>,
    /// Whether a read was sent, which takes a read version.
    read: bool,
    mutates: bool,
    /// Whether there is a write conflict range without a mutation.
    conflicts: bool,
    watches: Vec<PendingWatch>,
}

impl fmt::Debug for FoundationDbTransaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FoundationDbTransaction")
            .field("version", &self.version)
            .field("bytes", &self.admission.bytes())
            .finish_non_exhaustive()
    }
}

impl FoundationDbTransaction {
    pub(super) fn begin(shared: Arc<Shared>, priority: Priority) -> Self {
        let connection = shared.turn();
        let native = shared.create(connection, priority);
        Self {
            shared,
            connection,
            native,
            admission: Admission::default(),
            version: None,
            read: false,
            mutates: false,
            conflicts: false,
            watches: Vec::new(),
        }
    }

    fn native(&self) -> Result<&::foundationdb::Transaction, StoreError> {
        self.native.as_ref().map_err(Clone::clone)
    }

    /// Waits for a read's answer as long as one may take.
    async fn answer<T>(&self, read: impl Future<Output = FdbResult<T>> + Send) -> Result<T, StoreError> {
        match tokio::time::timeout(self.shared.timeout, read).await {
            Ok(answer) => answer.map_err(errors::of_read),
            Err(_) => Err(StoreError::Unavailable {
                reason: format!(
                    "FoundationDB gave no answer within {:?}{}",
                    self.shared.timeout, self.shared.hint
                ),
            }),
        }
    }

    /// Calls the native transaction for a mutation that was admitted.
    fn mutate(&mut self, conflict: WriteConflict, call: impl FnOnce(&::foundationdb::Transaction)) {
        let Ok(native) = &self.native else { return };
        if conflict == WriteConflict::No
            && let Err(error) = native.set_option(TransactionOption::NextWriteNoWriteConflictRange)
        {
            return self.admission.refuse(errors::of_read(error));
        }
        call(native);
        self.mutates = true;
    }

    fn add_conflict(&mut self, range: &KeyRange, kind: ConflictRangeType) {
        self.admission.conflict_range(range);
        let Ok(native) = &self.native else { return };
        if let Err(error) = native.add_conflict_range(&range.start, &range.end, kind) {
            self.admission.refuse(errors::of_read(error));
        }
    }

    /// Notes that a range was read, as far as a page reaches.
    fn note_page(&mut self, range: KeyRange, page: &Page, options: RangeOptions) {
        if options.isolation == Isolation::Serializable
            && let Some(read) = range_read(range, page, options)
        {
            self.add_conflict(&read, ConflictRangeType::Read);
        }
    }

    /// What FoundationDB's client takes the transaction's size to be.
    #[cfg(test)]
    pub(super) async fn native_size(&self) -> usize {
        let native = self.native().expect("a transaction");
        usize::try_from(native.get_approximate_size().await.expect("a size")).expect("a size is positive")
    }

    fn prepare_watches(&mut self, version: StoreVersion) -> Vec<PreparedWatch> {
        let watches = std::mem::take(&mut self.watches);
        let (shared, connection) = (&self.shared, self.connection);
        watches.into_iter().filter_map(|watch| watch.prepare(shared, connection, version)).collect()
    }
}

/// A page, read at snapshot isolation.
async fn read_page(
    native: &::foundationdb::Transaction,
    range: &KeyRange,
    options: RangeOptions,
) -> FdbResult<Page> {
    if range.start == range.end || options.limit == 0 {
        return Ok(Page { rows: Vec::new(), more: range.start < range.end });
    }
    let native_options = RangeOption {
        // One more than asked for tells whether there is more.
        limit: Some(options.limit.saturating_add(1)),
        target_bytes: options.target_bytes.max(1),
        mode: StreamingMode::Exact,
        reverse: options.reverse,
        ..RangeOption::from((range.start.as_slice(), range.end.as_slice()))
    };
    let values = native.get_range(&native_options, 1, true).await?;
    Ok(page_of(&values, options.limit))
}

/// The rows of a page, which share one buffer.
fn page_of(values: &FdbValues, limit: usize) -> Page {
    let kept = &values[..values.len().min(limit)];
    let bytes = kept.iter().map(|row| row.key().len() + row.value().len()).sum();
    let mut buffer = BytesMut::with_capacity(bytes);
    for row in kept {
        buffer.extend_from_slice(row.key());
        buffer.extend_from_slice(row.value());
    }
    let mut buffer = buffer.freeze();
    let rows = kept
        .iter()
        .map(|row| Row { key: buffer.split_to(row.key().len()), value: buffer.split_to(row.value().len()) })
        .collect();
    Page { rows, more: values.more() || values.len() > limit }
}

fn copied(value: Option<::foundationdb::future::FdbSlice>) -> Option<Bytes> {
    value.map(|value| Bytes::copy_from_slice(&value))
}

/// FoundationDB's form: the position of the stamp follows, in 4 bytes.
fn stamped(bytes: &[&[u8]], stamp_at: usize) -> Vec<u8> {
    let position = u32::try_from(stamp_at).expect("keys and values are short");
    let mut stamped = bytes.concat();
    stamped.extend_from_slice(&position.to_le_bytes());
    stamped
}

#[async_trait]
impl Transaction for FoundationDbTransaction {
    async fn read_version(&mut self) -> Result<StoreVersion, StoreError> {
        if let Some(version) = self.version {
            return Ok(version);
        }
        self.read = true;
        let version = self.answer(self.native()?.get_read_version()).await?;
        let version = StoreVersion::new(u64::try_from(version).map_err(|_| StoreError::Failed {
            reason: format!("FoundationDB gave the read version {version}"),
        })?);
        self.version = Some(version);
        Ok(version)
    }

    fn set_read_version(&mut self, version: StoreVersion) {
        if self.read || self.version.is_some() {
            let reason = "the read version was set behind a read".to_owned();
            return self.admission.refuse(StoreError::Failed { reason });
        }
        self.version = Some(version);
        if let Ok(native) = &self.native {
            native.set_read_version(native_version(version));
        }
    }

    async fn get(&mut self, key: &[u8], isolation: Isolation) -> Result<Option<Bytes>, StoreError> {
        check_read_key(key)?;
        if key.len() > limits::KEY_BYTES {
            // There can't be any, now or later.
            return Ok(None);
        }
        let snapshot = isolation == Isolation::Snapshot;
        self.read = true;
        let value = self.answer(self.native()?.get(key, snapshot)).await?;
        if !snapshot {
            self.admission.conflict_range(&crate::kv::single_key(key));
        }
        Ok(copied(value))
    }

    async fn get_many(
        &mut self,
        keys: &[Vec<u8>],
        isolation: Isolation,
    ) -> Result<Vec<Option<Bytes>>, StoreError> {
        for key in keys {
            check_read_key(key)?;
        }
        let snapshot = isolation == Isolation::Snapshot;
        self.read = true;
        let native = self.native()?;
        let reads = join_all(keys.iter().map(async |key| {
            if key.len() > limits::KEY_BYTES { Ok(None) } else { native.get(key, snapshot).await.map(copied) }
        }));
        let values = self.answer(async { reads.await.into_iter().collect() }).await?;
        if !snapshot {
            for key in keys {
                self.admission.conflict_range(&crate::kv::single_key(key));
            }
        }
        Ok(values)
    }

    async fn range(&mut self, range: KeyRange, options: RangeOptions) -> Result<Page, StoreError> {
        check_range(&range)?;
        self.read = true;
        let page = self.answer(read_page(self.native()?, &range, options)).await?;
        self.note_page(range, &page, options);
        Ok(page)
    }

    async fn ranges(
        &mut self,
        ranges: Vec<KeyRange>,
        options: RangeOptions,
    ) -> Result<Vec<Page>, StoreError> {
        for range in &ranges {
            check_range(range)?;
        }
        self.read = true;
        let native = self.native()?;
        let pages = try_join_all(ranges.iter().map(|range| read_page(native, range, options)));
        let pages = self.answer(pages).await?;
        for (range, page) in ranges.into_iter().zip(&pages) {
            self.note_page(range, page, options);
        }
        Ok(pages)
    }

    fn set(&mut self, key: &[u8], value: &[u8], conflict: WriteConflict) {
        if self.admission.mutation(key, value.len(), conflict) {
            self.mutate(conflict, |native| native.set(key, value));
        }
    }

    fn set_stamped_key(&mut self, prefix: &[u8], suffix: &[u8], value: &[u8], _conflict: WriteConflict) {
        if self.admission.stamped_key(prefix, suffix, value.len()) {
            let key = stamped(&[prefix, Versionstamp::ZERO.as_bytes(), suffix], prefix.len());
            // FoundationDB's proxies add the final key's conflict range, whatever is set here.
            self.mutate(WriteConflict::Yes, |native| {
                native.atomic_op(&key, value, MutationType::SetVersionstampedKey);
            });
        }
    }

    fn set_stamped_value(&mut self, key: &[u8], value: &[u8], stamp_at: usize, conflict: WriteConflict) {
        if self.admission.stamped_value(key, value, stamp_at, conflict) {
            let value = stamped(&[value], stamp_at);
            self.mutate(conflict, |native| {
                native.atomic_op(key, &value, MutationType::SetVersionstampedValue);
            });
        }
    }

    fn atomic_add_bytes(&mut self, key: &[u8], addend: &[u8], conflict: WriteConflict) {
        if self.admission.mutation(key, addend.len(), conflict) {
            self.mutate(conflict, |native| native.atomic_op(key, addend, MutationType::Add));
        }
    }

    fn atomic_max(&mut self, key: &[u8], candidate: u64, conflict: WriteConflict) {
        if self.admission.mutation(key, 8, conflict) {
            self.mutate(conflict, |native| {
                native.atomic_op(key, &candidate.to_le_bytes(), MutationType::Max);
            });
        }
    }

    fn clear(&mut self, key: &[u8], conflict: WriteConflict) {
        if self.admission.mutation(key, key.len() + 1, conflict) {
            self.mutate(conflict, |native| native.clear(key));
        }
    }

    fn clear_range(&mut self, range: KeyRange, conflict: WriteConflict) {
        if self.admission.clear_range(&range, conflict) {
            self.mutate(conflict, |native| native.clear_range(&range.start, &range.end));
        }
    }

    fn add_read_conflict(&mut self, range: KeyRange) {
        if self.admission.range(&range) {
            self.add_conflict(&range, ConflictRangeType::Read);
        }
    }

    fn add_write_conflict(&mut self, range: KeyRange) {
        if self.admission.range(&range) {
            self.add_conflict(&range, ConflictRangeType::Write);
            self.conflicts = true;
        }
    }

    fn watch(&mut self, key: &[u8]) -> Watch {
        let (pending, watch) = PendingWatch::new(key);
        match check_read_key(key) {
            Ok(()) => self.watches.push(pending),
            Err(refusal) => pending.refuse(refusal),
        }
        watch
    }

    fn size(&self) -> usize {
        self.admission.bytes()
    }

    async fn commit(mut self: Box<Self>) -> Result<Committed, StoreError> {
        self.admission.check()?;
        self.native()?;
        let writes = self.mutates || self.conflicts;
        let watches = if writes && self.watches.is_empty() {
            Vec::new()
        } else {
            let version = self.read_version().await?;
            self.prepare_watches(version)
        };
        let (mutates, timeout) = (self.mutates, self.shared.timeout);
        let committed = if writes {
            match tokio::time::timeout(timeout, commit(self.native?, mutates)).await {
                Ok(committed) => committed?,
                Err(_) => return Err(StoreError::CommitUnknown),
            }
        } else {
            Committed { version: self.version.expect("was just taken"), stamp: None }
        };
        for watch in watches {
            watch.arm();
        }
        Ok(committed)
    }
}

/// Commits what writes.
async fn commit(native: ::foundationdb::Transaction, mutates: bool) -> Result<Committed, StoreError> {
    // It has to be asked for before the commit is, and answers after it.
    let stamp = mutates.then(|| native.get_versionstamp());
    let committed = native.commit().await.map_err(|error| errors::of_commit(*error))?;
    let version = committed.committed_version().map_err(|_| StoreError::CommitUnknown)?;
    let version = u64::try_from(version).map_err(|_| StoreError::CommitUnknown)?;
    let stamp = match stamp {
        Some(stamp) => {
            let stamp = stamp.await.map_err(|_| StoreError::CommitUnknown)?;
            let bytes = stamp.as_ref().try_into().map_err(|_| StoreError::CommitUnknown)?;
            Some(Versionstamp::from_bytes(bytes))
        }
        None => None,
    };
    Ok(Committed { version: StoreVersion::new(version), stamp })
}
