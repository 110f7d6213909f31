//! Predictions, and the conditions under which the baseline answers.

use microclimate_trainer::CompareRequest;
use microclimate_trainer::{input::ComfortSide, target_transform::TargetTransform};
use models::{FittedRegressor, regressors::constant::ConstantModel};
use serde_json::json;

use super::{TASK, TestTrainer, fake_store::temperature_at, handmade_champion::promote_model};

fn assert_close(got: &serde_json::Value, expect: f64, within: f64) {
    let got = got.as_f64().unwrap();
    assert!((got - expect).abs() <= within, "{got}, expected {expect} ± {within}");
}

#[tokio::test]
async fn a_prediction_says_what_it_rests_on() {
    let life = TestTrainer::with_champion("ridge").await;
    let (status, answer) = life.get_json("/v1/predict/temperature-10m?zone=s/a&explain=3").await;
    assert_eq!(status, 200, "{answer}");
    let minute = life.store.state.lock().unwrap().known as i64;
    assert_close(&answer["value"], temperature_at(0, minute + 10), 0.3);
    let interval = &answer["interval"];
    assert!(interval[0].as_f64() < answer["value"].as_f64());
    assert!(answer["value"].as_f64() < interval[1].as_f64());
    assert_eq!(answer["interval_level"], 0.9);
    assert_eq!(
        (&answer["model"], &answer["version"], &answer["unit"]),
        (&json!("ridge"), &json!(1), &json!("°C"))
    );
    assert_eq!(answer["fallback"], false);
    assert_eq!(answer["drift"]["flag"], false);
    assert!(answer["baseline_value"].is_number());
    assert!((0.0..120.0).contains(&answer["features_age_s"].as_f64().unwrap()), "{answer}");
    // The value of a linear model is the sum of its terms.
    let contributions = answer["contributions"].as_array().unwrap();
    assert_eq!(contributions.len(), 3, "{answer}");
    let strongest = contributions[0]["change"].as_f64().unwrap().abs();
    assert!(strongest >= contributions[2]["change"].as_f64().unwrap().abs());

    let (_, posted) =
        life.post_json("/v1/predict/temperature-10m", &json!({ "zone": "s/a" })).await;
    assert_eq!(posted["value"], answer["value"]);
    assert_eq!(posted["contributions"], json!(null));
}

#[tokio::test]
async fn a_prediction_has_the_status_of_its_row() {
    let life = TestTrainer::with_champion("ridge").await;
    for (is_final, status) in [(false, "provisional"), (true, "final")] {
        life.store.change_knobs(|state| state.is_final = is_final);
        let (_, prediction) = life.get_json("/v1/predict/temperature-10m?zone=s/a").await;
        assert_eq!(prediction["status"], status, "{prediction}");
    }
}

#[tokio::test]
async fn many_zones_at_once_and_what_is_wrong_with_a_request() {
    let life = TestTrainer::with_champion("ridge").await;
    let (_, answer) = life.get_json("/v1/predict/temperature-10m?zones=s/a,s/nowhere,s/b").await;
    let zones: Vec<_> =
        answer["predictions"].as_array().unwrap().iter().map(|one| one["zone"].clone()).collect();
    assert_eq!(zones, ["s/a", "s/b"]);
    assert_eq!(answer["errors"][0]["zone"], "s/nowhere");

    let check = async |path: &str, status: u16, part: &str| {
        let (got, answer) = life.get_json(path).await;
        assert!(got == status && answer.to_string().contains(part), "{path}: {got} {answer}");
    };
    check("/v1/predict/weather?zone=s/a", 404, "temperature-10m").await;
    check("/v1/predict/light?zone=s/a", 503, "trainer compare").await;
    check("/v1/predict/temperature-10m?zone=s/nowhere", 404, "s/nowhere").await;
    check("/v1/predict/temperature-10m", 400, "either `zone` or `zones`").await;
    check("/v1/predict/temperature-10m?zone=s/a&zones=s/b", 400, "either").await;
    check("/v1/predict/temperature-10m?zones=nonsense", 400, "nonsense").await;
    let many = vec!["s/a"; 1001];
    let (status, answer) =
        life.post_json("/v1/predict/temperature-10m", &json!({ "zones": many })).await;
    assert!(status == 400 && answer.to_string().contains("at most 1000"), "{answer}");
    check("/readyz-not", 404, "not_found").await;
    let metrics =
        reqwest::get(format!("{}/metrics", life.url)).await.unwrap().text().await.unwrap();
    assert!(
        metrics.contains("microclimate_trainer_predictions_total{task=\"temperature-10m\"} 2"),
        "{metrics}"
    );
}

