//! The rows on disk, and the only place that knows `fjall`.
//!
//! ```text
//! <directory>/lock     held while the store is open
//! <directory>/store/   the fjall database, with one keyspace
//! <directory>/new/     the same while it is made; renamed when it is whole
//!
//! 0x00 'f'             "PENSTOCK", format (u16, big-endian)
//! 0x00 'c'             ceiling of the versions (u64, big-endian)
//! 0x01 key             a row
//! ```

use std::fmt;
use std::fs::{File, TryLockError};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable, Snapshot};

use super::piles::{Piles, WriteCounts};
use super::{EmbeddedOptions, OpenError};
use crate::kv::resolver::{Latest, Writes};
use crate::kv::{KeyRange, Row, StoreError, single_key};

const MAGIC: &[u8; 8] = b"PENSTOCK";
/// The format that is written, and the highest that is read.
const FORMAT: u16 = 1;
const FORMAT_KEY: &[u8] = &[0, b'f'];
const CEILING_KEY: &[u8] = &[0, b'c'];
const ROW: u8 = 1;

const KEYSPACE: &str = "rows";
/// Bytes of rows held in memory before they become a table: also what a restart reads again.
const WRITE_BUFFER_BYTES: u64 = 8 << 20;
/// The least that fjall allows.
const JOURNAL_BYTES: u64 = 64 << 20;

/// A store as it was opened.
pub(super) struct Opened {
    pub(super) rows: DiskRows,
    /// Above every version ever handed out.
    pub(super) first_version: u64,
    /// Durably reserved up to here.
    pub(super) ceiling: u64,
}

/// Opens the directory, and makes it if it is not there; reserves `reserve` versions.
pub(super) fn open(path: &Path, options: &EmbeddedOptions, reserve: u64) -> Result<Opened, OpenError> {
    let io = |source| OpenError::Io { path: path.to_owned(), source };
    std::fs::create_dir_all(path).map_err(io)?;
    let lock = lock(path)?;
    let store = path.join("store");
    if !store.try_exists().map_err(io)? {
        create(path, &store, options)?;
    }
    let (mut rows, ceiling) = open_rows(path, &store, lock, options)?;
    let first_version = ceiling.saturating_add(1);
    let ceiling = first_version.saturating_add(reserve);
    rows.write(&Writes::new(), Some(ceiling)).map_err(|error| open_error(path, error))?;
    Ok(Opened { rows, first_version, ceiling })
}

/// Opens the directory, which must be there, without writing to it; the rows, and the highest version that may have
/// been handed out.
pub(super) fn open_to_read(path: &Path, options: &EmbeddedOptions) -> Result<(DiskRows, u64), OpenError> {
    let store = path.join("store");
    if !store.try_exists().map_err(|source| OpenError::Io { path: path.to_owned(), source })? {
        return Err(OpenError::Missing { path: path.to_owned() });
    }
    open_rows(path, &store, lock(path)?, options)
}

/// The rows, and the ceiling of the versions.
fn open_rows(
    path: &Path,
    store: &Path,
    lock: File,
    options: &EmbeddedOptions,
) -> Result<(DiskRows, u64), OpenError> {
    let database = open_database(store, options).map_err(|error| open_error(path, error))?;
    let corrupt = |reason: &str| OpenError::Corrupt { path: path.to_owned(), reason: reason.to_owned() };
    if !database.keyspace_exists(KEYSPACE) {
        return Err(corrupt("it holds no metadata"));
    }
    let keyspace = open_keyspace(&database).map_err(|error| open_error(path, error))?;
    let read = |key: &[u8]| keyspace.get(key).map_err(|error| open_error(path, error));
    let format = read(FORMAT_KEY)?.ok_or_else(|| corrupt("its format is missing"))?;
    let Some(&[high, low]) = format.strip_prefix(MAGIC) else {
        return Err(corrupt("its format can't be read"));
    };
    let found = u16::from_be_bytes([high, low]);
    if found > FORMAT {
        return Err(OpenError::TooNew { path: path.to_owned(), found, supported: FORMAT });
    }
    let ceiling = read(CEILING_KEY)?.ok_or_else(|| corrupt("its ceiling is missing"))?;
    let ceiling: [u8; 8] = ceiling.as_ref().try_into().map_err(|_| corrupt("its ceiling can't be read"))?;
    let rows = DiskRows {
        database,
        keyspace,
        piles: Arc::default(),
        counts: WriteCounts::new(WRITE_BUFFER_BYTES),
        lock: Arc::new(lock),
    };
    Ok((rows, u64::from_be_bytes(ceiling)))
}

