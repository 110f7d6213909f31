use std::path::Path;

use feature_engine::FeatureDefinitions;
use telemetry::MetricTable;

use super::{load_definitions, parse_definitions};

/// Checks the mistakes of a text, in order; `version = 1` is added as its first line.
fn check(text: &str, expect: &[&str]) {
    let text = format!("version = 1\n{text}");
    check_whole(&text, expect);
}

fn check_whole(text: &str, expect: &[&str]) {
    let read = parse_definitions("t", text, &MetricTable::default());
    let mistakes = read.map_or_else(|error| error.mistakes, |_| Vec::new());
    let found: Vec<String> =
        mistakes.iter().map(|m| m.to_string().replace("\n  hint:", " |")).collect();
    for (found, expect) in found.iter().zip(expect) {
        assert!(found.starts_with(expect), "{text}\nfound    {found}\nexpected {expect}");
    }
    assert_eq!(found.len(), expect.len(), "{text}\n{}", found.join("\n"));
}

#[test]
fn the_built_in_file_has_no_mistake() {
    assert!(FeatureDefinitions::built_in().join_order.len() >= 4);
}

#[test]
fn versions() {
    check_whole("", &["t: there is no `version`, expected `version = 1` | write"]);
    check_whole("version = 2", &["t:1: version is 2, expected 1 | the file is of another version"]);
    check_whole(
        "version = 'x'",
        &["t:1: version is a value of type string, expected finite number"],
    );
    check("", &[]);
}

#[test]
fn what_is_not_toml() {
    check("[windows", &["t:2: not TOML: "]);
    check("[windows]\n[windows]", &["t:3: not TOML: "]);
}

#[test]
fn keys_names_and_types() {
    check("[window]", &["t:2: unknown key `window` | did you mean `windows`?"]);
    check("entity = 'device'", &["t:2: `device` is not a known entity | there are zone"]);
    check("[windows]\n1h = 'mean'", &["t:3: windows.1h is a value of type string, expected list"]);
    check(
        "[windows]\n1h = ['maen']",
        &["t:3: `maen` is not a known aggregate | did you mean `mean`?"],
    );
    check("[windows]\n1h = ['mean', 'mean']", &["t:3: `mean` is listed twice"]);
    check("[windows]\n1h = []", &["t:3: 1h is a window without aggregates | only"]);
    check("[windows]\n1hr = ['mean']", &["t:3: `1hr` is not a window width"]);
    check("[windows]\n90d = ['mean']", &["t:3: `90d` is not a window width"]);
    check("[windows]\n1h = ['mean']\n60m = ['mean']", &["t:4: 60m is as wide as 1h | one"]);
    check(
        "calendar = ['hour_sine']",
        &["t:2: `hour_sine` is not a known feature of the clock | did you mean `hour_sin`?"],
    );
    check(
        "drying = ['tau', 'r2']",
        &["t:2: `tau` is not a known feature of drying soil | did you mean `tau_h`?"],
    );
    check(
        "[metrics.co2]\ninherit = 0",
        &["t:3: metrics.co2.inherit is a value of type integer, expected true or false"],
    );
    check(
        "[metrics.co2]\nwhere = ''",
        &["t:3: metrics.co2.where is empty, expected an expression"],
    );
}

#[test]
fn metrics_are_those_of_the_site() {
    check(
        "[metrics.temprature]",
        &["t:2: `temprature` is not a known metric | did you mean `temperature`?"],
    );
    let windows = "windows.1h = ['mean']";
    check(
        &format!("[derived.x]\nfrom = 'lihgt'\n{windows}"),
        &["t:3: `lihgt` is not a known metric | did you mean `light`?"],
    );
    check(
        &format!("[derived.co2]\nfrom = 'light'\n{windows}"),
        &["t:2: `co2` is a metric already | choose"],
    );
    check(
        &format!("[derived.x]\nfrom = 'light'\n{windows}\n[derived.y]\nfrom = 'x'\n{windows}"),
        &["t:6: `x` is derived itself | derive from what is measured"],
    );
    check(
        &format!("[derived.X]\nfrom = 'light'\n{windows}"),
        &["t:2: `X` is not a valid name | a–z, 0–9 and _, a letter first"],
    );
}

#[test]
fn a_derived_metric_is_made_one_way_and_has_windows() {
    check("[derived.x]\nfrom = 'co2'", &["t:2: derived.x has no windows | it inherits none"]);
    check("[derived.x]\nwindows.1h = ['mean']", &["t:2: derived.x has no `from` | name"]);
    check(
        "[derived.x]\nfrom = 'co2'\nbelow = 1\nabove = 2\nwindows.1h = ['mean']",
        &["t:2: derived.x has more than one of `value`, `below` and `above`"],
    );
    check(
        "[derived.x]\nfrom = 'co2'\nbelow = nan\nwindows.1h = ['mean']",
        &["t:4: derived.x.below is nan, expected finite number"],
    );
}