#[tokio::test]
async fn the_baseline_answers_for_stale_and_for_missing_inputs() {
    let life = TestTrainer::with_champion("ridge").await;
    let path = "/v1/predict/temperature-10m?zone=s/a";
    let falls_back = async |part: &str| {
        let (_, answer) = life.get_json(path).await;
        assert_eq!(
            (&answer["fallback"], &answer["value"]),
            (&json!(true), &answer["baseline_value"])
        );
        assert_eq!(answer["interval"], json!(null));
        assert!(answer["fallback_reason"].as_str().unwrap().contains(part), "{answer}");
    };
    life.store.change_knobs(|state| state.behind = 60);
    falls_back("s old, expected at most 900").await;
    life.store.change_knobs(|state| state.behind = 0);
    let (_, answer) = life.get_json(path).await;
    assert_eq!(answer["fallback"], false);

    // Without the task's metric there is no prediction; the baseline of a change needs it too.
    life.store.change_knobs(|state| state.only = Some("temperature_age_s"));
    let (status, answer) = life.get_json(path).await;
    assert!(status == 409 && answer.to_string().contains("it has no temperature"), "{answer}");
    life.store.change_knobs(|state| state.only = Some("temperature_last"));
    let (status, answer) = life.get_json(path).await;
    // The best baseline here extrapolates, and its slope is missing too.
    assert!(status == 409 && answer.to_string().contains("inputs are missing"), "{answer}");
}

#[tokio::test]
async fn where_there_was_nothing_to_train_on_serving_says_why() {
    let life = TestTrainer::start().await;
    let request = CompareRequest { tasks: vec!["light".to_owned()], ..CompareRequest::default() };
    let compared = life.trainer.compare_models(&request, |_| {}).await.unwrap();
    let why = "no light in these zones";
    assert_eq!(compared.tasks[0].not_applicable.as_ref().unwrap().why, why);
    let (status, answer) = life.get_json("/v1/predict/light?zone=s/a").await;
    assert!(status == 503 && answer.to_string().contains(why), "{answer}");
    let (_, tasks) = life.get_json("/v1/tasks").await;
    let of = |name: &str| {
        tasks["tasks"].as_array().unwrap().iter().find(|task| task["task"] == name).unwrap()
    };
    assert_eq!(of("light")["not_applicable"], why);
    assert_eq!(of("heating").get("not_applicable"), None, "it was not compared");
    let (_, index) = life.get_json("/v2/repository/index").await;
    assert!(index.to_string().contains(why), "{index}");
}

#[tokio::test]
async fn a_class_is_named_with_or_without_probabilities() {
    let life = TestTrainer::start().await;
    // As a baseline does, the model predicts a class index and no probabilities.
    let constant = || FittedRegressor::Constant(ConstantModel { value: 1.8 });
    let class = "heating-class";
    promote_model(&life.trainer, class, "temperature_now", constant(), TargetTransform::Change)
        .unwrap();
    let path = "/v1/predict/heating-class?zone=s/a";
    let (_, answer) = life.get_json(path).await;
    assert_eq!((&answer["class"], answer.get("probabilities")), (&json!("cool"), None), "{answer}");
    life.store.change_knobs(|state| state.behind = 60);
    let (_, answer) = life.get_json(path).await;
    assert_eq!((&answer["fallback"], &answer["class"]), (&json!(true), &json!("heat")), "{answer}");
    let link = TargetTransform::HourOf(ComfortSide::Heating);
    promote_model(&life.trainer, "heating", "temperature_now", constant(), link).unwrap();
    let (_, answer) = life.get_json("/v1/predict/heating?zone=s/a").await;
    assert!(answer["value"].is_number() && answer.get("class").is_none(), "{answer}");
}

#[tokio::test]
async fn strange_inputs_raise_the_drift_flag() {
    let life = TestTrainer::with_champion("ridge").await;
    life.store.change_knobs(|state| state.shift = 50.0);
    let (_, answer) = life.get_json("/v1/predict/temperature-10m?zone=s/a").await;
    assert_eq!(answer["drift"]["flag"], true, "{answer}");
    assert!(answer["drift"]["outside"].to_string().contains("slope"), "{answer}");
}

#[tokio::test]
async fn models_tell_where_they_come_from() {
    let life = TestTrainer::with_champion("ridge").await;
    let (_, answer) = life.get_json("/v1/models").await;
    let model = &answer["models"][0];
    assert_eq!((&model["task"], &model["version"]), (&json!(TASK), &json!(1)));
    let input = model["inputs"]
        .as_array()
        .unwrap()
        .iter()
        .find(|input| input["name"] == "temperature_slope_10m");
    assert_eq!(input.unwrap()["unit"], "°C/h");
    assert!(input.unwrap()["range"]["high"].as_f64() > Some(0.0));
    assert_eq!(model["data_hash"].as_str().unwrap().len(), 64);
    assert!(model["crates"]["linfa"].is_string() && model["settings"]["split"].is_object());
    let (_, versions) = life.get_json("/v1/models/temperature-10m").await;
    assert_eq!(versions["aliases"]["champion"]["version"], 1);
    assert_eq!(versions["versions"][0]["verdict"]["passed"], true);
    let (_, log) = life.get_json("/v1/models/temperature-10m/log?limit=1").await;
    assert_eq!(
        (&log["log"][0]["what"], &log["log"][0]["who"]),
        (&json!("promoted"), &json!("trainer compare"))
    );
    assert_eq!(life.get_json("/v1/models/weather").await.0, 404);
}

