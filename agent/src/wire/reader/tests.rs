use std::task::Poll;

use futures::FutureExt;
use tokio::io::{AsyncWriteExt, DuplexStream, duplex};

use super::super::frame_memory::{STAGING_SMALL, StagingPool};
use super::*;

const PATIENCE: Patience = Patience {
    idle: Duration::from_secs(600),
    frame: FrameDeadline {
        base: Duration::from_secs(30),
        slowest_bytes_per_second: 1 << 20,
        contended: Duration::from_secs(2),
    },
};

fn memory() -> Arc<FrameMemory> {
    FrameMemory::new(1 << 20, 2 << 20, 1 << 20)
}

fn reader(memory: &Arc<FrameMemory>, buffer: usize) -> (DuplexStream, FrameReader<DuplexStream>) {
    let (client, server) = duplex(buffer);
    (client, FrameReader::new(server, Arc::clone(memory), PATIENCE))
}

/// As of a connection on which nothing is under way.
fn quiet() -> Option<Instant> {
    Some(Instant::now() - Duration::from_secs(1))
}

fn framed(content: &[u8]) -> Vec<u8> {
    [&(content.len() as i32).to_be_bytes(), content].concat()
}

fn content(length: usize, salt: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 31 + salt) as u8).collect()
}

#[tokio::test]
async fn frames_of_all_sizes_come_out_as_they_went_in() {
    let memory = memory();
    let lengths = [1, 2, 3, 100, 5_000, 16_383, 16_384, 65_531, 65_536, 70_000, 1 << 20, 7, 300_000, 12];
    for buffer in [3, 1_000, 64 << 10, 4 << 20] {
        let (mut client, mut reader) = reader(&memory, buffer);
        let frames: Vec<_> =
            lengths.iter().enumerate().map(|(salt, length)| content(*length, salt)).collect();
        let stream: Vec<u8> = frames.iter().flat_map(|frame| framed(frame)).collect();
        let total = stream.len() as u64;
        let writing = tokio::spawn(async move { client.write_all(&stream).await });
        for frame in frames {
            let received = reader.next(quiet).await.expect("readable").expect("a frame");
            assert!(received.bytes == frame, "a frame of {} bytes through {buffer}", frame.len());
        }
        writing.await.expect("no panic").expect("written");
        assert!(matches!(reader.next(quiet).await, Ok(None)));
        assert_eq!(reader.take_received(), total);
        drop(reader);
        assert_eq!(memory.in_use(), 0);
        assert_eq!(memory.staging.0.lock().lent, 0);
    }
}

#[tokio::test]
async fn lengths_out_of_range_are_refused_without_memory() {
    for length in [0, -1, i32::MIN, (1 << 20) + 1, i32::MAX] {
        let memory = memory();
        let (mut client, mut reader) = reader(&memory, 100);
        client.write_all(&length.to_be_bytes()).await.expect("written");
        let error = reader.next(quiet).await.expect_err("refused");
        assert!(matches!(error, ReadError::Length { length: found, .. } if found == length), "{error}");
        assert_eq!(memory.in_use(), 0);
    }
}

#[tokio::test]
async fn an_end_within_a_frame_is_told_from_one_between() {
    for cut in 1..20 {
        let (mut client, mut reader) = reader(&memory(), 100);
        client.write_all(&framed(&content(16, 0))[..cut]).await.expect("written");
        drop(client);
        match reader.next(quiet).await {
            Ok(Some(frame)) => assert_eq!((cut, frame.bytes.len()), (20, 16)),
            Err(ReadError::Truncated) => assert!(cut < 20),
            other => panic!("{cut}: {other:?}"),
        }
    }
}

/// Past the bound a connection isn't read: it takes no memory of its own. One frame may go on all the same.
#[tokio::test]
async fn frames_wait_for_memory() {
    let memory = memory();
    let (mut client, mut first) = reader(&memory, 8 << 20);
    client.write_all(&framed(&content(1 << 20, 0)).repeat(5)).await.expect("written");
    let (one, two, three) = (first.next(quiet).await, first.next(quiet).await, first.next(quiet).await);
    assert_eq!(memory.in_use(), 2 << 20);
    let mut fourth = Box::pin(first.next(quiet));
    assert!(futures::poll!(fourth.as_mut()).is_pending());
    assert!(memory.is_contended());
    drop(one.expect("readable"));
    let four = fourth.await;
    assert!(matches!(four, Ok(Some(_))));
    let mut fifth = Box::pin(first.next(quiet));
    assert!(futures::poll!(fifth.as_mut()).is_pending());
    drop(three.expect("readable"));
    assert!(matches!(fifth.await, Ok(Some(_))));
    assert!(!memory.is_contended());
    drop((two, four));
    assert_eq!(memory.in_use(), 0);
}

/// Who announces much claims little more than what has come, once half of the memory is used.
#[tokio::test]
async fn memory_is_claimed_as_bytes_arrive() {
    let memory = memory();
    let mut waiting = Vec::new();
    for _ in 0..20 {
        let (mut client, mut reader) = reader(&memory, 64 << 10);
        client.write_all(&framed(&content(1 << 20, 0))[..20_000]).await.expect("written");
        assert!(reader.next(quiet).now_or_never().is_none());
        waiting.push((client, reader));
    }
    // The first has its whole length, the others twice what has come at most.
    assert!(memory.in_use() <= (1 << 20) + 19 * 40_000, "{}", memory.in_use());
    assert!(!memory.is_contended());
    let (mut client, mut honest) = reader(&memory, 4 << 20);
    let frame = content(1 << 20, 5);
    client.write_all(&framed(&frame)).await.expect("written");
    assert!(honest.next(quiet).await.expect("readable").expect("a frame").bytes == frame);
    waiting.clear();
    assert_eq!(memory.in_use(), 0);
}

