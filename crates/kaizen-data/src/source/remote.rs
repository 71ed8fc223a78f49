//! Object stores, by URL.

use std::collections::BTreeMap;
use std::sync::Arc;

use kaizen_core::{Context, Error, ErrorKind, Result};
use object_store::ObjectStore;
use object_store::path::Path as ObjectPath;
use url::Url;

/// A URL for messages: without a password or anything else that may be a secret. Where it is not
/// clear what the secret is, as with a `/` in a password, nothing of it but its scheme.
pub(crate) fn shown(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let (authority, after) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let torn = authority.contains(':') && after.contains('@');
    if torn || Url::parse(text).is_err() {
        return format!("{scheme}://…");
    }
    let path = after.split_once(['?', '#']).map_or(after, |(path, _)| path);
    match authority.rsplit_once('@') {
        // In `abfs://container@account` it is no user that comes first.
        Some((user, host)) if !scheme.starts_with("abfs") || user.contains(':') => {
            format!("{scheme}://{host}{path}")
        }
        _ => format!("{scheme}://{authority}{path}"),
    }
}

/// Opens the store that a URL names. What the environment says comes first, then the options.
pub(crate) fn open(
    url: &Url,
    options: &BTreeMap<String, String>,
) -> Result<(Arc<dyn ObjectStore>, ObjectPath)> {
    let place = shown(url.as_str());
    if place != url.as_str() {
        let message = "it has a user, a password or a query; credentials are options";
        return Err(Error::invalid(format!("`{place}`: {message}")));
    }
    let (feature, built_in, variables) = match url.scheme() {
        "s3" | "s3a" => ("aws", cfg!(feature = "aws"), "AWS_"),
        "az" | "azure" | "adl" | "abfs" | "abfss" => ("azure", cfg!(feature = "azure"), "AZURE_"),
        "gs" => ("gcp", cfg!(feature = "gcp"), "GOOGLE_"),
        other => {
            let message = format!("`{place}`: no store of files is known by `{other}:`");
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
    };
    if !built_in {
        let message =
            format!("`{place}`: build kaizen-data with its feature `{feature}` to read it");
        return Err(Error::new(ErrorKind::Unsupported, message));
    }
    if let Some(unknown) = options.keys().find(|key| !knows(feature, key)) {
        return Err(Error::invalid(format!("`{place}`: option `{unknown}` means nothing to it")));
    }
    // A variable that is no text is none that was meant for this.
    let environment = std::env::vars_os()
        .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(key, _)| key.starts_with(variables));
    let given = options.iter().map(|(key, value)| (key.clone(), value.clone()));
    let (store, path) = object_store::parse_url_opts(url, environment.chain(given))
        .context(ErrorKind::Invalid, format!("`{place}`"))?;
    Ok((Arc::from(store), path))
}

/// Whether an option means something to a store.
fn knows(feature: &str, key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    match feature {
        #[cfg(feature = "aws")]
        "aws" => key.parse::<object_store::aws::AmazonS3ConfigKey>().is_ok(),
        #[cfg(feature = "azure")]
        "azure" => key.parse::<object_store::azure::AzureConfigKey>().is_ok(),
        #[cfg(feature = "gcp")]
        "gcp" => key.parse::<object_store::gcp::GoogleConfigKey>().is_ok(),
        _ => !key.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_a_secret_is_not_shown() {
        for (text, expected) in [
            ("s3://bucket/a/b", "s3://bucket/a/b"),
            ("s3://bucket/a@b", "s3://bucket/a@b"),
            ("s3://key:secret@bucket/a", "s3://bucket/a"),
            ("s3://key:secret@bucket/a@b", "s3://…"),
            ("s3://key:1/secret@bucket/a", "s3://…"),
            ("s3://key:1?secret@bucket/a", "s3://…"),
            ("s3://key:1#secret@bucket/a", "s3://…"),
            ("s3://key:se@1/secret@bucket/a", "s3://…"),
            ("abfs://container:1/secret@account/a", "abfs://…"),
            ("http://[::1]:80/a", "http://[::1]:80/a"),
            ("s3://key@bucket", "s3://bucket"),
            ("https://host/a?sig=secret", "https://host/a"),
            ("gs://bucket/a#secret", "gs://bucket/a"),
            ("abfs://container@account.host/a", "abfs://container@account.host/a"),
            ("abfs://container:secret@account/a", "abfs://account/a"),
            ("/a/b@c?d", "/a/b@c?d"),
        ] {
            assert_eq!(shown(text), expected);
            if text.contains("secret") || text.contains("key@") {
                let url = Url::parse(text).unwrap();
                let error = open(&url, &BTreeMap::new()).unwrap_err();
                assert!(!format!("{error:#} {error:?}").contains("secret"), "{error:?}");
            }
        }
    }
    #[tokio::test]
    async fn a_password_that_tears_its_url_is_in_no_message() {
        for text in [
            "s3://key:abc/secret@bucket/x",
            "s3://key:abc?secret@bucket/x",
            "s3://key:abc#secret@bucket/*",
            "s3://key:secret/abc@bucket/x",
        ] {
            let builder = crate::FileSource::builder("f", text);
            let described = format!("{builder:?}");
            let error = builder.open().await.unwrap_err();
            let said = format!("{described} {error:#} {error:?}");
            assert!(!said.contains("secret") && !said.contains("abc"), "{said}");
        }
    }
}
