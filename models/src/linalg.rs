//! The little linear algebra that is needed, without LAPACK.

use ndarray::{Array1, Array2};

/// The lower triangle L of A = LLᵀ, for a symmetric positive definite A; none
/// where A is not. G. H. Golub, C. F. Van Loan, "Matrix Computations", 4th
/// ed., 2013, algorithm 4.2.2.
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

/// y of Ly = b.
pub(crate) fn forward(l: &Array2<f64>, mut b: Array1<f64>) -> Array1<f64> {
    for i in 0..b.len() {
        let known: f64 = l.row(i).iter().zip(&b).take(i).map(|(l, y)| l * y).sum();
        b[i] = (b[i] - known) / l[(i, i)];
    }
    b
}

/// x of Ax = b, for a symmetric positive definite A.
pub(crate) fn solve(a: Array2<f64>, b: Array1<f64>) -> Option<Array1<f64>> {
    let l = cholesky(a)?;
    let mut x = forward(&l, b);
    for i in (0..x.len()).rev() {
        let known: f64 = l.column(i).iter().zip(&x).skip(i + 1).map(|(l, x)| l * x).sum();
        x[i] = (x[i] - known) / l[(i, i)];
    }
    Some(x)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn solves_and_refuses() {
        let a = array![[4.0, 2.0, 0.6], [2.0, 5.0, 1.0], [0.6, 1.0, 3.0]];
        let x = array![1.0, -2.0, 3.0];
        let got = solve(a.clone(), a.dot(&x)).unwrap();
        assert!((got - x).iter().all(|e| e.abs() < 1e-12));
        assert!(cholesky(array![[1.0, 2.0], [2.0, 1.0]]).is_none(), "not positive definite");
    }
}
