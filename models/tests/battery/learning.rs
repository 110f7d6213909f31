//! Checks what models must learn.

use microclimate_models::{
    FitError, MissingPolicy, Predictor, classify, detect, fit_regressor, metrics, regressors,
    stats::{classes, quantile, survival},
};
use ndarray::{Array1, Array2, array};

use super::subject::{Kind, Rows, each};

#[test]
fn regressors_learn_more_than_the_mean() {
    let all = Rows::of(2300, 3);
    let (train, test) = (all.select(0..2000), all.select(2000..2300));
    let check = |name: &str, predictor: &Predictor, actual: &Array1<f64>, mean: f64| {
        let worst = metrics::rmse(Array1::from_elem(300, mean).view(), actual.view());
        let rmse = metrics::rmse(predictor.predict(test.x.view()).view(), actual.view());
        assert!(rmse < 0.5 * worst, "{name}: {rmse} against {worst} of the mean");
    };
    each(|subject| {
        let (train_y, test_y) = match subject.kind {
            Kind::Regressor => (train.y.clone(), test.y.clone()),
            Kind::OfAmounts => (train.amounts().y, test.amounts().y),
            Kind::Classifier | Kind::Detector => return,
        };
        let fitted = subject.fit(&train, 1).unwrap().0;
        check(&subject.name, &fitted, &test_y, train_y.mean().unwrap());
    });
}

#[test]
fn a_constant_truth_is_learnt_exactly() {
    let rows = Rows::of(300, 3);
    let data = rows.dataset(Array1::from_elem(300, 4.25));
    for estimator in regressors::all_regressors().into_iter().chain(regressors::amount_regressors())
    {
        let predicted =
            fit_regressor(estimator.as_ref(), &data, 1).unwrap().0.predict(rows.x.view());
        let off = predicted.iter().find(|value| (*value - 4.25).abs() > 1e-3);
        assert_eq!(off, None, "{}", estimator.name());
    }
}

/// The stated treatment of missing inputs is correct: models with a flag or a branch learn from the
/// silence of an input where there is nothing else to learn.
#[test]
fn that_a_sensor_is_silent_tells_something() {
    let mut rows = Rows::of(2000, 3);
    let silent = |row: usize| (row * row) % 7 < 3;
    for row in (0..2000).filter(|row| silent(*row)) {
        rows.x[(row, 2)] = f64::NAN;
    }
    let y = (0..2000).map(|row| if silent(row) { 2.0 } else { 0.0 }).collect();
    let all = rows.dataset(y);
    let part = |rows: std::ops::Range<usize>| all.select_rows(&rows.collect::<Vec<_>>());
    let (train, test) = (part(0..1500), part(1500..2000));
    for estimator in regressors::all_regressors().into_iter().chain(regressors::amount_regressors())
    {
        let predicted =
            fit_regressor(estimator.as_ref(), &train, 1).unwrap().0.predict(test.x.view());
        let rmse = metrics::rmse(predicted.view(), test.y.view());
        let learnt = rmse < 0.5 * test.y.std(0.0);
        let stated = matches!(
            estimator.missing_policy(),
            MissingPolicy::MedianAndFlag | MissingPolicy::Branch
        );
        assert_eq!(learnt, stated, "{}: {rmse}", estimator.name());
    }
}

#[test]
fn amounts_below_0_are_refused() {
    let rows = Rows::of(100, 3);
    for estimator in regressors::amount_regressors() {
        let refused =
            fit_regressor(estimator.as_ref(), &rows.dataset(rows.y.clone()), 1).unwrap_err();
        assert!(matches!(refused, FitError::NegativeTarget { .. }), "{refused}");
    }
}

#[test]
fn ridge_and_partial_least_squares_are_least_squares_where_there_is_much_to_learn_from() {
    let rows = Rows::of(20_000, 3);
    let test_rows: Array2<f64> = Array2::eye(4);
    for name in ["ridge", "partial least squares"] {
        let estimator = regressors::by_name(name).unwrap();
        let data = rows.dataset(rows.y.clone());
        let predictions =
            fit_regressor(estimator.as_ref(), &data, 1).unwrap().0.predict(test_rows.view());
        for (predicted, actual) in predictions.iter().zip([3.0, -2.0, 0.0, 0.0]) {
            assert!((predicted - actual).abs() < 5e-3, "{name}: {predicted} is not {actual}");
        }
    }
}

#[test]
fn an_online_model_follows_the_world() {
    let rows = Rows::of(2000, 3);
    let data = rows.dataset(rows.y.clone());
    let test_row = array![[1.0, 0.0, 0.0, 0.0]];
    let mut online =
        fit_regressor(regressors::by_name("recursive least squares").unwrap().as_ref(), &data, 1)
            .unwrap()
            .0;
    assert!((online.predict(test_row.view())[0] - 3.0).abs() < 0.02);
    // From now on input a has no effect.
    for row in Rows::of(60_000, 4).x.rows() {
        assert!(online.learn_row(row, -2.0 * row[1]));
    }
    assert!(online.predict(test_row.view())[0].abs() < 0.05, "{}", online.predict(test_row.view()));
    let before = online.predict(test_row.view());
    assert!(online.learn_row(rows.x.row(0), f64::NAN), "a row without a target is ignored");
    assert_eq!(online.predict(test_row.view()), before);
    let mut ridge =
        fit_regressor(regressors::by_name("ridge").unwrap().as_ref(), &data, 1).unwrap().0;
    assert!(!ridge.learn_row(rows.x.row(0), 1.0), "it does not learn online");
}

