//! Few requests for many stretches of objects. Pure.

use std::ops::Range;

use bytes::Bytes;
use penstock_types::ObjectId;

/// What one request reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reach {
    /// Stretches with no more than this between them are read by one request.
    pub(crate) gap: u64,
    /// Its bytes, at most, unless a single stretch has more.
    pub(crate) longest: u64,
}

/// A part of what was read, if it is there whole.
pub(crate) fn slice(bytes: &Bytes, position: u64, length: u64) -> Option<Bytes> {
    let start = usize::try_from(position).ok()?;
    let end = start.checked_add(usize::try_from(length).ok()?)?;
    (end <= bytes.len()).then(|| bytes.slice(start..end))
}

/// A request, and what of `wanted` it answers.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) object: ObjectId,
    pub(crate) range: Range<u64>,
    pub(crate) wanted: Vec<usize>,
}

/// As few requests as reach everything, of stretches in the order of (object, position). Pure.
pub(crate) fn requests(wanted: &[(ObjectId, u64, u64)], order: &[usize], reach: Reach) -> Vec<Request> {
    let mut requests: Vec<Request> = Vec::new();
    for index in order {
        let (object, position, length) = wanted[*index];
        let end = position.saturating_add(length);
        match requests.last_mut() {
            Some(last)
                if last.object == object
                    && position <= last.range.end.saturating_add(reach.gap)
                    && end.saturating_sub(last.range.start) <= reach.longest =>
            {
                last.range.end = last.range.end.max(end);
                last.wanted.push(*index);
            }
            _ => requests.push(Request { object, range: position..end, wanted: vec![*index] }),
        }
    }
    requests
}

#[cfg(test)]
mod tests {
    use penstock_types::{Incarnation, StoreVersion};

    use super::*;

    const GAP: u64 = 256 * 1024;

    #[test]
    fn neighbours_are_read_together() {
        let id = |n| ObjectId::new(Incarnation::FIRST, StoreVersion::new(n), n);
        let mib = 1024 * 1024;
        let wanted = [
            (id(1), 0, mib),
            (id(1), mib, mib),
            (id(1), 2 * mib + GAP, mib),
            (id(1), 4 * mib, mib),
            (id(2), 5 * mib, 9 * mib),
            (id(2), 14 * mib, 1),
        ];
        let found = requests(&wanted, &[0, 1, 2, 3, 4, 5], Reach { gap: GAP, longest: 8 * mib });
        let ranges: Vec<_> = found.iter().map(|request| (request.object, request.range.clone())).collect();
        assert_eq!(
            ranges,
            [
                (id(1), 0..3 * mib + GAP),
                (id(1), 4 * mib..5 * mib),
                (id(2), 5 * mib..14 * mib),
                (id(2), 14 * mib..14 * mib + 1),
            ]
        );
        assert_eq!(found[0].wanted, [0, 1, 2]);
    }
}
