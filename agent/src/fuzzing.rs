//! Entry points for fuzzing what clients send. Each takes any bytes and must return: no panic, no more memory than
//! the server's bounds allow.

use bytes::Bytes;
use futures::FutureExt;
use kafka_protocol::messages::ApiKey;

use crate::api;
use crate::server::{Examined, Limits, examine};
use crate::wire::{FrameMemory, FrameReader, Patience, RequestHeader, bounds};

/// Reads `bytes` as what a client sends on a connection, up to the first frame that is refused. Gives the number of
/// requests that would have reached a handler.
pub fn fuzz_frame(bytes: &[u8]) -> usize {
    let limits = Limits { request_bytes: 1 << 20, frame_bytes: 1 << 20, ..Limits::default() };
    let memory = FrameMemory::new(limits.request_bytes, limits.frame_bytes, 0);
    let patience = Patience { idle: limits.idle, frame: limits.frame };
    let mut reader = FrameReader::new(bytes, memory, patience);
    let mut served = 0;
    // A slice is always ready to be read: nothing waits here.
    while let Some(Ok(Some(frame))) = reader.next(|| None).now_or_never() {
        let Ok(header) = RequestHeader::read(&frame.bytes) else { break };
        let body = frame.bytes.slice(header.length..);
        match examine(&header, &body, limits.decoded) {
            Ok(Examined::Fit { .. }) if decodes(header.api_key, header.api_version, body) => served += 1,
            Ok(Examined::Answered(_)) => served += 1,
            Ok(Examined::Fit { .. }) | Err(_) => break,
        }
    }
    served
}

/// Reads `body` as the body of a request. True if it would have reached a handler.
pub fn fuzz_request(api_key: i16, version: i16, body: &[u8]) -> bool {
    let limit = Limits::default().decoded;
    bounds::check(api_key, version, body, limit).is_ok_and(|walked| {
        assert!(walked.left_over <= body.len() && walked.decoded_bytes <= limit.for_body(body.len()));
        decodes(api_key, version, Bytes::copy_from_slice(body))
    })
}

fn decodes(api_key: i16, version: i16, body: Bytes) -> bool {
    let key = ApiKey::try_from(api_key).ok();
    key.and_then(|key| api::decode_only(key, version, body)).is_some_and(|decoded| decoded.is_ok())
}

#[cfg(test)]
mod tests {
    use penstock_types::{Randomness, SeededRandomness};

    use super::*;

    const VERSION_3: &[u8] = b"\0\0\0\x18\0\x12\0\x03\0\0\0\x07\0\x02me\0\x06probe\x041.0\0";

    #[test]
    fn requests_are_counted_up_to_the_first_that_is_refused() {
        assert_eq!(fuzz_frame(VERSION_3), 1);
        assert_eq!(fuzz_frame(&VERSION_3.repeat(3)), 3);
        assert_eq!(fuzz_frame(&[VERSION_3, b"\xFF\xFF\xFF\xFF", VERSION_3].concat()), 1);
        assert_eq!(fuzz_frame(&VERSION_3[..20]), 0);
        assert!(fuzz_request(18, 3, &VERSION_3[17..]));
        assert!(!fuzz_request(18, 3, &VERSION_3[18..]));
        assert!(!fuzz_request(4, 0, &[]));
    }

    #[test]
    fn damaged_connections_are_survived() {
        for seed in 0..2000 {
            let random = SeededRandomness::new(seed);
            let mut bytes = VERSION_3.repeat(1 + random.below(4) as usize);
            for _ in 0..=random.below(6) {
                let at = random.below(bytes.len() as u64) as usize;
                bytes[at] = random.next_u64() as u8;
            }
            fuzz_frame(&bytes);
            let (api_key, version) = (random.below(95) as i16, random.below(20) as i16 - 1);
            fuzz_request(api_key, version, &bytes[random.below(20) as usize..]);
        }
    }
}
