//! The request header.
//!
//! ```text
//! v1: api key (2) | api version (2) | correlation id (4) | client id (2 + n, -1: none)
//! v2: the same, then tagged fields
//! ```
//!
//! The first eight bytes never change, so that any broker can read them off a request of any version. Version 0
//! belonged to ControlledShutdown alone, which Kafka 4 doesn't have.

use super::cursor::{Cursor, LengthEncoding, Malformed};
use super::schema;

/// A request's header, borrowed from its frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestHeader<'a> {
    /// The API's key.
    pub api_key: i16,
    /// The version of the request.
    pub api_version: i16,
    /// The client's number for it.
    pub correlation_id: i32,
    /// `client.id`; any bytes.
    pub client_id: Option<&'a [u8]>,
    /// Where the body begins in the frame.
    pub length: usize,
}

/// Why a frame has no header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// No API of Kafka 4.1 has this key, so that the header's version isn't known.
    #[error("unknown API key {key}, version {version}")]
    UnknownApi {
        /// The key.
        key: i16,
        /// The version.
        version: i16,
    },
    /// The bytes aren't a header.
    #[error("a malformed request header: {0}")]
    Malformed(#[from] Malformed),
}

impl<'a> RequestHeader<'a> {
    /// Reads the header of a frame (without its length field).
    pub fn read(frame: &'a [u8]) -> Result<Self, HeaderError> {
        let mut cursor = Cursor::new(frame);
        let api_key = cursor.i16()?;
        let api_version = cursor.i16()?;
        let correlation_id = cursor.i32()?;
        let request =
            schema::request(api_key).ok_or(HeaderError::UnknownApi { key: api_key, version: api_version })?;
        let client_id = match cursor.length(LengthEncoding::Short)? {
            Some(length) => Some(cursor.take(length)?),
            None => None,
        };
        if request.flexible.contains(api_version) {
            for _ in 0..cursor.varint()? {
                cursor.tagged()?;
            }
        }
        Ok(Self { api_key, api_version, correlation_id, client_id, length: frame.len() - cursor.remaining() })
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use kafka_protocol::messages::RequestHeader as Written;
    use kafka_protocol::protocol::{Encodable, StrBytes};

    use super::*;

    fn written(
        header_version: i16,
        api_key: i16,
        api_version: i16,
        client_id: Option<&'static str>,
    ) -> BytesMut {
        let mut bytes = BytesMut::new();
        Written::default()
            .with_request_api_key(api_key)
            .with_request_api_version(api_version)
            .with_correlation_id(-7)
            .with_client_id(client_id.map(StrBytes::from_static_str))
            .encode(&mut bytes, header_version)
            .expect("a header");
        bytes
    }

    #[test]
    fn headers_are_read_by_the_flexibility_of_their_request() {
        for (header_version, api_key, api_version) in
            [(1, 3, 8), (2, 3, 9), (2, 18, 3), (2, 18, 99), (1, 17, 1)]
        {
            for client_id in [None, Some(""), Some("a client")] {
                let mut bytes = written(header_version, api_key, api_version, client_id);
                let length = bytes.len();
                bytes.extend_from_slice(b"body");
                let header = RequestHeader::read(&bytes).expect("a header");
                let client_id = client_id.map(str::as_bytes);
                assert_eq!(
                    header,
                    RequestHeader { api_key, api_version, correlation_id: -7, client_id, length }
                );
                for cut in 0..length {
                    assert!(RequestHeader::read(&bytes[..cut]).is_err(), "{cut} of {length} bytes");
                }
            }
        }
    }

    #[test]
    fn tagged_fields_are_skipped_within_bounds() {
        let mut bytes = written(2, 3, 9, None);
        let last = bytes.len() - 1;
        bytes[last] = 2;
        bytes.extend_from_slice(&[7, 2, 1, 2, 7, 0]);
        assert_eq!(RequestHeader::read(&bytes).map(|header| header.length), Ok(bytes.len()));
        bytes[last + 2] = 200;
        assert!(matches!(RequestHeader::read(&bytes), Err(HeaderError::Malformed(_))));
    }

    #[test]
    fn an_unknown_api_has_no_header() {
        let bytes = written(1, 4, 0, None);
        assert_eq!(RequestHeader::read(&bytes), Err(HeaderError::UnknownApi { key: 4, version: 0 }));
    }
}
