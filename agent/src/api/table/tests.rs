//! The table against Apache Kafka 4.1, the codec and the reference page.

use std::fmt::Write as _;
use std::path::Path;

use crate::api::{ApiRow, Mode, ROWS};
use crate::wire::schema;

/// What a broker of Apache Kafka 4.1.1 reports in ApiVersions: key, lowest and highest version.
const KAFKA: &[(i16, i16, i16)] = &[
    (0, 0, 13),
    (1, 4, 18),
    (2, 1, 10),
    (3, 0, 13),
    (8, 2, 9),
    (9, 1, 9),
    (10, 0, 6),
    (11, 0, 9),
    (12, 0, 4),
    (13, 0, 5),
    (14, 0, 5),
    (15, 0, 6),
    (16, 0, 5),
    (17, 0, 1),
    (18, 0, 4),
    (19, 2, 7),
    (20, 1, 6),
    (21, 0, 2),
    (22, 0, 5),
    (23, 2, 4),
    (24, 0, 5),
    (25, 0, 4),
    (26, 0, 5),
    (27, 1, 1),
    (28, 0, 5),
    (29, 1, 3),
    (30, 1, 3),
    (31, 1, 3),
    (32, 1, 4),
    (33, 0, 2),
    (34, 1, 2),
    (35, 1, 4),
    (36, 0, 2),
    (37, 0, 3),
    (38, 1, 3),
    (39, 1, 2),
    (40, 1, 2),
    (41, 1, 3),
    (42, 0, 2),
    (43, 0, 2),
    (44, 0, 1),
    (45, 0, 1),
    (46, 0, 0),
    (47, 0, 0),
    (48, 0, 1),
    (49, 0, 1),
    (50, 0, 0),
    (51, 0, 0),
    (55, 0, 2),
    (57, 0, 2),
    (60, 0, 2),
    (61, 0, 0),
    (64, 0, 0),
    (65, 0, 0),
    (66, 0, 2),
    (68, 0, 1),
    (69, 0, 1),
    (74, 0, 1),
    (75, 0, 0),
    (76, 1, 1),
    (77, 1, 1),
    (78, 1, 1),
    (79, 1, 1),
    (80, 0, 0),
    (81, 0, 0),
    (83, 0, 0),
    (84, 0, 0),
    (85, 0, 0),
    (86, 0, 0),
    (87, 0, 0),
    (90, 0, 0),
    (91, 0, 0),
    (92, 0, 0),
];

/// Where this agent's versions differ from Kafka's, with the reason.
const DIFFERENT: &[(i16, &str)] = &[];

#[test]
fn rows_stand_in_the_order_of_their_keys() {
    assert!(ROWS.is_sorted_by(|one, next| (one.key as i16) < next.key as i16));
}

#[test]
fn versions_are_those_that_kafka_reports() {
    for row in ROWS {
        let key = row.key as i16;
        let reported = KAFKA.iter().find(|kafka| kafka.0 == key).map(|kafka| (kafka.1, kafka.2));
        let ours = (row.reported_min, *row.versions.end());
        let differs = DIFFERENT.iter().any(|(different, _)| *different == key);
        assert_eq!(Some(ours) != reported, differs, "{}: {ours:?}, Kafka reports {reported:?}", row.name);
    }
}

#[test]
fn what_is_served_can_be_decoded_and_has_a_layout() {
    for row in ROWS {
        let codec = row.key.valid_versions();
        assert!(codec.min <= *row.versions.start() && *row.versions.end() <= codec.max, "{}", row.name);
        let layout = schema::request(row.key as i16).expect("Kafka knows it");
        assert_eq!(layout.name, row.name);
        assert!(row.versions.clone().all(|version| layout.valid.contains(version)), "{}", row.name);
    }
}

/// `UPDATE_DOCS=1` writes the page instead of comparing it.
#[test]
fn the_reference_page_says_what_is_served() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/protocol.md");
    let page = page();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("writable");
        std::fs::write(&path, &page).expect("writable");
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == page, "docs/protocol.md is out of date: run this test once with UPDATE_DOCS=1");
}

fn page() -> String {
    let mut page = include_str!("page.md").to_owned();
    page.push_str("\n| Key | API | Versions | Requests of a connection |\n|---:|---|---|---|\n");
    for row in ROWS {
        let ApiRow { key, name, mode, .. } = row;
        let (low, high) = (row.versions.start(), row.versions.end());
        let mut versions = if low == high { format!("{low}") } else { format!("{low} to {high}") };
        if row.reported_min != *low {
            write!(versions, " (reported from {})", row.reported_min).expect("a string takes it");
        }
        let run = match mode {
            Mode::InOrder => "one after the other",
            Mode::Admitted => "admitted one after the other, many under way",
            Mode::Concurrent => "beside those that follow",
        };
        writeln!(page, "| {} | {name} | {versions} | {run} |", *key as i16).expect("a string takes it");
    }
    page
}
