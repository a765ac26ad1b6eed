//! A transaction over any store that can read at a version and commit.

use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use penstock_types::StoreVersion;

use super::page::range_read;
use super::{Commit, Mutation, PendingWatch, Wake, Watches};
use crate::kv::admission::{Admission, check_range, check_read_key};
use crate::kv::{
    Committed, Isolation, KeyRange, Page, Priority, RangeOptions, StoreError, Transaction, Watch,
    WriteConflict, limits, single_key,
};

/// What a store does for its transactions.
pub(crate) trait Engine: Debug + Send + Sync + 'static {
    /// The database at a version.
    type View: Debug + Send + Sync + 'static;

    /// The database at `at`, or at a version that sees every commit that has returned.
    fn open(
        &self,
        at: Option<u64>,
        priority: Priority,
    ) -> impl Future<Output = Result<(u64, Self::View), StoreError>> + Send;

    /// A key's value in a view.
    fn get(
        &self,
        view: &Self::View,
        key: &[u8],
    ) -> impl Future<Output = Result<Option<Bytes>, StoreError>> + Send;

    /// A page of a range that is not inverted.
    fn range(
        &self,
        view: &Self::View,
        range: &KeyRange,
        options: RangeOptions,
    ) -> impl Future<Output = Result<Page, StoreError>> + Send;

    /// Commits. The mutations may be none if there are write conflict ranges.
    fn commit(&self, commit: Commit) -> impl Future<Output = Result<Committed, StoreError>> + Send;

    /// The store's watches.
    fn watches(&self) -> &Arc<Watches>;

    /// Arms the watches of a transaction that has committed.
    fn arm(&self, view: &Self::View, watches: Vec<PendingWatch>);
}

/// A transaction of `E`.
#[derive(Debug)]
pub(crate) struct EngineTransaction<E: Engine> {
    engine: Arc<E>,
    priority: Priority,
    asked_version: Option<u64>,
    view: Option<(u64, E::View)>,
    commit: Commit,
    admission: Admission,
    watches: Vec<PendingWatch>,
}

impl<E: Engine> EngineTransaction<E> {
    pub(crate) fn new(engine: Arc<E>, priority: Priority) -> Self {
        Self {
            engine,
            priority,
            asked_version: None,
            view: None,
            commit: Commit::default(),
            admission: Admission::default(),
            watches: Vec::new(),
        }
    }

    async fn open(&mut self) -> Result<u64, StoreError> {
        if let Some((version, _)) = &self.view {
            return Ok(*version);
        }
        let (version, view) = self.engine.open(self.asked_version, self.priority).await?;
        self.view = Some((version, view));
        Ok(version)
    }

    fn view(&self) -> &E::View {
        &self.view.as_ref().expect("the view was opened").1
    }

    fn note_read(&mut self, range: KeyRange) {
        self.admission.conflict_range(&range);
        self.commit.read_conflicts.push(range);
    }

    /// Takes a mutation that was admitted.
    fn mutate(&mut self, key: &[u8], conflict: WriteConflict, mutation: Mutation) {
        self.commit.mutations.push(mutation);
        if conflict == WriteConflict::Yes {
            self.commit.write_conflicts.push(single_key(key));
        }
    }
}

#[async_trait]
impl<E: Engine> Transaction for EngineTransaction<E> {
    async fn read_version(&mut self) -> Result<StoreVersion, StoreError> {
        self.open().await.map(StoreVersion::new)
    }

    fn set_read_version(&mut self, version: StoreVersion) {
        if self.view.is_some() {
            let reason = "the read version was set behind a read".to_owned();
            self.admission.refuse(StoreError::Failed { reason });
        } else {
            self.asked_version = Some(version.get());
        }
    }

    async fn get(&mut self, key: &[u8], isolation: Isolation) -> Result<Option<Bytes>, StoreError> {
        check_read_key(key)?;
        self.open().await?;
        let value =
            if key.len() > limits::KEY_BYTES { None } else { self.engine.get(self.view(), key).await? };
        if isolation == Isolation::Serializable {
            self.note_read(single_key(key));
        }
        Ok(value)
    }

