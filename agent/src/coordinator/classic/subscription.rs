//! The topics of a consumer's subscription: the only part of a member's metadata that a coordinator reads.
//!
//! ```text
//! version (2) | number of topics (4) | of each: length (2), name | … what later versions add
//! ```

/// The topics; `None` if the bytes are no subscription.
pub(super) fn topics(metadata: &[u8]) -> Option<Vec<String>> {
    let (version, mut rest) = metadata.split_first_chunk::<2>()?;
    if i16::from_be_bytes(*version) < 0 {
        return None;
    }
    let count = take(&mut rest).map(i32::from_be_bytes)?;
    let count = usize::try_from(count).ok()?;
    let mut topics = Vec::with_capacity(count.min(rest.len() / 2));
    for _ in 0..count {
        let length = take(&mut rest).map(i16::from_be_bytes)?;
        let (name, behind) = rest.split_at_checked(usize::try_from(length).ok()?)?;
        topics.push(std::str::from_utf8(name).ok()?.to_owned());
        rest = behind;
    }
    Some(topics)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn topics_of_any_version_are_read() {
        let subscription = b"\x00\x03\x00\x00\x00\x02\x00\x01a\x00\x02bc\xff\xff\xff\xff";
        assert_eq!(topics(subscription), Some(vec!["a".to_owned(), "bc".to_owned()]));
        assert_eq!(topics(b"\x00\x00\x00\x00\x00\x00"), Some(vec![]));
        assert_eq!(topics(b"\x00\x00\x7f\xff\xff\xff"), None);
        assert_eq!(topics(b""), None);
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes: Vec<u8>) {
            let _ = topics(&bytes);
        }
    }
}
