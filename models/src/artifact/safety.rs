//! Protection from what an artifact could do to the program that reads it: its form is checked before
//! a model is made of it, and the model is asked within limits before it is served.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::mpsc,
    thread,
    time::Duration,
};

use ndarray::Array2;
use serde_json::{Map, Value};

use super::{ModelArtifact, Predictor};

/// Inputs of a model, at most.
const INPUTS_MAX: usize = 100_000;
/// Golden rows and rows made up may take this long.
const TIME_MAX: Duration = Duration::from_secs(20);
/// Stack of the thread that asks the model.
const STACK_BYTES: usize = 8 << 20;

/// Checks what no type says: that trees have no cycles and that their nodes exist. `inputs`
/// is the width of a row.
pub(super) fn check_structure(body: &Value, inputs: usize) -> Result<(), String> {
    if inputs > INPUTS_MAX {
        return Err(format!("it has {inputs} inputs, expected at most {INPUTS_MAX}"));
    }
    match body {
        Value::Object(fields) => {
            check_nodes(fields, inputs)?;
            check_half_spaces(fields, inputs)?;
            fields.values().try_for_each(|value| check_structure(value, inputs))
        }
        Value::Array(values) => {
            check_isolation_tree(values, inputs)?;
            values.iter().try_for_each(|value| check_structure(value, inputs))
        }
        _ => Ok(()),
    }
}

fn index_of(value: &Value) -> Option<usize> {
    value.as_u64().and_then(|number| usize::try_from(number).ok())
}

/// A child comes after its parent, as trees are written: then no path comes back.
fn check_child(parent: usize, child: usize, nodes: usize) -> Result<(), String> {
    if child <= parent || child >= nodes {
        return Err(format!(
            "node {parent} of a tree has the child {child}, expected one of {} to {}",
            parent + 1,
            nodes.saturating_sub(1)
        ));
    }
    Ok(())
}

fn check_feature(feature: usize, inputs: usize) -> Result<(), String> {
    if feature >= inputs {
        return Err(format!("a tree cuts input {feature}, expected less than {inputs}"));
    }
    Ok(())
}

/// Trees of decision trees and forests, whose inputs have flags beside them.
fn check_nodes(fields: &Map<String, Value>, inputs: usize) -> Result<(), String> {
    let Some(Value::Array(nodes)) = fields.get("nodes") else { return Ok(()) };
    if nodes.is_empty() {
        return Err("a tree without nodes".to_owned());
    }
    for (number, node) in nodes.iter().enumerate() {
        let children = ["true_child", "false_child"].map(|name| node.get(name).and_then(index_of));
        match children {
            [None, None] => {}
            [Some(one), Some(other)] => {
                check_child(number, one, nodes.len())?;
                check_child(number, other, nodes.len())?;
            }
            _ => return Err(format!("node {number} of a tree has one child")),
        }
        if let Some(feature) = node.get("split_feature").and_then(index_of) {
            check_feature(feature, 2 * inputs)?;
        }
    }
    Ok(())
}

/// A tree of an isolation forest is an array of nodes.
fn check_isolation_tree(nodes: &[Value], inputs: usize) -> Result<(), String> {
    for (number, node) in nodes.iter().enumerate() {
        let Some(cut) = node.get("Cut") else { continue };
        let above = cut.get("above").and_then(index_of).ok_or("a cut without its other side")?;
        check_child(number, number + 1, nodes.len())?;
        check_child(number, above, nodes.len())?;
        check_feature(cut.get("feature").and_then(index_of).unwrap_or(usize::MAX), inputs)?;
    }
    Ok(())
}

/// A half-space tree is whole: each node n has the children 2n + 1 and 2n + 2.
fn check_half_spaces(fields: &Map<String, Value>, inputs: usize) -> Result<(), String> {
    let array = |name: &str| fields.get(name).and_then(Value::as_array);
    let (Some(cuts), Some(reference), Some(latest)) =
        (array("cuts"), array("reference"), array("latest"))
    else {
        return Ok(());
    };
    let nodes = 2 * cuts.len() + 1;
    if !(cuts.len() + 1).is_power_of_two() || reference.len() != nodes || latest.len() != nodes {
        return Err(format!(
            "a half-space tree has {} cuts and {} and {} nodes, expected a whole tree",
            cuts.len(),
            reference.len(),
            latest.len()
        ));
    }
    cuts.iter().try_for_each(|cut| {
        check_feature(cut.get(0).and_then(index_of).unwrap_or(usize::MAX), inputs)
    })
}

