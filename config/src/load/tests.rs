use super::*;
use crate::value::ByteSize;

fn file(text: &str) -> Inputs {
    Inputs { file: Some(("penstock.toml".into(), text.into())), ..Inputs::default() }
}

fn variable(name: &str, value: &str) -> (String, String) {
    (name.into(), value.into())
}

#[test]
fn later_sources_win() {
    let mut inputs = file("upload.concurrency = 2\nnode.id = 2\nzone = 'a'\n");
    inputs.profile = Some(("dev", &[("upload.concurrency", "1"), ("upload.hedge.ratio", "0")]));
    inputs.environment =
        vec![variable("PENSTOCK_UPLOAD_CONCURRENCY", "3"), variable("PENSTOCK_NODE_ID", "3")];
    inputs.flags = vec![("--set".into(), "upload.concurrency".into(), "4".into())];
    let loaded = load(&inputs).expect("all valid");
    assert_eq!(loaded.config.upload.concurrency, 4);
    assert_eq!(loaded.config.node.node_id, 3);
    assert_eq!(loaded.config.node.zone, "a");
    assert_eq!(loaded.config.upload.hedge_ratio, 0.0);
    let shown: Vec<String> = loaded
        .effective()
        .into_iter()
        .map(|(key, value, source)| format!("{key}={value} ({source})"))
        .collect();
    assert_eq!(
        shown,
        [
            "node.id=3 (environment PENSTOCK_NODE_ID)",
            "zone=a (file penstock.toml)",
            "upload.concurrency=4 (flag --set)",
            "upload.hedge.ratio=0 (penstock dev)"
        ]
    );
}

#[test]
fn a_file_may_use_quotes_or_tables() {
    for text in [
        "'flush.object.max.bytes' = '1MiB'\n'flush.interval.ms' = 5",
        "flush.object.max.bytes = 1048576\nflush.interval.ms = '5ms'",
        "[flush]\nobject.max.bytes = '1MiB'\n'interval.ms' = 5\n",
    ] {
        let loaded = load(&file(text)).expect(text);
        assert_eq!(loaded.config.flush.object_max, ByteSize::new(1 << 20), "{text}");
        assert_eq!(loaded.config.flush.interval.as_millis(), 5, "{text}");
    }
}

#[test]
fn unknown_keys_name_the_nearest() {
    let message = |inputs: &Inputs| load(inputs).expect_err("unknown").to_string();
    assert_eq!(
        message(&file("flush.intervall.ms = 5")),
        "unknown option flush.intervall.ms (file penstock.toml); did you mean flush.interval.ms?"
    );
    let environment = vec![variable("PENSTOCK_DATADIR", "/x"), variable("HOME", "/root")];
    assert_eq!(
        message(&Inputs { environment, ..Inputs::default() }),
        "unknown option PENSTOCK_DATADIR (environment); did you mean PENSTOCK_DATA_DIR?"
    );
    let flags = vec![("--set".into(), "zookeeper.connect".into(), "x".into())];
    assert_eq!(
        message(&Inputs { flags, ..Inputs::default() }),
        "unknown option zookeeper.connect (flag --set)"
    );
}

#[test]
fn variables_of_kubernetes_services_are_passed_over() {
    let environment = [
        "PENSTOCK_SERVICE_HOST",
        "PENSTOCK_SERVICE_PORT",
        "PENSTOCK_SERVICE_PORT_KAFKA",
        "PENSTOCK_PORT",
        "PENSTOCK_PORT_9092_TCP",
        "PENSTOCK_PORT_9092_TCP_ADDR",
        "PENSTOCK_HEADLESS_SERVICE_HOST",
        "PENSTOCK_CONFIG",
    ];
    let environment = environment.iter().map(|name| variable(name, "tcp://10.0.0.1:9092")).collect();
    let loaded = load(&Inputs { environment, ..Inputs::default() }).expect("none of them is ours");
    assert!(loaded.sources.is_empty());
}

#[test]
fn bad_files_are_refused_in_one_line() {
    for (text, expected) in [
        ("a = = 1", "penstock.toml is not TOML: line 1"),
        ("zone = ['a']", "penstock.toml: zone is a list"),
        ("zone = 2020-01-01", "penstock.toml: zone is a date"),
        ("'node.id' = 1\nnode.id = 2", "penstock.toml: node.id is set twice"),
        ("node.id = 'x'", "node.id=x (file penstock.toml) is not a whole number"),
        ("listen = '0.0.0.0:9092'", "listen=0.0.0.0:9092 needs advertise=HOST:PORT"),
    ] {
        let message = load(&file(text)).expect_err(text).to_string();
        assert!(message.starts_with(expected), "{message}");
        assert!(!message.contains('\n'), "{message}");
    }
}

#[test]
fn assignments_split_at_the_first_equals_sign() {
    assert_eq!(split_assignment("zone=a=b"), Ok(("zone".into(), "a=b".into())));
    assert!(matches!(split_assignment("zone"), Err(LoadError::NoValue { .. })));
}

#[test]
fn kafkas_broker_options_are_set_by_their_names() {
    let mut inputs = file("num.partitions = 4\n'auto.create.topics.enable' = false");
    inputs.environment = vec![variable("PENSTOCK_GROUP_INITIAL_REBALANCE_DELAY_MS", "0")];
    let loaded = load(&inputs).expect("all valid");
    let layer = loaded.config.broker_layer(1);
    for (name, value) in [
        ("num.partitions", "4"),
        ("auto.create.topics.enable", "false"),
        ("group.initial.rebalance.delay.ms", "0"),
    ] {
        assert_eq!(layer.get(name).map(String::as_str), Some(value), "{name}");
    }
    assert_eq!(loaded.effective().len(), 3);
    for (text, expected) in [
        ("num.partitions = 0", "Invalid value 0 for configuration num.partitions"),
        ("listeners = 'PLAINTEXT://:9092'", "listeners (file penstock.toml) is listen here"),
        (
            "num.partition = 1",
            "unknown option num.partition (file penstock.toml); did you mean num.partitions?",
        ),
    ] {
        let message = load(&file(text)).expect_err(text).to_string();
        assert!(message.starts_with(expected), "{message}");
    }
}
