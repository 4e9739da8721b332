//! The table and the JSON.

use serde::Serialize;

use crate::measure::{Role, Sample, Summary};

/// Ours beside one other contender. All times are nanoseconds for one operation.
#[derive(Debug, Serialize)]
pub struct Line {
    pub row: String,
    pub other: String,
    pub role: &'static str,
    pub ours: Option<Summary>,
    pub theirs: Option<Summary>,
    /// The least that ours took, in times of the least that the other took.
    pub ratio_of_best: Option<f64>,
    /// The middle of the ratios of all rounds.
    pub ratio_of_rounds: Option<f64>,
    pub goal: Option<f64>,
    pub rounds: usize,
    /// Why there are no figures.
    pub not_measured: Option<String>,
}

/// Compares ours with each of the others.
pub fn lines(row: &str, samples: &[Sample]) -> Vec<Line> {
    let Some(ours) = samples.iter().find(|sample| sample.role == Role::Ours) else { return Vec::new() };
    samples.iter().filter(|sample| sample.role != Role::Ours).map(|other| compare(row, ours, other)).collect()
}

fn compare(row: &str, ours: &Sample, other: &Sample) -> Line {
    let (role, goal) = match other.role {
        Role::Limit(goal) => ("limit", goal),
        _ => ("peer", Some(1.0)),
    };
    let summary = |sample: &Sample| sample.rounds.as_ref().ok().and_then(|rounds| Summary::of(rounds));
    let (of_ours, of_theirs) = (summary(ours), summary(other));
    let ratios: Vec<f64> = match (&ours.rounds, &other.rounds) {
        (Ok(ours), Ok(theirs)) => ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect(),
        _ => Vec::new(),
    };
    Line {
        row: row.to_owned(),
        other: other.name.clone(),
        role,
        ours: of_ours,
        theirs: of_theirs,
        ratio_of_best: of_ours.zip(of_theirs).map(|(ours, theirs)| ours.best / theirs.best),
        ratio_of_rounds: Summary::of(&ratios).map(|ratios| ratios.median),
        goal,
        rounds: ratios.len(),
        not_measured: other.rounds.as_ref().err().or(ours.rounds.as_ref().err()).cloned(),
    }
}

/// Prints what stands above the lines.
pub fn print_head() {
    println!(
        "{:<26} {:<44} {:>10} {:>5} {:>10} {:>5} {:>8} {:>8}  goal",
        "row", "other", "ours", "±", "other's", "±", "of best", "of rounds"
    );
}

/// Prints one line: the best of each, their spread, the ratios, the goal.
pub fn print(line: &Line) {
    if let Some(why) = &line.not_measured {
        println!("{:<26} {:<44} not measured: {why}", line.row, line.other);
        return;
    }
    let time = |summary: Option<Summary>| summary.map_or_else(String::new, |summary| in_words(summary.best));
    let spread =
        |summary: Option<Summary>| summary.map_or_else(String::new, |summary| format!("{:.0}%", summary.spread * 50.0));
    let ratio = |ratio: Option<f64>| ratio.map_or_else(String::new, |ratio| format!("{ratio:.3}"));
    let goal = match (line.goal, line.role) {
        (Some(_), "peer") => "< 1".to_owned(),
        (Some(goal), _) => format!("<= {goal}"),
        (None, _) => String::new(),
    };
    println!(
        "{:<26} {:<44} {:>10} {:>5} {:>10} {:>5} {:>8} {:>8}  {goal}",
        line.row,
        line.other,
        time(line.ours),
        spread(line.ours),
        time(line.theirs),
        spread(line.theirs),
        ratio(line.ratio_of_best),
        ratio(line.ratio_of_rounds),
    );
}

/// Nanoseconds in a unit that suits them.
pub fn in_words(nanoseconds: f64) -> String {
    match nanoseconds.abs() {
        ..1e4 => format!("{nanoseconds:.0} ns"),
        ..1e7 => format!("{:.1} µs", nanoseconds / 1e3),
        _ => format!("{:.1} ms", nanoseconds / 1e6),
    }
}