#[test]
fn joins_are_made_of_what_there_is() {
    let base = "[windows]\n10m = ['mean']\n[joins.x]\n";
    let check = |join: &str, expect: &[&str]| check(&format!("{base}{join}"), expect);
    let two = "inputs = ['temperature_mean_10m', 'humidity_mean_10m']";
    check(&format!("formula = 'dew_point'\n{two}"), &[]);
    check(
        &format!("formula = 'dew_pint'\n{two}"),
        &["t:5: `dew_pint` is not a known formula | did you mean `dew_point`?"],
    );
    check(
        "formula = 'dew_point'\ninputs = ['temperature_mean_10m']",
        &["t:6: `dew_point` takes 2 inputs, found 1 | they are temperature, °C, and humidity, %RH"],
    );
    check(
        "formula = 'dew_point'\ninputs = [\n'temperature_mean_1m',\n'humidity_mean_10m']",
        &[
            "t:7: `temperature_mean_1m` is not a known feature | did you mean `temperature_mean_10m`?",
        ],
    );
    check("formula = 'dew_point'", &["t:4: joins.x has no `inputs`"]);
    check(
        &format!("{two}\nunit = 'x'"),
        &["t:4: joins.x has no `formula` and no `value` | a join"],
    );
    check(
        "value = 'tempreature_last * 2'",
        &["t:5: `tempreature_last` is not a column here | did you mean `temperature_last`?"],
    );
    check("value = 'temperature_last *'", &["t:5: DuckDB: "]);
    check("value = 'sum(co2_last)'", &["t:5: `sum` aggregates several rows"]);
    check("value = 'y'\n[joins.y]\nvalue = 'x'", &["t:4: joins depend on themselves: x → y → x"]);
    check(
        "value = 'co2_last'\n[joins.y]\nformula = 'difference'\ninputs = ['x', 'co2_last']",
        &["t:8: `x` is a join by SQL, which formulas cannot use | write"],
    );
    check("value = '1'\n[joins.co2_last]\nvalue = '1'", &["t:6: `co2_last` is a feature already"]);
    check("value = '1'\n[joins.time]\nvalue = '1'", &["t:6: `time` is a column of every row"]);
    check("value = '1'\n[joins.case]\nvalue = '1'", &["t:6: `case` is a word of SQL"]);
}

#[test]
fn expressions_over_readings_have_their_place() {
    check(
        "[metrics.co2]\nwhere = 'value'",
        &["t:3: the expression gives DOUBLE, expected BOOLEAN"],
    );
    check(
        "[derived.x]\nfrom = 'co2'\nwhere = 'now() > event'\nvalue = 'valeu'\nwindows.1h = ['mean']",
        &["t:4: `now` is not deterministic", "t:5: `valeu` is not a column here"],
    );
}

#[test]
fn all_mistakes_at_once_and_none_twice() {
    check(
        "[windows]\n10m = ['maen']\n1d = ['mean']\n[joins.x]\nformula = 'dew_point'\n\
         inputs = ['temperature_mean_10m', 'humdity_mean_10m']\n[joins.y]\n\
         value = 'co2_mean_10m + co3_last'\n[other]",
        &[
            "t:3: `maen` is not a known aggregate",
            "t:7: `humdity_mean_10m` is not a known feature",
            "t:9: `co3_last` is not a column here",
            "t:10: unknown key `other`",
        ],
    );
}

#[test]
fn limits() {
    let windows: String = (1..=17).map(|n| format!("{n}m = ['mean']\n")).collect();
    check(&format!("[windows]\n{windows}"), &["t:2: windows has 17 windows, at most 16"]);
    let long = format!("value{}", " + 1".repeat(500));
    check(
        &format!("[metrics.co2]\nwhere = '{long}'"),
        &["t:3: metrics.co2.where has 2005 bytes, at most 2000"],
    );
    let joins: String = (0..257).map(|n| format!("j{n}.value = '1'\n")).collect();
    check(&format!("[joins]\n{joins}"), &["t:2: there are 257 joins, at most 256"]);
}

#[test]
fn the_order_of_the_file_changes_nothing() {
    let hash = |text: &str| {
        parse_definitions("t", &format!("version = 1\n{text}"), &MetricTable::default())
            .unwrap()
            .compute_hash()
    };
    let one =
        hash("calendar = ['hour_sin', 'is_day']\n[windows]\n1h = ['mean', 'std']\n24h = ['max']");
    let other = hash(
        "calendar = ['is_day', 'hour_sin']\n[windows]\n24h = ['max']\n1h = ['std', 'mean'] # !",
    );
    assert_eq!(one, other);
    assert_ne!(
        one,
        hash("calendar = ['hour_sin', 'is_day']\n[windows]\n1h = ['mean']\n24h = ['max']")
    );
}

#[test]
fn files() {
    let dir = tempfile::tempdir().unwrap();
    let load = |path: &Path| load_definitions(path, &MetricTable::default());
    assert_eq!(load(Path::new("")).unwrap(), FeatureDefinitions::built_in());
    let missing = load(&dir.path().join("none.toml")).unwrap_err().to_string();
    assert!(missing.contains("none.toml: cannot be read: "), "{missing}");
    let large = dir.path().join("large.toml");
    std::fs::write(&large, "# a line that says nothing\n".repeat(50_000)).unwrap();
    let error = load(&large).unwrap_err().to_string();
    assert!(error.contains("is larger than 1048576 bytes"), "{error}");
}
