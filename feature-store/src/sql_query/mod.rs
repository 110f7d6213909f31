//! Checks of users' SQL queries.
//!
//! A query passes four barriers, each of which stands without the others:
//! 1. Its words. It is split as DuckDB's own scanner would, and everything is refused on which
//!    scanners could differ (comments, escapes, dollar quotes, semicolons). Only listed functions
//!    may be called. Only the store's tables and the query's own `WITH` names may follow FROM or
//!    JOIN. Words that begin anything but a query are refused wherever they stand.
//! 2. Its grammar. It runs as `SELECT * FROM (…)`, where DuckDB's grammar allows nothing but a
//!    query.
//! 3. The process. It runs in a separate one ([`crate::sql_sandbox`]), in an empty database that
//!    was opened with external access off and whose configuration is locked. So it can access no
//!    file, network, extension or setting. It receives the rows that it needs.
//! 4. Its limits: rows, bytes, time and memory, which the operating system enforces on that
//!    process, and one query at a time.
//!
//! # Layout
//! - `lexer`: text → tokens; `check`: tokens that are allowed, and where; `functions`: functions
//!   that may be called
//! - `outcome`: outcomes of queries, counted

mod check;
mod functions;
mod lexer;
mod outcome;

pub use outcome::QueryStopReason;
pub(crate) use outcome::{QueryOutcome, QueryOutcomeCounters};

/// Longest text of a query, bytes.
pub(crate) const TEXT_BYTES_MAX: usize = 16 * 1024;

/// Reason why a query is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}\nhint: {hint}")]
pub struct SqlRefusal {
    /// Found construct.
    pub what: String,
    /// How to rewrite it.
    pub hint: &'static str,
}

impl SqlRefusal {
    pub(crate) fn new(what: impl Into<String>, hint: &'static str) -> Self {
        Self { what: what.into(), hint }
    }
}

/// A query that only reads the store's tables.
///
/// ```
/// use microclimate_feature_store::SqlQuery;
///
/// assert!(SqlQuery::checked("SELECT zone, count(*) FROM silver.readings GROUP BY zone").is_ok());
/// let refused = SqlQuery::checked("SELECT * FROM read_csv('/etc/passwd')").unwrap_err();
/// assert_eq!(refused.what, "`read_csv` is not among the tables that can be read");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SqlQuery(String);

