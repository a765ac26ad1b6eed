//! gzip (RFC 1952): one member or several. What follows the last member and is none is ignored, as Java's
//! `GZIPInputStream` does.

use flate2::bufread::GzDecoder;

use super::{CodecError, refill_from};

const MEMBER_MAGIC: [u8; 3] = [0x1F, 0x8B, 8];

pub(in crate::batch) struct Decoder<'a> {
    member: Option<GzDecoder<&'a [u8]>>,
}

impl<'a> Decoder<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { member: Some(GzDecoder::new(bytes)) }
    }

    pub(super) fn refill(&mut self, window: &mut Vec<u8>) -> Result<(), CodecError> {
        window.clear();
        while let Some(member) = &mut self.member {
            refill_from(member, window)?;
            if !window.is_empty() {
                break;
            }
            let rest: &'a [u8] = member.get_ref();
            self.member = rest.starts_with(&MEMBER_MAGIC).then(|| GzDecoder::new(rest));
        }
        Ok(())
    }
}
