//! What may be called: arithmetic, text, time and aggregates. Nothing that reads a
//! file, a setting, a variable or the catalogue, runs text as SQL, or makes large
//! values of small ones (`repeat`, `range` as a list, `lpad`).

/// Functions, and type names that take a length.
const FUNCTIONS: &[&str] = &[
    // numbers
    "abs", "acos", "asin", "atan", "atan2", "cbrt", "ceil", "ceiling", "cos", "cot", "degrees",
    "exp", "floor", "gamma", "greatest", "isfinite", "isinf", "isnan", "least", "lgamma", "ln",
    "log", "log10", "log2", "mod", "pi", "pow", "power", "radians", "round", "sign", "sin", "sqrt",
    "tan", "trunc", "fdiv", "fmod",
    // texts
    "concat", "concat_ws", "contains", "ends_with", "starts_with", "prefix", "suffix", "instr",
    "left", "length", "strlen", "lower", "ltrim", "md5", "position", "replace", "reverse", "right",
    "rtrim", "split_part", "strpos", "substr", "substring", "trim", "upper", "regexp_matches",
    "regexp_extract", "regexp_full_match", "encode", "decode", "hex", "octet_length",
    // nothing, or something
    "coalesce", "ifnull", "nullif", "if",
    // time
    "age", "date_diff", "datediff", "date_part", "datepart", "date_sub", "date_trunc", "datetrunc",
    "day", "dayname", "dayofmonth", "dayofweek", "dayofyear", "epoch", "epoch_ms", "epoch_us",
    "hour", "isodow", "last_day", "make_date", "make_timestamp", "make_timestamp_ms", "minute",
    "month", "monthname", "now", "quarter", "second", "strftime", "strptime", "time_bucket",
    "to_timestamp", "week", "weekday", "year", "to_seconds", "to_minutes", "to_hours", "to_days",
    // aggregates
    "any_value", "approx_count_distinct", "approx_quantile", "arg_max", "arg_min", "argmax",
    "argmin", "avg", "bool_and", "bool_or", "corr", "count", "count_if", "covar_pop", "covar_samp",
    "entropy", "favg", "first", "fsum", "geomean", "histogram", "kurtosis", "last", "mad", "max",
    "max_by", "mean", "median", "min", "min_by", "mode", "product", "quantile", "quantile_cont",
    "quantile_disc", "regr_count", "regr_intercept", "regr_r2", "regr_slope", "skewness", "stddev",
    "stddev_pop", "stddev_samp", "string_agg", "sum", "var_pop", "var_samp", "variance",
    // windows
    "cume_dist", "dense_rank", "first_value", "lag", "last_value", "lead", "nth_value", "ntile",
    "percent_rank", "rank", "row_number",
    // lists of aggregates
    "len", "list_extract", "unnest", "columns",
    // types with a length
    "decimal", "numeric", "varchar",
];

/// Words of the language that a bracket may follow.
const WORDS: &[&str] = &[
    "all", "and", "any", "as", "asc", "between", "by", "case", "cast", "cross", "cube", "desc",
    "distinct", "else", "end", "except", "exclude", "exists", "filter", "from", "group",
    "grouping", "having", "ilike", "in", "inner", "intersect", "interval", "is", "join", "lateral",
    "like", "limit", "materialized", "not", "offset", "on", "or", "order", "over", "partition",
    "qualify", "rename", "rollup", "row", "select", "sets", "similar", "then", "to", "try_cast",
    "union", "using", "values", "when", "where", "with", "within",
];

/// Whether a bracket may follow this word.
pub(super) fn may_be_called(word: &str) -> bool {
    FUNCTIONS.contains(&word) || WORDS.contains(&word)
}
