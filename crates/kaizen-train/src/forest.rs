//! Boosted trees, ready to predict.

use std::fmt;
use std::sync::Arc;

use forust_ml::GradientBooster;
use forust_ml::objective::ObjectiveType;
use kaizen_core::{Context, Error, ErrorKind, Result};
use kaizen_table::{Loader, Predictor};
use ndarray::{Array1, ArrayView2};
use rayon::prelude::*;

use crate::{checks, linear};

const FORMAT: &str = "forust-json";

/// The metadata key under which our models say how many features they take.
const FEATURES: &str = "features";

/// How many rows walk through the trees together. Every tree is read once per chunk.
const CHUNK: usize = 256;

/// Marks a leaf in [`Node::feature`].
const LEAF: u32 = u32::MAX;

/// Trees in one flat array.
///
/// The library keeps its nodes in 88 bytes each and makes a vector per tree and call; here they
/// take 24, and a row costs no allocation but that of the answer. Same comparisons and same order
/// of sums, so the same bits.
pub(crate) struct Forest {
    nodes: Vec<Node>,
    /// The index of each tree's root.
    roots: Vec<u32>,
    base: f64,
    features: usize,
    /// The stored form.
    json: Vec<u8>,
}

#[derive(Clone, Copy)]
struct Node {
    /// Values below this go left; in a leaf, the answer.
    value: f64,
    feature: u32,
    left: u32,
    right: u32,
    missing: u32,
}

impl Forest {
    /// Takes over a trained booster.
    pub(crate) fn of_booster(mut booster: GradientBooster, features: usize) -> Result<Self> {
        booster.insert_metadata(FEATURES.to_owned(), features.to_string());
        let json = booster.json_dump().context(ErrorKind::Internal, "trees as JSON")?;
        Self::flatten(&booster, json.into_bytes())
    }

    /// Reads the stored form; checks that no walk through it can leave it or go in circles.
    fn parse(bytes: &[u8]) -> Result<Self> {
        let text = std::str::from_utf8(bytes).context(ErrorKind::Corrupt, "forust-json")?;
        let booster =
            GradientBooster::from_json(text).context(ErrorKind::Corrupt, "forust-json")?;
        Self::flatten(&booster, bytes.to_vec())
    }

    fn flatten(booster: &GradientBooster, json: Vec<u8>) -> Result<Self> {
        let corrupt = |what: &str| Error::corrupt(format!("forust-json: {what}"));
        let features = booster.get_metadata(&FEATURES.to_owned());
        let features = features.and_then(|text| text.parse().ok()).filter(|count| *count > 0usize);
        let features =
            features.ok_or_else(|| corrupt("does not say how many features it takes"))?;
        if !matches!(booster.objective_type, ObjectiveType::LogLoss) {
            return Err(corrupt("its objective is not logistic loss"));
        }
        if !booster.missing.is_nan() || !booster.base_score.is_finite() {
            return Err(corrupt("`missing` is not NaN, or `base_score` not finite"));
        }
        let used = booster.prediction_iteration.unwrap_or(booster.trees.len());
        let (mut nodes, mut roots) = (Vec::new(), Vec::new());
        for (position, tree) in booster.trees.iter().take(used).enumerate() {
            let start = nodes.len();
            let end = start + tree.nodes.len();
            let bad = || corrupt(&format!("tree {position} is no tree"));
            if tree.nodes.is_empty() || u32::try_from(end).is_err() {
                return Err(bad());
            }
            roots.push(start as u32);
            for (index, node) in tree.nodes.iter().enumerate() {
                if node.is_leaf {
                    let value = f64::from(node.weight_value);
                    if !value.is_finite() {
                        return Err(bad());
                    }
                    nodes.push(Node { value, feature: LEAF, left: 0, right: 0, missing: 0 });
                    continue;
                }
                // A child that stands behind its parent cannot lead back to it.
                let children = [node.left_child, node.right_child, node.missing_node];
                let inside = children.iter().all(|c| index < *c && *c < tree.nodes.len());
                if !inside || node.split_feature >= features || node.split_value.is_nan() {
                    return Err(bad());
                }
                let [left, right, missing] = children.map(|child| (start + child) as u32);
                let feature = u32::try_from(node.split_feature).map_err(|_| bad())?;
                nodes.push(Node { value: node.split_value, feature, left, right, missing });
            }
        }
        Ok(Self { nodes, roots, base: booster.base_score, features, json })
    }

    /// Writes the probability of each row of `rows` (row after row) to `out`.
    fn predict_chunk(&self, rows: &[f64], out: &mut [f64]) {
        out.fill(self.base);
        for root in &self.roots {
            for (row, margin) in rows.chunks_exact(self.features).zip(&mut *out) {
                *margin += self.leaf(*root, row);
            }
        }
        for margin in out {
            *margin = linear::sigmoid(*margin);
        }
    }

    fn leaf(&self, root: u32, row: &[f64]) -> f64 {
        let mut node = &self.nodes[root as usize];
        while node.feature != LEAF {
            let value = row[node.feature as usize];
            let next = if value < node.value {
                node.left
            } else if value.is_nan() {
                node.missing
            } else {
                node.right
            };
            node = &self.nodes[next as usize];
        }
        node.value
    }
}

impl Predictor for Forest {
    fn format(&self) -> &str {
        FORMAT
    }