/// Asks the model of `artifact` its golden rows, and rows made up, on a thread of its own:
/// a panic and a search that does not end become a reason to refuse it.
pub(super) fn ask_within_limits(artifact: ModelArtifact) -> Result<ModelArtifact, String> {
    let width = artifact.card.schema.features.len();
    let (answer, asked) = mpsc::channel();
    let ask = move || {
        let found = catch_unwind(AssertUnwindSafe(|| {
            let difference = artifact.golden.find_difference(&artifact.predictor, width);
            difference.or_else(|| find_failure(&artifact.predictor, width))
        }));
        // Nobody waits any more where it took too long.
        let _ = answer.send(match found {
            Ok(None) => Ok(artifact),
            Ok(Some(why)) => Err(why),
            Err(_) => Err("it fails on rows of its own schema: its parts do not fit".to_owned()),
        });
    };
    let builder = thread::Builder::new().name("artifact check".to_owned()).stack_size(STACK_BYTES);
    builder.spawn(ask).map_err(|error| format!("it cannot be checked: {error}"))?;
    asked
        .recv_timeout(TIME_MAX)
        .unwrap_or_else(|_| Err(format!("its golden rows take more than {} s", TIME_MAX.as_secs())))
}

/// Rows without any value, of zeros, and far away: where parts do not fit, one of them shows.
fn find_failure(predictor: &Predictor, width: usize) -> Option<String> {
    let rows = [f64::NAN, 0.0, 1e6, -1e6];
    let x = Array2::from_shape_fn((rows.len(), width), |(row, _)| rows[row]);
    let said = predictor.predict(x.view());
    if said.len() != rows.len() {
        return Some(format!("it predicts {} values for {} rows", said.len(), rows.len()));
    }
    if let Some(probabilities) = predictor.predict_probabilities(x.view())
        && probabilities.nrows() != rows.len()
    {
        return Some("its probabilities are not one row a row".to_owned());
    }
    let _ = predictor.predict_quantiles(x.view());
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn trees_without_end_are_found() {
        let check = |body: Value, expect: Option<&str>| {
            let found = check_structure(&json!({ "predictor": [body] }), 3);
            match expect {
                None => assert_eq!(found, Ok(())),
                Some(part) => {
                    assert!(found.as_ref().is_err_and(|why| why.contains(part)), "{found:?}");
                }
            }
        };
        let node = |one: u32, other: u32| json!({ "true_child": one, "false_child": other, "split_feature": 1 });
        let leaf = || json!({ "true_child": null, "false_child": null, "split_feature": 0 });
        check(json!({ "nodes": [node(1, 2), leaf(), leaf()] }), None);
        check(json!({ "nodes": [node(0, 2), leaf(), leaf()] }), Some("has the child 0"));
        check(json!({ "nodes": [node(1, 3), leaf(), leaf()] }), Some("expected one of 1 to 2"));
        check(json!({ "nodes": [] }), Some("without nodes"));
        let cut = |above: u32, feature: u32| json!({ "Cut": { "feature": feature, "at": 0.5, "above": above } });
        let end = || json!({ "Leaf": { "depth": 1.0 } });
        check(json!([cut(2, 2), end(), end()]), None);
        check(json!([cut(0, 2), end(), end()]), Some("has the child 0"));
        check(json!([cut(2, 3), end(), end()]), Some("cuts input 3"));
        check(json!([cut(1, 2)]), Some("has the child 1"));
        let spaces = |reference: u32| json!({ "cuts": [[0, 0.5]], "reference": vec![1; reference as usize], "latest": [1, 1, 1] });
        check(spaces(3), None);
        check(spaces(2), Some("expected a whole tree"));
    }
}
