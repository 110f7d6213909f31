//! Artifacts with a right checksum and a wrong content: they are refused or harmless.

use std::sync::LazyLock;

use microclimate_models::{
    ModelArtifact, ModelCard, ModelProvenance, Predictor, artifact::GoldenRows,
};
use ndarray::Array2;
use proptest::prelude::*;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::subject::{Rows, subjects};

/// An artifact of every kind of model, as JSON.
static BODIES: LazyLock<Vec<(String, Value)>> = LazyLock::new(|| {
    let rows = Rows::of(200, 3);
    let body = |subject: &super::Subject| {
        let predictor = subject.fit(&rows, 5).unwrap().0;
        let artifact = ModelArtifact {
            card: ModelCard {
                task: "test".to_owned(),
                model: subject.name.clone(),
                schema: rows.schema().as_ref().clone(),
                unit: "°C".to_owned(),
                trained_ms: (0, 1),
                rows: 200,
                seed: 5,
                metrics: [].into(),
                code_version: "test".to_owned(),
                facts: ModelProvenance::from_rows(rows.x.view(), None),
                serving: Value::Null,
            },
            golden: GoldenRows::from_predictor(&predictor, rows.x.view()),
            predictor,
        };
        (subject.name.clone(), serde_json::to_value(&artifact).unwrap())
    };
    subjects().iter().map(body).collect()
});

fn with_checksum(body: &Value) -> Vec<u8> {
    let body = serde_json::to_vec(body).unwrap();
    let sum: String = Sha256::digest(&body).iter().map(|byte| format!("{byte:02x}")).collect();
    [format!("microclimate-model 3 {sum}\n").as_bytes(), &body].concat()
}

/// Reads it; what is read answers rows of its own width, whatever is in them.
fn read_and_ask(body: &Value) -> Result<(), String> {
    let artifact = ModelArtifact::from_bytes(&with_checksum(body))?;
    let width = artifact.card.schema.features.len();
    let values = [0.3, -4.0, f64::NAN, 1e3];
    let x = Array2::from_shape_fn((4, width), |(row, column)| values[(row + column) % 4]);
    let _ = artifact.predictor.predict(x.view());
    let _ = artifact.predictor.predict_probabilities(x.view());
    let _ = artifact.predictor.predict_quantiles(x.view());
    Ok(())
}

/// How many values there are in a body, and the changed body for one of them.
fn change_nth(body: &mut Value, left: &mut usize, change: &dyn Fn(&mut Value)) -> bool {
    if *left == 0 {
        change(body);
        return true;
    }
    *left -= 1;
    match body {
        Value::Array(values) => values.iter_mut().any(|own| change_nth(own, left, change)),
        Value::Object(fields) => fields.values_mut().any(|own| change_nth(own, left, change)),
        _ => false,
    }
}

fn count_values(body: &Value) -> usize {
    1 + match body {
        Value::Array(values) => values.iter().map(count_values).sum(),
        Value::Object(fields) => fields.values().map(count_values).sum(),
        _ => 0,
    }
}

fn find_nodes(body: &mut Value) -> Option<&mut Vec<Value>> {
    match body {
        Value::Object(fields) => {
            if fields.contains_key("nodes") {
                return fields.get_mut("nodes").and_then(Value::as_array_mut);
            }
            fields.values_mut().find_map(find_nodes)
        }
        Value::Array(values) => values.iter_mut().find_map(find_nodes),
        _ => None,
    }
}

const CHANGES: usize = 9;

fn apply_change(value: &mut Value, number: usize) {
    match (number, value) {
        (0, value) => *value = Value::Null,
        (1, Value::Array(values)) => _ = values.pop(),
        (2, Value::Array(values)) => values.extend(values.first().cloned()),
        (3, Value::Array(values)) => values.clear(),
        (4, Value::Object(fields)) => {
            let first = fields.keys().next().cloned();
            first.map(|name| fields.remove(&name));
        }
        (5, value) if value.is_u64() => *value = json!(u64::MAX),
        (5 | 6, value) if value.is_number() => *value = json!(0),
        (7, value) if value.is_number() => *value = json!(1e300),
        (8, value) if value.is_number() => *value = json!(-1),
        (_, value) => *value = json!([[0]]),
    }
}

#[test]
fn what_was_written_is_read() {
    for (name, body) in &*BODIES {
        assert_eq!(read_and_ask(body), Ok(()), "{name}");
    }
}

#[test]
fn a_tree_that_comes_back_and_a_weight_too_few_are_refused() {
    let check = |name: &str, pointer: &str, change: &dyn Fn(&mut Value), part: &str| {
        let (_, body) = BODIES.iter().find(|(own, _)| own == name).unwrap();
        let mut body = body.clone();
        change(body.pointer_mut(pointer).unwrap_or_else(|| panic!("{name}: no {pointer}")));
        let why = read_and_ask(&body).unwrap_err();
        assert!(why.contains(part), "{name}: {why}");
    };
    let comes_back = |own: &mut Value| {
        let nodes = find_nodes(own).expect("a tree has nodes");
        nodes[0]["true_child"] = json!(0);
    };
    check("Regressor decision tree", "/predictor", &comes_back, "has the child 0");
    let weights = "/predictor/regressor/linear/weights";
    let shorter = |own: &mut Value| {
        own["data"].as_array_mut().unwrap().pop();
        let dim = own["dim"][0].as_u64().unwrap();
        own["dim"][0] = json!(dim - 1);
    };
    check("Regressor ridge", weights, &shorter, "weights");
    let golden = |own: &mut Value| *own = json!({ "x": [], "y": [] });
    let (_, body) = BODIES.iter().find(|(own, _)| own == "Regressor ridge").unwrap();
    let mut body = body.clone();
    golden(body.pointer_mut("/golden").unwrap());
    shorter(body.pointer_mut(weights).unwrap());
    assert!(read_and_ask(&body).is_err(), "without golden rows too");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// One value anywhere is changed, and the checksum made right again.
    #[test]
    fn a_changed_value_is_refused_or_harmless(
        which in any::<prop::sample::Index>(),
        place in any::<prop::sample::Index>(),
        change in 0..CHANGES,
    ) {
        let (name, body) = &BODIES[which.index(BODIES.len())];
        let mut body = body.clone();
        // Half of the changes are to the model, the other half anywhere.
        let predictor = body.pointer("/predictor").map_or(0, count_values);
        let inside = place.index(2 * predictor.max(1));
        if inside < predictor {
            let own = body.pointer_mut("/predictor").unwrap();
            change_nth(own, &mut inside.clone(), &|value| apply_change(value, change));
        } else {
            let mut left = place.index(count_values(&body));
            change_nth(&mut body, &mut left, &|value| apply_change(value, change));
        }
        let asked = std::panic::catch_unwind(|| read_and_ask(&body));
        prop_assert!(asked.is_ok(), "{name} panics after it was read");
    }
}

#[test]
fn the_predictor_is_one_of_three() {
    let kinds = |own: &Predictor| match own {
        Predictor::Regressor(_) => 0,
        Predictor::Classifier(_) => 1,
        Predictor::Detector(_) => 2,
    };
    let read = |body: &Value| ModelArtifact::from_bytes(&with_checksum(body)).unwrap();
    let mut seen: Vec<i32> = BODIES.iter().map(|(_, body)| kinds(&read(body).predictor)).collect();
    seen.dedup();
    assert_eq!(seen, [0, 1, 2]);
}
