use std::sync::Arc;

use futures::join;
use penstock_types::{SeededRandomness, TestClock};

use super::*;
use crate::keys::cluster::bump_metadata_version;
use crate::kv::Priority;
use crate::kv::memory::{MemoryFaults, MemoryStore};

fn store(seed: u64) -> (Arc<MemoryStore>, SharedStore) {
    let memory = MemoryStore::new(Arc::new(SeededRandomness::new(seed)));
    let store: SharedStore = memory.clone();
    (memory, store)
}

async fn open_as(store: &SharedStore, seed: u64) -> Result<ClusterIdentity, OpenError> {
    let keyspace = Keyspace::new(b"c");
    open_or_create(store, &keyspace, &SeededRandomness::new(seed), &TestClock::at(5)).await
}

#[tokio::test(start_paused = true)]
async fn agents_that_start_together_agree_on_an_identity() {
    for seed in 0..20 {
        let (memory, store) = store(seed);
        memory.set_faults(MemoryFaults {
            unknown_applied: 0.2,
            unknown_not_applied: 0.2,
            unknown_applied_later: 0.2,
            latency: Some(Duration::ZERO..Duration::from_millis(3)),
            ..MemoryFaults::default()
        });
        let (one, two) = join!(open_as(&store, seed), open_as(&store, seed + 100));
        let one = one.expect("an identity");
        assert_eq!(one, two.expect("an identity"), "seed {seed}");
        memory.set_faults(MemoryFaults::default());
        memory.land_parked_commits();
        assert_eq!(one, open_as(&store, 7).await.expect("an identity"), "seed {seed}");
        assert_eq!(one.cluster_id.len(), 22);
        assert_eq!(
            (one.incarnation, one.schema_version, one.created_ms),
            (Incarnation::FIRST, SCHEMA_VERSION, 5)
        );
    }
}

async fn write_identity(store: &SharedStore, identity: &ClusterIdentity) {
    let mut transaction = store.begin(Priority::Default);
    let key = identity_key(&Keyspace::new(b"c"));
    transaction.set(&key, &encode_identity(identity), WriteConflict::Yes);
    transaction.commit().await.expect("a commit");
}

#[tokio::test(start_paused = true)]
async fn a_newer_schema_is_refused_unless_it_takes_this_program() {
    let (_, store) = store(1);
    let mut identity = open_as(&store, 1).await.expect("an identity");
    assert_eq!(identity.oldest_writer, SCHEMA_VERSION, "of itself, a schema takes its own programs only");
    identity.schema_version += 1;
    identity.oldest_writer += 1;
    write_identity(&store, &identity).await;
    let refused = open_as(&store, 1).await.expect_err("a newer schema");
    let expected = OpenError::Schema {
        cluster_id: identity.cluster_id.clone(),
        found: SCHEMA_VERSION + 1,
        oldest_writer: SCHEMA_VERSION + 1,
        known: SCHEMA_VERSION,
    };
    assert_eq!(refused, expected);

    identity.oldest_writer = SCHEMA_VERSION;
    write_identity(&store, &identity).await;
    assert_eq!(open_as(&store, 1).await, Ok(identity), "an old program among new ones");
}

#[test]
fn programs_and_schemas_go_together_as_documented() {
    let identity = |schema_version, oldest_writer| ClusterIdentity {
        cluster_id: "c".to_owned(),
        incarnation: Incarnation::FIRST,
        schema_version,
        oldest_writer,
        created_ms: 0,
    };
    // (schema, oldest writer), (oldest read, newest known), opens
    for ((schema, writer), (oldest, newest), opens) in [
        ((3, 3), (3, 3), true),
        ((3, 3), (2, 4), true),
        ((3, 2), (1, 2), true),
        ((3, 3), (1, 2), false),
        ((3, 2), (1, 1), false),
        ((3, 3), (4, 5), false),
        ((3, 1), (4, 5), false),
    ] {
        let checked = check_schema(&identity(schema, writer), oldest..=newest);
        assert_eq!(checked.is_ok(), opens, "{schema} {writer} {oldest} {newest}: {checked:?}");
    }
    let too_old = check_schema(&identity(1, 1), 2..=3).expect_err("too old");
    assert!(too_old.to_string().contains("release in between"), "{too_old}");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_went_back_is_refused() {
    let (_, later) = store(1);
    let keyspace = Keyspace::new(b"c");
    open_as(&later, 1).await.expect("an identity");
    // The rows of a store at a higher version, in a store at a lower one.
    let (_, earlier) = store(2);
    open_as(&earlier, 1).await.expect("an identity");
    let mut transaction = earlier.begin(Priority::Default);
    let mut value = crate::codec::Writer::format(1);
    value.u32(Incarnation::FIRST.get()).u64(u64::MAX / 2).u16(0);
    transaction.set(&metadata_version_key(&keyspace), &value.finish(), WriteConflict::Yes);
    transaction.commit().await.expect("a commit");
    let refused = open_as(&earlier, 1).await.expect_err("versions went back");
    assert!(matches!(refused, OpenError::WentBack { stored, .. } if stored.get() == u64::MAX / 2));

    let mut transaction = later.begin(Priority::Default);
    bump_metadata_version(&mut *transaction, &keyspace, Incarnation::FIRST);
    transaction.commit().await.expect("a commit");
    open_as(&later, 1).await.expect("the version is the store's own");
}

#[test]
fn base64_is_kafkas() {
    assert_eq!(base64_url(&[0; 16]), "AAAAAAAAAAAAAAAAAAAAAA");
    assert_eq!(base64_url(&[0xFF; 16]), "_____________________w");
    let bytes: Vec<u8> = (0..16).map(|byte| byte * 17).collect();
    assert_eq!(base64_url(&bytes), "ABEiM0RVZneImaq7zN3u_w");
}
