use std::io::Write;

use proptest::prelude::*;

use super::lz4::xxh32;
use super::*;

fn pack(codec: Codec, bytes: &[u8]) -> Vec<u8> {
    let mut compressor =
        Compressor::new(codec, None, Output::new(&[], usize::MAX)).expect("a codec at its default level");
    compressor.write_all(bytes).expect("memory takes everything");
    compressor.finish().expect("memory takes everything").into_bytes().expect("no limit")
}

fn unpack(codec: Codec, packed: &[u8]) -> Result<Vec<u8>, CodecError> {
    let mut decompressor = Decompressor::new(codec, packed)?;
    let (mut window, mut bytes) = (Vec::new(), Vec::new());
    loop {
        decompressor.refill(&mut window)?;
        if window.is_empty() {
            return Ok(bytes);
        }
        assert!(window.len() <= 4 * 1024 * 1024, "a window of {} bytes", window.len());
        bytes.extend_from_slice(&window);
    }
}

/// Half noise, half repetition, so that codecs both store and pack.
fn sample(bytes: usize) -> Vec<u8> {
    let mut state = 1u32;
    (0..bytes)
        .map(|at| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            if at / 1000 % 2 == 0 { (state >> 24) as u8 } else { (at % 7) as u8 }
        })
        .collect()
}

#[test]
fn every_codec_gives_back_what_it_got() {
    for codec in Codec::ALL {
        for length in [1, 100, 32 * 1024, 64 * 1024, 64 * 1024 + 1, 300_000] {
            let bytes = sample(length);
            assert_eq!(unpack(codec, &pack(codec, &bytes)).as_ref(), Ok(&bytes), "{codec:?} {length}");
        }
    }
}

#[test]
fn what_ends_early_is_refused() {
    let bytes = sample(100_000);
    for codec in [Codec::Gzip, Codec::Lz4, Codec::Zstd] {
        let packed = pack(codec, &bytes);
        for cut in [1, 2, 3, 4, 5, 8, 100, packed.len() - 3] {
            assert!(unpack(codec, &packed[..packed.len() - cut]).is_err(), "{codec:?} less {cut}");
        }
    }
    // Between two blocks a snappy stream may end: the records behind it are missed by their count.
    let packed = pack(Codec::Snappy, &bytes);
    assert!(unpack(Codec::Snappy, &packed[..packed.len() - 1]).is_err());
    assert!(unpack(Codec::Snappy, &[]).is_err());
}

#[test]
fn snappy_is_read_raw_and_concatenated() {
    let bytes = sample(200_000);
    let raw = snap::raw::Encoder::new().compress_vec(&bytes).expect("snappy packs anything");
    assert_eq!(unpack(Codec::Snappy, &raw).as_ref(), Ok(&bytes));
    let twice = [pack(Codec::Snappy, &bytes), pack(Codec::Snappy, &bytes)].concat();
    assert_eq!(unpack(Codec::Snappy, &twice), Ok([bytes.clone(), bytes].concat()));
}

#[test]
fn a_lying_snappy_length_reserves_nothing() {
    // Four gigabytes, says the varint in front.
    let lie = [0xFF, 0xFF, 0xFF, 0xFF, 0x0F, 0, 0];
    assert!(unpack(Codec::Snappy, &lie).is_err());
}

#[test]
fn gzip_members_follow_one_another_and_garbage_behind_is_ignored() {
    let member = pack(Codec::Gzip, b"one");
    assert_eq!(unpack(Codec::Gzip, &member.repeat(2)), Ok(b"oneone".to_vec()));
    let with_garbage = [&member[..], b"garbage"].concat();
    assert_eq!(unpack(Codec::Gzip, &with_garbage), Ok(b"one".to_vec()));
}

#[test]
fn an_lz4_frame_is_checked_as_kafka_does() {
    let frame = pack(Codec::Lz4, b"some bytes, some bytes, some bytes");
    assert_eq!(&frame[4..7], &[0x60, 0x40, 0x82], "the header that Kafka's clients write");
    let behind = [&frame[..], b"garbage"].concat();
    assert_eq!(
        unpack(Codec::Lz4, &behind),
        unpack(Codec::Lz4, &frame),
        "bytes behind the frame are not read"
    );
    let mut broken = frame.clone();
    broken[6] ^= 1;
    assert!(unpack(Codec::Lz4, &broken).is_err(), "the header's checksum counts");
    let mut linked = frame;
    linked[4] = 0x40;
    linked[6] = (xxh32(&linked[4..6]) >> 8) as u8;
    assert!(unpack(Codec::Lz4, &linked).is_err(), "linked blocks are refused");
}

#[test]
fn lz4_block_checksums_count() {
    use lz4_flex::frame::{BlockMode, FrameEncoder, FrameInfo};
    let info = FrameInfo::new()
        .block_mode(BlockMode::Independent)
        .block_checksums(true)
        .content_checksum(true)
        .content_size(Some(100_000));
    let bytes = sample(100_000);
    let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
    encoder.write_all(&bytes).expect("memory takes everything");
    let frame = encoder.finish().expect("memory takes everything");
    assert_eq!(unpack(Codec::Lz4, &frame).as_ref(), Ok(&bytes));
    let mut broken = frame;
    let at = broken.len() - 20;
    broken[at] ^= 1;
    assert!(unpack(Codec::Lz4, &broken).is_err());
}

#[test]
fn xxh32_is_the_published_one() {
    assert_eq!(xxh32(b""), 0x02CC_5D05);
    assert_eq!(xxh32(b"a"), 0x550D_7456);
    assert_eq!(xxh32(b"abc"), 0x32D1_53FF);
    assert_eq!(xxh32(b"Nobody inspects the spammish repetition"), 0xE229_3B2F);
}

#[test]
fn what_lies_beyond_the_limit_is_only_counted() {
    let mut output = Output::new(b"head", 10);
    output.write_all(b"123456").expect("memory takes everything");
    assert_eq!(output.into_bytes(), Ok(b"head123456".to_vec()));
    let mut output = Output::new(b"head", 10);
    output.write_all(b"1234567").expect("memory takes everything");
    output.write_all(b"89").expect("memory takes everything");
    assert_eq!(output.into_bytes(), Err(13));
}

proptest! {
    #[test]
    fn garbage_never_panics(bytes: Vec<u8>, length in 0usize..3000, flips in prop::collection::vec(any::<(u16, u8)>(), 0..4)) {
        for codec in Codec::ALL {
            let _ = unpack(codec, &bytes);
            let mut packed = pack(codec, &sample(length));
            for (at, flip) in &flips {
                let at = usize::from(*at) % packed.len().max(1);
                if let Some(byte) = packed.get_mut(at) {
                    *byte ^= flip;
                }
            }
            let _ = unpack(codec, &packed);
        }
    }
}
