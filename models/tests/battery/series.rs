//! One battery that every detector of series must pass.

use microclimate_models::detect::series::{SeriesDetector, SeriesMonitor, all_detectors, by_name};
use rand::{RngExt, SeedableRng};

/// Noise of ±0.5 around 20 in steps of 0.1.
fn usual(rows: usize) -> Vec<f64> {
    let mut rng = rand_pcg::Pcg64::seed_from_u64(8);
    (0..rows).map(|_| (200.0 + rng.random_range(-5.0..5.0_f64)).round() / 10.0).collect()
}

fn each(check: impl Fn(&str, &dyn SeriesDetector)) {
    let all = all_detectors();
    assert_eq!(all.len(), 9);
    all.iter().for_each(|detector| check(detector.name(), detector.as_ref()));
}

#[test]
fn each_finds_its_fault() {
    let clean = usual(3000);
    let check = |name: &str, fault: &dyn Fn(usize, f64) -> f64, at: usize| {
        let watch = by_name(name).unwrap().fit(&clean).unwrap();
        let most = watch.score_series(&clean).into_iter().fold(0.0, f64::max);
        let faulty: Vec<f64> =
            clean.iter().enumerate().map(|(row, value)| fault(row, *value)).collect();
        let scores = watch.score_series(&faulty);
        assert!(scores[at] > 1.5 * most, "{name}: {} against {most}", scores[at]);
        assert!(scores[..500].iter().all(|score| *score <= most), "{name}: before the fault");
    };
    check("hampel", &|row, value| if row == 700 { value + 4.0 } else { value }, 700);
    check("step", &|row, value| if row == 700 { value + 4.0 } else { value }, 700);
    check("ewma", &|row, value| if row >= 700 { value + 1.0 } else { value }, 740);
    check(
        "cusum",
        &|row, value| if row >= 700 { value + 0.005 * (row - 700) as f64 } else { value },
        900,
    );
    check("gaussian window", &|row, value| if row == 700 { value + 4.0 } else { value }, 700);
    check(
        "anomaly likelihood",
        &|row, value| if row >= 700 { value + 2.0 * (row % 2) as f64 } else { value },
        710,
    );
    check("unchanged", &|row, value| if row >= 700 { 20.1 } else { value }, 740);
}

#[test]
fn value_by_value_is_as_a_whole_and_never_looks_ahead() {
    let values = usual(400);
    each(|name, detector| {
        let watch = detector.fit(&values).unwrap();
        let whole = watch.score_series(&values);
        assert_eq!(watch.score_series(&values[..150]), whole[..150], "{name}");
        let mut live = watch;
        for (value, score) in values.iter().zip(&whole) {
            // The monitor is saved and loaded between two values.
            let json = serde_json::to_string(&live).unwrap();
            live = serde_json::from_str::<SeriesMonitor>(&json).unwrap();
            assert_eq!(live.push(*value), *score, "{name}");
        }
    });
}

#[test]
fn missing_values_constant_series_and_short_ones() {
    let mut values = usual(300);
    values.iter_mut().step_by(7).for_each(|value| *value = f64::NAN);
    each(|name, detector| {
        let watch = detector.fit(&values).unwrap();
        let mut with_gap = watch.clone();
        assert_eq!(with_gap.push(f64::NAN), 0.0, "{name}");
        assert_eq!(with_gap, watch, "{name}: a gap changes nothing");
        let still = detector.fit(&[3.0; 100]).unwrap().score_series(&[3.0, 3.0, 4.0]);
        assert!(still.iter().all(|score| score.is_finite() && *score >= 0.0), "{name}: {still:?}");
        assert!(detector.fit(&[1.0; 29]).is_err(), "{name}");
    });
}
