//! Newton's method for the penalised log loss.

use candle_core::{Device, Tensor};
use kaizen_core::{Context, Error, ErrorKind, Result};
use ndarray::{Array1, Array2, ArrayView1, ArrayView2};
use rayon::prelude::*;

use crate::LogisticRegression;

/// Rows per block. Blocks are summed in order, so that the sums do not depend on the threads.
const BLOCK: usize = 8_192;

/// How much of the decrease that the slope promises a step must bring (Armijo).
const SUFFICIENT: f64 = 1e-4;

/// The weights that minimise the mean log loss plus `l2 / 2n` times their squares, the last one's
/// (the intercept's) excepted. `x`: rows × weights, its last column ones. `y`: rows, 0 or 1.
pub(crate) fn minimise(
    settings: &LogisticRegression,
    x: ArrayView2<f64>,
    y: ArrayView1<f64>,
) -> Result<Vec<f64>> {
    let problem = Problem::new(settings, x, y)?;
    let mut weights = Array1::zeros(x.ncols());
    let mut here = problem.at(&weights)?;
    for step in 0..settings.max_iterations {
        let slope = here.gradient.iter().fold(0.0, |max: f64, g| max.max(g.abs()));
        tracing::trace!(step, loss = here.loss, slope, "newton");
        if slope <= settings.tolerance {
            return Ok(weights.to_vec());
        }
        let direction = solve(&here.hessian, &here.gradient)?;
        (weights, here) = problem.descend(&weights, &here, &direction)?;
    }
    let (steps, tolerance) = (settings.max_iterations, settings.tolerance);
    let message = format!("logistic regression: {steps} steps do not reach tolerance {tolerance}");
    Err(Error::new(ErrorKind::Limit, message))
}

struct Problem {
    /// The rows' features and labels, block by block.
    blocks: Vec<(Tensor, Tensor)>,
    device: Device,
    rows: f64,
    l2: f64,
}

/// The objective at a point.
struct Point {
    loss: f64,
    gradient: Array1<f64>,
    hessian: Array2<f64>,
}

impl Problem {
    fn new(settings: &LogisticRegression, x: ArrayView2<f64>, y: ArrayView1<f64>) -> Result<Self> {
        let device = settings.device.open()?;
        let x = x.as_standard_layout();
        let values = x.as_slice().context(ErrorKind::Internal, "matrix in row order")?;
        let y = y.to_vec();
        let block = |(x_block, y_block): (&[f64], &[f64])| {
            let rows = y_block.len();
            let x_block = Tensor::from_slice(x_block, (rows, x.ncols()), &device)?;
            Ok((x_block, Tensor::from_slice(y_block, (rows, 1), &device)?))
        };
        let blocks = values.chunks(BLOCK * x.ncols()).zip(y.chunks(BLOCK)).map(block);
        let blocks =
            blocks.collect::<candle_core::Result<_>>().context(ErrorKind::Internal, OPS)?;
        Ok(Self { blocks, device, rows: y.len() as f64, l2: settings.l2 })
    }

    /// The objective at these weights.
    fn at(&self, weights: &Array1<f64>) -> Result<Point> {
        let count = weights.len();
        let of_block = |(x, y): &(Tensor, Tensor)| block_terms(x, y, weights);
        // One GPU works one block at a time; on the CPU each core takes a block.
        let terms: candle_core::Result<Vec<Terms>> = match self.device {
            Device::Cpu => self.blocks.par_iter().map(of_block).collect(),
            _ => self.blocks.iter().map(of_block).collect(),
        };
        let mut loss = 0.0;
        let mut gradient = Array1::zeros(count);
        let mut hessian = Array2::zeros((count, count));
        for block in terms.context(ErrorKind::Internal, OPS)? {
            loss += block.loss;
            gradient += &ArrayView1::from(&block.gradient);
            let block_hessian = ArrayView2::from_shape(hessian.dim(), &block.hessian);
            hessian += &block_hessian.context(ErrorKind::Internal, OPS)?;
        }
        loss /= self.rows;
        gradient /= self.rows;
        hessian /= self.rows;
        let penalty = self.l2 / self.rows;
        for index in 0..count - 1 {
            loss += 0.5 * penalty * weights[index] * weights[index];
            gradient[index] += penalty * weights[index];
            hessian[[index, index]] += penalty;
        }
        Ok(Point { loss, gradient, hessian })
    }

