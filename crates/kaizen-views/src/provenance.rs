//! How a model was made: SLSA provenance v1 in an in-toto Statement v1.

use std::collections::{BTreeMap, BTreeSet};

use kaizen_core::record::{Evaluation, Model, TrainingSet};
use kaizen_core::{
    ArtifactStore, AuditLog, Context, Digest, ErrorKind, Event, OperationId, Records, Result,
    Signer, Timestamp,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::dsse::{Envelope, IN_TOTO};
use crate::gather;

/// The type of an in-toto Statement v1.
pub const STATEMENT: &str = "https://in-toto.io/Statement/v1";
/// The type of the predicate of SLSA provenance v1.
pub const SLSA_PROVENANCE: &str = "https://slsa.dev/provenance/v1";

/// The type of build: a training by Kaizen. `docs/formats.md` says what its parameters are.
const BUILD_TYPE: &str = "kaizen:training/v1";

/// An in-toto Statement v1: what is said, and of which artefacts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Statement<P> {
    /// [`STATEMENT`].
    #[serde(rename = "_type")]
    pub statement_type: String,
    /// The artefacts.
    pub subject: Vec<Resource>,
    /// What kind of thing is said.
    pub predicate_type: String,
    /// What is said.
    pub predicate: P,
}

/// An artefact by its digest, as in-toto describes resources.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[non_exhaustive]
pub struct Resource {
    /// A name for people; distinct among subjects.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Which one it is: `kaizen:KIND/sha256/HEX`, of which no two artefacts share one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uri: String,
    /// `sha256` and its hexadecimal digits.
    pub digest: BTreeMap<String, String>,
    /// More about it: `kind`, such as `model` or `file`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, Value>,
}

impl Resource {
    fn new(name: impl Into<String>, kind: &str, digest: &Digest) -> Self {
        let hex = digest.hex();
        Self {
            name: name.into(),
            uri: format!("kaizen:{kind}/sha256/{hex}"),
            digest: BTreeMap::from([("sha256".to_owned(), hex)]),
            annotations: BTreeMap::from([("kind".to_owned(), kind.into())]),
        }
    }
}

/// SLSA provenance v1: what was built how, by whom, from what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Provenance {
    /// What went in.
    pub build_definition: BuildDefinition,
    /// Who did it, and when.
    pub run_details: RunDetails,
}

/// What went into a training.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct BuildDefinition {
    /// How to read the parameters.
    pub build_type: String,
    /// Algorithm, settings, seed and what the model takes.
    pub external_parameters: Parameters,
    /// The training set, its sources and files, the feature service and the label view.
    pub resolved_dependencies: Vec<Resource>,
}

/// The parameters of a training.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Parameters {
    /// The model's name.
    pub model: String,
    /// The algorithm.
    pub algorithm: String,
    /// Its settings.
    pub settings: BTreeMap<String, String>,
    /// The seed, as text: it has 64 bits.
    pub seed: String,
    /// The format of the weights.
    pub format: String,
    /// The column of the label.
    pub label: String,
    /// No label that became known later was used.
    pub cutoff: Timestamp,
    /// The columns that the model takes.
    pub inputs: Vec<String>,
}

/// Who trained, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct RunDetails {
    /// Who.
    pub builder: Builder,
    /// When, and in which turn of work.
    pub metadata: RunMetadata,
    /// The evaluations of the model that the log knows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub byproducts: Vec<Resource>,
}

/// The program that trained: the host that links Kaizen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Builder {
    /// A URI that names the program and whoever runs it, such as `https://example.com/trainer`.
    pub id: String,
    /// Versions of its parts, such as `kaizen`: `0.1.0`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub version: BTreeMap<String, String>,
}

impl Builder {
    /// The program of this URI, with this version of Kaizen.
    pub fn new(id: impl Into<String>) -> Self {
        let version = BTreeMap::from([("kaizen".to_owned(), env!("CARGO_PKG_VERSION").to_owned())]);
        Self { id: id.into(), version }
    }
}

