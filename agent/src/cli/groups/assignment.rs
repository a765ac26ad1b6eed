//! What a member of a classic consumer group is assigned, in the embedded consumer protocol (KIP-429's
//! ConsumerProtocolAssignment, whose first fields never changed). The bytes are another client's: not trusted.

/// `topic-partition` for each assigned partition, sorted; `None` if the bytes are not an assignment.
pub(super) fn partitions(bytes: &[u8]) -> Option<Vec<String>> {
    let mut rest = bytes;
    let _version = number::<2>(&mut rest)?;
    let topics = number::<4>(&mut rest)?;
    let mut partitions = Vec::new();
    for _ in 0..topics {
        let length = usize::try_from(number::<2>(&mut rest)?).ok()?;
        let (name, behind) = rest.split_at_checked(length)?;
        rest = behind;
        let name = std::str::from_utf8(name).ok()?;
        for _ in 0..number::<4>(&mut rest)? {
            partitions.push(format!("{name}-{}", number::<4>(&mut rest)?));
        }
    }
    partitions.sort();
    Some(partitions)
}

/// A big-endian signed number of `N` bytes.
fn number<const N: usize>(rest: &mut &[u8]) -> Option<i64> {
    let (bytes, behind) = rest.split_at_checked(N)?;
    *rest = behind;
    let unsigned = bytes.iter().fold(0i64, |value, byte| (value << 8) | i64::from(*byte));
    let sign_bit = 1i64 << (8 * N - 1);
    Some((unsigned ^ sign_bit) - sign_bit)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASSIGNMENT: &[u8] =
        &[0, 1, 0, 0, 0, 1, 0, 2, b'a', b'b', 0, 0, 0, 2, 0, 0, 0, 7, 0, 0, 0, 1, 0xFF, 0xFF, 0xFF, 0xFF];

    #[test]
    fn partitions_are_read() {
        assert_eq!(partitions(ASSIGNMENT), Some(vec!["ab-1".to_owned(), "ab-7".to_owned()]));
    }

    #[test]
    fn what_is_cut_off_or_nonsense_is_no_assignment() {
        for end in 0..22 {
            assert_eq!(partitions(&ASSIGNMENT[..end]), None, "{end}");
        }
        assert_eq!(partitions(&[0, 0, 0x7F, 0xFF, 0xFF, 0xFF, 0, 0]), None);
        assert_eq!(partitions(&[0, 0, 0xFF, 0xFF, 0xFF, 0xFF]), Some(Vec::new()));
    }
}