    fn predict(&self, x: ArrayView2<f64>) -> Result<Array1<f64>> {
        checks::features(x, self.features)?;
        let mut out = vec![0.0; x.nrows()];
        let x = x.as_standard_layout();
        let rows = x.as_slice().context(ErrorKind::Internal, "matrix in row order")?;
        if out.len() <= CHUNK {
            self.predict_chunk(rows, &mut out);
        } else {
            let chunks = rows.par_chunks(CHUNK * self.features);
            chunks
                .zip(out.par_chunks_mut(CHUNK))
                .for_each(|(rows, out)| self.predict_chunk(rows, out));
        }
        Ok(out.into())
    }

    fn to_bytes(&self) -> Result<Vec<u8>> {
        Ok(self.json.clone())
    }
}

impl fmt::Debug for Forest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forest")
            .field("trees", &self.roots.len())
            .field("nodes", &self.nodes.len())
            .field("features", &self.features)
            .finish_non_exhaustive()
    }
}

/// Loads `forust-json`: the JSON of a booster of the crate `forust-ml` 0.8 with logistic loss,
/// whose metadata give the number of `features`.
#[derive(Clone, Copy, Debug, Default)]
pub struct ForustJson;

impl Loader for ForustJson {
    fn format(&self) -> &str {
        FORMAT
    }

    fn load(&self, bytes: &[u8]) -> Result<Arc<dyn Predictor>> {
        Ok(Arc::new(Forest::parse(bytes)?))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use forust_ml::Matrix;
    use kaizen_table::Estimator;
    use ndarray::Array2;
    use proptest::prelude::*;
    use rand::{Rng, SeedableRng};

    use super::*;
    use crate::GradientBoosting;

    fn trained(settings: &GradientBoosting, seed: u64) -> (Array2<f64>, Vec<u8>) {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        let x = Array2::from_shape_fn((1_500, 5), |_| {
            let value: f64 = rng.random_range(-1.0..1.0);
            if rng.random_bool(0.1) { f64::NAN } else { value }
        });
        let label = |row: ndarray::ArrayView1<f64>| f64::from(u8::from(row[0] * row[1] > 0.1));
        let y = x.rows().into_iter().map(label).collect::<Array1<f64>>();
        let bytes = settings.fit(x.view(), y.view(), seed).unwrap().to_bytes().unwrap();
        (x, bytes)
    }

    fn forty_trees() -> GradientBoosting {
        GradientBoosting { trees: 40, min_leaf_weight: 1.0, ..Default::default() }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn the_flat_trees_answer_what_the_library_answers_bit_for_bit(
            seed in any::<u64>(),
            trees in 1u32..40,
            max_depth in 1u32..12,
            subsample in 0.2f64..=1.0,
            bins in 2u16..300,
        ) {
            let settings =
                GradientBoosting { trees, max_depth, subsample, bins, ..forty_trees() };
            let (x, bytes) = trained(&settings, seed);
            let booster = GradientBooster::from_json(std::str::from_utf8(&bytes).unwrap()).unwrap();
            let columns: Vec<f64> = x.t().iter().copied().collect();
            let margins = booster.predict(&Matrix::new(&columns, x.nrows(), x.ncols()), false);
            let ours = Forest::parse(&bytes).unwrap().predict(x.view()).unwrap();
            for (ours, margin) in ours.iter().zip(margins) {
                prop_assert_eq!(ours.to_bits(), linear::sigmoid(margin).to_bits());
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn a_damaged_file_is_refused_or_answers_probabilities(
            place in any::<prop::sample::Index>(),
            byte in prop::sample::select(b"0123456789-.e,:[]{}\"".to_vec()),
        ) {
            static SOUND: LazyLock<(Array2<f64>, Vec<u8>)> = LazyLock::new(|| {
                trained(&GradientBoosting { trees: 2, max_depth: 3, ..forty_trees() }, 3)
            });
            let (x, bytes) = &*SOUND;
            let mut bytes = bytes.clone();
            let place = place.index(bytes.len());
            bytes[place] = byte;
            match ForustJson.load(&bytes) {
                Err(error) => prop_assert_eq!(error.kind(), ErrorKind::Corrupt),
                Ok(forest) => {
                    if let Ok(scores) = forest.predict(x.view()) {
                        prop_assert!(scores.iter().all(|score| (0.0..=1.0).contains(score)));
                    }
                }
            }
        }
    }

    #[test]
    fn trees_that_lead_astray_are_refused() {
        let (_, bytes) = trained(&forty_trees(), 3);
        let text = String::from_utf8(bytes).unwrap();
        let load = |text: &str| ForustJson.load(text.as_bytes()).unwrap_err();
        for (from, to, part) in [
            (r#""left_child":1"#, r#""left_child":0"#, "tree 0"),
            (r#""right_child":2"#, r#""right_child":99999"#, "tree 0"),
            (r#""split_feature":1"#, r#""split_feature":5"#, "is no tree"),
            (r#""LogLoss""#, r#""SquaredLoss""#, "objective"),
            (r#""features":"5""#, r#""f":"5""#, "features"),
            (r#""features":"5""#, r#""features":"0""#, "features"),
            (r#""missing":null"#, r#""missing":-1.0"#, "missing"),
        ] {
            assert!(text.contains(from), "{from}");
            let error = load(&text.replacen(from, to, 1));
            assert_eq!(error.kind(), ErrorKind::Corrupt);
            assert!(error.to_string().contains(part), "{error}");
        }
    }
}
