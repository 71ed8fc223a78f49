//! Object stores, by URL.

use std::collections::BTreeMap;
use std::sync::Arc;

use kaizen_core::{Context, Error, ErrorKind, Result};
use object_store::ObjectStore;
use object_store::path::Path as ObjectPath;
use url::Url;

/// Opens the store that a URL names. What the environment says comes first, then the options.
pub(crate) fn open(
    url: &Url,
    options: &BTreeMap<String, String>,
) -> Result<(Arc<dyn ObjectStore>, ObjectPath)> {
    let (feature, built_in, variables) = match url.scheme() {
        "s3" | "s3a" => ("aws", cfg!(feature = "aws"), "AWS_"),
        "az" | "azure" | "adl" | "abfs" | "abfss" => ("azure", cfg!(feature = "azure"), "AZURE_"),
        "gs" => ("gcp", cfg!(feature = "gcp"), "GOOGLE_"),
        other => {
            let message = format!("`{url}`: no store of files is known by `{other}:`");
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
    };
    if !built_in {
        let message = format!("`{url}`: build kaizen-data with its feature `{feature}` to read it");
        return Err(Error::new(ErrorKind::Unsupported, message));
    }
    if let Some(unknown) = options.keys().find(|key| !knows(feature, key)) {
        return Err(Error::invalid(format!("`{url}`: option `{unknown}` means nothing to it")));
    }
    // A variable that is no text is none that was meant for this.
    let environment = std::env::vars_os()
        .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(key, _)| key.starts_with(variables));
    let given = options.iter().map(|(key, value)| (key.clone(), value.clone()));
    let (store, path) = object_store::parse_url_opts(url, environment.chain(given))
        .context(ErrorKind::Invalid, format!("`{url}`"))?;
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
