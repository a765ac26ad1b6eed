//! The capabilities that are about consumer groups.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use anyhow::{Result, bail, ensure};

use crate::flow::{Client, Consumer, Record, Special, collect, expect, fresh, numbered, values, wait_until};

/// What a member notes.
#[derive(Default)]
struct Notes {
    held: Vec<i32>,
    received: Vec<Record>,
    error: Option<String>,
}

/// A member that polls in a thread of its own.
struct Member {
    notes: Arc<Mutex<Notes>>,
    ending: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Member {
    fn join(client: &dyn Client, group: &str, topic: &str) -> Result<Self> {
        let mut consumer = client.join(group, topic)?;
        let (notes, ending) = (Arc::new(Mutex::new(Notes::default())), Arc::new(AtomicBool::new(false)));
        let (kept, asked) = (Arc::clone(&notes), Arc::clone(&ending));
        let thread = std::thread::spawn(move || {
            while !asked.load(SeqCst) {
                let polled = consumer.poll().and_then(|records| Ok((records, consumer.held()?)));
                let mut notes = kept.lock().unwrap_or_else(PoisonError::into_inner);
                match polled {
                    Ok((records, held)) => {
                        notes.received.extend(records);
                        notes.held = held;
                    }
                    Err(error) => {
                        notes.error = Some(format!("{error:?}"));
                        return;
                    }
                }
            }
        });
        Ok(Self { notes, ending, thread: Some(thread) })
    }

    fn held(&self) -> Result<Vec<i32>> {
        let notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        match &notes.error {
            Some(error) => bail!("a member: {error}"),
            None => Ok(notes.held.clone()),
        }
    }

    /// The records with such numbers.
    fn received(&self, numbers: &Range<i64>) -> Vec<Record> {
        let notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = |record: &&Record| record.value.parse().is_ok_and(|number| numbers.contains(&number));
        notes.received.iter().filter(wanted).cloned().collect()
    }

    /// Leaves the group: the consumer goes with its thread.
    fn leave(&mut self) -> Result<()> {
        self.ending.store(true, SeqCst);
        match self.thread.take().map(JoinHandle::join) {
            Some(Err(_)) => bail!("a member panicked"),
            _ => self.held().map(drop),
        }
    }
}

fn wait_for_shares(members: &[Member], each: usize) -> Result<()> {
    wait_until(&format!("{each} partitions for each of {}", members.len()), || {
        let held = members.iter().map(Member::held).collect::<Result<Vec<_>>>()?;
        let mut all = held.concat();
        all.sort_unstable();
        Ok(held.iter().all(|share| share.len() == each) && all == [0, 1, 2, 3, 4, 5])
    })
}

/// Sends ten records to each partition: each goes to one of `everyone`, none to one of the last `staying` that
/// doesn't hold its partition.
fn exchange(client: &dyn Client, run: &str, everyone: &[Member], staying: usize, first: i64) -> Result<()> {
    let of_partition = |partition: i32| {
        let first = first + i64::from(partition) * 10;
        numbered(first..first + 10, partition)
    };
    let sent: Vec<Record> = (0..6).flat_map(of_partition).collect();
    client.produce(run, &sent, "none", false)?;
    let numbers = first..first + 100;
    let got = || everyone.iter().flat_map(|member| member.received(&numbers)).collect::<Vec<_>>();
    wait_until("all records", || Ok(got().len() >= sent.len()))?;
    let (mut seen, mut wanted) = (values(&got()), values(&sent));
    seen.sort();
    wanted.sort();
    expect(seen, wanted, "each record once")?;
    for member in &everyone[everyone.len() - staying..] {
        let held = member.held()?;
        for record in member.received(&numbers) {
            ensure!(held.contains(&record.partition), "{record:?} went to a member that holds {held:?}");
        }
    }
    Ok(())
}

pub fn of_three(client: &dyn Client, run: &str) -> Result<()> {
    fresh(client, run, 6)?;
    let mut members = vec![Member::join(client, run, run)?];
    wait_for_shares(&members, 6)?;
    exchange(client, run, &members, 1, 0)?;
    members.push(Member::join(client, run, run)?);
    members.push(Member::join(client, run, run)?);
    wait_for_shares(&members, 2)?;
    exchange(client, run, &members, 3, 100)?;
    members[0].leave()?;
    wait_for_shares(&members[1..], 3)?;
    exchange(client, run, &members, 2, 200)?;
    members[1..].iter_mut().try_for_each(Member::leave)
}

pub fn offsets_resumed(client: &dyn Client, run: &str) -> Result<()> {
    fresh(client, run, 1)?;
    client.produce(run, &numbered(0..20, 0), "none", false)?;
    let mut consumer = client.join(run, run)?;
    let first = collect(consumer.as_mut(), 10)?;
    expect(values(&first[..10]), values(&numbered(0..10, 0)), "a group's first records")?;
    consumer.commit(run, 0, 10)?;
    drop(consumer);
    let rest = collect(client.join(run, run)?.as_mut(), 10)?;
    expect(values(&rest), values(&numbered(10..20, 0)), "records after the committed offset")
}

fn used(client: &dyn Client, run: &str) -> Result<Box<dyn Consumer>> {
    fresh(client, run, 1)?;
    client.produce(run, &numbered(0..1, 0), "none", false)?;
    let mut consumer = client.join(run, run)?;
    collect(consumer.as_mut(), 1)?;
    consumer.commit(run, 0, 1)?;
    Ok(consumer)
}

pub fn admin_groups(client: &dyn Client, run: &str) -> Result<()> {
    let consumer = used(client, run)?;
    ensure!(client.list_groups()?.iter().any(|group| group == run), "{run} is not listed");
    expect(client.describe_group(run)?, ("Stable".to_owned(), 1), "the group while it is used")?;
    drop(consumer);
    wait_until("an empty group", || Ok(client.describe_group(run)? == ("Empty".to_owned(), 0)))
}

pub fn admin_delete_group(client: &dyn Client, run: &str) -> Result<()> {
    let consumer = used(client, run)?;
    match client.delete_group(run) {
        Err(error) => match error.downcast_ref() {
            Some(Special::Refused(words)) if words.to_lowercase().contains("nonempty") => {}
            _ => return Err(error),
        },
        Ok(()) => bail!("a group with a member could be deleted"),
    }
    drop(consumer);
    client.delete_group(run)?;
    ensure!(!client.list_groups()?.iter().any(|group| group == run), "{run} is listed after its deletion");
    Ok(())
}
