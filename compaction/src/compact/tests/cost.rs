//! What log compaction costs, on a machine that does nothing else:
//! `cargo test --release -p penstock-compaction --lib -- --ignored --nocapture compacting_costs`

use super::*;
use crate::testing::cpu_seconds;

/// Bytes that are compacted, before they are compressed.
const BYTES: usize = 256 << 20;
const RECORDS: usize = 64;

#[tokio::test(start_paused = true)]
#[ignore = "a measurement"]
async fn compacting_costs() {
    for codec in [Codec::None, Codec::Lz4, Codec::Zstd] {
        let world = World::without_topics().await;
        let of = topic(&world, "t", 1, COMPACT).await[0];
        let keys = BYTES / 1_024 / 2;
        for flush in 0..BYTES / (1 << 20) {
            let mut batches = Vec::new();
            for batch in 0..(1 << 20) / (RECORDS * 1_024) {
                let mut builder = BatchBuilder::new(codec);
                for record in 0..RECORDS {
                    let number = (flush << 10) + batch * RECORDS + record;
                    // Each key is written twice, and half of each batch stays.
                    let key = number.wrapping_mul(0x9E37_79B9) % keys;
                    let half: Vec<u8> = (0..512_usize).map(|at| ((at * number) >> 3) as u8).collect();
                    let value = [half, vec![b'x'; 500]].concat();
                    builder.record(1, Some(format!("key-{key:08}").as_bytes()), Some(&value));
                }
                batches.push((of, builder.build()));
            }
            world.flush(&batches).await;
        }
        world.seal_one(of).await;
        let large = CompactionSettings {
            map_bytes: 128 << 20,
            read_bytes: 8 << 20,
            object_bytes: 128 << 20,
            ..settings()
        };
        let job = job(&world, &Hand::at(10_000), large, 1).await;
        let before = cpu_seconds();
        job.round().await.expect("a round");
        let used = cpu_seconds().zip(before).map(|(after, before)| after - before);
        let stats = job.stats();
        // What is read once for its keys is read again to be filtered.
        let gib = count(&stats.read_bytes) as f64 / 2.0 / (1_u64 << 30) as f64;
        match used {
            Some(used) => println!(
                "{}: {:.2} CPU-seconds per GiB compacted ({:.2} GiB stored, {} requests); {} of {} records dropped",
                codec.name(),
                used / gib,
                gib,
                count(&stats.gets),
                count(&stats.dropped),
                count(&stats.records),
            ),
            None => println!("this system doesn't tell CPU time"),
        }
    }
}
