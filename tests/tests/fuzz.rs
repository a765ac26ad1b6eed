//! Bounded fuzzing of everything that reads bytes of clients and stores: mutations of valid input, a fixed seed first,
//! then a fresh one, which is printed. `FUZZ_SECONDS` is the time for each target (6 by default); `FUZZ_SEED` repeats
//! a run.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use bytes::Bytes;
use penstock_agent::wire::schema;
use penstock_storage::batch::{BatchBuilder, Codec};
use penstock_storage::object::ObjectBuilder;
use penstock_tests::{scribe, wire};
use penstock_types::{
    Incarnation, ObjectId, OsRandomness, PartitionIndex, ProducerEpoch, ProducerId, Randomness,
    SeededRandomness, Sequence, StoreVersion, TopicId, TopicPartition,
};
use tokio::time::Instant;

/// A single input may take so long, on a machine with other things to do.
const SLOW: Duration = Duration::from_secs(20);
/// The longest input.
const INPUT_MAX: usize = 64 << 10;

fn variable<T: std::str::FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok().map(|value| value.parse().ok().unwrap_or_else(|| panic!("{name}={value}")))
}

/// Runs a target on mutations of `corpus` until its time is over.
fn run(target: &str, corpus: &[Vec<u8>], examine: impl Fn(&[u8])) {
    let time = Duration::from_secs(variable("FUZZ_SECONDS").unwrap_or(6));
    let fresh = OsRandomness::default().next_u64() % 1_000_000;
    let seeds = variable("FUZZ_SEED").map_or_else(|| vec![1, fresh], |seed| vec![seed]);
    for input in corpus {
        check(target, 0, input, &examine);
    }
    for seed in &seeds {
        let (begun, random, mut count) = (Instant::now(), SeededRandomness::new(*seed), 0);
        while begun.elapsed() < time / seeds.len() as u32 {
            let mut input = pick(corpus, &random).to_vec();
            for _ in 0..random.below(8) {
                mutate(&mut input, corpus, &random);
            }
            input.truncate(INPUT_MAX);
            check(target, *seed, &input, &examine);
            count += 1;
        }
        println!("{target}: {count} inputs with FUZZ_SEED={seed}");
        assert!(count > 0);
    }
}

fn check(target: &str, seed: u64, input: &[u8], examine: &impl Fn(&[u8])) {
    let begun = Instant::now();
    let survived = catch_unwind(AssertUnwindSafe(|| examine(input))).is_ok();
    let hex = || input.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert!(survived, "{target} panics (FUZZ_SEED={seed}) on {}", hex());
    assert!(begun.elapsed() < SLOW, "{target} takes {:?} (FUZZ_SEED={seed}) for {}", begun.elapsed(), hex());
}

fn pick<'a>(corpus: &'a [Vec<u8>], random: &dyn Randomness) -> &'a [u8] {
    &corpus[random.below(corpus.len() as u64) as usize]
}

/// A place in `input` and some bytes from there on.
fn range(input: &[u8], random: &dyn Randomness) -> std::ops::Range<usize> {
    let start = random.below(input.len() as u64 + 1) as usize;
    let length = random.below(1 << random.below(7)) as usize;
    start..(start + length).min(input.len())
}

fn mutate(input: &mut Vec<u8>, corpus: &[Vec<u8>], random: &dyn Randomness) {
    const NUMBERS: [i64; 12] =
        [0, 1, -1, -2, 127, 128, 0x7FFF, 0xFFFF, 1 << 20, i32::MAX as i64, i32::MIN as i64, i64::MIN];
    let at = range(input, random);
    match random.below(8) {
        0 if !at.is_empty() => input[at.start] ^= 1 << random.below(8),
        1 if !at.is_empty() => input[at.start] = random.next_u64() as u8,
        2 => drop(input.drain(at)),
        3 => {
            let repeated = input[at.clone()].repeat(1 + random.below(4) as usize);
            input.splice(at.end..at.end, repeated);
        }
        4 => {
            let other = pick(corpus, random);
            let part = other[range(other, random)].to_vec();
            input.splice(at, part);
        }
        5 => input.truncate(at.start),
        6 => {
            let number = NUMBERS[random.below(NUMBERS.len() as u64) as usize].to_be_bytes();
            let number = &number[8 - (1 << random.below(4))..];
            let end = (at.start + number.len()).min(input.len());
            input.splice(at.start..end, number.iter().copied());
        }
        // A number of variable length.
        _ => {
            let bytes = random.below(11) as usize;
            let number = (0..bytes).map(|_| 0x80 | random.next_u64() as u8).chain([random.below(128) as u8]);
            input.splice(at, number.collect::<Vec<_>>());
        }
    }
}

