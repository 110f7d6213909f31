use super::{ConventionBench, NOW, read_golden};

const NODE: &str = "spBv1.0/Greenhouses";
const REBIRTH: &str = "publish spBv1.0/Greenhouses/NCMD/edge";

fn check_payload(bench: &mut ConventionBench, kind: &str, payload: &str, expect: &[&str]) {
    let device = if kind.starts_with('D') { "/bay-1" } else { "" };
    bench.check(
        &format!("{NODE}/{kind}/edge{device}"),
        read_golden(&format!("sparkplug/{payload}.bin")),
        expect,
    );
}

fn born_bench() -> ConventionBench {
    let mut bench = ConventionBench::from_example("sparkplug");
    check_payload(
        &mut bench,
        "NBIRTH",
        "nbirth",
        &["plant/hall edge.Cabinet live now: temperature 31.4"],
    );
    check_payload(
        &mut bench,
        "DBIRTH",
        "dbirth",
        &[
            "plant/bay-1 edge.bay-1 live now: temperature -40",
            "plant/bay-1 edge.bay-1.Inputs live now: soil_moisture 31.5",
            "plant/bay-1 edge.bay-1 live now: pressure 1013.25",
            "plant/bay-1 edge.bay-1 live now: irrigation 1",
        ],
    );
    bench
}

#[test]
fn births_and_data() {
    let mut bench = born_bench();
    check_payload(
        &mut bench,
        "DDATA",
        "ddata",
        &[
            "plant/bay-1 edge.bay-1 live 2023-11-14T22:13:21Z: temperature 10",
            "plant/bay-1 edge.bay-1 live 2023-11-14T22:13:21Z: pressure NaN",
            "plant/bay-1 edge.bay-1.Inputs backfill 2023-11-14T22:12:20Z: soil_moisture 32",
        ],
    );
}

#[test]
fn an_unknown_alias_asks_for_a_rebirth_once() {
    let mut bench = born_bench();
    check_payload(
        &mut bench,
        "DDATA",
        "ddata",
        &["…temperature…", "…pressure…", "…soil_moisture…"],
    );
    let unknown = "unknown_metric: a metric of `Greenhouses/edge/bay-1` with alias 99…";
    check_payload(&mut bench, "DDATA", "ddata-unknown-alias", &[unknown, REBIRTH]);
    // The same number again is another gap, but the request has already been sent.
    check_payload(&mut bench, "DDATA", "ddata-unknown-alias", &[unknown]);
    bench.now = NOW + 30_000;
    check_payload(&mut bench, "DDATA", "ddata-unknown-alias", &[unknown, REBIRTH]);
}

#[test]
fn a_gap_asks_for_a_rebirth_and_loses_nothing() {
    let mut bench = born_bench();
    check_payload(
        &mut bench,
        "DDATA",
        "ddata-gap",
        &["plant/bay-1 edge.bay-1 live 2023-11-14T22:13:22Z: temperature 20", REBIRTH],
    );
}

#[test]
fn data_before_a_birth() {
    let mut bench = ConventionBench::from_example("sparkplug");
    check_payload(
        &mut bench,
        "NDATA",
        "ndata",
        &["unknown_metric: …alias 0 that no birth has named", REBIRTH],
    );
    // A metric with its name can be read.
    check_payload(&mut bench, "NDATA", "ndata-named", &["plant/hall edge live now: humidity 55"]);
}

#[test]
fn deaths() {
    let mut bench = born_bench();
    // The will of an earlier session does not concern this one.
    check_payload(&mut bench, "NDEATH", "ndeath-stale", &[]);
    check_payload(
        &mut bench,
        "NDATA",
        "ndata",
        &["plant/hall edge.Cabinet live 2023-11-14T22:13:25Z: temperature 32.1"],
    );
    check_payload(&mut bench, "DDEATH", "ddeath", &[]);
    bench.now += 1;
    check_payload(
        &mut bench,
        "DDATA",
        "ddata",
        &[
            "unknown_metric: …alias 10…",
            "unknown_metric: …alias 11…",
            "unknown_metric: …alias 12…",
            REBIRTH,
        ],
    );
    check_payload(&mut bench, "NDEATH", "ndeath", &[]);
    bench.now += 60_000;
    check_payload(
        &mut bench,
        "NDATA",
        "ndata-named",
        &["plant/hall edge live…humidity 55", REBIRTH],
    );
}

