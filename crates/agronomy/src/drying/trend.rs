use serde::{Deserialize, Serialize};

use super::{
    DryingForecast, DryingSettings, DryingTracker, MoisturePoint, WateringEvent,
    forecast::forecast_critical, hours_between, noise, settings,
};

/// Drying trend of a sensor as of a time. Unknown values are `None`, never 0.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct DryingTrend {
    /// Time of the trend, ms since 1970.
    pub at_ms: i64,
    /// The latest reading that counts.
    pub last: MoisturePoint,
    /// The latest watering.
    pub watering: Option<WateringEvent>,
    /// Hours since the watering's onset, ≥ 0.
    pub since_watering_h: Option<f64>,
    /// Slope of the least-squares line since the watering's peak, %/h; negative while drying.
    pub slope_pct_h: Option<f64>,
    /// Standard error of the slope, %/h, corrected for autocorrelation.
    pub slope_se_pct_h: Option<f64>,
    /// Share of the variance that the line explains, 0–1.
    pub r2: Option<f64>,
    /// Time constant of the exponential dry-down, h, where the curve is clearly better than the
    /// line.
    pub tau_h: Option<f64>,
    /// Moisture that the exponential dry-down tends to, %.
    pub residual_pct: Option<f64>,
    /// Mean drying rate of the last days, waterings cut out, %/h; positive while drying.
    pub rate_pct_h: Option<f64>,
    /// Median rise per minute of irrigation, %/min, ≥ 0, over the last waterings with a signal.
    pub response_pct_min: Option<f64>,
    /// Minutes of irrigation to reach the target, 0 to `irrigation_max_min`.
    pub irrigation_min: Option<f64>,
    /// Forecast of the time until the soil is too dry. `None` after a long silence.
    pub forecast: Option<DryingForecast>,
}

impl DryingTrend {
    /// Names of the values of [`DryingTrend::feature_values`], with units.
    pub const NAMES: [&'static str; 13] = [
        "since_watering_h",
        "watering_rise_pct",
        "slope_pct_h",
        "slope_se_pct_h",
        "r2",
        "tau_h",
        "residual_pct",
        "rate_pct_h",
        "response_pct_min",
        "irrigation_min",
        "hours_to_critical",
        "hours_to_critical_low",
        "hours_to_critical_high",
    ];

    /// Values of a feature row, in the order of [`DryingTrend::NAMES`].
    #[must_use]
    pub fn feature_values(&self) -> [Option<f64>; Self::NAMES.len()] {
        [
            self.since_watering_h,
            self.watering.map(|watering| watering.rise_pct()),
            self.slope_pct_h,
            self.slope_se_pct_h,
            self.r2,
            self.tau_h,
            self.residual_pct,
            self.rate_pct_h,
            self.response_pct_min,
            self.irrigation_min,
            self.forecast.map(|forecast| forecast.hours),
            self.forecast.map(|forecast| forecast.low),
            self.forecast.map(|forecast| forecast.high),
        ]
    }

    pub(super) fn as_of(
        drying: &DryingTracker,
        settings: &DryingSettings,
        requested_ms: i64,
    ) -> Option<Self> {
        let last = drying.last?;
        let at_ms = requested_ms.max(last.ms);
        let watering = drying.waterings.back().copied();
        let line = drying.segment.as_ref().map(|segment| segment.line());
        let curve = drying.segment.as_ref().and_then(|segment| segment.dry_down_curve());
        let rate = drying.rates.recent_rate(last.ms, settings.rate_days);
        let response =
            (!drying.responses.is_empty()).then(|| noise::upper_median(&drying.responses));
        let is_fresh = at_ms - last.ms <= settings::seconds_to_ms(settings.gap_max_s);
        let forecast = is_fresh.then(|| {
            let quantum_pct = drying.noise.quantum_pct();
            forecast_critical(
                at_ms,
                last,
                quantum_pct,
                drying.segment.as_ref(),
                rate.as_ref(),
                settings,
            )
        });
        Some(Self {
            at_ms,
            last,
            watering,
            since_watering_h: watering.map(|watering| hours_between(watering.onset.ms, at_ms)),
            slope_pct_h: line.and_then(|line| line.slope()),
            slope_se_pct_h: line.and_then(|line| line.slope_se()),
            r2: line.and_then(|line| line.r2()),
            tau_h: curve.map(|curve| curve.tau_h),
            residual_pct: curve.map(|curve| curve.residual_pct),
            rate_pct_h: rate.map(|rate| rate.mean_pct_h),
            response_pct_min: response,
            irrigation_min: response.filter(|response| *response > 0.0).map(|response| {
                let wanted_pct = (settings.target_pct - last.pct).max(0.0);
                (wanted_pct / response).min(settings.irrigation_max_min)
            }),
            forecast: forecast.flatten(),
        })
    }
}
