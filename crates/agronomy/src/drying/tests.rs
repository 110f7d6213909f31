use super::*;

/// A day of minutes.
const DAY_MIN: i64 = 1440;

/// Sensor in a simulated pot, which dries by 12 % a day, faster by day, and is watered to 60 % at
/// 8:00 UTC of every second day. Values are a minute apart.
fn pot(days: i64, noise: f64, quantum: f64) -> Vec<MoisturePoint> {
    let (mut pct, mut seed) = (52.0_f64, 1_u64);
    (0..days * DAY_MIN)
        .map(|minute| {
            let of_day = (minute % DAY_MIN) as f64 / DAY_MIN as f64;
            let sun = (std::f64::consts::TAU * (of_day - 0.25)).sin();
            pct -= 12.0 / DAY_MIN as f64 * (1.0 + 0.8 * sun);
            if minute % (2 * DAY_MIN) >= 480 && minute % (2 * DAY_MIN) < 500 {
                pct += (60.0 - pct) / 5.0;
            }
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695);
            let uniform = (seed >> 11) as f64 / (1_u64 << 53) as f64 - 0.5;
            let noisy = pct + noise * uniform;
            let pct = if quantum > 0.0 { (noisy / quantum).round() * quantum } else { noisy };
            MoisturePoint { ms: minute * 60_000, pct }
        })
        .collect()
}

fn fed(readings: &[MoisturePoint], settings: &DryingSettings) -> DryingTracker {
    let mut drying = DryingTracker::default();
    for point in readings {
        drying.add_moisture(settings, point.ms, point.pct);
    }
    drying
}

/// Days and hours of the onsets.
fn onsets(drying: &DryingTracker) -> Vec<(i64, f64)> {
    let at =
        |w: &WateringEvent| (w.onset.ms / 86_400_000, (w.onset.ms % 86_400_000) as f64 / 3.6e6);
    drying.waterings().iter().map(at).collect()
}

fn check_waterings(readings: &[MoisturePoint], days: &[i64]) {
    let drying = fed(readings, &DryingSettings::default());
    let found = onsets(&drying);
    assert_eq!(found.iter().map(|(day, _)| *day).collect::<Vec<_>>(), days, "{found:?}");
    for (day, hour) in found {
        assert!((6.5..=8.4).contains(&hour), "day {day} at {hour}");
    }
}

#[test]
fn waterings_are_found_whatever_the_sensor() {
    check_waterings(&pot(7, 0.0, 0.0), &[0, 2, 4, 6]);
    check_waterings(&pot(7, 0.5, 0.0), &[0, 2, 4, 6]);
    check_waterings(&pot(7, 2.0, 0.0), &[0, 2, 4, 6]);
    check_waterings(&pot(7, 0.5, 1.0), &[0, 2, 4, 6]);
    check_waterings(&pot(7, 0.0, 2.0), &[0, 2, 4, 6]);
    let every_quarter: Vec<_> = pot(7, 0.2, 0.1).into_iter().step_by(15).collect();
    check_waterings(&every_quarter, &[0, 2, 4, 6]);
}

#[test]
fn drift_spikes_and_silence_are_no_waterings() {
    let drift = |i: i64| MoisturePoint { ms: i * 600_000, pct: 30.0 + 0.01 * i as f64 };
    check_waterings(&(0..2000).map(drift).collect::<Vec<_>>(), &[]);
    let mut spiky = pot(2, 0.1, 0.0);
    spiky.truncate(2 * DAY_MIN as usize - 1000);
    spiky.iter_mut().step_by(97).for_each(|p| p.pct = 95.0);
    spiky.iter_mut().skip(50).step_by(131).for_each(|p| p.pct = 0.0);
    let drying = fed(&spiky, &DryingSettings::default());
    assert!(
        onsets(&drying).iter().all(|(_, hour)| (6.5..=8.4).contains(hour)),
        "{:?}",
        onsets(&drying)
    );
    assert!(drying.spike_count() >= 20, "{}", drying.spike_count());
    let silent: Vec<_> = pot(5, 0.1, 0.0)
        .into_iter()
        .filter(|p| !(5_000..6_000).contains(&(p.ms / 60_000)))
        .collect();
    check_waterings(&silent, &[0, 2, 4]);
}

#[test]
fn the_mean_rate_leaves_the_waterings_out() {
    for (noise, quantum) in [(0.0, 0.0), (0.5, 0.0), (0.5, 1.0)] {
        let readings = pot(8, noise, quantum);
        let drying = fed(&readings, &DryingSettings::default());
        let trend =
            drying.trend_at(&DryingSettings::default(), readings.last().unwrap().ms).unwrap();
        let rate = trend.rate_pct_h.unwrap();
        assert!((rate - 0.5).abs() < 0.08, "{rate} with noise {noise} and steps of {quantum}");
    }
}

