//! What a step is, and the key under which its output is found again.

use kaizen_core::{Context, Digest, Error, ErrorKind, Record, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A step of a pipeline: everything besides its inputs that decides what comes out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Step {
    /// The step's name, such as `train`.
    pub name: String,
    /// The version of the code that does the work: raise it whenever that would make something
    /// else of the same inputs.
    pub version: u32,
    /// The settings of the work.
    pub settings: Value,
}

/// The blob whose digest is the key. Its fields stay in this order for ever.
#[derive(Serialize)]
struct Key<'a> {
    step: &'a str,
    version: u32,
    settings: Value,
    inputs: &'a [Digest],
    output: &'a str,
}

impl Step {
    /// At most this many bytes in a step's key, its settings and inputs included.
    pub const MAX_KEY_BYTES: usize = 1 << 20;

    /// A step of this name, version and settings; the settings are taken as JSON.
    pub fn new(
        name: impl Into<String>,
        version: u32,
        settings: &(impl Serialize + ?Sized),
    ) -> Result<Self> {
        let name = name.into();
        let settings = serde_json::to_value(settings)
            .context(ErrorKind::Invalid, format!("settings of step `{name}`"))?;
        Ok(Self { name, version, settings })
    }

    /// The bytes of the key: the same for equal steps and inputs, whatever the order of the keys
    /// in the settings.
    pub(crate) fn key<R: Record>(&self, inputs: &[Digest]) -> Result<Vec<u8>> {
        let name = &self.name;
        if name.is_empty() {
            return Err(Error::invalid("pipeline step: its name is empty"));
        }
        let settings = ordered(&self.settings);
        let key = Key { step: name, version: self.version, settings, inputs, output: R::KIND };
        let bytes =
            serde_json::to_vec(&key).context(ErrorKind::Internal, "key of a step as JSON")?;
        if bytes.len() > Self::MAX_KEY_BYTES {
            let (found, most) = (bytes.len(), Self::MAX_KEY_BYTES);
            return Err(Error::invalid(format!(
                "step `{name}`: its settings and inputs take {found} bytes, over {most}; name \
                 what is large by its digest"
            )));
        }
        Ok(bytes)
    }
}

/// The same JSON with the keys of every object in order. `serde_json` orders them itself, unless
/// some other crate in the build switches its `preserve_order` on.
fn ordered(value: &Value) -> Value {
    match value {
        Value::Object(object) => {
            let mut entries: Vec<_> = object.iter().collect();
            entries.sort_unstable_by_key(|(key, _)| *key);
            entries.into_iter().map(|(key, value)| (key.clone(), ordered(value))).collect()
        }
        Value::Array(values) => values.iter().map(ordered).collect(),
        other => other.clone(),
    }
}