impl SqlQuery {
    /// Checks a query.
    ///
    /// # Errors
    /// Fails with the refused construct and a hint.
    pub fn checked(text: &str) -> Result<Self, SqlRefusal> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(SqlRefusal::new(
                format!("the query has {} bytes, above {TEXT_BYTES_MAX}", text.len()),
                "write a shorter query",
            ));
        }
        let trimmed = text.trim_ascii();
        let query = trimmed.strip_suffix(';').unwrap_or(trimmed).trim_ascii_end();
        check::check_tokens(&lexer::tokenize(query)?)?;
        Ok(Self(query.to_owned()))
    }

    /// Returns the SQL that runs, limited to `rows_max` rows.
    pub(crate) fn limited_sql(&self, rows_max: usize) -> String {
        format!("SELECT * FROM (\n{}\n) AS answer LIMIT {rows_max}", self.0)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Statements that must never run. None of them is a query over the store's tables.
    pub(crate) const HOSTILE_STATEMENTS: &[&str] = &[
        // files
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_csv_auto('/etc/passwd')",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM read_blob('/etc/passwd')",
        "SELECT * FROM read_parquet('/tmp/x.parquet')",
        "SELECT * FROM read_json('/tmp/x.json')",
        "SELECT * FROM read_json_auto('/tmp/x.json')",
        "SELECT * FROM read_ndjson_objects('/tmp/x.json')",
        "SELECT * FROM parquet_scan('/tmp/x.parquet')",
        "SELECT * FROM parquet_metadata('/tmp/x.parquet')",
        "SELECT * FROM parquet_schema('/tmp/x.parquet')",
        "SELECT * FROM parquet_kv_metadata('/tmp/x.parquet')",
        "SELECT * FROM sniff_csv('/etc/passwd')",
        "SELECT * FROM glob('/etc/*')",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM '/etc/hosts.csv'",
        "SELECT * FROM \"/etc/hosts.csv\"",
        "SELECT * FROM 'data.parquet' AS t",
        "SELECT * FROM silver.readings, '/etc/hosts.csv'",
        "SELECT * FROM silver.readings JOIN '/etc/hosts.csv' ON true",
        "SELECT * FROM silver.readings, \"hosts.csv\"",
        "SELECT * FROM hosts.csv",
        "FROM '/etc/hosts.csv'",
        "SELECT (SELECT count(*) FROM '/etc/hosts.csv')",
        "SELECT * FROM silver.readings WHERE zone IN (SELECT column0 FROM '/etc/hosts.csv')",
        "WITH t AS (SELECT * FROM read_text('/etc/passwd')) SELECT * FROM t",
        "WITH \"/etc/hosts.csv\" AS (SELECT 1) SELECT * FROM \"/etc/hosts.csv\"",
        "SELECT 1 UNION ALL SELECT content FROM read_text('/etc/passwd')",
        "SELECT '/etc/passwd'.read_text()",
        "SELECT * FROM main.read_csv('/etc/passwd')",
        "SELECT * FROM system.main.read_csv('/etc/passwd')",
        "SELECT * FROM \"read_csv\"('/etc/passwd')",
        "SELECT * FROM READ_CSV ('/etc/passwd')",
        "SELECT * FROM read_csv\n('/etc/passwd')",
        "SELECT * FROM LATERAL read_csv('/etc/passwd')",
        "COPY silver.readings TO '/tmp/out.csv'",
        "COPY (SELECT 1) TO '/tmp/out.csv'",
        "COPY silver.data FROM '/etc/passwd'",
        "EXPORT DATABASE '/tmp/out'",
        "IMPORT DATABASE '/tmp/out'",
        "SELECT * FROM (COPY (SELECT 1) TO '/tmp/out.csv')",
        // other databases, the network, extensions
        "ATTACH '/tmp/other.duckdb' AS other",
        "ATTACH ':memory:' AS other",
        "DETACH microclimate",
        "USE other",
        "INSTALL httpfs",
        "LOAD httpfs",
        "LOAD '/tmp/x.duckdb_extension'",
        "FORCE INSTALL httpfs",
        "SELECT * FROM 'https://example.org/x.parquet'",
        "SELECT * FROM read_csv('https://example.org/x.csv')",
        "CREATE SECRET s (TYPE s3, KEY_ID 'a', SECRET 'b')",
        "SELECT * FROM which_secret('s3://x', 's3')",
        // settings, variables, the environment
        "SET memory_limit = '1TB'",
        "SET enable_external_access = true",
        "SET GLOBAL threads = 64",
        "SET VARIABLE x = 1",
        "RESET lock_configuration",
        "PRAGMA database_list",
        "PRAGMA enable_profiling",
        "PRAGMA threads = 64",
        "SELECT * FROM pragma_table_info('silver.readings')",
        "SELECT * FROM pragma_database_list",
        "SELECT * FROM pragma_storage_info('silver.data')",
        "SELECT current_setting('lock_configuration')",
        "SELECT getenv('PATH')",
        "SELECT getvariable('x')",
        "SELECT * FROM duckdb_settings()",
        "SELECT * FROM duckdb_secrets()",
        "SELECT * FROM duckdb_extensions()",
        "SELECT * FROM duckdb_functions()",
        "SELECT * FROM duckdb_logs()",
        "SELECT * FROM duckdb_tables",
        "SELECT * FROM pg_catalog.pg_settings",
        "SELECT * FROM sqlite_master",
        "WITH duckdb_settings AS (SELECT 1) SELECT * FROM duckdb_settings",
        "SHOW ALL TABLES",
        "SHOW SETTINGS",
        "SELECT * FROM (SHOW ALL TABLES)",
        "SELECT * FROM (DESCRIBE silver.readings)",
        "SELECT * FROM (SUMMARIZE silver.readings)",
        "DESCRIBE silver.readings",
        // text run as SQL
        "SELECT * FROM query('SELECT 1')",
        "SELECT * FROM query_table('silver.readings')",
        "SELECT * FROM json_execute_serialized_sql('{}')",
        "EXECUTE x",
        "PREPARE x AS SELECT 1",
        "DEALLOCATE x",
        "CALL pragma_version()",
        "EXPLAIN ANALYZE SELECT 1",
        // writes
        "INSERT INTO silver.data VALUES (1)",
        "UPDATE features.rows SET revision = 9",
        "DELETE FROM features.rows",
        "TRUNCATE features.rows",
        "DROP TABLE features.rows",
        "DROP SCHEMA features CASCADE",
        "ALTER TABLE features.rows ADD COLUMN x INTEGER",
        "CREATE TABLE features.x AS SELECT 1",
        "CREATE TEMP TABLE x AS SELECT 1",
        "CREATE MACRO abs(x) AS 1",
        "CREATE VIEW gold.x AS SELECT 1",
        "CREATE SEQUENCE s",
        "SELECT nextval('s')",
        "MERGE INTO features.rows USING silver.readings ON true WHEN MATCHED THEN DELETE",
        "WITH x AS (DELETE FROM features.rows RETURNING *) SELECT * FROM x",
        "SELECT * FROM (INSERT INTO meta.metrics VALUES (99, 'x') RETURNING *)",
        "SELECT 1 INTO x",
        "VACUUM",
        "ANALYZE",
        "CHECKPOINT",
        "FORCE CHECKPOINT",
        "BEGIN",
        "COMMIT",
        "ROLLBACK",
        "COMMENT ON TABLE features.rows IS 'x'",
        // out of the brackets, and scanners that differ
        "SELECT 1; DROP TABLE features.rows",
        "SELECT 1); DROP TABLE features.rows; SELECT (1",
        "SELECT 1) AS a; DELETE FROM features.rows; SELECT * FROM (SELECT 1",
        "SELECT 1) UNION SELECT * FROM (SELECT 1",
        "SELECT 1 -- ) AS a",
        "SELECT 1 --",
        "SELECT 1 /* ) */",
        "SELECT /*/**/*/ 1",
        "SELECT E'\\' FROM read_text(''/etc/passwd'') --'",
        "SELECT $$a$$",
        "SELECT $tag$a$tag$",
        "SELECT U&'d!0061t' UESCAPE '!'",
        "SELECT x'00'",
        "SELECT 'open",
        "SELECT \"open",
        "SELECT (1",
        "SELECT 1)",
        "SELECT [1)",
        "SELECT ?",
        "SELECT $1",
        "SELECT #1",
        "SELECT 1read_csv('/etc/passwd')",
        "SELECT\u{a0}1",
        "SELECT 1\0",
        "",
        ";",
        "SELECT 1;;SELECT 2",
        // too much of something
        "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT * FROM t",
        "SELECT repeat('x', 1000000000)",
        "SELECT range(1000000000)",
        "SELECT generate_series(1, 1000000000)",
        "SELECT lpad('x', 1000000000)",
        "SELECT list_resize([1], 1000000000)",
        "SELECT printf('%1000000000d', 1)",
        "PIVOT silver.readings ON metric USING avg(value)",
        "TABLE silver.readings",
        // names that are not the store's
        "SELECT * FROM readings",
        "SELECT * FROM temp.main.asked",
        "SELECT * FROM microclimate.silver.readings",
        "SELECT * FROM main.x",
    ];

    #[test]
    fn hostile_statements_are_refused() {
        for text in HOSTILE_STATEMENTS {
            let found = SqlQuery::checked(text);
            assert!(found.is_err(), "was not refused: {text}");
        }
    }

    #[test]
    fn queries_over_the_store_are_accepted() {
        for text in [
            "SELECT 1",
            "select zone, count(*) AS n from silver.readings group by zone order by n desc limit 5;",
            "SELECT * FROM features.rows WHERE site = 'farm' AND zone IN ('bay-1', 'bay-2')",
            "SELECT date_trunc('hour', event) AS hour, avg(value) FILTER (quality = 'ok') AS mean
             FROM silver.readings WHERE metric = 'temperature' GROUP BY ALL HAVING count(*) > 10",
            "WITH t AS (SELECT zone, value FROM silver.readings), u AS MATERIALIZED (SELECT 1 AS one)
             SELECT t.zone, max(t.value) FROM t, u GROUP BY t.zone",
            "SELECT r.zone, x.n FROM silver.readings r LEFT JOIN (SELECT 1 AS n) x ON r.value > x.n",
            "SELECT value, lag(value) OVER (PARTITION BY zone ORDER BY event) FROM silver.readings",
            "SELECT * EXCLUDE (site) FROM features.rows",
            "SELECT CAST(value AS DECIMAL(10, 2)), value::INTEGER, 'it''s', -1.5e-3 FROM silver.readings",
            "SELECT range FROM range(10)",
            "FROM gold.hourly SELECT metric, mean",
            "SELECT * FROM silver.readings WHERE value IS NOT DISTINCT FROM NULL",
            "SELECT \"offset\", {'a': 1}, [1, 2] FROM bronze.records",
            "SELECT table_name FROM information_schema.tables",
            "VALUES (1, 'a'), (2, 'b')",
            "SELECT a.value FROM silver.readings a ASOF JOIN features.rows b ON a.event >= b.time",
        ] {
            if let Err(refused) = SqlQuery::checked(text) {
                panic!("{refused}: {text}");
            }
        }
    }

    #[test]
    fn long_queries_are_refused() {
        let long = format!("SELECT {}", "1 + ".repeat(TEXT_BYTES_MAX));
        assert!(SqlQuery::checked(&long).is_err());
    }
}
