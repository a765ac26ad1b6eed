//! Golden bytes: what clients have to be able to read, down to the order of the tagged fields.

use bytes::Bytes;

use super::*;
use crate::api::Mode;

fn rows(keys: &[(ApiKey, i16, i16)]) -> Vec<ApiRow> {
    let row = |&(key, low, high): &(ApiKey, i16, i16)| ApiRow {
        key,
        name: "some API",
        versions: low..=high,
        reported_min: if key == ApiKey::Produce { 0 } else { low },
        mode: Mode::InOrder,
    };
    keys.iter().map(row).collect()
}

fn bytes(rows: &[ApiRow], version: i16, name: &'static str) -> Bytes {
    let request = ApiVersionsRequest::default()
        .with_client_software_name(StrBytes::from_static_str(name))
        .with_client_software_version(StrBytes::from_static_str("1.0"));
    let frame = Frame::encode_as(7, version, &answer(rows, &request, version)).expect("it can be encoded");
    frame.to_bytes()
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte =
        |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("ASCII"), 16).expect("hexadecimal");
    digits.chunks(2).map(byte).collect()
}

fn framed(hexadecimal: &str) -> Vec<u8> {
    let content = hex(hexadecimal);
    [&(content.len() as i32).to_be_bytes()[..], &content].concat()
}

const ALL: &[(ApiKey, i16, i16)] = &[
    (ApiKey::Produce, 3, 13),
    (ApiKey::ApiVersions, 0, 4),
    (ApiKey::EndTxn, 0, 5),
    (ApiKey::ConsumerGroupHeartbeat, 0, 1),
];

#[test]
fn versions_without_tags() {
    let rows = rows(&ALL[..2]);
    // correlation id | error | 2 APIs | Produce from 0 | ApiVersions
    let expected = "00000007 0000 00000002 0000 0000 000d 0012 0000 0004";
    assert_eq!(bytes(&rows, 0, ""), framed(expected));
    // and the throttle time
    assert_eq!(bytes(&rows, 1, ""), framed(&format!("{expected} 00000000")));
    assert_eq!(bytes(&rows, 2, ""), framed(&format!("{expected} 00000000")));
}

#[test]
fn version_3_leaves_out_features_from_level_0() {
    // no tagged fields in the header | 4 APIs + 1 | throttle time | 3 tagged fields, in order:
    // 0: metadata.version from 7 to 27 | 1: epoch 0 | 2: the three finalized features
    let expected = "00000007 0000 05 0000 0000 000d 00 0012 0000 0004 00 001a 0000 0005 00 0044 0000 0001 00
        00000000 03
        00 17 02 11 6d657461646174612e76657273696f6e 0007 001b 00
        01 08 0000000000000000
        02 43 04 0e 67726f75702e76657273696f6e 0001 0001 00
                 11 6d657461646174612e76657273696f6e 001b 001b 00
                 14 7472616e73616374696f6e2e76657273696f6e 0002 0002 00";
    assert_eq!(bytes(&rows(ALL), 3, "a-client"), framed(expected));
}

#[test]
fn version_4_has_them() {
    let expected = "00000007 0000 05 0000 0000 000d 00 0012 0000 0004 00 001a 0000 0005 00 0044 0000 0001 00
        00000000 03
        00 43 04 0e 67726f75702e76657273696f6e 0000 0001 00
                 11 6d657461646174612e76657273696f6e 0007 001b 00
                 14 7472616e73616374696f6e2e76657273696f6e 0000 0002 00
        01 08 0000000000000000
        02 43 04 0e 67726f75702e76657273696f6e 0001 0001 00
                 11 6d657461646174612e76657273696f6e 001b 001b 00
                 14 7472616e73616374696f6e2e76657273696f6e 0002 0002 00";
    assert_eq!(bytes(&rows(ALL), 4, "a-client"), framed(expected));
}

#[test]
fn features_without_their_api_are_not_reported() {
    let answer = answer(&rows(&ALL[..2]), &ApiVersionsRequest::default(), 0);
    assert_eq!((answer.supported_features.len(), answer.finalized_features_epoch), (0, -1));
    let request = ApiVersionsRequest::default()
        .with_client_software_name(StrBytes::from_static_str("x"))
        .with_client_software_version(StrBytes::from_static_str("1"));
    let answer = super::answer(&rows(&ALL[..2]), &request, 4);
    let names: Vec<_> = answer.supported_features.iter().map(|feature| feature.name.as_str()).collect();
    assert_eq!(names, ["metadata.version"]);
    assert_eq!(answer.finalized_features.len(), 1);
}

/// Byte for byte what Kafka 4.1.1 answers.
#[test]
fn an_unsupported_version_gets_version_0_and_the_versions_of_api_versions() {
    let frame = unsupported_version(7).expect("it can be encoded");
    assert_eq!(frame.to_bytes(), framed("00000007 0023 00000001 0012 0000 0004"));
}

/// Byte for byte what Kafka 4.1.1 answers.
#[test]
fn software_names_follow_the_rule() {
    let refused = framed("00000007 002a 01 00000000 00");
    for name in ["", " ", "a b", "-a", "a-", ".", "a/b", "ä", "a\n"] {
        assert_eq!(bytes(&rows(ALL), 3, name), refused, "{name:?}");
    }
    for name in ["a", "7", "librdkafka", "apache-kafka-java", "a.b-c", "a--b"] {
        assert_ne!(bytes(&rows(ALL), 3, name), refused, "{name:?}");
    }
    // Versions below 3 have no names.
    assert_ne!(bytes(&rows(ALL), 2, ""), refused);
}

/// librdkafka 2.0 to 2.2 (Debian 12's kcat) skips a byte too few of each tagged field that is longer than one byte,
/// and so reads on at the wrong place. It must find nothing there that leads it beyond the end.
#[test]
fn a_client_that_miscounts_tagged_fields_gets_through() {
    fn skips_tags(bytes: &mut &[u8]) -> Option<()> {
        fn varint(bytes: &mut &[u8]) -> Option<usize> {
            let mut value = 0;
            for shift in (0..35).step_by(7) {
                let byte = *bytes.split_off_first()?;
                value |= usize::from(byte & 0x7F) << shift;
                if byte < 0x80 {
                    return Some(value);
                }
            }
            None
        }
        for _ in 0..varint(bytes)? {
            let (_tag, length) = (varint(bytes)?, varint(bytes)?);
            bytes.split_off(..length.saturating_sub(1))?;
        }
        Some(())
    }
    for rows in [rows(&ALL[..2]), rows(ALL), super::ROWS.to_vec()] {
        let answer = bytes(&rows, 3, "librdkafka");
        // length, correlation id, error | APIs, each of 7 bytes | throttle time
        let (count, count_length) = match answer[10..12] {
            [low @ 0x80..=0xFF, high] => (usize::from(low & 0x7F) | usize::from(high) << 7, 2),
            [count, _] => (usize::from(count), 1),
            _ => unreachable!("two bytes"),
        };
        assert_eq!(count, rows.len() + 1);
        let mut tags = &answer[10 + count_length + 7 * rows.len() + 4..];
        assert_eq!(skips_tags(&mut tags), Some(()), "{} bytes are left", tags.len());
    }
}
