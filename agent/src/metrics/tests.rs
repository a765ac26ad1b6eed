use super::*;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");

/// `PENSTOCK_WRITE_DOCS=1 cargo test` (which `make docs` runs) writes the page instead of comparing it.
#[test]
fn the_page_is_up_to_date() {
    let generated = definitions::markdown();
    if std::env::var_os("PENSTOCK_WRITE_DOCS").is_some() {
        std::fs::write(PAGE, &generated).expect("docs/ can be written");
    }
    let written = std::fs::read_to_string(PAGE).unwrap_or_default();
    assert!(written == generated, "docs/metrics.md is out of date: run `make docs`");
}

#[test]
fn names_are_unique_and_end_in_their_unit() {
    let mut names: Vec<_> = definitions::ALL.iter().map(|definition| definition.name).collect();
    names.sort_unstable();
    assert!(names.windows(2).all(|pair| pair[0] != pair[1]));
    for definition in definitions::ALL {
        let text = definition.name;
        assert!(
            !text.ends_with("_total") && text.chars().all(|c| c.is_ascii_lowercase() || c == '_'),
            "{text}"
        );
        if matches!(definition.unit, "seconds" | "bytes") {
            assert!(text.ends_with(definition.unit), "{text} is in {}", definition.unit);
        }
        assert!(definition.help.ends_with('.') && !definition.help.contains('|'), "{text}");
    }
}

#[test]
fn readings_become_text() {
    let mut metrics = Metrics::default();
    metrics.value(definitions::PROCESS_CPU, || 1.5);
    metrics.gather(definitions::OBJECT_STORE_REQUESTS, || {
        Reading::Labelled(vec![(vec!["put".into()], 3.0), (vec!["get".into()], 4.0)])
    });
    metrics.gather(definitions::OBJECT_STORE_LATENCY, || {
        let buckets = vec![(0.5, 2), (f64::MAX, 1)];
        Reading::Histograms(vec![(vec!["put".into()], HistogramReading { sum: 9.0, buckets })])
    });
    metrics.gather(definitions::STORE_GROUP_COMMITS, || {
        Reading::Histograms(vec![(Vec::new(), HistogramReading { sum: 7.0, buckets: vec![(f64::MAX, 3)] })])
    });
    let text = metrics.encode().expect("all encode");
    for line in [
        "penstock_store_group_commits_count 3",
        "penstock_store_group_commits_bucket{le=\"+Inf\"} 3",
        "# TYPE process_cpu_seconds counter",
        "process_cpu_seconds_total 1.5",
        "penstock_object_store_requests_total{operation=\"put\"} 3.0",
        "penstock_object_store_requests_total{operation=\"get\"} 4.0",
        "penstock_object_store_latency_seconds_sum{operation=\"put\"} 9.0",
        "penstock_object_store_latency_seconds_bucket{le=\"0.5\",operation=\"put\"} 2",
        "penstock_object_store_latency_seconds_bucket{le=\"+Inf\",operation=\"put\"} 3",
        "# EOF",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is missing:\n{text}");
    }
}

#[test]
#[should_panic(expected = "registered twice")]
fn a_metric_is_registered_once() {
    let mut metrics = Metrics::default();
    metrics.value(definitions::READY, || 1.0);
    metrics.value(definitions::READY, || 1.0);
}
