use penstock_metadata::topics::Operation;

use super::*;

#[test]
fn a_brokers_name_is_its_id() {
    assert_eq!(scope("", 1), Ok(BrokerScope::ClusterDefault));
    assert_eq!(scope("1", 1), Ok(BrokerScope::Broker(1)));
    assert_eq!(scope("01", 1), Ok(BrokerScope::Broker(1)));
    assert_eq!(scope("2", 1), Err(invalid("Unexpected broker id, expected 1, but received 2")));
    assert_eq!(scope("x", 1), Err(invalid("Node id must be an integer, but it is: x")));
}

#[test]
fn keys_stand_once_and_have_values() {
    const NULL: &str = "Null value not supported for : ";
    assert_eq!(check_keys([("a", false), ("b", false)].into_iter(), NULL), Ok(()));
    assert_eq!(
        check_keys([("a", true), ("b", true)].into_iter(), NULL),
        Err(invalid("Null value not supported for : a,b"))
    );
    assert_eq!(
        check_keys([("a", true), ("a", false)].into_iter(), NULL),
        Err(invalid("Error due to duplicate config keys"))
    );
}

#[test]
fn resources_without_options_accept_only_changes_of_nothing() {
    let set = |name: &str| Alteration::Increment(vec![(name.to_owned(), Operation::Set("1".to_owned()))]);
    for (kind, message) in [
        (ResourceType::BrokerLogger, "Logger x does not exist!"),
        (ResourceType::Group, "Unknown group config name: x"),
        (ResourceType::ClientMetrics, "Unknown client metrics configuration: x"),
    ] {
        let refused = nothing_to_alter(kind, &set("x")).err().expect("refused");
        assert_eq!(refused.message.as_deref(), Some(message));
        let delete = Alteration::Increment(vec![("x".to_owned(), Operation::Delete)]);
        assert!(nothing_to_alter(kind, &delete).is_ok());
    }
}
