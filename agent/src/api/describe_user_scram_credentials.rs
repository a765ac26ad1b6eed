//! DescribeUserScramCredentials (key 50): no credentials are stored, so nobody has any (KIP-554).

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_user_scram_credentials_request::{
    DescribeUserScramCredentialsRequest, UserName,
};
use kafka_protocol::messages::describe_user_scram_credentials_response::{
    DescribeUserScramCredentialsResponse, DescribeUserScramCredentialsResult,
};
use kafka_protocol::protocol::StrBytes;

use super::context::RequestContext;
use super::topic_error::{Refusal, text};
use crate::broker::Broker;

/// Answers that no user has a credential, or for each user named that there is none.
pub(crate) async fn handle(
    _broker: &Arc<Broker>,
    request: DescribeUserScramCredentialsRequest,
    _context: &RequestContext,
) -> DescribeUserScramCredentialsResponse {
    DescribeUserScramCredentialsResponse::default()
        .with_error_message(Some(text("")))
        .with_results(results(request.users.unwrap_or_default()))
}

/// One result for each user, however often named. None named: all users that have a credential, that is nobody.
fn results(users: Vec<UserName>) -> Vec<DescribeUserScramCredentialsResult> {
    let mut times_named: BTreeMap<StrBytes, usize> = BTreeMap::new();
    for user in users {
        *times_named.entry(user.name).or_default() += 1;
    }
    times_named
        .into_iter()
        .map(|(user, times)| {
            let refusal = refusal(&user, times);
            DescribeUserScramCredentialsResult::default()
                .with_user(user)
                .with_error_code(refusal.code())
                .with_error_message(refusal.text())
        })
        .collect()
}

fn refusal(user: &str, times_named: usize) -> Refusal {
    if times_named > 1 {
        let message =
            format!("Cannot describe SCRAM credentials for the same user twice in a single request: {user}");
        return Refusal::new(ResponseError::DuplicateResource, message);
    }
    let message = format!("Attempt to describe a user credential that does not exist: {user}");
    Refusal::new(ResponseError::ResourceNotFound, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(users: &[&str]) -> Vec<(String, i16, String)> {
        let users = users.iter().map(|name| UserName::default().with_name(text(name))).collect();
        results(users)
            .into_iter()
            .map(|result| {
                assert!(result.credential_infos.is_empty());
                let message = result.error_message.expect("a refusal has words");
                (result.user.to_string(), result.error_code, message.to_string())
            })
            .collect()
    }

    #[test]
    fn asked_for_all_users_there_are_none() {
        assert_eq!(answered(&[]), []);
    }

    #[test]
    fn users_are_refused_one_by_one_in_kafkas_words() {
        let absent = |user: &str| {
            let words = format!("Attempt to describe a user credential that does not exist: {user}");
            (user.to_owned(), 91, words)
        };
        let twice = "Cannot describe SCRAM credentials for the same user twice in a single request: bob";
        assert_eq!(
            answered(&["carol", "bob", "alice", "bob", "bob", ""]),
            [absent(""), absent("alice"), ("bob".to_owned(), 92, twice.to_owned()), absent("carol")]
        );
    }
}