#[test]
fn quantiles_cover_what_they_say() {
    let all = Rows::of(4000, 3);
    let (train, test) = (all.select(0..3000), all.select(3000..4000));
    let fitted = fit_regressor(
        regressors::by_name("quantile boosting").unwrap().as_ref(),
        &train.dataset(train.y.clone()),
        1,
    );
    let (levels, quantiles) = fitted.unwrap().0.predict_quantiles(test.x.view()).unwrap();
    for (level, column) in levels.iter().zip(quantiles.columns()) {
        let below = column.iter().zip(&test.y).filter(|(q, y)| y <= q).count() as f64 / 1000.0;
        assert!((below - level).abs() < 0.12, "{below} of the targets are below {level}");
    }
    let crps = quantile::crps(quantiles.view(), levels, &test.y.to_vec());
    assert!(crps < 0.3 * test.y.std(0.0), "{crps}");
}

#[test]
fn survival_boosting_learns_from_what_was_cut_short() {
    let all = Rows::of(4000, 3);
    let times = all.amounts();
    // Half of the times are censored at a time that is unrelated to them.
    let cut = |row: usize| if row.is_multiple_of(2) { 0.4 } else { f64::INFINITY };
    let censored: Vec<bool> = (0..4000).map(|row| times.y[row] > cut(row)).collect();
    let seen: Array1<f64> = (0..4000).map(|row| times.y[row].min(cut(row))).collect();
    let train: Vec<usize> = (0..3000).collect();
    let blind = all.dataset(seen).select_rows(&train);
    let with_flags = blind.clone().with_censored(censored[..3000].to_vec()).unwrap();
    let boosting = regressors::by_name("survival boosting").unwrap();
    let test = all.select(3000..4000).x;
    let actual = times.y.to_vec().split_off(3000);
    let error = |data| {
        let fitted = fit_regressor(boosting.as_ref(), data, 1).unwrap().0;
        let predicted = fitted.predict(test.view());
        let order = survival::concordance_index(&predicted.to_vec(), &actual, &[false; 1000]);
        let log =
            predicted.iter().zip(&actual).map(|(s, t)| (s.max(1e-9) / t).ln().abs()).sum::<f64>();
        (log / 1000.0, order)
    };
    let ((with_flags, order), (blind, _)) = (error(&with_flags), error(&blind));
    assert!(with_flags < 0.6 * blind, "with flags: {with_flags}, blind: {blind}");
    assert!(order > 0.9, "{order}");
}

#[test]
fn classifiers_learn_more_than_the_shares() {
    let all = Rows::of(2300, 3);
    let (train, test) = (all.select(0..2000), all.select(2000..2300).labelled());
    let shares = classify::by_name("class shares").unwrap();
    let (shares, _) = classify::fit_classifier(shares.as_ref(), &train.labelled(), 1).unwrap();
    let worst = classes::log_loss(shares.predict_probabilities(test.x.view()).view(), &test.y);
    for classifier in classify::all_classifiers().into_iter().skip(1) {
        let name = classifier.name();
        let (fitted, _) =
            classify::fit_classifier(classifier.as_ref(), &train.labelled(), 1).unwrap();
        let probabilities = fitted.predict_probabilities(test.x.view());
        assert!(
            probabilities.sum_axis(ndarray::Axis(1)).iter().all(|sum| (sum - 1.0).abs() < 1e-9)
        );
        let loss = classes::log_loss(probabilities.view(), &test.y);
        assert!(loss < 0.6 * worst, "{name}: {loss} against {worst}");
        let f1 = classes::macro_f1(&fitted.predict_classes(test.x.view()), &test.y);
        assert!(f1 > 0.75, "{name}: {f1}");
    }
}

#[test]
fn one_class_teaches_nothing() {
    let mut rows = Rows::of(100, 3).labelled();
    rows.y.fill(1);
    for classifier in classify::all_classifiers().into_iter().skip(1) {
        let refused = classify::fit_classifier(classifier.as_ref(), &rows, 1).unwrap_err();
        assert_eq!(refused.to_string().split('`').nth(1), Some("hold"), "{}", classifier.name());
    }
}

#[test]
fn detectors_find_what_stands_out() {
    let usual = Rows::of(1500, 3).x.mapv(|value| value * value * value);
    let test_rows = array![[0.0, 0.1, 0.0, -0.1], [0.1, 4.0, 0.0, -4.0], [0.1, 2.0, 0.0, -2.0]];
    for detector in detect::all_detectors() {
        let scores = detector.fit(usual.view(), 7).unwrap().score_rows(test_rows.view());
        assert!(scores[1] > 1.1 * scores[0], "{}: {scores}", detector.name());
        assert!(scores[1] >= scores[2], "{}: further is no less: {scores}", detector.name());
        assert!(scores.iter().all(|score| *score >= 0.0), "{}: {scores}", detector.name());
    }
}
