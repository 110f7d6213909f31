use ndarray::Array2;
use telemetry::ZoneId;

use super::{
    Champion, Drift, Irrigation, PredictError, Prediction, Trainer, explain::contributions,
};
use crate::{backtest, input::Input, source::Latest, tasks::Task};

/// Names of strange inputs that a prediction carries.
const NAMED_MAX: usize = 5;

impl Trainer {
    /// Predicts from the newest row of a zone.
    pub(super) fn regress(
        &self,
        task: &dyn Task,
        zone: &ZoneId,
        champion: &Champion,
        latest: &Latest,
        explain: usize,
    ) -> Result<Prediction, PredictError> {
        let not_applicable = |why: String| PredictError::NotApplicable {
            task: task.about().name.to_owned(),
            zone: zone.clone(),
            why,
        };
        let has = |metric: &&&str| latest.value(&format!("{metric}_last")).is_finite();
        if let Some(metric) = task.about().metrics.iter().find(|metric| !has(metric)) {
            return Err(not_applicable(format!("it has no {metric}")));
        }
        let serving: backtest::Serving = champion.serving().map_err(not_applicable)?;
        let comfort = self.settings().comfort_in(zone);
        let row = champion.row(&comfort, latest);
        let anchor = task
            .about()
            .anchor
            .map_or(0.0, |name| Input::parse(name).value(&comfort, |column| latest.value(column)));
        let (low, high) = task.about().bounds;
        let level = |said: f64| task.about().level(said, anchor);
        let (input, factor) = &serving.baseline;
        let baseline = match input {
            Some(name) => Input::parse(name).value(&comfort, |name| latest.value(name)) * factor,
            None => 0.0,
        };
        let baseline = Some(level(baseline)).filter(|value| value.is_finite());

        let said = Prediction {
            baseline_value: baseline,
            interval_level: serving.level,
            drift: self.drift(champion, &row),
            irrigation: (task.about().group == "watering").then(|| Irrigation::of(latest)),
            ..Prediction::about(zone, champion, latest, &self.settings().serving)
        };
        let stale = self.staleness(task, latest, &said);
        let said = Prediction { is_stale: stale.is_some(), ..said };
        if let Some(why) = stale.or_else(|| self.lack(&said)) {
            let value = baseline.ok_or_else(|| {
                not_applicable(format!("{why}, and the baseline lacks its input too"))
            })?;
            let class = task.about().class(value);
            let fallback_reason = Some(why);
            return Ok(Prediction { value, class, fallback: true, fallback_reason, ..said });
        }
        let width = row.len();
        let contributions = contributions(&champion.artifact, &row, explain);
        let x = Array2::from_shape_vec((1, width), row).expect("one row");
        let predictor = &champion.artifact.predictor;
        let value = level(predictor.predict(x.view())[0]);
        let classes = &champion.artifact.card.facts.classes;
        let probabilities = predictor.probabilities(x.view()).map(|probabilities| {
            let named = |(class, p): (usize, &f64)| {
                (classes.get(class).cloned().unwrap_or_else(|| class.to_string()), *p)
            };
            probabilities.row(0).iter().enumerate().map(named).collect()
        });
        let half_width = self.scores().half_width(&said, serving.half_width);
        let interval = half_width
            .map(|half| [(value - half).clamp(low, high), (value + half).clamp(low, high)]);
        let class = task.about().class(value);
        Ok(Prediction { value, interval, class, probabilities, contributions, ..said })
    }

    fn drift(&self, champion: &Champion, row: &[f64]) -> Drift {
        let card = &champion.artifact.card;
        let found = card.facts.profile.compare(row);
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

    /// Why a prediction would be none of now, if it would not: the row is old, or what the task
    /// is about was measured long before the row.
    fn staleness(&self, task: &dyn Task, latest: &Latest, said: &Prediction) -> Option<String> {
        let stale_s = self.settings().serving.stale_after_s();
        if said.features_age_s > stale_s {
            let age_s = said.features_age_s;
            return Some(format!("its features are {age_s:.0} s old, expected at most {stale_s}"));
        }
        for metric in task.about().metrics {
            let age_s = said.features_age_s.max(0.0) + latest.value(&format!("{metric}_age_s"));
            if age_s > stale_s {
                return Some(format!(
                    "the newest {metric} is {age_s:.0} s old, expected at most {stale_s}"
                ));
            }
        }
        None
    }

    /// Why the model is not asked for want of inputs, if it is not.
    fn lack(&self, said: &Prediction) -> Option<String> {
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
