//! Gate: the tests that a version must pass before it is served.

use serde::{Deserialize, Serialize};

use crate::stats::diebold_mariano::{diebold_mariano, p_value_text};

/// Limits that a version must keep to pass the gate.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PromotionGate {
    /// Highest accepted probability that the gain is chance, 0 to 1.
    pub p_max: f64,
    /// Longest time of one prediction, 99th percentile, µs.
    pub latency_p99_us_max: f64,
    /// Largest artifact, bytes.
    pub size_bytes_max: usize,
}

/// Comparison of a version and its rival on the same held-out rows.
#[derive(Clone, Debug, PartialEq)]
pub struct ChampionTrial {
    /// Version of the rival; `None` if the rival is the task's baseline, because there is no
    /// champion yet.
    pub against: Option<u64>,
    /// Name of the rival.
    pub rival: String,
    /// Name of the loss: `squared error`, `absolute error`.
    pub loss_name: String,
    /// First and last event time of the rows, UTC ms.
    pub span_ms: (i64, i64),
    /// Number of rows.
    pub rows: usize,
    /// Mean loss of the version at each time, in the order of time.
    pub losses: Vec<f64>,
    /// Mean loss of the rival at each time, in the order of time.
    pub rival_losses: Vec<f64>,
    /// Number of these times from a row to its target.
    pub horizon: usize,
    /// Latency of one prediction, 99th percentile, µs.
    pub latency_p99_us: f64,
    /// Size of the artifact, bytes.
    pub size_bytes: usize,
}

/// Verdict of the gate on a version, with the figures that it rests on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GateVerdict {
    /// Whether the version passed.
    pub passed: bool,
    /// Reasons of a refusal; empty if the version passed.
    pub reasons: Vec<String>,
    /// See [`ChampionTrial::against`].
    pub against: Option<u64>,
    /// See [`ChampionTrial::rival`].
    pub rival: String,
    /// See [`ChampionTrial::loss_name`].
    pub loss_name: String,
    /// See [`ChampionTrial::span_ms`].
    pub span_ms: (i64, i64),
    /// Number of rows.
    pub rows: usize,
    /// Number of times.
    pub times: usize,
    /// Mean loss of the version.
    pub loss: Option<f64>,
    /// Mean loss of the rival.
    pub rival_loss: Option<f64>,
    /// Probability of such a difference if both are equally good; `None` if it cannot be computed.
    pub p_value: Option<f64>,
    /// Difference in units of its standard error; below 0 if the version is better.
    pub statistic: Option<f64>,
    /// See [`ChampionTrial::latency_p99_us`].
    pub latency_p99_us: f64,
    /// See [`ChampionTrial::size_bytes`].
    pub size_bytes: usize,
}

/// Value of [`ChampionTrial::rival`] for a first model whose task has no baseline.
pub const NO_RIVAL: &str = "nothing";

impl GateVerdict {
    /// Returns the share of the rival's loss that the version avoids.
    #[must_use]
    pub fn relative_gain(&self) -> Option<f64> {
        let (loss, rival) = (self.loss?, self.rival_loss?);
        (rival > 0.0).then(|| 1.0 - loss / rival)
    }

    /// Returns all reasons of a refusal in one line, or the evidence in favour of the version.
    #[must_use]
    pub fn reason(&self) -> String {
        if !self.reasons.is_empty() {
            return self.reasons.join("; ");
        }
        if self.rival == NO_RIVAL {
            return "the first of its task, which has nothing to be compared with".to_owned();
        }
        let gain = self.relative_gain().filter(|gain| *gain > 0.0).map_or(String::new(), |gain| {
            format!(" by {:.1} % of its {}", 100.0 * gain, self.loss_name)
        });
        let p = self.p_value.map_or(String::new(), |p| format!(", {}", p_value_text(p)));
        let how = if gain.is_empty() { "no worse than" } else { "better than" };
        format!("{how} {}{gain}{p} on {} held-out rows", self.rival, self.rows)
    }
}