fn lock(path: &Path) -> Result<File, OpenError> {
    let io = |source| OpenError::Io { path: path.to_owned(), source };
    let file =
        File::options().create(true).truncate(false).write(true).open(path.join("lock")).map_err(io)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::Locked { path: path.to_owned() }),
        Err(TryLockError::Error(source)) => Err(io(source)),
    }
}

/// Makes an empty store under another name, and renames it when it is whole: a crash leaves nothing half made.
fn create(path: &Path, store: &Path, options: &EmbeddedOptions) -> Result<(), OpenError> {
    let io = |source| OpenError::Io { path: path.to_owned(), source };
    let new = path.join("new");
    if new.try_exists().map_err(io)? {
        std::fs::remove_dir_all(&new).map_err(io)?;
    }
    let make = || -> fjall::Result<()> {
        let database = open_database(&new, options)?;
        let keyspace = open_keyspace(&database)?;
        let mut format = MAGIC.to_vec();
        format.extend_from_slice(&FORMAT.to_be_bytes());
        let mut batch = database.batch().durability(Some(PersistMode::SyncAll));
        batch.insert(&keyspace, FORMAT_KEY, format);
        batch.insert(&keyspace, CEILING_KEY, 0u64.to_be_bytes().as_slice());
        batch.commit()
    };
    make().map_err(|error| open_error(path, error))?;
    std::fs::rename(&new, store).map_err(io)?;
    File::open(path).and_then(|directory| directory.sync_all()).map_err(io)
}

fn open_database(path: &Path, options: &EmbeddedOptions) -> fjall::Result<Database> {
    Database::builder(path)
        .cache_size(options.cache_bytes)
        .worker_threads(options.worker_threads.max(1))
        .max_journaling_size(JOURNAL_BYTES)
        .open()
}

fn open_keyspace(database: &Database) -> fjall::Result<Keyspace> {
    database.keyspace(KEYSPACE, || KeyspaceCreateOptions::default().max_memtable_size(WRITE_BUFFER_BYTES))
}

fn open_error(path: &Path, error: fjall::Error) -> OpenError {
    let path = path.to_owned();
    match error {
        fjall::Error::Locked => OpenError::Locked { path },
        fjall::Error::Io(source) => OpenError::Io { path, source },
        other => OpenError::Corrupt { path, reason: other.to_string() },
    }
}

/// The rows, for the one who writes them.
pub(super) struct DiskRows {
    database: Database,
    keyspace: Keyspace,
    piles: Arc<Piles>,
    counts: WriteCounts,
    lock: Arc<File>,
}

impl DiskRows {
    /// Writes rows, and a new ceiling, at once; when it returns they are on stable storage.
    pub(super) fn write(&mut self, writes: &Writes, ceiling: Option<u64>) -> fjall::Result<()> {
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncAll));
        for (key, value) in writes {
            match value {
                Some(value) => batch.insert(&self.keyspace, row_key(key), value.as_ref()),
                None => batch.remove(&self.keyspace, row_key(key)),
            }
        }
        if let Some(ceiling) = ceiling {
            batch.insert(&self.keyspace, CEILING_KEY, ceiling.to_be_bytes().as_slice());
        }
        batch.commit()?;
        self.counts.note(writes, &self.piles);
        Ok(())
    }

    /// What is written now.
    pub(super) fn view(&self) -> DiskView {
        DiskView {
            snapshot: self.database.snapshot(),
            keyspace: self.keyspace.clone(),
            piles: Arc::clone(&self.piles),
            _lock: Arc::clone(&self.lock),
        }
    }
}