/// When, and in which turn of work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct RunMetadata {
    /// The turn of work.
    pub invocation_id: OperationId,
    /// When the training set was entered into the log, or the model if that was not.
    pub started_on: Timestamp,
    /// When the model was entered into the log.
    pub finished_on: Timestamp,
}

/// Says how a model was made, by its records and by the log.
///
/// # Errors
///
/// [`ErrorKind::NotFound`] if the store has no such model, or the log no entry that it was trained:
/// what has no entry has not happened.
pub async fn provenance(
    store: &dyn ArtifactStore,
    log: &dyn AuditLog,
    model: &Digest,
    builder: Builder,
) -> Result<Statement<Provenance>> {
    let record = store.get::<Model>(model).await?.record;
    let set = store.get::<TrainingSet>(&record.training_set).await?;
    let statements = store.referrers(model).await?;
    let itself = [*model, record.training_set];
    let about: BTreeSet<Digest> = statements.iter().copied().chain(itself).collect();
    let said = gather::entries_about(log, &about).await?;
    let first = |id: &Digest, event: Event| {
        said.get(id)?.iter().map(|(_, entry)| entry).find(|entry| entry.event == event)
    };
    let trained = first(model, Event::Trained).context(
        ErrorKind::NotFound,
        format!("model {model}: the log has no entry of its training"),
    )?;
    let started = first(&record.training_set, Event::DataSnapshot).unwrap_or(trained);
    let mut byproducts = Vec::new();
    for id in &statements {
        // What has no entry has not happened, whoever put the statement there.
        if first(id, Event::Evaluated).is_some() && store.find::<Evaluation>(id).await?.is_some() {
            byproducts.push(Resource::new("", "evaluation", id));
        }
    }

    let mut dependencies =
        vec![Resource::new("training-set", "training-set", &record.training_set)];
    let mut files = TrainingSet::files(store, &set.manifest).await?;
    for (source, digest) in &set.record.sources {
        dependencies.push(Resource::new(source, "source", digest));
        for file in files.remove(source).unwrap_or_default() {
            let name = format!("{source}/{}", file.path);
            dependencies.push(Resource::new(name, "file", &file.digest));
        }
    }
    dependencies.push(Resource::new("feature-service", "feature-service", &record.service));
    dependencies.push(Resource::new("label-view", "label-view", &set.record.label_view));

    let inputs = record.signature.inputs().iter().map(|field| field.name.clone()).collect();
    let predicate = Provenance {
        build_definition: BuildDefinition {
            build_type: BUILD_TYPE.to_owned(),
            external_parameters: Parameters {
                model: record.name.clone(),
                algorithm: record.algorithm.name,
                settings: record.algorithm.settings,
                seed: record.seed.to_string(),
                format: record.format,
                label: set.record.label,
                cutoff: set.record.cutoff,
                inputs,
            },
            resolved_dependencies: dependencies,
        },
        run_details: RunDetails {
            builder,
            metadata: RunMetadata {
                invocation_id: trained.operation.clone(),
                // The clock of a host may go back; a training does not end before it begins.
                started_on: started.at.min(trained.at),
                finished_on: trained.at,
            },
            byproducts,
        },
    };
    Ok(Statement {
        statement_type: STATEMENT.to_owned(),
        subject: vec![
            Resource::new(&record.name, "model", model),
            Resource::new(format!("{} weights", record.name), "weights", &record.weights),
        ],
        predicate_type: SLSA_PROVENANCE.to_owned(),
        predicate,
    })
}

impl<P: Serialize> Statement<P> {
    /// The statement in a signed envelope.
    ///
    /// # Errors
    ///
    /// As the signer.
    pub async fn sign(&self, signer: &dyn Signer) -> Result<Envelope> {
        let payload = serde_json::to_vec(self).context(ErrorKind::Internal, "statement as JSON")?;
        Envelope::seal(IN_TOTO, &payload, signer).await
    }
}