    /// Goes against `direction`, half as far until that brings enough.
    fn descend(
        &self,
        weights: &Array1<f64>,
        here: &Point,
        direction: &Array1<f64>,
    ) -> Result<(Array1<f64>, Point)> {
        let promised = here.gradient.dot(direction);
        let mut length = 1.0;
        loop {
            let next = weights - &(direction * length);
            let there = self.at(&next)?;
            // Near the minimum the loss changes by less than its rounding: let the step through.
            let rounding = 1e-14 * here.loss.abs();
            if there.loss <= here.loss - SUFFICIENT * length * promised + rounding || length < 1e-9
            {
                return Ok((next, there));
            }
            length *= 0.5;
        }
    }
}

const OPS: &str = "tensor operations of logistic regression";

/// One block's part of the sums.
struct Terms {
    loss: f64,
    gradient: Vec<f64>,
    hessian: Vec<f64>,
}

fn block_terms(x: &Tensor, y: &Tensor, weights: &Array1<f64>) -> candle_core::Result<Terms> {
    let weights = Tensor::from_iter(weights.iter().copied(), x.device())?.unsqueeze(1)?;
    let margin = x.matmul(&weights)?;
    // ln(1 + e^m) - y m, written so that e is never raised above 0.
    let tail = (margin.abs()?.neg()?.exp()? + 1.0)?.log()?;
    let loss = ((margin.relu()? - (&margin * y)?)? + tail)?.sum_all()?.to_scalar::<f64>()?;
    let probability = (margin.neg()?.exp()? + 1.0)?.recip()?;
    let transposed = x.t()?.contiguous()?;
    let gradient = transposed.matmul(&(&probability - y)?)?.flatten_all()?.to_vec1()?;
    let curvature = (&probability * probability.affine(-1.0, 1.0)?)?;
    let hessian = transposed.matmul(&x.broadcast_mul(&curvature)?)?.flatten_all()?.to_vec1()?;
    Ok(Terms { loss, gradient, hessian })
}

/// Solves `a s = b` for a symmetric, positive definite `a` by Cholesky's factorisation, with the
/// smallest ridge that makes it one.
fn solve(a: &Array2<f64>, b: &Array1<f64>) -> Result<Array1<f64>> {
    let largest = a.diag().iter().fold(0.0, |max: f64, v| max.max(*v));
    let mut ridge = 0.0;
    for _ in 0..20 {
        if let Some(factor) = cholesky(a, ridge) {
            return Ok(substitute(&factor, b));
        }
        ridge = if ridge == 0.0 { 1e-14 * largest.max(1e-300) } else { ridge * 10.0 };
    }
    Err(Error::internal("logistic regression: its curvature is not positive"))
}

/// The lower triangle whose product with its transpose is `a` plus the ridge, if there is one.
fn cholesky(a: &Array2<f64>, ridge: f64) -> Option<Array2<f64>> {
    let count = a.nrows();
    let mut factor = Array2::<f64>::zeros((count, count));
    for row in 0..count {
        for column in 0..=row {
            let done = (0..column).map(|k| factor[[row, k]] * factor[[column, k]]);
            let rest = a[[row, column]] - done.sum::<f64>();
            if row == column {
                let pivot = rest + ridge;
                if !(pivot > 0.0 && pivot.is_finite()) {
                    return None;
                }
                factor[[row, row]] = pivot.sqrt();
            } else {
                factor[[row, column]] = rest / factor[[column, column]];
            }
        }
    }
    Some(factor)
}

fn substitute(factor: &Array2<f64>, b: &Array1<f64>) -> Array1<f64> {
    let count = b.len();
    let mut s = b.clone();
    for row in 0..count {
        let done: f64 = (0..row).map(|column| factor[[row, column]] * s[column]).sum();
        s[row] = (s[row] - done) / factor[[row, row]];
    }
    for row in (0..count).rev() {
        let done: f64 = (row + 1..count).map(|below| factor[[below, row]] * s[below]).sum();
        s[row] = (s[row] - done) / factor[[row, row]];
    }
    s
}
