use feature_api::LatestFeatures;
use serde::Serialize;
use utoipa::ToSchema;

use crate::input::PresentMetric;

/// How long to water now, so that the soil reaches the target moisture of the
/// feature store's `engine.drying`: (target − moisture) ÷ the median rise per minute
/// of the last waterings with a valve's signal, at most the longest irrigation that
/// is allowed there. It is not learnt: see `agronomy::drying`.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Irrigation {
    /// Minutes to give; 0 at the target or above it, null where it is not known.
    #[schema(example = 12.5)]
    pub minutes: Option<f64>,
    /// The rise of one minute that it rests on, percent of moisture.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 0.8)]
    pub response_pct_min: Option<f64>,
    /// Why the minutes are not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Irrigation {
    /// By the newest features of a zone.
    #[must_use]
    pub fn from_latest(latest: &LatestFeatures) -> Self {
        let known = |name: &str| Some(latest.feature_value(name)).filter(|value| value.is_finite());
        let response_pct_min = known("drying_response_pct_min");
        let not_known = |reason: &str| Self {
            minutes: None,
            response_pct_min,
            reason: Some(reason.to_owned()),
        };
        let now = PresentMetric::SoilMoisture.present_value(
            PresentMetric::SoilMoisture.source_columns().map(|c| latest.feature_value(c)),
        );
        if now.is_nan() {
            return not_known("the newest soil moisture is more than 8 h old");
        }
        match (known("drying_irrigation_min"), response_pct_min) {
            (minutes @ Some(_), _) => Self { minutes, response_pct_min, reason: None },
            (None, Some(_)) => not_known("waterings with a valve's signal did not raise moisture"),
            (None, None) if known("drying_since_watering_h").is_some() => not_known(
                "no watering with a valve's signal has ended yet: the rise of a minute is not known",
            ),
            (None, None) => not_known("no watering has been seen yet"),
        }
    }
}

#[cfg(test)]
mod tests {
    use feature_api::RowStatus;

    use super::*;

    fn check(features: &[(&str, f64)], expect: (Option<f64>, Option<&str>)) {
        let features = features.iter().map(|(name, value)| ((*name).into(), *value)).collect();
        let latest = LatestFeatures { at_ms: 0, status: RowStatus::Final, features };
        let got = Irrigation::from_latest(&latest);
        assert_eq!(got.minutes, expect.0, "{got:?}");
        let reason = got.reason.as_deref();
        assert_eq!(reason.is_some(), expect.1.is_some(), "{got:?}");
        assert!(reason.unwrap_or_default().contains(expect.1.unwrap_or_default()), "{got:?}");
    }

    #[test]
    fn minutes_or_why_there_are_none() {
        let soil = ("soil_moisture_last", 30.0);
        let watered = ("drying_since_watering_h", 20.0);
        let response = ("drying_response_pct_min", 0.8);
        let minutes = ("drying_irrigation_min", 12.5);
        check(&[soil, watered, response, minutes], (Some(12.5), None));
        let at_target = ("drying_irrigation_min", 0.0);
        check(&[soil, watered, response, at_target], (Some(0.0), None));
        check(&[soil], (None, Some("no watering has been seen")));
        check(&[soil, watered], (None, Some("valve's signal has ended")));
        check(&[soil, watered, ("drying_response_pct_min", 0.0)], (None, Some("did not raise")));
        let old = ("soil_moisture_age_s", 9.0 * 3600.0);
        check(&[soil, old, watered, response, minutes], (None, Some("8 h old")));
        check(&[watered, response, minutes], (None, Some("8 h old")));
    }
}
