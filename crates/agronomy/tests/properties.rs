//! Properties that hold for the drying trend whatever a sensor reports.

use microclimate_agronomy::drying::{DryingSettings, DryingTracker};
use proptest::prelude::*;

/// One message of a zone: time step in ms, then moisture in % or an irrigation state.
#[derive(Clone, Copy, Debug)]
enum Message {
    Moisture(i64, f64),
    Irrigation(i64, bool),
}

/// Plausible traffic: steps of seconds to hours, values that jump and drift.
fn traffic() -> impl Strategy<Value = Vec<Message>> {
    let step = prop_oneof![Just(0), 1_000..60_000_i64, 60_000..4_000_000_i64, Just(90_000_000)];
    let pct = prop_oneof![4 => 20.0..60.0_f64, 1 => -30.0..120.0_f64, 1 => (20..60_i32).prop_map(f64::from)];
    let message = prop_oneof![
        5 => (step.clone(), pct).prop_map(|(step, pct)| Message::Moisture(step, pct)),
        1 => (step, any::<bool>()).prop_map(|(step, on)| Message::Irrigation(step, on)),
    ];
    prop::collection::vec(message, 1..300)
}

/// A pot that dries and is watered, so that forecasts and responses occur.
fn pot() -> impl Strategy<Value = Vec<Message>> {
    (2..10_usize, 0.01..2.0_f64, 5.0..30.0_f64, 1..12_i64).prop_map(
        |(waterings, rate, gain, every)| {
            let mut messages = Vec::new();
            let mut pct = 50.0;
            for i in 0..waterings * 60 {
                let on = i % 60 == 59;
                messages.push(Message::Irrigation(every * 100_000, on));
                pct += if i % 60 == 0 && i > 0 { gain } else { -rate };
                messages.push(Message::Moisture(every * 100_000, pct));
            }
            messages
        },
    )
}

fn feed(
    drying: &mut DryingTracker,
    settings: &DryingSettings,
    clock_ms: &mut i64,
    messages: &[Message],
    scale: f64,
) {
    for message in messages {
        match *message {
            Message::Moisture(step, pct) => {
                *clock_ms += step;
                drying.add_moisture(settings, *clock_ms, pct * scale);
            }
            Message::Irrigation(step, on) => {
                *clock_ms += step;
                drying.add_irrigation(settings, *clock_ms, on);
            }
        }
    }
}

fn settings(scale: f64) -> DryingSettings {
    let defaults = DryingSettings::default();
    DryingSettings {
        critical_pct: defaults.critical_pct * scale,
        target_pct: defaults.target_pct * scale,
        rise_min_pct: defaults.rise_min_pct * scale,
        drift_max_pct_h: defaults.drift_max_pct_h * scale,
        ..defaults
    }
}