#[tokio::test]
async fn a_course_is_forecast_from_the_rows_of_its_time() {
    let life = TestTrainer::with_champion("ridge").await;
    let (status, answer) = life.get_json("/v1/forecast/temperature?zone=s/a&horizon=6h").await;
    assert_eq!(status, 200, "{answer}");
    let points = answer["points"].as_array().unwrap();
    assert_eq!(points.len(), 36);
    let issued_ms = answer["issued_at_ms"].as_i64().unwrap();
    assert_eq!((issued_ms % 600_000, answer["is_stale"].as_bool()), (0, Some(false)));
    for (lead, point) in (1..).zip(points) {
        assert_eq!(point["at_ms"], issued_ms + lead * 600_000);
        let quantiles: Vec<f64> = serde_json::from_value(point["quantiles"].clone()).unwrap();
        assert!(quantiles.len() == 5 && quantiles.is_sorted(), "{point}");
    }
    assert_eq!(
        (&answer["unit"], &answer["feature"]),
        (&json!("°C"), &json!("temperature_mean_10m"))
    );
    let predictions = answer["predictions"].as_array().unwrap();
    assert_eq!((predictions.len(), &predictions[0]["task"]), (1, &json!(TASK)));

    // What came after a time changes nothing about the forecast of that time.
    let earlier = format!("/v1/forecast/temperature?zone=s/a&at={}", issued_ms - 6 * 3_600_000);
    let (status, before) = life.get_json(&earlier).await;
    assert_eq!(status, 200, "{before}");
    assert_eq!(before["issued_at_ms"], issued_ms - 6 * 3_600_000);
    assert_eq!(before["predictions"], json!(null));
    life.store.change_knobs(|state| state.known -= 60);
    assert_eq!(life.get_json(&earlier).await.1, before);

    let check = async |path: &str, status, code: &str| {
        let (found, answer) = life.get_json(path).await;
        assert_eq!((found, &answer["code"]), (status, &json!(code)), "{path}: {answer}");
    };
    check("/v1/forecast/rain?zone=s/a", 404, "unknown_metric").await;
    check("/v1/forecast/temperature?zone=s/nowhere", 404, "unknown_metric").await;
    check("/v1/forecast/temperature?zone=s/a&horizon=2d", 400, "bad_request").await;
    check("/v1/forecast/temperature?zone=s/a&at=yesterday", 400, "bad_request").await;
    check("/v1/forecast/temperature", 400, "bad_query").await;
}

#[tokio::test]
async fn other_conditions_can_be_asked_about() {
    let life = TestTrainer::with_champion("ridge").await;
    let (_, present) = life.get_json("/v1/predict/temperature-10m?zone=s/a").await;
    let ask = async |overrides: serde_json::Value| {
        let body = json!({ "zone": "s/a", "overrides": overrides });
        life.post_json("/v1/predict/temperature-10m", &body).await
    };
    // A room that has been at 21 °C for an hour stays near that.
    let (status, steady) = ask(json!({ "temperature": 21.0 })).await;
    assert_eq!(status, 200, "{steady}");
    assert_close(&steady["value"], 21.0, 0.6);
    let what_if = &steady["what_if"];
    assert_eq!(what_if["present_value"], present["value"]);
    assert_eq!(what_if["assumed"]["temperature_slope_10m"], 0.0);
    assert_eq!(what_if["assumed"]["temperature_mean_1h"], 21.0);
    assert_eq!(what_if["extrapolated"], json!({}));
    // What the model has never seen is named, with what it has.
    let (_, far) = ask(json!({ "temperature_slope_1h": 400.0 })).await;
    let range = &far["what_if"]["extrapolated"]["temperature_slope_1h"];
    assert!(range[1].as_f64().unwrap() < 100.0, "{far}");
    assert_ne!(far["value"], present["value"]);
    for overrides in [json!({ "rain": 1.0 }), json!({ "irrigation_min": 20.0 })] {
        let (status, answer) = ask(overrides).await;
        assert_eq!((status, &answer["code"]), (400, &json!("bad_override")), "{answer}");
    }
    let many = json!({ "zones": ["s/a"], "overrides": { "temperature": 21.0 } });
    assert_eq!(life.post_json("/v1/predict/temperature-10m", &many).await.0, 400);
    // Asking changes nothing.
    let (_, again) = life.get_json("/v1/predict/temperature-10m?zone=s/a").await;
    assert_eq!(again["value"], present["value"]);
    assert_eq!(again["what_if"], json!(null));
}
