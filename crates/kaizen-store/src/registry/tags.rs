//! Tags: what people note on versions and on names.

use std::collections::BTreeMap;

use kaizen_core::record::Occurrence;
use kaizen_core::{Context, Digest, Error, ErrorKind, Event, Result};

use super::fold::Fold;
use super::{Registry, Step, TagChange, check_name};

/// At most this many tags on one version, or on one name.
const MAX_TAGS: usize = 100;
/// At most this many bytes in what a tag says.
const MAX_VALUE: usize = 4_096;

impl Registry {
    /// Sets a tag on a version, or on the name itself if `version` is `None`. Saying again what it
    /// says already changes nothing.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] if there is no such name or version; [`ErrorKind::Invalid`] if the
    /// key is empty, unprintable or longer than 255 bytes; [`ErrorKind::Limit`] if the value is
    /// longer than 4,096 bytes, or there are 100 tags already.
    pub async fn tag(
        &self,
        name: &str,
        version: Option<u32>,
        key: &str,
        value: &str,
        occurrence: Occurrence,
    ) -> Result<()> {
        check_name("tag", key)?;
        if value.len() > MAX_VALUE {
            let message = format!("tag `{key}`: {} bytes, over {MAX_VALUE}", value.len());
            return Err(Error::new(ErrorKind::Limit, message));
        }
        self.change(occurrence, |fold| {
            let (now, subject) = (tags_of(fold, name, version)?, subject(fold, name, version)?);
            if now.get(key).is_some_and(|said| said == value) {
                return Ok(Step::Done(()));
            }
            if !now.contains_key(key) && now.len() >= MAX_TAGS {
                let message = format!("tags of {}: {MAX_TAGS} already", shown(name, version));
                return Err(Error::new(ErrorKind::Limit, message));
            }
            let event = Event::Tagged {
                name: name.to_owned(),
                version,
                key: key.to_owned(),
                value: Some(value.to_owned()),
            };
            Ok(Step::Append(event, subject, Vec::new(), ()))
        })
        .await
    }

    /// Takes a tag away from a version, or from the name itself; whether it was there.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] if there is no such name or version.
    pub async fn untag(
        &self,
        name: &str,
        version: Option<u32>,
        key: &str,
        occurrence: Occurrence,
    ) -> Result<bool> {
        self.change(occurrence, |fold| {
            if !tags_of(fold, name, version)?.contains_key(key) {
                return Ok(Step::Done(false));
            }
            let subject = subject(fold, name, version)?;
            let event =
                Event::Tagged { name: name.to_owned(), version, key: key.to_owned(), value: None };
            Ok(Step::Append(event, subject, Vec::new(), true))
        })
        .await
    }

    /// The tags of a version, or of the name itself; none if it is not known.
    pub async fn tags(&self, name: &str, version: Option<u32>) -> Result<BTreeMap<String, String>> {
        let fold = self.current().await?;
        Ok(fold.tags(name, version).map(|tags| tags.now.clone()).unwrap_or_default())
    }

    /// Every tag that was set on a version (or on the name itself) or taken away, oldest first.
    pub async fn tag_history(&self, name: &str, version: Option<u32>) -> Result<Vec<TagChange>> {
        let fold = self.current().await?;
        Ok(fold.tags(name, version).map(|tags| tags.history.clone()).unwrap_or_default())
    }
}

fn tags_of<'a>(
    fold: &'a Fold,
    name: &str,
    version: Option<u32>,
) -> Result<&'a BTreeMap<String, String>> {
    let tags = fold.tags(name, version);
    let message = format!("{}: it is not registered", shown(name, version));
    Ok(&tags.context(ErrorKind::NotFound, message)?.now)
}

/// What an entry about these tags is about: the model, or the name.
fn subject(fold: &Fold, name: &str, version: Option<u32>) -> Result<Digest> {
    let Some(version) = version else { return Ok(Digest::of(name)) };
    let found = fold.version(name, version);
    let message = format!("{}: it is not registered", shown(name, Some(version)));
    Ok(found.context(ErrorKind::NotFound, message)?.model)
}

fn shown(name: &str, version: Option<u32>) -> String {
    let name = name.escape_debug();
    match version {
        Some(version) => format!("version {version} of `{name}`"),
        None => format!("name `{name}`"),
    }
}