proptest! {
    #[test]
    fn saved_and_restored_is_as_if_never_stopped(
        messages in prop_oneof![traffic(), pot()],
        cut in 0.0..1.0_f64,
    ) {
        let settings = settings(1.0);
        let (mut whole, mut clock_ms) = (DryingTracker::default(), 0);
        feed(&mut whole, &settings, &mut clock_ms, &messages, 1.0);

        let cut = (messages.len() as f64 * cut) as usize;
        let (mut before, mut other_ms) = (DryingTracker::default(), 0);
        feed(&mut before, &settings, &mut other_ms, &messages[..cut], 1.0);
        let saved = serde_json::to_string(&before).unwrap();
        let mut after: DryingTracker = serde_json::from_str(&saved).unwrap();
        prop_assert_eq!(&after, &before);
        feed(&mut after, &settings, &mut other_ms, &messages[cut..], 1.0);
        // Compared as text, so that every bit counts and −0 differs from 0.
        prop_assert_eq!(serde_json::to_string(&after).unwrap(), serde_json::to_string(&whole).unwrap());
        prop_assert_eq!(after.trend_at(&settings, clock_ms), whole.trend_at(&settings, clock_ms));
    }

    /// A probe in other units; the factor is a power of two, so that floats scale exactly.
    #[test]
    fn scaled_readings_give_scaled_answers(
        messages in prop_oneof![traffic(), pot()],
        power in -6..7_i32,
    ) {
        let scale = 2.0_f64.powi(power);
        let of = |scale: f64| {
            let (mut drying, mut clock_ms) = (DryingTracker::default(), 0);
            feed(&mut drying, &settings(scale), &mut clock_ms, &messages, scale);
            (drying.trend_at(&settings(scale), clock_ms), drying)
        };
        let ((Some(one), base), (Some(other), scaled)) = (of(1.0), of(scale)) else { return Ok(()) };
        prop_assert_eq!(base.waterings().len(), scaled.waterings().len());
        for (a, b) in base.waterings().iter().zip(scaled.waterings()) {
            prop_assert_eq!((a.onset.ms, a.peak.ms, a.seen_ms), (b.onset.ms, b.peak.ms, b.seen_ms));
        }
        let scaled = |a: Option<f64>| a.map(|a| a * scale);
        prop_assert_eq!(scaled(one.slope_pct_h), other.slope_pct_h);
        prop_assert_eq!(scaled(one.slope_se_pct_h), other.slope_se_pct_h);
        prop_assert_eq!(scaled(one.rate_pct_h), other.rate_pct_h);
        prop_assert_eq!(scaled(one.residual_pct), other.residual_pct);
        prop_assert_eq!(scaled(one.response_pct_min), other.response_pct_min);
        prop_assert_eq!((one.r2, one.tau_h), (other.r2, other.tau_h));
        prop_assert_eq!((one.irrigation_min, one.forecast), (other.irrigation_min, other.forecast));
    }

    /// Finite readings give finite results, at any value and any time.
    #[test]
    fn no_answer_is_infinite(
        readings in prop::collection::vec(
            (
                // Mostly a step; sometimes any time.
                prop_oneof![9 => (0..20_000_000_i64).prop_map(Ok), 1 => any::<i64>().prop_map(Err)],
                prop_oneof![any::<f64>(), -1e6..1e6_f64, -1e-300..1e-300_f64, Just(0.0)],
                any::<bool>(),
            ),
            1..60,
        ),
        start_ms in prop_oneof![Just(0), -8_700_000_000_000_000..8_700_000_000_000_000_i64],
        ask_ms in any::<i64>(),
    ) {
        let settings = DryingSettings::default();
        let (mut drying, mut clock_ms) = (DryingTracker::default(), start_ms);
        for (time, pct, on) in readings {
            let ms = match time {
                Ok(step_ms) => {
                    clock_ms += step_ms;
                    clock_ms
                }
                Err(anywhere_ms) => anywhere_ms,
            };
            drying.add_moisture(&settings, ms, pct);
            drying.add_irrigation(&settings, ms, on);
            for at_ms in [ms, ask_ms] {
                let Some(trend) = drying.trend_at(&settings, at_ms) else { continue };
                prop_assert!(trend.last.pct.is_finite());
                for (name, value) in microclimate_agronomy::drying::DryingTrend::NAMES.iter().zip(trend.feature_values()) {
                    prop_assert!(value.is_none_or(f64::is_finite), "{} is {:?}", name, value);
                }
                if let Some(forecast) = trend.forecast {
                    prop_assert!(0.0 <= forecast.low && forecast.low <= forecast.hours);
                    prop_assert!(forecast.hours <= forecast.high);
                    prop_assert!(forecast.high <= settings.horizon_h);
                }
            }
        }
    }
}

/// The state after a month of readings is no larger than the state after ten days.
#[test]
fn memory_is_bounded() {
    let settings = DryingSettings::default();
    let bytes_after = |days: i64| {
        let mut drying = DryingTracker::default();
        for minute in 0..days * 1440 {
            let pct = 60.0 - (minute % 720) as f64 * 0.04 + (minute % 7) as f64 * 0.013;
            drying.add_moisture(&settings, minute * 60_000, pct);
            drying.add_irrigation(&settings, minute * 60_000, minute % 720 < 5);
        }
        assert_eq!(drying.waterings().len(), 16);
        serde_json::to_string(&drying).unwrap().len()
    };
    let (ten, forty) = (bytes_after(10), bytes_after(40));
    assert!(forty < ten + ten / 20, "{ten} bytes, then {forty}");
    assert!(forty < 32_768, "{forty} bytes");
}
