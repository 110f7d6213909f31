//! One battery that every regressor, classifier and detector must pass.

mod crash;
mod hostile;
mod learning;
mod registry;
mod series;
mod subject;

use ndarray::{Array1, Array2, Axis};
use subject::{Kind, Rows, Subject, each, subjects};

/// Training rows, and other rows for predictions.
fn rows() -> (Rows, Array2<f64>) {
    let all = Rows::of(900, 3);
    (all.select(0..700), all.select(700..900).x)
}

fn json(subject: &Subject, rows: &Rows) -> String {
    serde_json::to_string(&subject.fit(rows, 5).unwrap().0).unwrap()
}

#[test]
fn nothing_is_left_out() {
    let count = |kind: Kind| subjects().iter().filter(|subject| subject.kind == kind).count();
    assert_eq!(
        [Kind::Regressor, Kind::OfAmounts, Kind::Classifier, Kind::Detector].map(count),
        [14, 2, 10, 13]
    );
}

#[test]
fn the_same_seed_gives_the_same_model_on_one_thread_and_on_many() {
    let (train, _) = rows();
    each(|subject| {
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| json(subject, &train))
        };
        assert!(on(1) == on(4), "{}", subject.name);
    });
}

#[test]
fn written_and_read_it_says_the_same() {
    let (train, test_rows) = rows();
    each(|subject| {
        let fitted = subject.fit(&train, 5).unwrap().0;
        let read: microclimate_models::Predictor =
            serde_json::from_str(&serde_json::to_string(&fitted).unwrap()).unwrap();
        assert_eq!(
            read.predict(test_rows.view()),
            fitted.predict(test_rows.view()),
            "{}",
            subject.name
        );
    });
}

#[test]
fn one_row_alone_is_as_among_many() {
    let (train, test_rows) = rows();
    each(|subject| {
        let fitted = subject.fit(&train, 5).unwrap().0;
        let predicted = fitted.predict(test_rows.view());
        for row in 0..test_rows.nrows() {
            let one = fitted.predict(test_rows.select(Axis(0), &[row]).view())[0];
            let gap = (one - predicted[row]).abs();
            assert!(gap <= 1e-9 * predicted[row].abs().max(1.0), "{}: row {row}", subject.name);
        }
    });
}

#[test]
fn inputs_stay_as_they_are() {
    let (train, test_rows) = rows();
    let (train_before, test_rows_before) = (train.clone(), test_rows.clone());
    each(|subject| {
        let fitted = subject.fit(&train, 5).unwrap().0;
        let _ = fitted.predict(test_rows.view());
        assert_eq!(train, train_before, "{}", subject.name);
        assert_eq!(test_rows, test_rows_before, "{}", subject.name);
    });
}

#[test]
fn missing_and_constant_inputs_are_no_obstacle() {
    let (mut train, mut test_rows) = rows();
    train.x.column_mut(2).fill(7.0);
    train.x.column_mut(3).fill(f64::NAN);
    train.x.column_mut(1).iter_mut().step_by(7).for_each(|value| *value = f64::NAN);
    train.x.row_mut(5).fill(f64::NAN);
    train.x[(6, 0)] = f64::INFINITY;
    test_rows.row_mut(0).fill(f64::NAN);
    test_rows.row_mut(1).fill(f64::NEG_INFINITY);
    test_rows[(2, 1)] = f64::NAN;
    each(|subject| {
        let predicted = subject.fit(&train, 5).unwrap().0.predict(test_rows.view());
        let odd = predicted.iter().position(|value| !value.is_finite());
        assert_eq!(odd, None, "{}: predicts {predicted}", subject.name);
        assert!(
            (predicted[0] - predicted[1]).abs() < 1e-12,
            "{}: infinite counts as missing",
            subject.name
        );
    });
}

#[test]
fn the_order_of_inputs_tells_nothing() {
    let (train, test_rows) = rows();
    let order = [3, 1, 0, 2];
    let other = Rows { x: train.x.select(Axis(1), &order), ..train.clone() };
    let other_rows = test_rows.select(Axis(1), &order);
    each(|subject| {
        let predicted = subject.fit(&train, 5).unwrap().0.predict(test_rows.view());
        let again = subject.fit(&other, 5).unwrap().0.predict(other_rows.view());
        if subject.draws {
            // Random draws hit other inputs, so predictions are similar, not equal.
            let alike = correlation(&predicted, &again);
            assert!(alike > 0.7, "{}: {alike}", subject.name);
        } else {
            // Only the end of a search for weights may differ.
            let gap = (&predicted - &again).iter().fold(0.0_f64, |most, gap| most.max(gap.abs()));
            assert!(gap <= 1e-2 * predicted.std(0.0), "{}: {gap}", subject.name);
        }
    });
}

fn correlation(a: &Array1<f64>, b: &Array1<f64>) -> f64 {
    let (a, b) = (a - a.mean().unwrap(), b - b.mean().unwrap());
    a.dot(&b) / (a.dot(&a) * b.dot(&b)).sqrt()
}

#[test]
fn limits_of_rows_are_said_and_kept() {
    each(|subject| {
        if subject.rows_max == usize::MAX {
            return;
        }
        let rows = Rows::of(subject.rows_max + subject.rows_max / 3, 3);
        let (fitted, used) = subject.fit(&rows, 5).unwrap();
        assert_eq!(used, subject.rows_max, "{}", subject.name);
        if subject.kind == Kind::Detector {
            // Scales are computed from all rows, so only the size shows the limit.
            let small = json(subject, &rows.thinned(subject.rows_max)).len();
            let large = serde_json::to_string(&fitted).unwrap().len();
            assert!(large as f64 <= 1.1 * small as f64, "{}: {large}, {small}", subject.name);
        } else {
            let same = json(subject, &rows.thinned(subject.rows_max));
            assert!(serde_json::to_string(&fitted).unwrap() == same, "{}", subject.name);
        }
    });
}

#[test]
fn more_inputs_than_rows_are_no_obstacle() {
    let all = Rows::wide(90, 120, 3);
    let (train, test_rows) = (all.select(0..60), all.select(60..90).x);
    each(|subject| {
        let predicted = subject.fit(&train, 5).unwrap().0.predict(test_rows.view());
        let odd = predicted.iter().position(|value| !value.is_finite() || value.abs() > 1e6);
        assert_eq!(odd, None, "{}: predicts {predicted}", subject.name);
    });
}

#[test]
fn too_few_rows_are_refused() {
    let few = Rows::of(29, 3);
    each(|subject| {
        let refused = subject.fit(&few, 5).unwrap_err();
        let expect = matches!(refused, microclimate_models::FitError::FewRows { rows: 29 });
        assert!(expect, "{}: {refused}", subject.name);
        let enough = subject.fit(&Rows::of(45, 3), 5).unwrap().0;
        let predicted: Array1<f64> = enough.predict(few.x.view());
        assert!(predicted.iter().all(|value| value.is_finite()), "{}", subject.name);
    });
}