impl PromotionGate {
    /// Judges the `attempt`-th candidate of one comparison, counted from 1. The first has
    /// been selected before the test set; a later one is tried because those before it
    /// were refused, and must show that its gain is more than the luck of another try:
    /// it is significant, with p below `p_max` over the number of the attempt.
    #[must_use]
    pub fn judge_attempt(&self, trial: &ChampionTrial, attempt: usize) -> GateVerdict {
        let attempt = attempt.max(1);
        let strict = Self { p_max: self.p_max / attempt as f64, ..*self };
        let mut verdict = strict.judge_trial(trial);
        let is_gain = verdict.relative_gain().is_some_and(|gain| gain > 0.0);
        let is_significant = verdict.p_value.is_some_and(|p| p < strict.p_max);
        if attempt > 1 && trial.against.is_none() && verdict.passed && !(is_gain && is_significant)
        {
            let p = verdict.p_value.map_or("p is unknown".to_owned(), p_value_text);
            verdict.passed = false;
            verdict.reasons.push(format!(
                "its gain over {} may be chance: {p}, expected below {:.3} at attempt {attempt}",
                verdict.rival, strict.p_max
            ));
        }
        verdict
    }

    /// Judges the champion's own kind, fitted again on newer rows: it passes unless the
    /// champion, which has seen more, is better beyond chance.
    #[must_use]
    pub fn judge_refit(&self, trial: &ChampionTrial) -> GateVerdict {
        let mut verdict = self.judge_trial(trial);
        let is_worse = verdict.relative_gain().is_some_and(|gain| gain < 0.0);
        let is_beyond_chance = verdict.p_value.is_none_or(|p| p < self.p_max);
        if trial.against.is_some() && !(is_worse && is_beyond_chance) {
            // Those of the loss go, those of time and size stay.
            verdict.reasons.retain(|own| !own.starts_with("its "));
            verdict.passed = verdict.reasons.is_empty();
        }
        verdict
    }

