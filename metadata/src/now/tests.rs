use super::*;
use crate::testing::{INCARNATION, World};

const STEP: Duration = Duration::from_secs(60);
const HOUR_MS: i64 = 3_600_000;

fn at(seconds: u64) -> (Incarnation, StoreVersion) {
    (INCARNATION, StoreVersion::new(seconds * limits::VERSIONS_PER_SECOND))
}

fn last(now_ms: i64, seconds: u64) -> Option<ReckonedTime> {
    let (incarnation, version) = at(seconds);
    Some(ReckonedTime { now_ms, incarnation, version })
}

#[test]
fn of_many_clocks_the_middle_one_counts_however_wrong_another_is() {
    let reckoned = |clocks: &[i64]| reckon(last(1_000, 10), clocks, at(11), STEP);
    assert_eq!(reckoned(&[2_000, i64::MAX, 1_999]), Ok(2_000));
    assert_eq!(reckoned(&[2_000, i64::MIN, 1_999]), Ok(1_999));
    assert_eq!(reckoned(&[4, 1, 3, 2]), Ok(2), "the lower one of the two in the middle");
    assert_eq!(reckoned(&[]), Err(TimeError::NoClock));
}

#[test]
fn of_few_clocks_none_runs_ahead_of_the_store() {
    let reckoned = |clocks: &[i64], seconds| reckon(last(HOUR_MS, 100), clocks, at(seconds), STEP);
    assert_eq!(reckoned(&[HOUR_MS + 61_000], 101), Ok(HOUR_MS + 61_000));
    assert_eq!(reckoned(&[HOUR_MS + 61_500], 101), Err(TimeError::Ahead { by: Duration::from_millis(500) }));
    assert_eq!(reckoned(&[2 * HOUR_MS], 3_700), Ok(2 * HOUR_MS), "time has passed");
    assert_eq!(reckoned(&[2 * HOUR_MS, HOUR_MS], 101), Ok(HOUR_MS), "the lower one");
    assert_eq!(reckoned(&[5], 101), Ok(5), "one that lags harms nobody");
    assert_eq!(
        reckon(None, &[HOUR_MS], at(1), STEP),
        Ok(HOUR_MS),
        "the first time there is nothing to go by"
    );
    // Another life of the metadata: its versions say nothing.
    let later = (Incarnation::new(2), StoreVersion::new(u64::MAX));
    assert!(reckon(last(HOUR_MS, 100), &[2 * HOUR_MS], later, STEP).is_err());
}

#[tokio::test(start_paused = true)]
async fn what_was_reckoned_stays_and_an_operator_has_the_last_word() {
    let world = World::new().await;
    let reckon = |clock: i64| {
        let (store, keyspace) = (world.store.clone(), world.keyspace.clone());
        async move { now(&store, &keyspace, INCARNATION, &[clock], STEP).await }
    };
    assert_eq!(reckon(HOUR_MS).await, Ok(HOUR_MS));
    assert!(matches!(reckon(2 * HOUR_MS).await, Err(TimeError::Ahead { .. })));
    assert_eq!(reckon(5).await, Ok(5));
    assert_eq!(reckon(HOUR_MS).await, Ok(HOUR_MS), "it was set back and is right again");
    tokio::time::advance(Duration::from_secs(3_600)).await;
    assert_eq!(reckon(2 * HOUR_MS).await, Ok(2 * HOUR_MS));
    assert!(reckon(9 * HOUR_MS).await.is_err());
    let accepted = accept(&world.store, &world.keyspace, INCARNATION, &[9 * HOUR_MS]).await;
    assert_eq!(accepted, Ok(9 * HOUR_MS));
    assert_eq!(reckon(9 * HOUR_MS).await, Ok(9 * HOUR_MS));
}
