use serde_json::Value;

use crate::site::{ApiSite, MINUTE_MS, START_MS};

/// Follows `next` to the end and checks that every page has at most `limit` lines.
async fn follow_pages(
    site: &ApiSite,
    path: &str,
    cursor: &str,
    list: &str,
    limit: usize,
) -> Vec<Value> {
    let mut found = Vec::new();
    let mut after = String::new();
    loop {
        let answer = site.get(&format!("{path}limit={limit}{after}")).await;
        let page = answer.parse_json();
        let lines = page[list].as_array().unwrap_or_else(|| panic!("{page}")).clone();
        assert!(lines.len() <= limit && !lines.is_empty(), "{page}");
        found.extend(lines);
        match &page["next"] {
            Value::Null => return found,
            Value::String(next) => after = format!("&{cursor}={next}"),
            next => after = format!("&{cursor}={next}"),
        }
        assert!(found.len() < 10_000, "it does not end");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_hold_everything_once_and_in_order() {
    let site = ApiSite::new().await;
    for (path, cursor, list) in [
        ("/v1/readings?", "after", "readings"),
        ("/v1/readings?zone=farm/bay-1&metric=temperature&quality=ok&", "after", "readings"),
        ("/v1/quality?", "after", "quality"),
        ("/v1/zones?", "after", "zones"),
        ("/v1/features?", "after", "features"),
        ("/v1/definitions?", "after", "lineage"),
        ("/v1/features/latest?names=co2_last&", "after", "rows"),
    ] {
        let all = site.get(&format!("{path}limit=10000")).await.parse_json()[list].clone();
        let all = all.as_array().unwrap_or_else(|| panic!("{path}")).clone();
        for limit in [1, 7, all.len().max(1)].into_iter().filter(|limit| all.len() / limit < 400) {
            let mut pages = follow_pages(&site, path, cursor, list, limit).await;
            let mut expect = all.clone();
            // Values that depend on the clock differ between answers.
            for line in pages.iter_mut().chain(&mut expect) {
                line.as_object_mut().map(|line| line.remove("age_s"));
            }
            assert!(pages == expect, "{path} by {limit}");
        }
    }
    // History goes back in time, page by page.
    let path = "/v1/features/history?zone=farm/bay-1&names=temperature_last&revisions=all&";
    let all = site.get(&format!("{path}limit=10000")).await.parse_json()["rows"].clone();
    let mut pages: Vec<Vec<Value>> = Vec::new();
    let mut before = String::new();
    loop {
        let page = site.get(&format!("{path}limit=10{before}")).await.parse_json();
        pages.push(page["rows"].as_array().unwrap().clone());
        match page["next"].as_i64() {
            Some(next) => before = format!("&before={next}"),
            None => break,
        }
    }
    pages.reverse();
    let pages = pages.concat();
    let order = |row: &Value| (row["at_ms"].as_i64().unwrap(), row["revision"].as_i64().unwrap());
    let mut expect = all.as_array().unwrap().clone();
    let mut found = pages;
    expect.sort_by_key(order);
    found.sort_by_key(order);
    assert!(found == expect, "{} rows are not {}", found.len(), expect.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn readings_are_found_by_what_they_are() {
    let site = ApiSite::new().await;
    let count = async |filter: &str| {
        let answer = site.get(&format!("/v1/readings?limit=10000&{filter}")).await.parse_json();
        answer["readings"].as_array().unwrap_or_else(|| panic!("{answer}")).len()
    };
    assert_eq!(count("zone=farm/bay-2").await, 91);
    assert_eq!(count("metric=temperature").await, 184);
    assert_eq!(count("metric=temperature&quality=out_of_range").await, 1);
    assert_eq!(count("quality=duplicate").await, 2);
    assert_eq!(count("device=probe-1&metric=co2").await, 91);
    assert_eq!(count("device=nobody").await, 0);
    assert_eq!(count("date=2025-06-02&metric=co2").await, 91);
    assert_eq!(count("date=2025-06-01").await, 0);
    // Both ends belong to the span.
    let (from, to) = (START_MS + 10 * MINUTE_MS, START_MS + 20 * MINUTE_MS);
    assert_eq!(count(&format!("metric=humidity&from={from}&to={to}")).await, 11);
    assert_eq!(
        count("metric=humidity&from=2025-06-02T00:10:00Z&to=2025-06-02T00:20:00Z").await,
        11
    );
}