/// The rows as they were at some moment.
pub(super) struct DiskView {
    snapshot: Snapshot,
    keyspace: Keyspace,
    piles: Arc<Piles>,
    /// Whoever can read keeps others out.
    _lock: Arc<File>,
}

impl fmt::Debug for DiskView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiskView").field("seqno", &self.snapshot.seqno()).finish_non_exhaustive()
    }
}

impl DiskView {
    /// A key's value.
    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let value = self.snapshot.get(&self.keyspace, row_key(key)).map_err(read_error)?;
        // Copied: a slice would keep its whole block in memory.
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    /// The rows of a range that is not inverted, in the order asked for.
    pub(super) fn range(
        &self,
        range: &KeyRange,
        reverse: bool,
    ) -> impl Iterator<Item = Result<Row, StoreError>> + '_ {
        let piles = self.piles.within(range, reverse);
        pieces(range, piles, reverse).into_iter().flat_map(move |piece| self.piece(piece, reverse))
    }

    fn piece(&self, piece: Piece, reverse: bool) -> Box<dyn Iterator<Item = Result<Row, StoreError>> + '_> {
        match piece {
            Piece::Pile(key) => Box::new(
                self.get(&key)
                    .transpose()
                    .map(|value| value.map(|value| Row { key: key.clone(), value }))
                    .into_iter(),
            ),
            Piece::Rest(range) => {
                let rows = self.snapshot.range(&self.keyspace, row_key(&range.start)..row_key(&range.end));
                if reverse { Box::new(rows.rev().map(row)) } else { Box::new(rows.map(row)) }
            }
        }
    }

    /// Bytes of the tables.
    pub(super) fn bytes_on_disk(&self) -> u64 {
        self.keyspace.disk_space()
    }
}

impl Latest for DiskView {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.get(key)
    }

    fn keys(&self, range: &KeyRange) -> Result<Vec<Bytes>, StoreError> {
        self.range(range, false).map(|row| row.map(|row| row.key)).collect()
    }
}

/// A part of a range.
enum Piece {
    /// A key with many versions, to be read on its own.
    Pile(Bytes),
    /// What lies between two of them.
    Rest(KeyRange),
}

/// A range around its piles, which come in the order asked for.
fn pieces(range: &KeyRange, piles: Vec<Bytes>, reverse: bool) -> Vec<Piece> {
    let mut pieces = Vec::with_capacity(2 * piles.len() + 1);
    let mut left = range.clone();
    for pile in piles {
        let behind = single_key(&pile).end;
        let between = if reverse {
            let between = behind..left.end;
            left.end = pile.to_vec();
            between
        } else {
            let between = left.start..pile.to_vec();
            left.start = behind;
            between
        };
        if between.start < between.end {
            pieces.push(Piece::Rest(between));
        }
        pieces.push(Piece::Pile(pile));
    }
    if left.start < left.end {
        pieces.push(Piece::Rest(left));
    }
    pieces
}

fn row(guard: fjall::Guard) -> Result<Row, StoreError> {
    let (key, value) = guard.into_inner().map_err(read_error)?;
    Ok(Row { key: Bytes::copy_from_slice(&key[1..]), value: Bytes::copy_from_slice(&value) })
}

fn row_key(key: &[u8]) -> Vec<u8> {
    let mut row = Vec::with_capacity(1 + key.len());
    row.push(ROW);
    row.extend_from_slice(key);
    row
}

fn read_error(error: fjall::Error) -> StoreError {
    StoreError::Failed { reason: error.to_string() }
}
