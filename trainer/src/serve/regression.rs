use std::collections::BTreeMap;

use feature_api::LatestFeatures;
use ndarray::Array2;
use telemetry::ZoneId;

use super::{
    Champion, Drift, Irrigation, PredictError, Prediction, Trainer, explain::rank_contributions,
};
use crate::{backtest, input::InputExpression, tasks::PredictionTask};

/// Names of strange inputs that a prediction carries.
const NAMED_MAX: usize = 5;

impl Trainer {
    /// Predicts from the newest row of a zone.
    pub(super) fn predict_regression(
        &self,
        task: &dyn PredictionTask,
        zone: &ZoneId,
        champion: &Champion,
        latest: &LatestFeatures,
        explain: usize,
    ) -> Result<Prediction, PredictError> {
        let not_applicable = |why: String| PredictError::NotApplicable {
            task: task.spec().name.to_owned(),
            zone: zone.clone(),
            why,
        };
        let has = |metric: &&&str| latest.feature_value(&format!("{metric}_last")).is_finite();
        if let Some(metric) = task.spec().metrics.iter().find(|metric| !has(metric)) {
            return Err(not_applicable(format!("it has no {metric}")));
        }
        let serving: backtest::RegressionServing =
            champion.serving_facts().map_err(not_applicable)?;
        let comfort = self.settings().comfort_in(zone);
        let row = champion.input_row(&comfort, latest);
        let anchor = task.spec().reference.map_or(0.0, |name| {
            InputExpression::parse(name)
                .compute_value(&comfort, |column| latest.feature_value(column))
        });
        let (low, high) = task.spec().bounds;
        let level = |said: f64| task.spec().to_level(said, anchor);
        let (input, factor) = &serving.baseline;
        let baseline = match input {
            Some(name) => {
                InputExpression::parse(name)
                    .compute_value(&comfort, |name| latest.feature_value(name))
                    * factor
            }
            None => 0.0,
        };
        let baseline = Some(level(baseline)).filter(|value| value.is_finite());

        let said = Prediction {
            baseline_value: baseline,
            interval_level: serving.level,
            drift: self.measure_drift(champion, &row),
            irrigation: (task.spec().group == "watering").then(|| Irrigation::from_latest(latest)),
            ..Prediction::for_champion(zone, champion, latest, &self.settings().serving)
        };
        let stale = self.staleness_reason(task, latest, &said);
        let said = Prediction { is_stale: stale.is_some(), ..said };
        if let Some(why) = stale.or_else(|| self.missing_inputs_reason(&said)) {
            let value = baseline.ok_or_else(|| {
                not_applicable(format!("{why}, and the baseline lacks its input too"))
            })?;
            let class = task.spec().nearest_class(value);
            let fallback_reason = Some(why);
            return Ok(Prediction { value, class, fallback: true, fallback_reason, ..said });
        }
        let width = row.len();
        let contributions = rank_contributions(&champion.artifact, &row, explain);
        let x = Array2::from_shape_vec((1, width), row).expect("one row");
        let predictor = &champion.artifact.predictor;
        let value = level(predictor.predict(x.view())[0]);
        let classes = &champion.artifact.card.facts.classes;
        let probabilities = predictor.predict_probabilities(x.view()).map(|probabilities| {
            let named = |(class, p): (usize, &f64)| {
                (classes.get(class).cloned().unwrap_or_else(|| class.to_string()), *p)
            };
            probabilities.row(0).iter().enumerate().map(named).collect()
        });
        // Once actual values have come, they say by how much all widths are to grow.
        let usual = serving.half_width;
        let adapted = self.scores().half_width(&said, usual);
        let half_width = match (&serving.widths, adapted, usual) {
            (Some(widths), Some(adapted), Some(usual)) if usual > 0.0 => {
                let here = widths.half_width_at(zone, latest.at_ms, value - level(0.0));
                Some(here * adapted / usual)
            }
            _ => adapted,
        };
        let interval = half_width
            .map(|half| [(value - half).clamp(low, high), (value + half).clamp(low, high)]);
        let class = task.spec().nearest_class(value);
        Ok(Prediction { value, interval, class, probabilities, contributions, ..said })
    }

    fn measure_drift(&self, champion: &Champion, row: &[f64]) -> Drift {
        let card = &champion.artifact.card;
        let found = card.facts.profile.compare_row(row);
        let named = |numbers: &[usize]| -> Vec<String> {
            let first = numbers.iter().take(NAMED_MAX);
            first.map(|number| card.schema.features[*number].clone()).collect()
        };
        Drift {
            flag: found.outside_share() > self.settings().serving.outside_max,
            outside_share: found.outside_share(),
            outside: named(&found.outside),
            missing_share: found.missing_share(),
            missing: named(&found.missing),
        }
    }

    /// Inputs outside what the model was trained on, with the range of training.
    pub(super) fn extrapolated_inputs(
        &self,
        champion: &Champion,
        zone: &ZoneId,
        latest: &LatestFeatures,
    ) -> BTreeMap<String, [f64; 2]> {
        let row = champion.input_row(&self.settings().comfort_in(zone), latest);
        let card = &champion.artifact.card;
        let profile = &card.facts.profile;
        let outside = profile.compare_row(&row).outside.into_iter();
        outside
            .map(|number| {
                let range = profile.inputs[number];
                (card.schema.features[number].clone(), [range.low, range.high])
            })
            .collect()
    }

    /// Why a prediction would be none of now, if it would not: the row is old, or what the task
    /// is about was measured long before the row.
    fn staleness_reason(
        &self,
        task: &dyn PredictionTask,
        latest: &LatestFeatures,
        said: &Prediction,
    ) -> Option<String> {
        let stale_s = self.settings().serving.stale_after_s();
        if said.features_age_s > stale_s {
            let age_s = said.features_age_s;
            return Some(format!("its features are {age_s:.0} s old, expected at most {stale_s}"));
        }
        for metric in task.spec().metrics {
            let age_s =
                said.features_age_s.max(0.0) + latest.feature_value(&format!("{metric}_age_s"));
            if age_s > stale_s {
                return Some(format!(
                    "the newest {metric} is {age_s:.0} s old, expected at most {stale_s}"
                ));
            }
        }
        None
    }

    /// Why the model is not asked for want of inputs, if it is not.
    fn missing_inputs_reason(&self, said: &Prediction) -> Option<String> {
        let rules = &self.settings().serving;
        let Drift { missing_share, missing, .. } = &said.drift;
        (*missing_share > rules.missing_max).then(|| {
            format!(
                "{:.0} % of its inputs are missing ({}), expected at most {:.0} %",
                100.0 * missing_share,
                missing.join(", "),
                100.0 * rules.missing_max
            )
        })
    }
}