    /// Evaluates a version.
    ///
    /// A version that would replace a champion must have a smaller loss on the same rows, and the
    /// difference must be significant by the test of Diebold and Mariano with standard errors that
    /// account for overlap ([`diebold_mariano`]). A first version must not be worse than the
    /// baseline: a simpler model needs no proof. Either must be fast and small enough.
    #[must_use]
    pub fn judge_trial(&self, trial: &ChampionTrial) -> GateVerdict {
        let ChampionTrial { losses, rival_losses, rival, .. } = trial;
        let mean = |all: &[f64]| {
            let mean = all.iter().sum::<f64>() / all.len() as f64;
            mean.is_finite().then_some(mean)
        };
        let (loss, rival_loss) = (mean(losses), mean(rival_losses));
        let test = diebold_mariano(losses, rival_losses, trial.horizon);
        let mut reasons = Vec::new();
        let is_better = matches!((loss, rival_loss), (Some(own), Some(rival)) if own < rival);
        let is_worse = !matches!((loss, rival_loss), (Some(own), Some(rival)) if own <= rival);
        let is_significant = test.is_some_and(|test| test.p_value < self.p_max);
        let named = || trial.against.map_or(rival.clone(), |v| format!("{rival}, version {v},"));
        let p = || test.map_or("p is unknown".to_owned(), |test| p_value_text(test.p_value));
        match trial.against {
            Some(_) if !is_better => {
                let named = named();
                let rival = named.trim_end_matches(',');
                reasons.push(format!("its {} is not below that of {rival}", trial.loss_name));
            }
            Some(_) if !is_significant => reasons.push(format!(
                "its gain over {} may be chance: {}, expected below {}",
                named(),
                p(),
                self.p_max
            )),
            None if is_worse => {
                reasons.push(format!("it is worse than the baseline, {rival}: {}", p()));
            }
            _ => {}
        }
        // A time that is not a number is none that is short enough.
        let is_fast = trial.latency_p99_us <= self.latency_p99_us_max;
        if !is_fast {
            reasons.push(format!(
                "a prediction takes {:.0} µs (99th percentile), expected at most {:.0}",
                trial.latency_p99_us, self.latency_p99_us_max
            ));
        }
        if trial.size_bytes > self.size_bytes_max {
            let (size, most) = (trial.size_bytes, self.size_bytes_max);
            reasons.push(format!("it has {size} bytes, expected at most {most}"));
        }
        GateVerdict {
            passed: reasons.is_empty(),
            reasons,
            against: trial.against,
            rival: rival.clone(),
            loss_name: trial.loss_name.clone(),
            span_ms: trial.span_ms,
            rows: trial.rows,
            times: losses.len(),
            loss,
            rival_loss,
            p_value: test.map(|test| test.p_value),
            statistic: test.map(|test| test.statistic),
            latency_p99_us: trial.latency_p99_us,
            size_bytes: trial.size_bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GATE: PromotionGate =
        PromotionGate { p_max: 0.05, latency_p99_us_max: 1000.0, size_bytes_max: 1 << 20 };

    /// 200 times: the rival loses 1 and some noise, the version `better` less
    /// and some other noise.
    fn trial(against: Option<u64>, better: f64) -> ChampionTrial {
        let noise = |i: usize, of: usize| (i * 7919 % of) as f64 / of as f64 - 0.5;
        ChampionTrial {
            against,
            rival: "ridge".to_owned(),
            loss_name: "squared error".to_owned(),
            span_ms: (0, 1),
            rows: 200,
            losses: (0..200).map(|i| 2.0 - better + noise(i, 101)).collect(),
            rival_losses: (0..200).map(|i| 2.0 + noise(i, 89)).collect(),
            horizon: 10,
            latency_p99_us: 10.0,
            size_bytes: 1000,
        }
    }

    fn check(trial: ChampionTrial, expect: Option<&str>) {
        let verdict = GATE.judge_trial(&trial);
        match expect {
            None => assert!(verdict.passed, "{verdict:?}"),
            Some(part) => {
                assert!(!verdict.passed && verdict.reason().contains(part), "{verdict:?}");
            }
        }
    }

    #[test]
    fn a_gain_must_be_significant() {
        check(trial(Some(1), 0.5), None);
        check(trial(Some(1), 0.01), Some("may be chance: p = 0."));
        check(trial(Some(1), -0.5), Some("not below that of ridge, version 1"));
        let mut same = trial(Some(1), 0.0);
        same.losses = same.rival_losses.clone();
        check(same, Some("not below"));
        let few = ChampionTrial {
            losses: vec![0.1; 9],
            rival_losses: vec![1.0; 9],
            ..trial(Some(1), 0.5)
        };
        check(few, Some("p is unknown"));
        check(
            ChampionTrial { losses: vec![f64::NAN; 200], ..trial(Some(1), 0.5) },
            Some("not below"),
        );
    }

    #[test]
    fn the_first_must_be_no_worse_than_the_baseline() {
        check(trial(None, 0.5), None);
        check(trial(None, -0.01), None);
        check(trial(None, -0.5), Some("worse than the baseline"));
        let mut same = trial(None, 0.0);
        same.losses = same.rival_losses.clone();
        check(same, None);
        check(
            ChampionTrial { losses: vec![], rival_losses: vec![], ..trial(None, 0.0) },
            Some("worse"),
        );
    }

    #[test]
    fn a_later_attempt_needs_proof() {
        let passes = |trial: &ChampionTrial, attempt| GATE.judge_attempt(trial, attempt).passed;
        let (slight, clear) = (trial(None, 0.01), trial(None, 0.5));
        assert!(
            passes(&slight, 1) && !passes(&slight, 2),
            "no worse than the baseline is no proof"
        );
        assert!(passes(&clear, 1) && passes(&clear, 2) && passes(&clear, 5));
        let why = GATE.judge_attempt(&slight, 2).reason();
        assert!(why.contains("expected below 0.025 at attempt 2"), "{why}");
        assert!(!passes(&trial(Some(1), 0.01), 2) && passes(&trial(Some(1), 0.5), 2));
    }

    #[test]
    fn newer_rows_replace_a_champion_of_the_same_kind_unless_it_is_better() {
        let verdict = |better: f64| GATE.judge_refit(&trial(Some(1), better));
        assert!(verdict(0.5).passed && verdict(0.001).passed && verdict(-0.001).passed);
        let worse = verdict(-0.5);
        assert!(!worse.passed && worse.reason().contains("not below"), "{worse:?}");
        let slow = ChampionTrial { latency_p99_us: 2000.0, ..trial(Some(1), 0.001) };
        assert!(!GATE.judge_refit(&slow).passed);
    }

    #[test]
    fn it_must_be_fast_and_small() {
        check(
            ChampionTrial { latency_p99_us: 1001.0, ..trial(Some(1), 0.5) },
            Some("takes 1001 µs"),
        );
        check(ChampionTrial { latency_p99_us: f64::NAN, ..trial(None, 0.5) }, Some("takes"));
        check(ChampionTrial { size_bytes: 2 << 20, ..trial(None, 0.5) }, Some("2097152 bytes"));
    }
}
