//! The table of what became of the jobs.

use std::fmt::Write as _;

use super::jobs::DemoJob;
use super::watch::Found;

const TITLES: [&str; 6] = [
    "job",
    "status",
    "lines expected",
    "lines indexed",
    "complete",
    "seconds",
];

/// A line a job, a title above, a sum below.
pub(super) fn of(jobs: &[DemoJob], found: &[Found]) -> String {
    let mut rows = vec![TITLES.map(str::to_owned)];
    for (job, found) in jobs.iter().zip(found) {
        rows.push([
            job.name().to_owned(),
            job.job.status().as_str().to_owned(),
            job.lines.to_string(),
            found.lines.to_string(),
            found
                .complete
                .map_or("?", |complete| if complete { "yes" } else { "no" })
                .to_owned(),
            found
                .seconds
                .map_or("?".to_owned(), |seconds| format!("{seconds:.1}")),
        ]);
    }
    let expected: u64 = jobs.iter().map(|job| job.lines).sum();
    let indexed: u64 = found.iter().map(|found| found.lines).sum();
    let slowest = found
        .iter()
        .filter_map(|found| found.seconds)
        .fold(0.0, f64::max);
    rows.push([
        format!("{} jobs", jobs.len()),
        String::new(),
        expected.to_string(),
        indexed.to_string(),
        String::new(),
        format!("≤ {slowest:.1}"),
    ]);
    format!(
        "{}\nseconds: from the end of the job until a search finds all its lines\n",
        aligned(&rows)
    )
}

/// Names to the left, numbers to the right, rules under the titles and above the sum.
fn aligned(rows: &[[String; 6]]) -> String {
    let width = |column: usize| {
        rows.iter()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: [usize; 6] = std::array::from_fn(width);
    let rule = widths.map(|width| "-".repeat(width)).join("  ");
    let mut out = String::new();
    for (number, row) in rows.iter().enumerate() {
        if number == 1 || number == rows.len() - 1 {
            writeln!(out, "{rule}").expect(IN_MEMORY);
        }
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
            let is_number = matches!(column, 2 | 3 | 5);
            let cell = if is_number {
                format!("{cell:>width$}")
            } else {
                format!("{cell:<width$}")
            };
            line.push_str(&cell);
            line.push_str("  ");
        }
        writeln!(out, "{}", line.trim_end()).expect(IN_MEMORY);
    }
    out
}

pub(super) const IN_MEMORY: &str = "writing to a string cannot fail";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_left_and_numbers_right() {
        let row = |cells: [&str; 6]| cells.map(str::to_owned);
        let rows = [
            row(TITLES),
            row(["a", "success", "7", "7", "yes", "9.5"]),
            row(["1 jobs", "", "7", "7", "", "9.5"]),
        ];
        let expected = "\
job     status   lines expected  lines indexed  complete  seconds
------  -------  --------------  -------------  --------  -------
a       success               7              7  yes           9.5
------  -------  --------------  -------------  --------  -------
1 jobs                        7              7                9.5
";
        assert_eq!(aligned(&rows), expected);
    }
}
