use penstock_config::topic::TopicConfig;
use penstock_metadata::keys::cluster::MetadataVersion;
use penstock_types::TopicId;

use super::*;
use crate::cluster::Membership;

fn topic(name: &str, partitions: u32) -> Wanted {
    Wanted::There(Arc::new(Topic {
        id: TopicId::from_bytes([1; 16]),
        name: name.into(),
        partitions,
        replication_factor: 1,
        overrides: Arc::default(),
        config: Arc::new(TopicConfig::default()),
        created: MetadataVersion::ZERO,
        created_ms: 0,
        changed: MetadataVersion::ZERO,
    }))
}

fn cursor(name: &str, partition: i32) -> From {
    From::default().with_topic_name(TopicName(text(name))).with_partition_index(partition)
}

/// Each topic with its partitions, and where the next page begins.
type Shown = (Vec<(String, Vec<i32>)>, Option<(String, i32)>);

fn shown_of(wanted: Vec<Wanted>, from: Option<From>, limit: usize) -> Shown {
    let membership = Membership::of_ids(1, &[1]);
    let response = page(wanted, from.as_ref(), limit, &Placements::of_nobody(&membership));
    let topics = response.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| partition.partition_index).collect();
        (topic.name.as_ref().expect("a name").to_string(), partitions)
    });
    let next = response.next_cursor.map(|next| (next.topic_name.to_string(), next.partition_index));
    (topics.collect(), next)
}

fn named(name: &str, partitions: &[i32]) -> (String, Vec<i32>) {
    (name.to_owned(), partitions.to_vec())
}

fn at(name: &str, partition: i32) -> Option<(String, i32)> {
    Some((name.to_owned(), partition))
}

#[test]
fn pages_end_where_kafkas_do() {
    let two = || vec![topic("a.b", 4), topic("m1", 2)];
    assert_eq!(shown_of(two(), None, 3), (vec![named("a.b", &[0, 1, 2])], at("a.b", 3)));
    assert_eq!(shown_of(two(), None, 4), (vec![named("a.b", &[0, 1, 2, 3])], at("m1", 0)));
    let all = vec![named("a.b", &[0, 1, 2, 3]), named("m1", &[0, 1])];
    assert_eq!(shown_of(two(), None, 6), (all.clone(), None));
    assert_eq!(shown_of(two(), None, 2_000), (all, None));
    let rest = vec![named("a.b", &[2, 3]), named("m1", &[0, 1])];
    assert_eq!(shown_of(two(), Some(cursor("a.b", 2)), 2_000), (rest, None));
    let past = vec![named("m1", &[])];
    assert_eq!(shown_of(vec![topic("m1", 2)], Some(cursor("m1", 7)), 2_000), (past, None));
    let missing = vec![Wanted::Missing(TopicName(text("a"))), topic("b", 1)];
    assert_eq!(shown_of(missing, None, 1), (vec![named("a", &[]), named("b", &[0])], None));
}

#[test]
fn pages_join_to_everything_whatever_their_size() {
    let wanted = || vec![topic("a", 3), topic("b", 1), topic("c", 5)];
    for limit in 1..10 {
        let mut joined: Vec<(String, i32)> = Vec::new();
        let mut from = None;
        for _ in 0..20 {
            let rest = wanted()
                .into_iter()
                .filter(|wanted| from.as_ref().is_none_or(|from: &From| wanted.name() >= from.topic_name));
            let (topics, next) = shown_of(rest.collect(), from.clone(), limit);
            let count: usize = topics.iter().map(|(_, partitions)| partitions.len()).sum();
            assert!((1..=limit).contains(&count));
            for (name, partitions) in topics {
                joined.extend(partitions.into_iter().map(|partition| (name.clone(), partition)));
            }
            match next {
                Some((name, partition)) => from = Some(cursor(&name, partition)),
                None => break,
            }
        }
        let expected = [("a", 3), ("b", 1), ("c", 5)];
        let expected =
            expected.iter().flat_map(|(name, count)| (0..*count).map(|one| ((*name).to_owned(), one)));
        assert_eq!(joined, expected.collect::<Vec<_>>(), "pages of {limit}");
    }
}
