use crate::field::Field;

const HOUR_MS: i64 = 3_600_000;
/// 19 April 2019, 0:00 UTC.
pub(crate) const TEST_FROM_MS: i64 = 1_555_632_000_000;

/// The readings that the published series was drawn between.
pub(crate) struct Knots {
    /// Row, time in ms, %.
    pub(crate) points: Vec<(usize, i64, f64)>,
    pub(crate) interval_rows: f64,
}

impl Knots {
    /// Walks from knot to knot, first with a guess of the interval, then with
    /// the mean of those that a bend makes certain.
    pub(crate) fn recover(field: &Field) -> Self {
        let guess = Self::walk(field, 37.5);
        let clear: Vec<f64> = guess
            .windows(2)
            .filter(|pair| field.moisture[pair[0]] != field.moisture[pair[1]])
            .map(|pair| (pair[1] - pair[0]) as f64)
            .filter(|rows| (34.0..=42.0).contains(rows))
            .collect();
        let interval_rows = clear.iter().sum::<f64>() / clear.len() as f64;
        let points = Self::walk(field, interval_rows)
            .into_iter()
            .filter_map(|row| Some((row, field.at_ms(row), field.moisture[row]?)))
            .collect();
        Self { points, interval_rows }
    }

    fn walk(field: &Field, interval_rows: f64) -> Vec<usize> {
        let is_whole = |row: usize| field.moisture[row].is_some_and(|pct| pct == pct.round());
        let rows = field.moisture.len();
        let mut knots: Vec<usize> = (0..rows).find(|row| is_whole(*row)).into_iter().collect();
        while let Some(&knot) = knots.last() {
            let joins = |end: &usize| is_whole(*end) && is_straight(field, knot, *end);
            let (near, far) =
                (knot + interval_rows as usize - 1, knot + interval_rows as usize + 3);
            let off = |end: &usize| (((end - knot) as f64 - interval_rows).abs() * 100.0) as u64;
            let next = (near..(far + 1).min(rows)).filter(joins).min_by_key(off).or_else(|| {
                // Readings are missing: as far as the line goes; or the series is.
                (knot + 1..rows.min(knot + 1200))
                    .take_while(|end| field.moisture[*end].is_some())
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

    /// Whether it goes on for long enough after the test begins.
    pub(crate) fn has_test(&self) -> bool {
        let end_ms = self.points.last().map_or(0, |point| point.1);
        end_ms > TEST_FROM_MS + 5 * 24 * HOUR_MS
    }

    pub(crate) fn times(&self) -> &'static str {
        if self.has_test() { "from 19 April" } else { "all" }
    }
}

/// Whether the rows between two knots are on the line between them, to the two
/// published decimals.
fn is_straight(field: &Field, from: usize, to: usize) -> bool {
    let (Some(a), Some(b)) = (field.moisture[from], field.moisture[to]) else { return false };
    (from..=to).all(|row| {
        let line = a + (b - a) * (row - from) as f64 / (to - from) as f64;
        field.moisture[row].is_some_and(|pct| (pct - line).abs() <= 0.0101)
    })
}
