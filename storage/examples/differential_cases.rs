use bytes::Bytes;
use penstock_storage::batch::*;
use penstock_types::*;

fn main() {
    let seed: u64 = std::env::args().nth(1).map_or(1, |s| s.parse().unwrap());
    let cases: usize = std::env::args().nth(2).map_or(500, |s| s.parse().unwrap());
    let random = SeededRandomness::new(seed);
    let now = SystemClock.now_ms();
    let base = ValidationRules { max_message_bytes: 1048588, timestamp_type: TimestampType::CreateTime, now_ms: now,
        before_max_ms: i64::MAX, after_max_ms: 3600000, compacted: false, compression: TopicCompression::Producer, allow_zstd: true };
    let codec = |codec| TopicCompression::Codec { codec, level: None };
    let topics: Vec<(&str, ValidationRules)> = vec![
        ("plain", base.clone()),
        ("compact", ValidationRules { compacted: true, ..base.clone() }),
        ("late", ValidationRules { timestamp_type: TimestampType::LogAppendTime, ..base.clone() }),
        ("narrow", ValidationRules { before_max_ms: 1000000, after_max_ms: 1000000, ..base.clone() }),
        ("small", ValidationRules { max_message_bytes: 300, ..base.clone() }),
        ("none", ValidationRules { compression: codec(Codec::None), ..base.clone() }),
        ("gzip", ValidationRules { compression: codec(Codec::Gzip), ..base.clone() }),
        ("snappy", ValidationRules { compression: codec(Codec::Snappy), ..base.clone() }),
        ("lz4", ValidationRules { compression: codec(Codec::Lz4), ..base.clone() }),
        ("zstd", ValidationRules { compression: codec(Codec::Zstd), ..base.clone() }),
        ("zstdlate", ValidationRules { compression: codec(Codec::Zstd), timestamp_type: TimestampType::LogAppendTime, ..base.clone() }),
    ];
    let r = |n: u64| random.below(n);
    let mut out = String::new();
    for case in 0..cases {
        let (name, rules) = &topics[r(topics.len() as u64) as usize];
        let mut rules = rules.clone();
        let source = Codec::ALL[r(5) as usize];
        let count = 1 + r(6);
        // records
        let mut raw = Vec::new();
        let mut max = i64::MIN;
        let basets = now - 5000 + r(1000) as i64;
        let odd = r(4) == 0;
        for i in 0..count {
            let mut body = vec![if odd && r(6) == 0 { r(256) as u8 } else { 0 }];
            let mut d = if i == 0 { 0 } else { r(100) as i64 - 50 };
            if odd && r(8) == 0 { d = [10_000_000i64, -10_000_000, -now - 10, -basets - 1, i64::MAX, i64::MIN][r(6) as usize]; }
            max = max.max(basets.wrapping_add(d));
            vl(&mut body, d);
            vl(&mut body, if odd && r(8) == 0 { r(5) as i64 - 1 } else { i as i64 });
            field(&mut body, &r, odd); field(&mut body, &r, odd);
            let h = if r(3) == 0 { r(3) as i64 } else { 0 };
            vl(&mut body, if odd && r(10) == 0 { r(8) as i64 - 3 } else { h });
            for _ in 0..h { vl(&mut body, 1); body.push(b'h'); field(&mut body, &r, odd); }
            let mut len = body.len() as i64;
            if odd && r(8) == 0 { len += r(5) as i64 - 2; }
            if odd && r(30) == 0 { len = -1; }
            if odd && r(30) == 0 { raw.extend_from_slice(&[0xff; 5]); }
            vl(&mut raw, len);
            raw.extend_from_slice(&body);
        }
        if odd && r(6) == 0 { let n = r(raw.len() as u64) as usize; raw.truncate(n); }
        if odd && r(6) == 0 { raw.push(r(256) as u8); }
        if odd && r(4) == 0 && !raw.is_empty() { let n = r(raw.len() as u64) as usize; raw[n] ^= 1 << r(8); }
        let mut packed = pack(source, &raw);
        if r(25) == 0 { let n = r(packed.len() as u64 + 1) as usize; packed.truncate(n); }
        if r(25) == 0 { packed.extend((0..1 + r(9)).map(|_| r(256) as u8)); }
        if r(25) == 0 && !packed.is_empty() { let n = r(packed.len() as u64) as usize; packed[n] ^= 1 << r(8); }
        let mut header = BatchHeader { base_offset: 0, batch_length: 0, partition_leader_epoch: -1, crc: 0,
            attributes: Attributes::new(source, TimestampType::CreateTime, false), last_offset_delta: count as i32 - 1,
            base_timestamp: basets, max_timestamp: max, producer_id: ProducerId::new(-1), producer_epoch: ProducerEpoch::new(-1),
            base_sequence: Sequence::new(-1), record_count: count as i32 };
        if r(5) == 0 { header.producer_id = ProducerId::new(1 + seed as i64 * 1000000 + case as i64); header.producer_epoch = ProducerEpoch::new(0); header.base_sequence = Sequence::new(0); }
        if r(6) == 0 {
            match r(11) {
                0 => header.base_offset = 1 + r(3) as i64,
                1 => header.last_offset_delta += r(3) as i32 - 1,
                2 => header.record_count += r(3) as i32 - 1,
                3 => { header.record_count += 1; header.last_offset_delta += 1; }
                4 => { header.record_count -= 1; header.last_offset_delta -= 1; }
                5 => header.attributes = Attributes::from_bits((header.attributes.bits() ^ (1 << r(16))) & !0x10),
                6 => header.max_timestamp = [0, -1, now + 100, now * 2][r(4) as usize],
                7 => header.base_timestamp = [0, -1, -5, i64::MAX, i64::MIN][r(5) as usize],
                8 => { header.producer_id = ProducerId::new(1 + seed as i64 * 1000000 + case as i64); header.base_sequence = Sequence::new(-1 - r(2) as i32); }
                9 => header.attributes = header.attributes.with_timestamp_type(TimestampType::LogAppendTime),
                _ => { header.attributes = header.attributes.with_timestamp_type(TimestampType::LogAppendTime); header.max_timestamp = -1; }
            }
        }
        let mut bytes = seal_raw(header, &packed).bytes.to_vec();
        if r(20) == 0 {
            match r(7) {
                0 => { let n = r(bytes.len() as u64) as usize; bytes.truncate(n); }
                1 => bytes.extend((0..r(30)).map(|_| 0)),
                2 => { let copy = bytes.clone(); bytes.extend(copy); }
                3 => { let n = r(bytes.len() as u64) as usize; bytes[n] ^= 1 << r(8); }
                4 => bytes[16] = r(4) as u8,
                5 => { let n = 12 + r(50) as i32; bytes[8..12].copy_from_slice(&n.to_be_bytes()); }
                _ => { let mut copy = bytes.clone(); copy.truncate(r(70) as usize); bytes.extend(copy); }
            }
        }
        let version = if r(20) == 0 { 6 } else { 8 };
        rules.allow_zstd = version >= 7;
        let answer = validate(&Bytes::from(bytes.clone()), &rules);
        let (code, message, errors, stored) = match &answer {
            Ok(b) => (0, None, vec![], hex(&b.bytes)),
            Err(e) => (match e.refusal() { Refusal::CorruptMessage => 2, Refusal::MessageTooLarge => 10, Refusal::InvalidTimestamp => 32,
                Refusal::UnsupportedCompressionType => 76, Refusal::InvalidRecord => 87, Refusal::UnknownServerError => -1 },
                e.message(&format!("{name}-0")), e.record_errors(&format!("{name}-0")), String::new()),
        };
        out += &format!("{name}|{version}|{}|{code}|{}|{}|{stored}|{}\n", hex(&bytes), message.unwrap_or("~".into()),
            errors.iter().map(|(i, m)| format!("{i}:{m}")).collect::<Vec<_>>().join("^"), match answer { Ok(_) => String::new(), Err(e) => e.to_string() });
    }
    print!("{out}");
}
fn field(b: &mut Vec<u8>, r: &impl Fn(u64) -> u64, odd: bool) {
    match r(5) { 0 => vl(b, if odd && r(3) == 0 { -2 } else { -1 }), n => { let n = if n == 4 { r(200) } else { n }; vl(b, n as i64 + if odd && r(15) == 0 { r(40) as i64 } else { 0 }); for i in 0..n { b.push(i as u8); } } }
}
fn vl(bytes: &mut Vec<u8>, value: i64) {
    let mut raw = ((value << 1) ^ (value >> 63)) as u64;
    while raw >= 0x80 { bytes.push(raw as u8 | 0x80); raw >>= 7; }
    bytes.push(raw as u8);
}
fn hex(b: &[u8]) -> String { b.iter().map(|b| format!("{b:02x}")).collect() }
fn pack(codec: Codec, raw: &[u8]) -> Vec<u8> {
    // through the rebuild of nothing: use the crates directly
    use std::io::Write;
    match codec {
        Codec::None => raw.to_vec(),
        Codec::Gzip => { let mut e = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default()); e.write_all(raw).unwrap(); e.finish().unwrap() }
        Codec::Snappy => { let b = snap::raw::Encoder::new().compress_vec(raw).unwrap();
            if raw.len() % 2 == 0 { return b; }
            let mut v = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01".to_vec(); v.extend((b.len() as u32).to_be_bytes()); v.extend(b); v }
        Codec::Lz4 => { let mut e = lz4_flex::frame::FrameEncoder::with_frame_info(lz4_flex::frame::FrameInfo::new().block_size(lz4_flex::frame::BlockSize::Max64KB).block_mode(lz4_flex::frame::BlockMode::Independent), Vec::new()); e.write_all(raw).unwrap(); e.finish().unwrap() }
        Codec::Zstd => zstd::encode_all(raw, 3).unwrap(),
    }
}
