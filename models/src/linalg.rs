//! The small part of linear algebra that the models need, without LAPACK.

use ndarray::{Array1, Array2, ArrayView1};

/// Lower triangle L of A = LLᵀ, for a symmetric positive definite A; `None` for other matrices. G.
/// H. Golub, C. F. Van Loan, "Matrix Computations", 4th ed., 2013, algorithm 4.2.2.
pub(crate) fn cholesky(mut a: Array2<f64>) -> Option<Array2<f64>> {
    let n = a.nrows();
    for j in 0..n {
        let head: Vec<f64> = a.row(j).iter().take(j).copied().collect();
        let pivot = a[(j, j)] - head.iter().map(|value| value * value).sum::<f64>();
        if pivot.is_nan() || pivot <= 0.0 {
            return None;
        }
        a[(j, j)] = pivot.sqrt();
        for i in j + 1..n {
            let known: f64 = a.row(i).iter().zip(&head).map(|(a, b)| a * b).sum();
            a[(i, j)] = (a[(i, j)] - known) / a[(j, j)];
            a[(j, i)] = 0.0;
        }
    }
    Some(a)
}

/// Solves Ly = b for y.
pub(crate) fn forward_substitute(l: &Array2<f64>, mut b: Array1<f64>) -> Array1<f64> {
    for i in 0..b.len() {
        let known: f64 = l.row(i).iter().zip(&b).take(i).map(|(l, y)| l * y).sum();
        b[i] = (b[i] - known) / l[(i, i)];
    }
    b
}

/// Solves Lᵀx = b for x.
pub(crate) fn back_substitute(l: &Array2<f64>, mut b: Array1<f64>) -> Array1<f64> {
    for i in (0..b.len()).rev() {
        let known: f64 = l.column(i).iter().zip(&b).skip(i + 1).map(|(l, x)| l * x).sum();
        b[i] = (b[i] - known) / l[(i, i)];
    }
    b
}

/// Solves Ax = b for x, for a symmetric positive definite A.
pub(crate) fn solve_positive_definite(a: Array2<f64>, b: Array1<f64>) -> Option<Array1<f64>> {
    let l = cholesky(a)?;
    let half = forward_substitute(&l, b);
    Some(back_substitute(&l, half))
}

/// Number of partial sums that are computed side by side. The compiler may not reorder sums of
/// floats by itself.
const LANES: usize = 8;

/// |a − b|².
pub(crate) fn squared_distance(a: ArrayView1<f64>, b: ArrayView1<f64>) -> f64 {
    let mut lanes = [0.0; LANES];
    for_each_difference(a, b, |lane, gap| lanes[lane] += gap * gap);
    lanes.iter().sum()
}

/// |a − b|² over the inputs that are not NaN in both, and the number of these inputs.
pub(crate) fn common_squared_distance(a: ArrayView1<f64>, b: ArrayView1<f64>) -> (f64, f64) {
    let (mut lanes, mut common) = ([0.0; LANES], [0.0; LANES]);
    for_each_difference(a, b, |lane, gap| {
        let both = !gap.is_nan();
        lanes[lane] += if both { gap * gap } else { 0.0 };
        common[lane] += if both { 1.0 } else { 0.0 };
    });
    (lanes.iter().sum(), common.iter().sum())
}

/// Passes each difference to one of the lanes in turn.
#[inline]
fn for_each_difference(a: ArrayView1<f64>, b: ArrayView1<f64>, mut take: impl FnMut(usize, f64)) {
    let (Some(a), Some(b)) = (a.as_slice(), b.as_slice()) else {
        a.iter().zip(b).enumerate().for_each(|(i, (a, b))| take(i % LANES, a - b));
        return;
    };
    let (mut a, mut b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    for (a, b) in a.by_ref().zip(b.by_ref()) {
        for lane in 0..LANES {
            take(lane, a[lane] - b[lane]);
        }
    }
    let rest = a.remainder().iter().zip(b.remainder());
    rest.enumerate().for_each(|(lane, (a, b))| take(lane, a - b));
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn distances_are_the_same_whatever_the_layout() {
        let rows = Array2::from_shape_fn((2, 21), |(i, j)| ((7 * i + 3 * j) % 11) as f64);
        let columns = rows.t().as_standard_layout().to_owned();
        let expect: f64 = (0..21).map(|j| (rows[(0, j)] - rows[(1, j)]).powi(2)).sum();
        assert_eq!(squared_distance(rows.row(0), rows.row(1)), expect);
        assert_eq!(squared_distance(columns.column(0), columns.column(1)), expect);
        assert_eq!(common_squared_distance(rows.row(0), rows.row(1)), (expect, 21.0));
        let mut holed = rows.row(0).to_owned();
        holed[20] = f64::NAN;
        let last = (rows[(0, 20)] - rows[(1, 20)]).powi(2);
        let got = common_squared_distance(holed.view(), rows.row(1));
        assert_eq!(got, (expect - last, 20.0));
    }

    #[test]
    fn solves_and_refuses() {
        let a = array![[4.0, 2.0, 0.6], [2.0, 5.0, 1.0], [0.6, 1.0, 3.0]];
        let x = array![1.0, -2.0, 3.0];
        let got = solve_positive_definite(a.clone(), a.dot(&x)).unwrap();
        assert!((got - x).iter().all(|e| e.abs() < 1e-12));
        assert!(cholesky(array![[1.0, 2.0], [2.0, 1.0]]).is_none(), "not positive definite");
    }
}