fn batch_builders() -> impl Iterator<Item = BatchBuilder> {
    Codec::ALL.into_iter().flat_map(|codec| {
        [1, 3, 200].map(|records| {
            let mut builder = BatchBuilder::new(codec);
            for number in 0..records {
                let value = format!("value {number}").repeat(number % 5);
                let headers: &[(&str, Option<&[u8]>)] =
                    if number % 3 == 1 { &[("a", None), ("b", Some(b"c"))] } else { &[] };
                let key = (number % 2 == 0).then_some(&b"key"[..]);
                builder.record_with_headers(1_700_000_000_000, key, Some(value.as_bytes()), headers);
            }
            builder.producer(ProducerId::new(7), ProducerEpoch::new(0), Sequence::new(3))
        })
    })
}

#[test]
fn record_batches() {
    let corpus: Vec<_> = batch_builders().map(|builder| builder.bytes().to_vec()).collect();
    run("fuzz_batch", &corpus, penstock_storage::fuzzing::fuzz_batch);
}

#[test]
fn footers() {
    let mut corpus = vec![];
    for sections in [0, 1, 2, 40] {
        let mut builder = ObjectBuilder::new();
        for number in 0..sections {
            let topic = TopicId::from_bytes([number as u8 % 3; 16]);
            let partition = TopicPartition { topic, partition: PartitionIndex::new(number) };
            batch_builders().take(2).for_each(|batch| builder.add(partition, &batch.build()));
        }
        let object = builder.finish(ObjectId::new(Incarnation::FIRST, StoreVersion::new(9), 5));
        let footer = object.footer().to_bytes();
        corpus.push(footer[..footer.len() - penstock_storage::object::TRAILER_BYTES].to_vec());
        corpus.push(footer.clone());
        corpus.push(object.chunks().concat());
    }
    run("fuzz_footer", &corpus, penstock_storage::fuzzing::fuzz_footer);
}

/// Key, version and body of every request, and some with a batch in it.
fn requests() -> Vec<(i16, i16, bool, Vec<u8>)> {
    let mut requests = vec![];
    for layout in schema::requests() {
        let (low, high) = layout.valid.bounds();
        for version in low..=high {
            let flexible = layout.flexible.contains(version);
            requests.push((layout.key, version, flexible, scribe::write(layout, version).body));
        }
    }
    requests
}

#[test]
fn bodies_of_requests() {
    let corpus: Vec<_> = requests()
        .into_iter()
        .map(|(key, version, _, body)| [&key.to_be_bytes()[..], &version.to_be_bytes(), &body].concat())
        .collect();
    run("fuzz_request", &corpus, |input| {
        let Some((head, body)) = input.split_first_chunk::<4>() else { return };
        let [key, version] = [[head[0], head[1]], [head[2], head[3]]].map(i16::from_be_bytes);
        penstock_agent::fuzzing::fuzz_request(key, version, body);
    });
}

#[test]
fn connections() {
    let corpus: Vec<_> = requests()
        .into_iter()
        .map(|(key, version, flexible, body)| wire::frame(key, version, 1, flexible, &body))
        .collect();
    let served = corpus.iter().filter(|frame| penstock_agent::fuzzing::fuzz_frame(frame) == 1).count();
    assert!(served > 100, "only {served} of the corpus would be served");
    run("fuzz_frame", &corpus, |input| {
        penstock_agent::fuzzing::fuzz_frame(&Bytes::copy_from_slice(input));
    });
}