#[test]
fn what_is_no_reading_and_what_cannot_be_read() {
    let mut bench = ConventionBench::from_example("sparkplug");
    bench.check("spBv1.0/STATE/scada", r#"{"online": true, "timestamp": 1}"#, &[]);
    bench.check("spBv1.0/Greenhouses/NCMD/edge", read_golden("sparkplug/ddeath.bin"), &[]);
    bench.check("spBv1.0/Greenhouses/DCMD/edge/bay-1", "", &[]);
    bench.check("spBv1.0/Greenhouses/NDATA/edge", "{}", &["malformed: not a Sparkplug B payload…"]);
    bench.check("spBv1.0/Greenhouses/NDATA", "", &["bad_topic: …"]);
    bench.check("spBv1.0/Greenhouses/NDATA/edge/bay-1", "", &["bad_topic: …"]);
    assert_eq!(bench.decode_lines("spAv1.0/Greenhouses/NDATA/edge", b""), None);
}

#[test]
fn memory_is_bounded() {
    let mut bench = ConventionBench::from_mapping(
        "convention = \"sparkplug\"\nsite = \"s\"\nzone = \"z\"\nunknown = \"ignore\"\nentities_max = 6",
    );
    let mut take = |kind: &str, payload: &str| {
        let device = if kind.starts_with('D') { "/bay-1" } else { "" };
        let topic = format!("{NODE}/{kind}/edge{device}");
        bench.decode_lines(&topic, &read_golden(&format!("sparkplug/{payload}.bin"))).unwrap()
    };
    // Five metrics of the node and one of the device: `Device Control/Reboot`.
    for _ in 0..2 {
        take("NBIRTH", "nbirth");
        take("DBIRTH", "dbirth");
        let data = take("DDATA", "ddata");
        assert!(
            data.iter().filter(|line| line.starts_with("unknown_metric")).count() == 3,
            "{data:?}"
        );
    }
}

#[test]
fn births_may_be_long_and_are_logged_in_parts() {
    let mut bench = ConventionBench::from_example("sparkplug");
    bench.limits = telemetry::PayloadLimits { payload_bytes_max: 20, readings_max: 1 };
    check_payload(&mut bench, "NBIRTH", "nbirth", &["…temperature 31.4"]);
    check_payload(
        &mut bench,
        "DBIRTH",
        "dbirth",
        &["…temperature -40", "…soil_moisture 31.5", "…pressure 1013.25", "…irrigation 1"],
    );
    check_payload(&mut bench, "NDATA", "ndata", &["oversized: 27 bytes, expected at most 20"]);
}

#[test]
fn nodes_are_bounded_too() {
    let mut bench = ConventionBench::from_mapping(
        "convention = \"sparkplug\"\nsite = \"s\"\nzone = \"z\"\nentities_max = 1",
    );
    bench.check("spBv1.0/g/NDATA/a", "", &["publish spBv1.0/g/NCMD/a"]);
    bench.check("spBv1.0/g/NDATA/b", "", &["publish spBv1.0/g/NCMD/b"]);
    assert_eq!(bench.entity_counts(), (1, 1));
    bench.check("spBv1.0/g/NDATA/b", "", &[]);
}

#[test]
fn nodes_over_the_ceiling_are_not_asked_at_each_of_their_messages() {
    let mut bench = ConventionBench::from_mapping(
        "convention = \"sparkplug\"\nsite = \"s\"\nzone = \"z\"\nentities_max = 6",
    );
    let mut requests = 0;
    for round in 0..4 {
        // Node `edge` has five metrics, and two nodes have no birth: one is forgotten each time.
        for node in ["a", "b"] {
            requests += bench.decode_lines(&format!("{NODE}/NDATA/{node}"), b"").unwrap().len();
        }
        let birth = read_golden("sparkplug/nbirth.bin");
        assert!(bench.decode_lines(&format!("{NODE}/NBIRTH/edge"), &birth).is_some(), "{round}");
    }
    assert_eq!(requests, 2);
}