#[test]
fn the_forecast_comes_true() {
    // The forecast is made at the end of day 7. The pot is not watered on day 7, nor before 8:00
    // of day 8, when it would be at about 40.5 %.
    let readings = pot(8, 0.2, 0.0);
    let now = readings.last().unwrap();
    let critical_pct = now.pct - 3.0;
    let settings = DryingSettings { critical_pct, target_pct: 60.0, ..DryingSettings::default() };
    let forecast = fed(&readings, &settings).trend_at(&settings, now.ms).unwrap().forecast.unwrap();
    let mut clock = (0.0, now.pct);
    while clock.1 > critical_pct {
        let sun = (std::f64::consts::TAU * (clock.0 / 24.0 - 0.25)).sin();
        clock = (clock.0 + 1.0 / 60.0, clock.1 - 0.5 / 60.0 * (1.0 + 0.8 * sun));
    }
    assert!((forecast.hours - clock.0).abs() < 1.0, "{forecast:?}, in truth {}", clock.0);
    assert!(
        forecast.low <= clock.0 && clock.0 <= forecast.high,
        "{forecast:?}, in truth {}",
        clock.0
    );
}

#[test]
fn irrigation_teaches_the_response() {
    let settings =
        DryingSettings { critical_pct: 20.0, target_pct: 50.0, ..DryingSettings::default() };
    let mut drying = DryingTracker::default();
    let mut pct = 40.0;
    for minute in 0..6 * DAY_MIN {
        let of_day = minute % DAY_MIN;
        let on = (600..610).contains(&of_day);
        if minute % 5 == 0 {
            drying.add_irrigation(&settings, minute * 60_000, on);
        }
        // Moisture rises by 0.8 % per minute of irrigation, ten minutes later.
        pct += if (610..620).contains(&of_day) { 0.8 } else { -8.0 / (DAY_MIN - 10) as f64 };
        drying.add_moisture(&settings, minute * 60_000, pct);
    }
    assert_eq!(drying.waterings().len(), 6);
    let as_told = |w: &WateringEvent| w.signalled && w.risen && w.irrigation_min == 10.0;
    assert!(drying.waterings().iter().all(as_told), "{:?}", drying.waterings());
    let trend = drying.trend_at(&settings, 6 * DAY_MIN * 60_000).unwrap();
    let response = trend.response_pct_min.unwrap();
    assert!((response - 0.8).abs() < 0.03, "{response}");
    let expect = (50.0 - trend.last.pct) / response;
    assert!((trend.irrigation_min.unwrap() - expect).abs() < 1e-9);
}

#[test]
fn signal_and_moisture_of_one_time_come_in_any_order() {
    let settings = DryingSettings::default();
    let (mut a, mut b) = (DryingTracker::default(), DryingTracker::default());
    for (i, point) in pot(3, 0.1, 0.0).into_iter().step_by(5).enumerate() {
        let on = i % 40 < 3;
        a.add_irrigation(&settings, point.ms, on);
        a.add_moisture(&settings, point.ms, point.pct);
        b.add_moisture(&settings, point.ms, point.pct);
        b.add_irrigation(&settings, point.ms, on);
        assert_eq!(a, b);
    }
}

#[test]
fn what_is_old_or_no_number_is_refused() {
    let settings = DryingSettings::default();
    let mut drying = fed(&[MoisturePoint { ms: 1000, pct: 20.0 }], &settings);
    for (ms, pct) in [(999, 20.0), (2000, f64::NAN), (2000, f64::INFINITY), (i64::MAX, 1.0)] {
        assert_eq!(drying.add_moisture(&settings, ms, pct), ReadingOutcome::Refused, "{ms} {pct}");
    }
    assert_eq!(drying.add_irrigation(&settings, 0, true), ReadingOutcome::Refused);
    assert_eq!(drying.refused_count(), 5);
    assert_eq!(drying.add_moisture(&settings, 1000, 20.5), ReadingOutcome::Counted);
}

#[test]
fn a_silent_sensor_has_no_forecast() {
    let readings = pot(3, 0.0, 0.0);
    let drying = fed(&readings, &DryingSettings::default());
    let critical_pct = readings.last().unwrap().pct - 3.0;
    let settings = DryingSettings { critical_pct, target_pct: 60.0, ..DryingSettings::default() };
    let last_ms = readings.last().unwrap().ms;
    let at = |hours: i64| drying.trend_at(&settings, last_ms + hours * HOUR_MS).unwrap().forecast;
    let (now, later) = (at(0).unwrap(), at(2).unwrap());
    assert!((now.hours - later.hours - 2.0).abs() < 1e-9, "{now:?} {later:?}");
    assert_eq!(at(9), None);
    assert_eq!(DryingTracker::default().trend_at(&settings, 0), None);
}

