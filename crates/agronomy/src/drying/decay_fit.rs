use serde::{Deserialize, Serialize};

use super::regression_line::RegressionLine;

/// Number of time constants that are tried: from 2 h to 43 d, four per doubling.
const TRIED: usize = 37;
const SHORTEST_H: f64 = 2.0;
const PER_DOUBLING: usize = 4;
/// Fourth root of 2.
const RATIO: f64 = 1.189_207_115_002_721;
const TAU_H: [f64; TRIED] = {
    let mut tau_h = [SHORTEST_H; TRIED];
    let mut i = 1;
    while i < TRIED {
        tau_h[i] = tau_h[i - 1] * RATIO;
        i += 1;
    }
    tau_h
};
/// Fewest readings that can tell a curve from a line.
const COUNT_MIN: u64 = 8;
/// Limits by which the curve must be better than the line: the F statistic of one more parameter,
/// and the share of the line's squared residuals that may remain.
const F_MIN: f64 = 10.0;
const RESIDUAL_SHARE_MAX: f64 = 0.7;

/// Fits θ(t) = θr + A·e^(−t/τ), the dry-down of soil that loses water in proportion to what it can
/// still lose: K. A. McColl et al., "Global characterization of surface soil moisture drydowns",
/// Geophys. Res. Lett. 44, 2017.
///
/// For a given τ the curve is a straight line in e^(−t/τ), so centred moments suffice. The fitter
/// carries several τ along and interpolates the best (variable projection: G. H. Golub, V. Pereyra,
/// SIAM J. Numer. Anal. 10(2), 1973). Memory does not grow with the number of readings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Candidate>")]
pub(super) struct DecayFitter(Vec<Candidate>);

impl TryFrom<Vec<Candidate>> for DecayFitter {
    type Error = String;

