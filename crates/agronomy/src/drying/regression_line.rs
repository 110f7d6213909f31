use serde::{Deserialize, Serialize};

/// Least-squares line through readings, stored as centred moments instead of sums of squares, so
/// that a small slope on a high level keeps its digits. Sources: B. P. Welford, Technometrics
/// 4(3), 1962; P. Pébay, "Formulas for robust, one-pass parallel computation of covariances",
/// SAND2008-6212, 2008.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct RegressionLine {
    pub(super) count: u64,
    /// Mean hour after the first reading; `pct` is the mean moisture, %.
    hour: f64,
    pub(super) pct: f64,
    /// Σ (t − t̄)², Σ (v − v̄)², Σ (t − t̄)(v − v̄).
    hour_m2: f64,
    pub(super) pct_m2: f64,
    co_m2: f64,
    /// Σ over neighbours of Δt², ΔtΔv and Δv².
    steps: [f64; 3],
    last: [f64; 2],
}

impl RegressionLine {
    /// Adds the next reading, `hour` after the first.
    pub(super) fn add_reading(&mut self, hour: f64, pct: f64) {
        if self.count > 0 {
            let (dt, dv) = (hour - self.last[0], pct - self.last[1]);
            self.steps =
                [self.steps[0] + dt * dt, self.steps[1] + dt * dv, self.steps[2] + dv * dv];
        }
        self.count += 1;
        let n = self.count as f64;
        let (dt, dv) = (hour - self.hour, pct - self.pct);
        self.hour += dt / n;
        self.pct += dv / n;
        self.hour_m2 += dt * (hour - self.hour);
        self.pct_m2 += dv * (pct - self.pct);
        self.co_m2 += dt * (pct - self.pct);
        self.last = [hour, pct];
    }

    /// Slope, %/h. Needs two readings at different times.
    pub(super) fn slope(&self) -> Option<f64> {
        (self.hour_m2 > 0.0).then(|| self.co_m2 / self.hour_m2)
    }

    /// Share of the variance that the line explains, 0–1. `None` where all values are equal.
    pub(super) fn r2(&self) -> Option<f64> {
        let defined = self.hour_m2 > 0.0 && self.pct_m2 > 0.0;
        defined.then(|| (self.co_m2 / self.hour_m2 * (self.co_m2 / self.pct_m2)).clamp(0.0, 1.0))
    }

    /// Sum of squared residuals, ≥ 0.
    pub(super) fn residual_m2(&self) -> f64 {
        let explained = self.slope().map_or(0.0, |slope| slope * self.co_m2);
        (self.pct_m2 - explained).max(0.0)
    }

    /// Standard error of the slope, %/h. Needs three readings.
    ///
    /// The least-squares error is widened by √((1 + ρ)/(1 − ρ)) where neighbouring residuals are
    /// correlated (ρ > 0), because they carry less information: B. D. Santer et al., J. Geophys.
    /// Res. 105(D6), 2000. ρ comes from the mean squared successive difference: J. von Neumann,
    /// Ann. Math. Stat. 12(4), 1941.
    pub(super) fn slope_se(&self) -> Option<f64> {
        let slope = self.slope().filter(|_| self.count > 2)?;
        let n = self.count as f64;
        let residual = self.residual_m2();
        let least_squares_se = (residual / (n - 2.0) / self.hour_m2).sqrt();
        if residual <= f64::EPSILON * self.pct_m2 {
            return Some(least_squares_se);
        }
        let [tt, tv, vv] = self.steps;
        let successive = (vv - 2.0 * slope * tv + slope * slope * tt).max(0.0) / (n - 1.0);
        let rho = (1.0 - successive / (2.0 * residual / n)).clamp(0.0, 1.0 - 2.0 / n);
        Some(least_squares_se * ((1.0 + rho) / (1.0 - rho)).sqrt())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: Option<f64>, expect: f64) {
        let found = found.expect("defined");
        assert!((found - expect).abs() <= 1e-9 * expect.abs().max(1.0), "{found} is not {expect}");
    }

    fn of(values: &[(f64, f64)]) -> RegressionLine {
        let mut line = RegressionLine::default();
        values.iter().for_each(|(hour, pct)| line.add_reading(*hour, *pct));
        line
    }

    #[test]
    fn slope_error_and_fit_are_those_of_the_textbook() {
        // F. J. Anscombe, "Graphs in statistical analysis", 1973, set I:
        // slope 0.5001, standard error 0.1179, R² 0.6665
        let anscombe = [
            (10.0, 8.04),
            (8.0, 6.95),
            (13.0, 7.58),
            (9.0, 8.81),
            (11.0, 8.33),
            (14.0, 9.96),
            (6.0, 7.24),
            (4.0, 4.26),
            (12.0, 10.84),
            (7.0, 4.82),
            (5.0, 5.68),
        ];
        let line = of(&anscombe);
        close(line.slope(), 0.500_090_909_090_909);
        close(line.r2(), 0.666_542_459_508_775_2);
        assert!((line.slope_se().unwrap() - 0.1179).abs() < 5e-5, "{:?}", line.slope_se());
    }

    #[test]
    fn what_is_not_defined_is_none() {
        assert_eq!(of(&[(0.0, 3.0)]).slope(), None);
        assert_eq!(of(&[(1.0, 3.0), (1.0, 4.0)]).slope(), None);
        assert_eq!(of(&[(0.0, 3.0), (1.0, 3.0), (2.0, 3.0)]).r2(), None);
        assert_eq!(of(&[(0.0, 3.0), (1.0, 2.0)]).slope_se(), None);
        close(of(&[(0.0, 3.0), (1.0, 2.0), (2.0, 1.0)]).slope_se(), 0.0);
    }

    #[test]
    fn a_wavy_trend_is_less_certain_than_a_noisy_one() {
        let at = |f: fn(f64) -> f64| -> RegressionLine {
            of(&(0..100)
                .map(|i| (f64::from(i), 50.0 - 0.1 * f64::from(i) + f(f64::from(i))))
                .collect::<Vec<_>>())
        };
        let noisy = at(|i| if i % 2.0 == 0.0 { 1.0 } else { -1.0 });
        let wavy = at(|i| (i / 8.0).sin() * std::f64::consts::SQRT_2);
        assert!(wavy.slope_se().unwrap() > 3.0 * noisy.slope_se().unwrap());
    }
}
