//! The model: a map, and commits one after the other.

use std::collections::BTreeMap;

use penstock_metadata::kv::{KeyRange, StoreError, single_key};
use penstock_types::Versionstamp;

use crate::schedule::{Ended, History, Read, Write, key};

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

/// Checks a history.
pub(crate) fn check(history: &History, all_disturb: bool) -> Result<(), String> {
    let mut committed: Vec<(Versionstamp, &Ended)> = Vec::new();
    let mut ranges: Vec<(u64, &KeyRange)> = Vec::new();
    for ended in &history.ended {
        let Ok(done) = &ended.result else { continue };
        match done.stamp {
            Some(stamp) => committed.push((stamp, ended)),
            // It mutates nothing: perhaps it adds write conflicts, perhaps it only reads.
            None => ranges.extend(ended.write_conflicts.iter().map(|range| (done.version.get(), range))),
        }
    }
    committed.sort_by_key(|(stamp, _)| *stamp);
    if committed.windows(2).any(|pair| pair[0].0 == pair[1].0) {
        return Err("two commits share a stamp".to_owned());
    }
    let states = replay(&committed);
    for ended in &history.ended {
        check_one(ended, &committed, &ranges, &states, all_disturb)
            .map_err(|what| format!("{what}: {ended:#?}"))?;
    }
    let last = &states[states.len() - 1];
    if last.iter().map(|(key, value)| (key.clone(), value.clone())).ne(history.rows.iter().cloned()) {
        return Err(format!("the contents are {:?}, not {last:?}", history.rows));
    }
    Ok(())
}

/// The contents before each commit, and behind the last.
fn replay(committed: &[(Versionstamp, &Ended)]) -> Vec<Rows> {
    let mut states = vec![Rows::new()];
    for (stamp, ended) in committed {
        let mut rows = states[states.len() - 1].clone();
        for (write, _) in &ended.writes {
            apply(&mut rows, write, *stamp);
        }
        states.push(rows);
    }
    states
}

fn check_one(
    ended: &Ended,
    committed: &[(Versionstamp, &Ended)],
    ranges: &[(u64, &KeyRange)],
    states: &[Rows],
    all_disturb: bool,
) -> Result<(), String> {
    if let Some(read_version) = ended.read_version {
        let before = committed.partition_point(|(stamp, _)| stamp.version().get() <= read_version);
        for read in &ended.reads {
            check_read(read, &states[before]).map_err(|what| format!("at the read version {what}"))?;
        }
        let disturbs = |(stamp, other): &(Versionstamp, &Ended)| {
            !std::ptr::eq(*other, ended) && written(other, *stamp).iter().any(|range| reads(ended, range))
        };
        let since = &committed[before..];
        // Transactions without mutations have no stamp, only a version.
        let range_disturbs =
            |(version, range): &(u64, &KeyRange)| *version > read_version && reads(ended, range);
        match &ended.result {
            Ok(done) => {
                let Some(stamp) = done.stamp else { return Ok(()) };
                if since.iter().take_while(|(other, _)| *other < stamp).any(disturbs) {
                    return Err("committed though what it read was written".to_owned());
                }
                let earlier = |(version, _): &&(u64, &KeyRange)| *version < stamp.version().get();
                if ranges.iter().filter(earlier).any(range_disturbs) {
                    return Err("committed though what it read was marked as written".to_owned());
                }
                let place = committed.partition_point(|(other, _)| *other < stamp);
                for read in ended.reads.iter().filter(|read| read.serializable && all_disturb) {
                    check_page(read, &states[place]).map_err(|what| format!("at the stamp {what}"))?;
                }
            }
            Err(StoreError::Conflict) if since.iter().any(disturbs) || ranges.iter().any(range_disturbs) => {}
            Err(error) => return Err(format!("refused without a reason: {error}")),
        }
    } else if let Err(error) = &ended.result {
        return Err(format!("refused without having read: {error}"));
    }
    Ok(())
}

fn reads(ended: &Ended, written: &KeyRange) -> bool {
    ended.read_conflicts.iter().any(|read| {
        read.start < written.end
            && written.start < read.end
            && read.start < read.end
            && written.start < written.end
    })
}

/// The write conflict ranges of a committed transaction.
fn written(ended: &Ended, stamp: Versionstamp) -> Vec<KeyRange> {
    let mut ranges = ended.write_conflicts.clone();
    for (write, disturbs) in &ended.writes {
        ranges.extend(match write {
            Write::StampedKey(number, value) => Some(single_key(&stamped(*number, stamp, *value))),
            _ if !disturbs => None,
            Write::ClearRange(start, end) => Some(key(*start)..key(*end)),
            Write::Set(number, _)
            | Write::Add(number, _)
            | Write::Max(number, _)
            | Write::Clear(number)
            | Write::StampedValue(number) => Some(single_key(&key(*number))),
        });
    }
    ranges
}

fn check_read(read: &Read, rows: &Rows) -> Result<(), String> {
    if read.more != (matching(read, rows).count() > read.limit) {
        return Err(format!("more than {} rows are there or not, unlike {read:?}", read.limit));
    }
    check_page(read, rows)
}

/// What a serializable read vouches for up to its transaction's commit: the page that it got. What lies behind a full
/// page isn't in its conflict range, so whether anything does may change meanwhile; that nothing does, may not.
fn check_page(read: &Read, rows: &Rows) -> Result<(), String> {
    if !read.more && matching(read, rows).count() > read.limit {
        return Err(format!("more rows are there than {read:?}"));
    }
    let expected: Vec<_> = if read.reverse {
        matching(read, rows).rev().take(read.limit).collect()
    } else {
        matching(read, rows).take(read.limit).collect()
    };
    let same = expected.iter().map(|(key, value)| (*key, *value)).eq(read.rows.iter().map(|(k, v)| (k, v)));
    if !same {
        return Err(format!("{expected:?} is expected, not {read:?}"));
    }
    Ok(())
}

/// The rows of the read's range.
fn matching<'a>(
    read: &'a Read,
    rows: &'a Rows,
) -> impl DoubleEndedIterator<Item = (&'a Vec<u8>, &'a Vec<u8>)> {
    rows.iter().filter(|(key, _)| **key >= read.start && **key < read.end)
}

fn stamped(number: u8, stamp: Versionstamp, value: u8) -> Vec<u8> {
    [&key(number)[..], stamp.as_bytes(), &[value]].concat()
}

fn number(rows: &Rows, key: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    for (byte, stored) in bytes.iter_mut().zip(rows.get(key).map_or(&[][..], Vec::as_slice)) {
        *byte = *stored;
    }
    u64::from_le_bytes(bytes)
}

fn apply(rows: &mut Rows, write: &Write, stamp: Versionstamp) {
    match *write {
        Write::Set(number, value) => {
            rows.insert(key(number), vec![value]);
        }
        Write::Add(at, addend) => {
            let sum = number(rows, &key(at)).wrapping_add(addend as u64);
            rows.insert(key(at), sum.to_le_bytes().to_vec());
        }
        Write::Max(at, candidate) => {
            let most = number(rows, &key(at)).max(candidate);
            rows.insert(key(at), most.to_le_bytes().to_vec());
        }
        Write::Clear(number) => {
            rows.remove(&key(number));
        }
        Write::ClearRange(start, end) => rows.retain(|held, _| *held < key(start) || *held >= key(end)),
        Write::StampedKey(number, value) => {
            rows.insert(stamped(number, stamp, value), vec![value]);
        }
        Write::StampedValue(number) => {
            rows.insert(key(number), [&[1], &stamp.as_bytes()[..], &[1]].concat());
        }
    }
}
