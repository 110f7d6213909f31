//! Recovers the measured readings of a series that was published interpolated.
//!
//! The soil series of the Wazihub challenge is a straight line between whole percents about 3 h
//! apart. So a value between two readings already depends on the next one. Only the knots, at
//! which the line may bend, were measured.

/// First guess of the number of rows between two knots: 3 h 7 min of 5-minute rows.
const INTERVAL_ROWS: f64 = 37.5;
/// Largest number of rows in a gap between knots.
const GAP_ROWS_MAX: usize = 1200;
/// Largest rounding error of the series, which is published with two decimals.
const ROUNDING: f64 = 0.0101;

/// Returns the rows that were measured, in order, and the mean number of rows between two of them.
/// It walks from knot to knot, first with a guess of the interval, then with the mean of the
/// intervals whose ends a bend confirms.
#[must_use]
pub fn recover_measured(series: &[Option<f64>]) -> (Vec<usize>, f64) {
    let guess = walk_knots(series, INTERVAL_ROWS);
    let clear: Vec<f64> = guess
        .windows(2)
        .filter(|pair| series[pair[0]] != series[pair[1]])
        .map(|pair| (pair[1] - pair[0]) as f64)
        .filter(|rows| (34.0..=42.0).contains(rows))
        .collect();
    if clear.is_empty() {
        return (guess, INTERVAL_ROWS);
    }
    let interval_rows = clear.iter().sum::<f64>() / clear.len() as f64;
    (walk_knots(series, interval_rows), interval_rows)
}

fn walk_knots(series: &[Option<f64>], interval_rows: f64) -> Vec<usize> {
    let is_whole = |row: usize| series[row].is_some_and(|value| value == value.round());
    let rows = series.len();
    let mut knots: Vec<usize> = (0..rows).find(|row| is_whole(*row)).into_iter().collect();
    while let Some(&knot) = knots.last() {
        let joins = |end: &usize| is_whole(*end) && is_straight(series, knot, *end);
        let (near, far) = (knot + interval_rows as usize - 1, knot + interval_rows as usize + 3);
        let off = |end: &usize| (((end - knot) as f64 - interval_rows).abs() * 100.0) as u64;
        let next = (near..(far + 1).min(rows)).filter(joins).min_by_key(off).or_else(|| {
            // Readings are missing: go as far as the line does. Or rows of the series are missing:
            // go to the next whole value.
            (knot + 1..rows.min(knot + GAP_ROWS_MAX))
                .take_while(|end| series[*end].is_some())
                .filter(joins)
                .last()
                .or_else(|| (knot + 1..rows).find(|row| is_whole(*row)))
        });
        match next {
            Some(next) => knots.push(next),
            None => break,
        }
    }
    knots
}

/// Whether the rows between two knots lie on the line between them, to the two published decimals.
fn is_straight(series: &[Option<f64>], from: usize, to: usize) -> bool {
    let (Some(a), Some(b)) = (series[from], series[to]) else { return false };
    (from..=to).all(|row| {
        let line = a + (b - a) * (row - from) as f64 / (to - from) as f64;
        series[row].is_some_and(|value| (value - line).abs() <= ROUNDING)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Builds a published series from the (row, value) of its knots.
    fn published(knots: &[(usize, f64)]) -> Vec<Option<f64>> {
        let mut series = Vec::new();
        for pair in knots.windows(2) {
            let [(from, a), (to, b)] = [pair[0], pair[1]];
            for row in from..to {
                let line = a + (b - a) * (row - from) as f64 / (to - from) as f64;
                series.push(Some((line * 100.0).round() / 100.0));
            }
        }
        series.extend(knots.last().map(|knot| Some(knot.1)));
        series
    }

    #[test]
    fn what_was_measured_is_found_between_what_was_drawn() {
        let values = [60.0, 59.0, 57.0, 57.0, 70.0, 69.0, 66.0];
        let knots: Vec<(usize, f64)> =
            values.iter().enumerate().map(|(i, value)| (i * 37 + i / 2, *value)).collect();
        let rows: Vec<usize> = knots.iter().map(|knot| knot.0).collect();
        assert_eq!(recover_measured(&published(&knots)).0, rows);
    }

    #[test]
    fn nothing_has_no_knots() {
        assert_eq!(recover_measured(&[]).0, Vec::<usize>::new());
        assert_eq!(recover_measured(&[None, Some(0.5)]).0, Vec::<usize>::new());
    }
}
