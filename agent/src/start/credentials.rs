//! Whether there are credentials for the object store. Without any, the client asks the machine's metadata service for
//! some: right on a cloud machine with a role, a long wait and a puzzling error anywhere else.

use penstock_config::ObjectStoreUrl;

/// Variables of which all of a row make credentials (or make them needless).
const CREDENTIALS: &[&[&str]] = &[
    &["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"],
    &["AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN"],
    &["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"],
    &["AWS_CONTAINER_CREDENTIALS_FULL_URI"],
];
/// Requests are not signed at all.
const UNSIGNED: &str = "AWS_SKIP_SIGNATURE";

/// What to tell where the object store needs credentials and the environment has none; `variable` reads it.
pub(crate) fn without_credentials(
    store: &ObjectStoreUrl,
    variable: impl Fn(&str) -> Option<String>,
) -> Option<&'static str> {
    let ObjectStoreUrl::S3 { .. } = store else { return None };
    let is_set = |name: &&str| variable(name).is_some_and(|value| !value.is_empty());
    let is_unsigned = variable(UNSIGNED).is_some_and(|value| matches!(&*value, "true" | "1" | "yes" | "on"));
    if is_unsigned || CREDENTIALS.iter().any(|names| names.iter().all(is_set)) {
        return None;
    }
    Some(
        "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not both set: the machine's metadata service (169.254.169.254) \
         is asked for credentials, which takes long and fails but on a cloud machine with a role",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_keys_are_noticed_for_s3_only() {
        let s3 = ObjectStoreUrl::S3 { bucket: "bucket".to_owned(), prefix: String::new() };
        let with = |set: &[(&str, &str)]| {
            let variable = |name: &str| {
                set.iter().find(|(variable, _)| *variable == name).map(|(_, value)| (*value).to_owned())
            };
            without_credentials(&s3, variable).is_some()
        };
        assert!(with(&[]));
        assert!(with(&[("AWS_ACCESS_KEY_ID", "id")]));
        assert!(with(&[("AWS_ACCESS_KEY_ID", "id"), ("AWS_SECRET_ACCESS_KEY", "")]));
        assert!(with(&[("AWS_SKIP_SIGNATURE", "false")]));
        assert!(!with(&[("AWS_ACCESS_KEY_ID", "id"), ("AWS_SECRET_ACCESS_KEY", "key")]));
        assert!(!with(&[("AWS_WEB_IDENTITY_TOKEN_FILE", "/token"), ("AWS_ROLE_ARN", "role")]));
        assert!(!with(&[("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1/")]));
        assert!(!with(&[("AWS_SKIP_SIGNATURE", "true")]));
        assert_eq!(without_credentials(&ObjectStoreUrl::Memory, |_| None), None);
    }
}
