//! A release that is loaded and ready to answer.

use kaizen_core::record::Release;
use kaizen_core::{ArtifactStore, DataType, Digest, Error, ErrorKind, Records, Result};
use kaizen_table::{Formats, Scorer, prediction};

use crate::tensor;

/// A release with everything that its predictions need, loaded and verified.
#[derive(Clone, Debug)]
pub struct Servable {
    id: Digest,
    release: Release,
    scorer: Scorer,
}

impl Servable {
    /// Loads a release: its record, its model's record, the preprocessing and the weights.
    ///
    /// Every byte is checked against its digest here, even if the store has done so before: what
    /// does not match is [`ErrorKind::Corrupt`] and names the digest.
    pub async fn load(
        store: &dyn ArtifactStore,
        release: &Digest,
        formats: &Formats,
    ) -> Result<Self> {
        let stored = store.get::<Release>(release).await?;
        for part in [release, &stored.manifest.config.digest] {
            part.check(&store.get_blob(part).await?, &format!("release {release}"))?;
        }
        refuse_functions(release, &stored.record)?;
        let model = kaizen_package::load_model(store, &stored.record.model).await?;
        let formats = formats.clone();
        // Reading the weights is parsing of megabytes: not on the executor.
        let scorer = kaizen_core::compute(move || {
            Scorer::from_parts(model.id, model.record, &model.encoder, &model.weights, &formats)
        })
        .await?;
        Self::new(*release, stored.record, scorer)
    }

    /// Binds a release, whose record has the digest `id`, to its loaded model.
    ///
    /// They must belong together ([`ErrorKind::Corrupt`] otherwise), and the release must ask for
    /// nothing that this host lacks ([`ErrorKind::Unsupported`]).
    pub fn new(id: Digest, release: Release, scorer: Scorer) -> Result<Self> {
        refuse_functions(&id, &release)?;
        let model = scorer.model();
        if release.model != *scorer.id() {
            let (wanted, found) = (release.model, scorer.id());
            return Err(Error::corrupt(format!("release {id}: of model {wanted}, not {found}")));
        }
        if release.service != model.service {
            let (wanted, found) = (release.service, model.service);
            return Err(Error::corrupt(format!(
                "release {id}: of feature service {wanted}, but its model takes {found}"
            )));
        }
        for field in model.signature.inputs() {
            tensor::datatype_of(field.data_type)?;
            if RESERVED.contains(&field.name.as_str()) {
                return Err(Error::invalid(format!(
                    "release {id}: the input `{}` has the name of a column of the prediction log",
                    field.name
                )));
            }
        }
        let outputs = model.signature.outputs();
        if outputs.len() > 1 || outputs.iter().any(|o| o.data_type != DataType::Float64) {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("release {id}: its model gives more than one 64-bit float"),
            ));
        }
        Ok(Self { id, release, scorer })
    }

    /// The digest of the release.
    pub fn id(&self) -> &Digest {
        &self.id
    }

    /// The release.
    pub fn release(&self) -> &Release {
        &self.release
    }

    /// The model, ready to score.
    pub fn scorer(&self) -> &Scorer {
        &self.scorer
    }
}

/// Columns of the prediction log beside the features.
const RESERVED: [&str; 4] = [prediction::ID, prediction::AT, prediction::MODEL, prediction::SCORE];

fn refuse_functions(id: &Digest, release: &Release) -> Result<()> {
    match release.functions.first() {
        None => Ok(()),
        Some(function) => Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "release {id}: this host has no function `{}` version {}",
                function.name, function.version
            ),
        )),
    }
}
