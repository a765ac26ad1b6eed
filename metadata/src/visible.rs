//! What every writer of anything but an append has to do: to be of this life of the metadata, and to write what views and
//! long polls of every agent learn of it by.

use std::collections::{BTreeMap, BTreeSet};

use penstock_types::{Incarnation, TopicPartition};

use crate::keys::cluster::{Cutoff, cutoff_key, decode_cutoff};
use crate::keys::counters::{self, Counters, Stripe};
use crate::keys::feed::{self, Slot};
use crate::keys::{Keyspace, checkpoint};
use crate::kv::{Isolation, StoreError, Transaction, WriteConflict};

/// Fails where the metadata has begun another life than `incarnation`: an agent that was paused while it was restored
/// changes nothing any more. Reads serializably what begins with the life, the cutoff, and gives it.
pub(crate) async fn fence(
    transaction: &mut dyn Transaction,
    keyspace: &Keyspace,
    incarnation: Incarnation,
) -> Result<Cutoff, StoreError> {
    let cutoff = transaction.get(&cutoff_key(keyspace), Isolation::Serializable).await?;
    let cutoff = decode_cutoff(cutoff.as_deref())?;
    if cutoff.incarnation > incarnation {
        let (own, now) = (incarnation.get(), cutoff.incarnation.get());
        let reason = format!("the metadata is in incarnation {now} by now, this agent is of {own}");
        return Err(StoreError::Failed { reason });
    }
    Ok(cutoff)
}

/// Something of `partitions` changes that is no append: the log start moves, entries of the sealed log are replaced.
/// Counts the change for their stripes and stamps their slots, without conflicting with anybody.
pub(crate) fn changes(
    transaction: &mut dyn Transaction,
    keyspace: &Keyspace,
    incarnation: Incarnation,
    partitions: &BTreeSet<TopicPartition>,
) {
    let mut stripes: BTreeMap<Stripe, Counters> = BTreeMap::new();
    for partition in partitions {
        stripes.entry(Stripe::of(*partition)).or_insert_with(|| {
            let mut counters = Counters::default();
            counters.change();
            counters
        });
    }
    for (stripe, added) in &stripes {
        let key = counters::key(keyspace, *stripe);
        transaction.atomic_add_bytes(&key, &added.encode(), WriteConflict::No);
    }
    for slot in slots(partitions) {
        let value = feed::template(incarnation);
        transaction.set_stamped_value(&feed::key(keyspace, slot), &value, feed::STAMP_AT, WriteConflict::No);
    }
}

/// The sealed log of `partitions` is not any more what the checkpoints of their slots say.
pub(crate) fn outdates_checkpoints(
    transaction: &mut dyn Transaction,
    keyspace: &Keyspace,
    partitions: &BTreeSet<TopicPartition>,
) {
    for slot in slots(partitions) {
        transaction.atomic_add(&checkpoint::seals_key(keyspace, slot), 1, WriteConflict::No);
    }
}

fn slots(partitions: &BTreeSet<TopicPartition>) -> BTreeSet<Slot> {
    partitions.iter().map(|partition| Slot::of(*partition)).collect()
}