    async fn range(&mut self, range: KeyRange, options: RangeOptions) -> Result<Page, StoreError> {
        check_range(&range)?;
        self.open().await?;
        if range.start == range.end {
            return Ok(Page { rows: Vec::new(), more: false });
        }
        let page = self.engine.range(self.view(), &range, options).await?;
        if options.isolation == Isolation::Serializable
            && let Some(read) = range_read(range, &page, options)
        {
            self.note_read(read);
        }
        Ok(page)
    }

    fn set(&mut self, key: &[u8], value: &[u8], conflict: WriteConflict) {
        if self.admission.mutation(key, value.len(), conflict) {
            let mutation =
                Mutation::Set { key: Bytes::copy_from_slice(key), value: Bytes::copy_from_slice(value) };
            self.mutate(key, conflict, mutation);
        }
    }

    fn set_stamped_key(&mut self, prefix: &[u8], suffix: &[u8], value: &[u8], _conflict: WriteConflict) {
        if self.admission.stamped_key(prefix, suffix, value.len()) {
            self.commit.mutations.push(Mutation::SetStampedKey {
                prefix: prefix.to_vec(),
                suffix: suffix.to_vec(),
                value: Bytes::copy_from_slice(value),
            });
        }
    }

    fn set_stamped_value(&mut self, key: &[u8], value: &[u8], stamp_at: usize, conflict: WriteConflict) {
        if self.admission.stamped_value(key, value, stamp_at, conflict) {
            let mutation = Mutation::SetStampedValue {
                key: Bytes::copy_from_slice(key),
                value: value.to_vec(),
                stamp_at,
            };
            self.mutate(key, conflict, mutation);
        }
    }

    fn atomic_add_bytes(&mut self, key: &[u8], addend: &[u8], conflict: WriteConflict) {
        if self.admission.mutation(key, addend.len(), conflict) {
            let addend = Bytes::copy_from_slice(addend);
            self.mutate(key, conflict, Mutation::Add { key: Bytes::copy_from_slice(key), addend });
        }
    }

    fn atomic_max(&mut self, key: &[u8], candidate: u64, conflict: WriteConflict) {
        if self.admission.mutation(key, 8, conflict) {
            self.mutate(key, conflict, Mutation::Max { key: Bytes::copy_from_slice(key), candidate });
        }
    }

    fn clear(&mut self, key: &[u8], conflict: WriteConflict) {
        if self.admission.mutation(key, key.len() + 1, conflict) {
            self.mutate(key, conflict, Mutation::Clear { key: Bytes::copy_from_slice(key) });
        }
    }

    fn clear_range(&mut self, range: KeyRange, conflict: WriteConflict) {
        if self.admission.clear_range(&range, conflict) {
            self.commit.mutations.push(Mutation::ClearRange { range: range.clone() });
            if conflict == WriteConflict::Yes {
                self.commit.write_conflicts.push(range);
            }
        }
    }

    fn add_read_conflict(&mut self, range: KeyRange) {
        if self.admission.range(&range) {
            self.note_read(range);
        }
    }

    fn add_write_conflict(&mut self, range: KeyRange) {
        if self.admission.range(&range) {
            self.admission.conflict_range(&range);
            self.commit.write_conflicts.push(range);
        }
    }

    fn watch(&mut self, key: &[u8]) -> Watch {
        let (pending, watch) = self.engine.watches().prepare(key);
        match check_read_key(key) {
            Ok(()) => self.watches.push(pending),
            Err(refusal) => pending.resolve(Wake { after: std::time::Duration::ZERO, result: Err(refusal) }),
        }
        watch
    }

    fn size(&self) -> usize {
        self.admission.bytes()
    }

    async fn commit(mut self: Box<Self>) -> Result<Committed, StoreError> {
        self.admission.check()?;
        self.commit.bytes = self.admission.bytes();
        let writes = !self.commit.mutations.is_empty() || !self.commit.write_conflicts.is_empty();
        if !writes || !self.commit.read_conflicts.is_empty() || !self.watches.is_empty() {
            self.commit.read_version = Some(self.open().await?);
        }
        let committed = if writes {
            self.engine.commit(std::mem::take(&mut self.commit)).await?
        } else {
            let version = self.commit.read_version.expect("was just taken");
            Committed { version: StoreVersion::new(version), stamp: None }
        };
        if !self.watches.is_empty() {
            let watches = std::mem::take(&mut self.watches);
            self.engine.arm(self.view(), watches);
        }
        Ok(committed)
    }
}
