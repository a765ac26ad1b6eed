//! What the way to the bucket costs: CPU-seconds of this process per GiB, for uploads of 8 MiB made of 16 KiB chunks
//! with each checksum, and for reads of 1 MiB blocks.
//!
//! ```text
//! eval "$(minio/run.sh --background --pid-file /tmp/minio.pid)"
//! cargo run --release -p penstock-storage --example bucket_cost -- "$PENSTOCK_OBJECT_STORE" 4
//! ```

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use penstock_storage::bucket::{Bucket, BucketOptions, UploadChecksum};
use penstock_types::SeededRandomness;
use tokio::time::Instant;

/// The agent's allocator: what reads cost depends on it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const CHUNK: usize = 16 * 1024;
const OBJECT: usize = 8 * 1024 * 1024;

/// User and system time of this process in seconds: fields 14 and 15 of `/proc/self/stat`, in hundredths.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let behind_name = stat.rsplit_once(')').expect("a name in parentheses").1;
    let fields: Vec<&str> = behind_name.split_ascii_whitespace().collect();
    let ticks = |index: usize| fields[index].parse::<f64>().expect("a number of ticks");
    (ticks(11) + ticks(12)) / 100.0
}

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().expect("the first argument is the bucket's URL");
    let gib: f64 = arguments.next().map_or(2.0, |text| text.parse().expect("the second is a number of GiB"));
    let objects = (gib * 128.0).ceil() as usize;
    let gib = objects as f64 / 128.0;
    let block: Vec<u8> =
        (0..OBJECT).map(|i| (i as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes()[5]).collect();
    let whole = Bytes::from(block);
    let chunks: Vec<Bytes> = (0..OBJECT / CHUNK).map(|i| whole.slice(i * CHUNK..(i + 1) * CHUNK)).collect();
    for checksum in [UploadChecksum::Crc64Nvme, UploadChecksum::Sha256, UploadChecksum::Off] {
        let options = BucketOptions { checksum, ..BucketOptions::default() };
        let bucket =
            Bucket::open(&url, &options, Arc::new(SeededRandomness::new(1))).expect("the bucket opens");
        let (begun, cpu) = (Instant::now(), cpu_seconds());
        for i in 0..objects {
            let deadline = Instant::now() + Duration::from_secs(60);
            bucket.put(&format!("cost/{}", i % 16), chunks.clone(), deadline).await.expect("an upload");
        }
        let (wall, cpu) = (begun.elapsed().as_secs_f64(), cpu_seconds() - cpu);
        println!("put {checksum:?}: {:.2} CPU-s/GiB, {:.0} MiB/s", cpu / gib, gib * 1024.0 / wall);
    }
    let bucket = Bucket::open(&url, &BucketOptions::default(), Arc::new(SeededRandomness::new(1)))
        .expect("the bucket opens");
    for (name, range) in [("8 MiB range", OBJECT as u64), ("1 MiB range", 1 << 20)] {
        let (begun, cpu) = (Instant::now(), cpu_seconds());
        for i in 0..objects {
            for at in (0..OBJECT as u64).step_by(range as usize) {
                let key = format!("cost/{}", i % 16);
                bucket.get_blocks(&key, at..at + range, 1 << 20).await.expect("a read");
            }
        }
        let (wall, cpu) = (begun.elapsed().as_secs_f64(), cpu_seconds() - cpu);
        println!(
            "get {name} in blocks of 1 MiB: {:.2} CPU-s/GiB, {:.0} MiB/s",
            cpu / gib,
            gib * 1024.0 / wall
        );
    }
    for i in 0..16 {
        bucket.delete(&format!("cost/{i}")).await.expect("a deletion");
    }
}
