//! What merging costs, on a machine that does nothing else:
//! `cargo test --release -p penstock-compaction --lib -- --ignored --nocapture merging_costs`

use super::*;
use crate::testing::cpu_seconds;

/// Bytes that are merged.
const BYTES: u64 = 256 * MIB;
/// Partitions that each flushed object has.
const PARTITIONS: i32 = 64;

#[tokio::test(start_paused = true)]
#[ignore = "a measurement"]
async fn merging_costs() {
    for batch_bytes in [1_024, 16 * 1_024, 128 * 1_024] {
        let world = World::without_topics().await;
        let partitions = topic(&world, "orders", PARTITIONS, &[]).await;
        let mut flushed = 0;
        while flushed < BYTES {
            let mut batches = Vec::new();
            let mut bytes = 0;
            while bytes < 4 * MIB {
                for partition in &partitions {
                    let batch = batch((flushed + bytes) as i64, 1, batch_bytes);
                    bytes += batch.bytes.len() as u64;
                    batches.push((*partition, batch));
                }
            }
            world.flush(&batches).await;
            flushed += bytes;
        }
        for partition in &partitions {
            world.seal_one(*partition).await;
        }
        let merging = MergeSettings { unit_bytes: 128 * MIB, object_bytes: 128 * MIB, ..settings() };
        let job = job(&world, merging, 1).await;
        let before = cpu_seconds();
        job.round().await.expect("a round");
        let used = cpu_seconds().zip(before).map(|(after, before)| after - before);
        let (stats, gib) = (job.stats(), 1_024.0 * MIB as f64);
        let written = count(&stats.written_bytes) as f64 / gib;
        assert!(written >= flushed as f64 / gib, "all of it was merged");
        match used {
            Some(used) => println!(
                "batches of {batch_bytes} bytes: {:.2} CPU-seconds per GiB merged; {} objects into {}, {} batches",
                used / written,
                count(&stats.inputs),
                count(&stats.outputs),
                count(&stats.batches)
            ),
            None => println!("batches of {batch_bytes} bytes: this system doesn't tell CPU time"),
        }
    }
}