/// Frames that hold all memory and stall are cut off as soon as somebody waits; those that come at the rate aren't.
#[tokio::test(start_paused = true)]
async fn stalled_frames_give_way_where_memory_is_short() {
    let (memory, start) = (memory(), Instant::now());
    let mut stalled = Vec::new();
    for _ in 0..5 {
        let (mut client, mut reader) = reader(&memory, 1 << 20);
        client.write_all(&framed(&content(1 << 20, 0))[..900 << 10]).await.expect("written");
        stalled.push((client, tokio::spawn(async move { reader.next(quiet).await.map(drop) })));
    }
    let (mut client, mut steady) = reader(&memory, 64 << 10);
    let writing = tokio::spawn(async move {
        for part in framed(&content(1 << 20, 0)).chunks(256 << 10) {
            client.write_all(part).await.expect("the server reads on");
            penstock_types::pause(Duration::from_millis(240)).await;
        }
        client
    });
    assert!(matches!(steady.next(quiet).await, Ok(Some(_))));
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    let mut given_up = 0;
    for (_client, reader) in stalled {
        let error = reader.await.expect("no panic").expect_err("too slow");
        given_up += usize::from(matches!(error, ReadError::Stalled { length: 0x10_0000, .. }));
    }
    assert!(given_up >= 1, "somebody gave way");
    drop(writing.await.expect("no panic"));
    assert!(!memory.is_contended());
}

/// Who announces much and sends little holds nothing that others wait for, and has no more time than for what it sends.
#[tokio::test(start_paused = true)]
async fn announced_frames_keep_nobody_waiting() {
    let (memory, start) = (memory(), Instant::now());
    let mut slow = Vec::new();
    for _ in 0..20 {
        let (mut client, mut reader) = reader(&memory, 4 << 10);
        client.write_all(&framed(&content(1 << 20, 0))[..3 + UNCOUNTED]).await.expect("written");
        slow.push((client, tokio::spawn(async move { reader.next(quiet).await.map(drop) })));
    }
    tokio::task::yield_now().await;
    assert_eq!(memory.in_use(), 0);
    let (mut client, mut honest) = reader(&memory, 4 << 20);
    client.write_all(&framed(&content(1 << 20, 0))).await.expect("written");
    assert!(matches!(honest.next(quiet).await, Ok(Some(_))));
    for (_client, reader) in slow {
        let error = reader.await.expect("no panic").expect_err("too slow");
        assert!(matches!(error, ReadError::SlowFrame { length: 0x10_0000, .. }), "{error}");
    }
    assert_eq!(start.elapsed().as_secs(), 30);
}

#[tokio::test(start_paused = true)]
async fn a_slow_frame_and_a_silent_client_run_out_of_time() {
    let (mut client, mut reader) = reader(&memory(), 100);
    let start = Instant::now();
    client.write_all(&[0, 0, 0, 9, 1]).await.expect("written");
    let dripping = tokio::spawn(async move {
        for _ in 0..7 {
            penstock_types::pause(Duration::from_secs(9)).await;
            if client.write_all(&[1]).await.is_err() {
                return;
            }
        }
    });
    let error = reader.next(quiet).await.expect_err("too slow");
    assert!(matches!(error, ReadError::SlowFrame { length: 9, .. }), "{error}");
    assert_eq!(start.elapsed().as_secs(), 30);
    drop(reader);
    dripping.await.expect("no panic");

    let (mut client, mut reader) = self::reader(&memory(), 100);
    let start = Instant::now();
    let busy_until = start + Duration::from_secs(1000);
    let writing = async {
        penstock_types::pause(Duration::from_secs(500)).await;
        client.write_all(&framed(b"x")).await.expect("written");
        std::future::pending::<()>().await;
    };
    let reading = async {
        reader.next(|| Some(start)).await.expect("readable").expect("a frame");
        let quiet_since = || (Instant::now() >= busy_until).then_some(busy_until);
        reader.next(quiet_since).await.expect_err("silent")
    };
    let error = tokio::select! { () = writing => unreachable!("it waits"), error = reading => error };
    assert!(matches!(error, ReadError::Idle(_)), "{error}");
    assert_eq!(start.elapsed().as_secs(), 1600);
}

#[tokio::test]
async fn reading_can_be_given_up_and_taken_up_again() {
    let memory = memory();
    let (mut client, mut reader) = reader(&memory, 1 << 20);
    let frame = content(40_000, 3);
    for part in framed(&frame).chunks(777) {
        let early =
            std::future::poll_fn(|cx| Poll::Ready(pin!(reader.next(quiet)).poll(cx).is_ready())).await;
        assert!(!early);
        client.write_all(part).await.expect("written");
    }
    assert!(reader.next(quiet).await.expect("readable").expect("a frame").bytes == frame);
}

#[tokio::test]
async fn large_staging_buffers_are_bounded_in_number() {
    let pool = StagingPool::default();
    let lent: Vec<_> = (0..StagingPool::LENT_MAX + 10).map(|_| pool.take(false)).collect();
    let held: usize = lent.iter().map(|staging| staging.bytes.capacity()).sum();
    assert!(held <= StagingPool::LENT_MAX * STAGING + 10 * STAGING_SMALL);
    lent.into_iter().for_each(|staging| pool.give_back(Some(staging)));
    let shelf = pool.0.lock();
    assert_eq!((shelf.lent, shelf.unused.len()), (0, StagingPool::UNUSED_MAX));
}