#[test]
fn a_late_and_weak_response_is_no_drying_either() {
    let settings = DryingSettings::default();
    let mut drying = DryingTracker::default();
    // 3 %/h; irrigation after an hour, and a rise of 4 % an hour and a half later.
    let mut pct = 60.0;
    for i in 0..=60_i64 {
        let ms = i * 600_000;
        drying.add_irrigation(&settings, ms, i == 6);
        pct += if i == 15 { 4.0 } else { -0.5 };
        drying.add_moisture(&settings, ms, pct);
    }
    let watering = drying.waterings()[0];
    assert!(drying.waterings().len() == 1 && watering.risen, "{:?}", drying.waterings());
    let rate = drying.trend_at(&settings, 60 * 600_000).unwrap().rate_pct_h.unwrap();
    assert!((rate - 3.0).abs() < 1e-9, "{rate}");
}

#[test]
fn a_noisy_or_coarse_sensor_is_not_watered_by_itself() {
    let mut seed = 3_u64;
    let noisy = (0..3 * DAY_MIN).map(|minute| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695);
        let uniform = (seed >> 11) as f64 / (1_u64 << 53) as f64 - 0.5;
        MoisturePoint { ms: minute * 60_000, pct: 50.0 - minute as f64 / 400.0 + 5.0 * uniform }
    });
    // The first readings do not show the noise yet.
    let after = |drying: &DryingTracker, minute: i64| {
        drying.waterings().iter().filter(|w| w.seen_ms > minute * 60_000).count()
    };
    let noisy: Vec<_> = noisy.collect();
    assert_eq!(after(&fed(&noisy, &DryingSettings::default()), 60), 0);
    // Steps of 5 %, up and down every two hours.
    let coarse: Vec<_> = (0..3 * DAY_MIN)
        .map(|minute| MoisturePoint {
            ms: minute * 60_000,
            pct: 40.0 + 5.0 * (minute / 120 % 2) as f64,
        })
        .collect();
    assert_eq!(after(&fed(&coarse, &DryingSettings::default()), 10 * 120), 0);
}

#[test]
fn no_rate_is_taken_across_a_silence() {
    // 1 %/h, and 30 % lost, or watered and lost, during ten hours without readings.
    let at = |hour: i64, pct: f64| MoisturePoint { ms: hour * HOUR_MS, pct };
    let readings =
        [at(0, 60.0), at(1, 59.0), at(2, 58.0), at(12, 28.0), at(13, 27.0), at(14, 26.0)];
    let trend = fed(&readings, &DryingSettings::default())
        .trend_at(&DryingSettings::default(), 14 * HOUR_MS);
    assert_eq!(trend.unwrap().rate_pct_h, Some(1.0));
}

#[test]
fn a_long_drip_is_one_watering_and_advice_has_a_limit() {
    let settings =
        DryingSettings { critical_pct: 20.0, target_pct: 90.0, ..DryingSettings::default() };
    let mut drying = DryingTracker::default();
    let mut pct = 40.0;
    // Ten hours of drip irrigation that arrive in the ninth, then two days without.
    for i in 0..=58 * 6_i64 {
        let ms = i * 600_000;
        drying.add_irrigation(&settings, ms, (6..66).contains(&i));
        pct += if (54..60).contains(&i) { 1.0 } else { -0.05 };
        drying.add_moisture(&settings, ms, pct);
    }
    let waterings = drying.waterings();
    assert!(waterings.len() == 1 && waterings[0].risen, "{waterings:?}");
    assert_eq!(waterings[0].irrigation_min, 600.0);
    let trend = drying.trend_at(&settings, 58 * HOUR_MS).unwrap();
    assert!((trend.response_pct_min.unwrap() - 6.0 / 600.0).abs() < 1e-3, "{trend:?}");
    assert_eq!(trend.irrigation_min, Some(settings.irrigation_max_min));
}

#[test]
fn a_watering_that_has_soaked_in_peaks_no_more() {
    let settings = DryingSettings::default();
    // Watered in the first hour, falling for eight, then rising slowly for a day.
    let value = |hour: i64| match hour {
        0 => 40.0,
        1..=8 => 60.0 - 0.1 * (hour - 1) as f64,
        _ => 59.3 + 0.09 * (hour - 8) as f64,
    };
    let readings: Vec<_> =
        (0..40).map(|hour| MoisturePoint { ms: hour * HOUR_MS, pct: value(hour) }).collect();
    let drying = fed(&readings, &settings);
    assert!(readings[39].pct > 61.0);
    let peaks: Vec<_> =
        drying.waterings().iter().map(|w| (w.peak.ms / HOUR_MS, w.peak.pct)).collect();
    assert_eq!(peaks, [(1, 60.0)]);
}
