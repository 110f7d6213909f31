//! The Open Inference Protocol.

use std::collections::HashSet;

use microclimate_trainer::{TrainerSettings, input::InputExpression, tasks};
use serde_json::{Value, json};

use super::TestTrainer;

#[tokio::test]
async fn models_are_listed_with_their_tensors() {
    let life = TestTrainer::with_champion("ridge").await;
    assert_eq!(life.get_json("/v2/health/live").await, (200, json!({ "live": true })));
    assert_eq!(life.get_json("/v2/health/ready").await, (200, json!({ "ready": true })));
    let ready = json!({ "name": "temperature-10m", "ready": true });
    assert_eq!(life.get_json("/v2/models/temperature-10m/ready").await, (200, ready.clone()));
    assert_eq!(life.get_json("/v2/models/temperature-10m/versions/1/ready").await, (200, ready));
    assert_eq!(life.get_json("/v2/models/temperature-10m/versions/2/ready").await.0, 404);
    assert_eq!(life.get_json("/v2/models/light/ready").await.0, 503);
    assert_eq!(life.get_json("/v2/models/weather").await.0, 404);
    let none =
        |name: &str| json!({ "name": name, "state": "UNAVAILABLE", "reason": "no champion yet" });
    let ready =
        json!({ "name": "temperature-10m", "version": "1", "state": "READY", "reason": "" });
    let others = tasks::NAMES.into_iter().filter(|name| *name != "temperature-10m");
    let index: Vec<Value> = std::iter::once(ready).chain(others.map(none)).collect();
    assert_eq!(index.len(), 13);
    assert_eq!(life.post_json("/v2/repository/index", &json!({})).await, (200, json!(index)));
    let (_, metadata) = life.get_json("/v2/models/temperature-10m").await;
    let names: Vec<&str> = metadata["inputs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|i| i["name"].as_str().unwrap())
        .collect();
    assert!(names.contains(&"temperature_now"), "the level that a change is added to: {names:?}");
    assert_eq!(names.iter().collect::<HashSet<_>>().len(), names.len(), "each once");
    assert_eq!(
        metadata["outputs"],
        json!([
            { "name": "prediction", "datatype": "FP64", "shape": [-1] },
            { "name": "low", "datatype": "FP64", "shape": [-1] },
            { "name": "high", "datatype": "FP64", "shape": [-1] },
        ])
    );
}

/// Inputs of a zone's latest row as tensors, twice.
async fn input_tensors(life: &TestTrainer) -> Vec<Value> {
    let newest = life.store.newest_features(0);
    let column = |name: &str| {
        newest.iter().find(|(feature, _)| *feature == name).map_or(f64::NAN, |(_, value)| *value)
    };
    let comfort = TrainerSettings::default().comfort;
    let value = |name: &str| InputExpression::parse(name).compute_value(&comfort, column);
    let (_, metadata) = life.get_json("/v2/models/temperature-10m").await;
    let inputs = metadata["inputs"].as_array().unwrap().iter();
    inputs
        .map(|input| {
            let name = input["name"].as_str().unwrap();
            let data = [value(name); 2];
            json!({ "name": name, "shape": [2, 1], "datatype": "FP64", "data": data })
        })
        .collect()
}

#[tokio::test]
async fn the_protocol_predicts_what_rest_predicts() {
    let life = TestTrainer::with_champion("ridge").await;
    let (_, prediction) = life.get_json("/v1/predict/temperature-10m?zone=s/a").await;
    let inputs = input_tensors(&life).await;
    let path = "/v2/models/temperature-10m/infer";
    let body = json!({ "id": "42", "inputs": inputs, "outputs": [{ "name": "prediction" }] });
    let expect = json!({
        "id": "42",
        "model_name": "temperature-10m",
        "model_version": "1",
        "outputs": [{
            "name": "prediction", "datatype": "FP64", "shape": [2],
            "data": [prediction["value"], prediction["value"]],
        }],
    });
    assert_eq!(life.post_json(path, &body).await, (200, expect));
    let here = json!({ "zone": "s/a", "at_ms": prediction["features_at_ms"] });
    let (_, all) = life.post_json(path, &json!({ "inputs": inputs, "parameters": here })).await;
    assert_eq!(all["outputs"][1]["data"][0], prediction["interval"][0]);
    // Without zone and time the width is that of all.
    let (_, all) = life.post_json(path, &json!({ "inputs": inputs })).await;
    assert!(all["outputs"][1]["data"][0].as_f64() < prediction["value"].as_f64(), "{all}");

    let check = async |body: Value, part: &str| {
        let (status, answer) = life.post_json(path, &body).await;
        assert!(status == 400 && answer["error"].as_str().unwrap().contains(part), "{answer}");
    };
    check(json!({ "inputs": inputs[1..] }), "is missing").await;
    check(json!({ "inputs": [] }), "is missing").await;
    check(json!({ "inputs": inputs, "outputs": [{ "name": "x" }] }), "no output `x`").await;
    let mut odd = inputs.clone();
    odd[0]["name"] = json!("odd");
    check(json!({ "inputs": odd }), "no input `odd`").await;
    let mut short = inputs.clone();
    (short[0]["shape"], short[0]["data"]) = (json!([1]), json!([0.0]));
    check(json!({ "inputs": short }), "rows, others").await;
    check(json!({ "inputs": "none" }), "expected a sequence").await;
}
