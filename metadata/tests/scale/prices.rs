//! What each operation of the store costs its server, in processor time: from that follows where a commit's cost lies.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use penstock_metadata::kv::{
    Isolation, Priority, RangeOptions, SharedStore, StoreError, Transaction, WriteConflict,
};
use tokio::time::Instant;

use super::measuring::{Processor, settled};

/// Operations of a transaction.
const AT_ONCE: usize = 1_000;
/// Transactions at a time: enough to keep the server busy.
const WRITERS: usize = 4;
const LASTS: Duration = Duration::from_secs(3);

/// An operation, as a commit of data uses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    SetNew,
    SetAgain,
    StampedKey,
    StampedValue,
    Add,
    Get,
    GetOfNothing,
    RangeOfTwo,
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Self::SetNew => "plain set, a new key each time",
            Self::SetAgain => "plain set, the same key again",
            Self::StampedKey => "set under a versionstamped key",
            Self::StampedValue => "set of a versionstamped value, the same key again",
            Self::Add => "atomic add, the same key again",
            Self::Get => "get",
            Self::GetOfNothing => "get of a key that isn't there",
            Self::RangeOfTwo => "range of two rows",
        }
    }

    fn reads(self) -> bool {
        matches!(self, Self::Get | Self::GetOfNothing | Self::RangeOfTwo)
    }
}

fn key(what: &[u8], writer: usize, index: usize) -> Vec<u8> {
    let mut key = [what, &(writer as u32).to_be_bytes(), &(index as u32).to_be_bytes()].concat();
    key.resize(35, 0);
    key
}

/// Does an operation [`AT_ONCE`] times in one transaction.
async fn once(
    store: &SharedStore,
    operation: Operation,
    writer: usize,
    number: u64,
) -> Result<(), StoreError> {
    let mut transaction = store.begin(Priority::Default);
    match operation {
        Operation::Get | Operation::GetOfNothing => {
            let what: &[u8] = if operation == Operation::Get { b"again" } else { b"nothing" };
            let keys: Vec<_> = (0..AT_ONCE).map(|index| key(what, 0, index)).collect();
            transaction.get_many(&keys, Isolation::Snapshot).await?;
        }
        Operation::RangeOfTwo => {
            let ranges = (0..AT_ONCE).map(|index| key(b"pair", 0, index)..key(b"pair", 0, index + 1));
            let options = RangeOptions::page(1_000, Isolation::Snapshot);
            let pages = transaction.ranges(ranges.collect(), options).await?;
            assert!(pages.iter().all(|page| page.rows.len() == 2), "two rows");
        }
        _ => {
            for index in 0..AT_ONCE {
                write(transaction.as_mut(), operation, writer, index, number);
            }
            transaction.commit().await?;
        }
    }
    Ok(())
}

fn write(transaction: &mut dyn Transaction, operation: Operation, writer: usize, index: usize, number: u64) {
    let value = [7; 55];
    match operation {
        Operation::SetNew => {
            let key = [&key(b"new", writer, index)[..], &number.to_be_bytes()].concat();
            transaction.set(&key, &value, WriteConflict::No);
        }
        Operation::SetAgain => transaction.set(&key(b"again", writer, index), &value, WriteConflict::No),
        Operation::StampedKey => {
            let prefix = &key(b"stamped", 0, index)[..29];
            let suffix = (writer as u32).to_be_bytes();
            transaction.set_stamped_key(prefix, &suffix, &value, WriteConflict::No);
        }
        Operation::StampedValue => {
            transaction.set_stamped_value(&key(b"value", 0, index), &value[..14], 4, WriteConflict::No);
        }
        Operation::Add => transaction.atomic_add(&key(b"add", 0, index), 1, WriteConflict::No),
        Operation::Get | Operation::GetOfNothing | Operation::RangeOfTwo => {}
    }
}

/// Prints a line for each operation: how many a second, and what one costs the server and the client.
pub async fn measure(store: &SharedStore, server: u32) {
    let mut transaction = store.begin(Priority::Default);
    for index in 0..AT_ONCE {
        let first = key(b"pair", 0, index);
        transaction.set(&first, &[7; 55], WriteConflict::No);
        transaction.set(&[&first[..], b"x"].concat(), &[7; 8], WriteConflict::No);
    }
    transaction.commit().await.expect("a commit");
    for operation in [
        Operation::SetNew,
        Operation::SetAgain,
        Operation::StampedKey,
        Operation::StampedValue,
        Operation::Add,
        Operation::Get,
        Operation::GetOfNothing,
        Operation::RangeOfTwo,
    ] {
        settled(&**store).await;
        let before = (Processor::of(Some(server)), Processor::of(None));
        let begun = Instant::now();
        let tasks = (0..WRITERS).map(|writer| {
            let store = Arc::clone(store);
            tokio::spawn(async move {
                let mut done = 0;
                while begun.elapsed() < LASTS {
                    match once(&store, operation, writer, done).await {
                        Ok(()) => done += 1,
                        Err(error) => assert!(error.is_retryable(), "{error}"),
                    }
                }
                done
            })
        });
        let done: u64 = join_all(tasks).await.into_iter().map(|done| done.expect("a writer")).sum();
        // What was written is still to be brought to disk: that belongs to its price.
        if !operation.reads() {
            settled(&**store).await;
        }
        let elapsed = begun.elapsed();
        let (server_used, _) = Processor::of(Some(server)).since(&before.0, elapsed);
        let (client_used, _) = Processor::of(None).since(&before.1, elapsed);
        let operations = done as f64 * AT_ONCE as f64;
        let each = |used: f64| used * elapsed.as_secs_f64() * 1e6 / operations;
        println!(
            "| {} | {:.0} | {:.1} | {:.1} |",
            operation.name(),
            operations / elapsed.as_secs_f64(),
            each(server_used),
            each(client_used)
        );
    }
}
