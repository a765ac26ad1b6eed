//! A unit from its first pass to its end.

use penstock_metadata::burial::bury;
use penstock_metadata::keys::merge_unit::Unit;
use penstock_metadata::kv::StoreError;
use penstock_metadata::merging::{end_unit, queued, sources};
use penstock_types::ObjectId;
use tokio::time::Instant;

use super::pass::Passed;
use super::{Merge, MergeError, MergeParts, add};
use crate::again;

/// Times that a unit is gone through in one round, where something came between.
const PASSES: usize = 3;

impl Merge {
    /// Merges a unit.
    ///
    /// # Errors
    /// After the first failure; what was swapped before is swapped.
    pub async fn unit(&self, unit: &Unit) -> Result<(), MergeError> {
        let MergeParts { store, keyspace, incarnation, .. } = &self.parts;
        let objects: Vec<ObjectId> =
            again!(queued(store, keyspace, unit))?.iter().map(|queued| queued.object).collect();
        // What came out of one unit below has no partition twice: merging it would change nothing.
        let mut is_done = unit.level > 0 && unit.first == unit.last;
        let mut passed = Passed::default();
        for _ in 0..PASSES {
            if is_done {
                break;
            }
            let sources = again!(sources(store, keyspace, &objects))?;
            let outcome = self.pass(unit, &sources).await;
            let buried = self.bury(&objects).await;
            passed = match outcome {
                Ok(passed) => passed,
                Err(MergeError::Ended) => return Ok(()),
                Err(_) if penstock_types::planted!("failed-unit-ended") => Passed::default(),
                Err(error) => return Err(error),
            };
            buried?;
            is_done = passed.left() == 0;
        }
        if !is_done {
            return Err(MergeError::Disturbed);
        }
        self.leave_unreadable(unit, &passed)?;
        if again!(end_unit(store, keyspace, *incarnation, unit))? {
            add(&self.stats.units, 1);
        }
        Ok(())
    }

    /// What can't be read of a unit is left where it is, once that is certain.
    fn leave_unreadable(&self, unit: &Unit, passed: &Passed) -> Result<(), MergeError> {
        if passed.unreadable == 0 {
            return Ok(());
        }
        if !self.patience.lock().is_enough(unit, passed.is_refused, Instant::now()) {
            return Err(MergeError::Unreadable { batches: passed.unreadable, objects: passed.lost.len() });
        }
        add(&self.stats.unreadable, passed.unreadable);
        tracing::error!(
            level = unit.level,
            batches = passed.unreadable,
            lost_objects = passed.lost.len(),
            such_as = ?passed.lost.first(),
            "batches can't be read where the log says; they are not merged"
        );
        Ok(())
    }

    async fn bury(&self, objects: &[ObjectId]) -> Result<(), StoreError> {
        let MergeParts { store, keyspace, incarnation, collected, .. } = &self.parts;
        collected.buried(again!(bury(store, keyspace, *incarnation, objects))?);
        Ok(())
    }
}
