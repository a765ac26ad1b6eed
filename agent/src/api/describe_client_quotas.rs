//! DescribeClientQuotas (key 48): no quotas are set, so any filter that makes sense finds nothing (KIP-546).

use std::collections::BTreeSet;
use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_client_quotas_request::{ComponentData, DescribeClientQuotasRequest};
use kafka_protocol::messages::describe_client_quotas_response::DescribeClientQuotasResponse;

use super::context::RequestContext;
use super::topic_error::{Refusal, text};
use crate::broker::Broker;

const EXACT: i8 = 0;
const DEFAULT: i8 = 1;
const ANY: i8 = 2;

/// Answers with an empty list: a null one makes Java's admin client fail.
pub(crate) async fn handle(
    _broker: &Arc<Broker>,
    request: DescribeClientQuotasRequest,
    _context: &RequestContext,
) -> DescribeClientQuotasResponse {
    match check(&request.components) {
        Ok(()) => DescribeClientQuotasResponse::default()
            .with_error_message(Some(text("")))
            .with_entries(Some(Vec::new())),
        Err(refusal) => DescribeClientQuotasResponse::default()
            .with_error_code(refusal.code())
            .with_error_message(refusal.text())
            .with_entries(None),
    }
}

fn check(components: &[ComponentData]) -> Result<(), Refusal> {
    let invalid = |message: String| Err(Refusal::new(ResponseError::InvalidRequest, message));
    let mut types: BTreeSet<&str> = BTreeSet::new();
    for component in components {
        let entity: &str = &component.entity_type;
        match component.match_type {
            EXACT if component._match.is_none() => {
                return invalid(
                    "Request specified MATCH_TYPE_EXACT, but set match string to null.".to_owned(),
                );
            }
            EXACT => {}
            DEFAULT | ANY if component._match.is_some() => {
                let kind = if component.match_type == DEFAULT { "DEFAULT" } else { "SPECIFIED" };
                return invalid(format!(
                    "Request specified MATCH_TYPE_{kind}, but also specified a match string."
                ));
            }
            DEFAULT | ANY => {}
            other => return invalid(format!("Unknown match type {other}")),
        }
        if entity.is_empty() {
            return invalid("Invalid empty entity type.".to_owned());
        }
        if !types.insert(entity) {
            return invalid(format!("Entity type {entity} cannot appear more than once in the filter."));
        }
        if !matches!(entity, "user" | "client-id" | "ip") {
            let message = format!("Unsupported entity type {entity}");
            return Err(Refusal::new(ResponseError::UnsupportedVersion, message));
        }
    }
    if types.contains("ip") && types.len() > 1 {
        return invalid(
            "Invalid entity filter component combination. IP filter component should not be used with user or \
             clientId filter component."
                .to_owned(),
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn component(entity: &str, match_type: i8, name: Option<&str>) -> ComponentData {
        ComponentData::default()
            .with_entity_type(text(entity))
            .with_match_type(match_type)
            .with_match(name.map(text))
    }

    #[test]
    fn filters_are_checked_in_kafkas_words() {
        for (components, expected) in [
            (vec![], None),
            (vec![component("user", ANY, None), component("client-id", DEFAULT, None)], None),
            (vec![component("foo", ANY, None)], Some("Unsupported entity type foo")),
            (vec![component("user", 7, None)], Some("Unknown match type 7")),
            (vec![component("", EXACT, Some("a"))], Some("Invalid empty entity type.")),
            (
                vec![component("user", EXACT, Some("a")), component("user", EXACT, Some("b"))],
                Some("Entity type user cannot appear more than once in the filter."),
            ),
            (
                vec![component("user", EXACT, None)],
                Some("Request specified MATCH_TYPE_EXACT, but set match string to null."),
            ),
            (
                vec![component("ip", DEFAULT, None), component("user", DEFAULT, None)],
                Some(
                    "Invalid entity filter component combination. IP filter component should not be used with user \
                     or clientId filter component.",
                ),
            ),
        ] {
            let refused = check(&components).err().and_then(|refusal| refusal.message);
            assert_eq!(refused.as_deref(), expected);
        }
    }
}