    /// Refuses a state that another version saved with another number of time constants.
    fn try_from(candidates: Vec<Candidate>) -> Result<Self, String> {
        match candidates.len() {
            TRIED => Ok(Self(candidates)),
            found => Err(format!(
                "{found} time constants in the saved state, expected {TRIED}: the state is from \
                another version; feed the readings again"
            )),
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Candidate {
    /// Mean of e = e^(−t/τ), Σ (e − ē)², Σ (e − ē)(v − v̄).
    mean: f64,
    m2: f64,
    co_m2: f64,
}

/// A fitted dry-down.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct DecayCurve {
    /// Time, h, in which the remaining loss falls to 1/e.
    pub(super) tau_h: f64,
    /// Moisture that the curve tends to, %.
    pub(super) residual_pct: f64,
}

impl Default for DecayFitter {
    fn default() -> Self {
        Self(vec![Candidate::default(); TRIED])
    }
}

impl DecayFitter {
    /// Adds a reading, %, at an hour of the segment. `line` must hold the reading already.
    pub(super) fn add_reading(&mut self, hour: f64, pct: f64, line: &RegressionLine) {
        let share = 1.0 / line.count as f64;
        // The value of twice the time constant is the square root of this one, so squaring gives
        // all but the longest few.
        let mut decayed = [0.0; TRIED];
        for i in (0..TRIED).rev() {
            decayed[i] = match decayed.get(i + PER_DOUBLING) {
                Some(root) => root * root,
                None => (-hour / TAU_H[i]).exp(),
            };
        }
        for (candidate, e) in self.0.iter_mut().zip(decayed) {
            let de = e - candidate.mean;
            candidate.mean += de * share;
            candidate.m2 += de * (e - candidate.mean);
            candidate.co_m2 += de * (pct - line.pct);
        }
    }

    /// Best curve, if it falls and is clearly better than a line.
    pub(super) fn best_curve(&self, line: &RegressionLine) -> Option<DecayCurve> {
        if line.count < COUNT_MIN || line.pct_m2 <= 0.0 {
            return None;
        }
        let residuals: Vec<f64> = self.0.iter().map(|c| c.residual_m2(line)).collect();
        let best = (0..TRIED).min_by(|a, b| residuals[*a].total_cmp(&residuals[*b]))?;
        // At an end of the range, a better value may lie outside it.
        if best == 0 || best == TRIED - 1 {
            return None;
        }
        let by_line = line.residual_m2();
        let left = residuals[best].max(f64::EPSILON * line.pct_m2);
        let f = (by_line - left) / (left / (line.count as f64 - 3.0));
        if f < F_MIN || left > RESIDUAL_SHARE_MAX * by_line {
            return None;
        }
        let around = [best - 1, best, best + 1];
        // Between the time constants tried, everything is smoother in 1/τ than in τ.
        let rates = around.map(|i| 1.0 / TAU_H[i]);
        let rate = parabola_vertex(rates, around.map(|i| residuals[i]));
        let curve = DecayCurve {
            tau_h: 1.0 / rate,
            residual_pct: parabola_value(rates, around.map(|i| self.0[i].residual_pct(line)), rate),
        };
        let falls = self.0[best].co_m2 > 0.0;
        (falls && curve.residual_pct.is_finite()).then_some(curve)
    }
}

impl Candidate {
    fn residual_m2(&self, line: &RegressionLine) -> f64 {
        if self.m2 > 0.0 {
            (line.pct_m2 - self.co_m2 * (self.co_m2 / self.m2)).max(0.0)
        } else {
            line.pct_m2
        }
    }

    fn residual_pct(&self, line: &RegressionLine) -> f64 {
        line.pct - self.co_m2 / self.m2 * self.mean
    }
}

/// Position of the minimum of the parabola through three points, of which `y[1]` is the lowest. The
/// result is never nearer to another point than to the middle one.
fn parabola_vertex(x: [f64; 3], y: [f64; 3]) -> f64 {
    let [before, after] = [x[0] - x[1], x[2] - x[1]];
    let [rise_before, rise_after] = [y[0] - y[1], y[2] - y[1]];
    let bend = rise_before * after - rise_after * before;
    let lean = rise_before * after * after - rise_after * before * before;
    let ends = [before / 2.0, after / 2.0];
    let offset = if bend == 0.0 { 0.0 } else { lean / (2.0 * bend) };
    x[1] + offset.clamp(ends[0].min(ends[1]), ends[0].max(ends[1]))
}

/// Value at `at` of the parabola through three points.
fn parabola_value(x: [f64; 3], y: [f64; 3], at: f64) -> f64 {
    let weight =
        |i: usize, j: usize, k: usize| (at - x[j]) * (at - x[k]) / ((x[i] - x[j]) * (x[i] - x[k]));
    y[0] * weight(0, 1, 2) + y[1] * weight(1, 0, 2) + y[2] * weight(2, 0, 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(value: impl Fn(f64) -> f64, step_h: f64, count: u32) -> Option<DecayCurve> {
        let (mut line, mut decay) = (RegressionLine::default(), DecayFitter::default());
        for i in 0..count {
            let hour = f64::from(i) * step_h;
            line.add_reading(hour, value(hour));
            decay.add_reading(hour, value(hour), &line);
        }
        decay.best_curve(&line)
    }

    fn check(tau_h: f64, residual_pct: f64, amplitude_pct: f64) {
        let curve = of(|t| residual_pct + amplitude_pct * (-t / tau_h).exp(), tau_h / 40.0, 100)
            .expect("a curve");
        let off = (curve.tau_h / tau_h - 1.0).abs();
        assert!(off < 0.005, "{curve:?} is not {tau_h} h");
        let off = (curve.residual_pct - residual_pct).abs();
        assert!(off < 0.01 * amplitude_pct, "{curve:?} does not tend to {residual_pct} %");
    }

    #[test]
    fn the_constants_of_a_dry_down_are_found() {
        check(5.0, 12.0, 30.0);
        check(30.0, -4.0, 10.0);
        check(100.0, 20.0, 1.0);
        check(333.0, 0.0, 50.0);
    }

    #[test]
    fn the_state_of_another_version_is_refused() {
        let saved = serde_json::to_string(&DecayFitter::default()).unwrap();
        assert_eq!(serde_json::from_str::<DecayFitter>(&saved).unwrap(), DecayFitter::default());
        let error = serde_json::from_str::<DecayFitter>("[]").unwrap_err().to_string();
        assert!(error.contains("another version"), "{error}");
    }

    #[test]
    fn a_line_a_rise_and_a_flat_are_no_dry_down() {
        assert_eq!(of(|t| 50.0 - 0.5 * t, 1.0, 60), None);
        assert_eq!(of(|t| 50.0 - 20.0 * (-t / 20.0).exp(), 1.0, 60), None);
        assert_eq!(of(|_| 50.0, 1.0, 60), None);
        assert_eq!(of(|t| 20.0 * (-t / 3.0).exp(), 1.0, 5), None, "too few");
        // The many readings make the curve significant, but its advantage is too small to matter.
        let noisy = |t: f64| if (t * 10.0).round() % 2.0 == 0.0 { 1.0 } else { -1.0 };
        assert_eq!(of(|t| 50.0 - 0.1 * t + 2.0 * (-t / 20.0).exp() + noisy(t), 0.1, 1000), None);
    }
}
