//! A promise of the original: what it was, in which record our figure lies, and what the figure says of it.
//!
//! `bench/acceptance.toml` and `bench/levels.toml` hold them; `acceptance` shows those of a phase, `levels` the service
//! levels. Nothing is measured here.
//!
//! Invariant: a figure whose record, or which in its record, is not there is no figure, never a zero.

use std::{
    fmt::Write,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use crate::{
    Failure,
    judge::{self, Verdict},
    scenario::record::{self, PhaseLine},
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Promises {
    #[serde(rename = "item")]
    items: Vec<Promise>,
}

/// A promise.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Promise {
    /// Of the original's final report.
    pub phases: Vec<String>,
    /// What it is about, for a scorecard.
    pub area: Area,
    pub what: String,
    pub original: String,
    pub command: Option<String>,
    pub test: Option<String>,
    pub file: Option<String>,
    /// Of a scenario's record.
    pub phase: Option<String>,
    pub group: Option<String>,
    pub field: Option<String>,
    /// Of a table of the registry.
    pub row: Option<String>,
    #[serde(default = "one")]
    pub times: f64,
    #[serde(default)]
    pub unit: String,
    pub at_most: Option<f64>,
    pub at_least: Option<f64>,
    /// It is one of the service levels, in this part of their validation.
    pub level: Option<Part>,
    /// What may be done where its margin is small, and the document and section that tells of it.
    pub advice: Option<String>,
    pub see: Option<String>,
    /// It steadies enough that ten percent worse than before is a regression, and not the machine's mood.
    #[serde(default)]
    pub steady: bool,
}

const fn one() -> f64 {
    1.0
}

/// What a promise is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Area {
    Throughput,
    Latency,
    Connections,
    Memory,
    Cpu,
    Reliability,
}

impl Area {
    /// As it stands in a scorecard.
    pub fn words(self) -> &'static str {
        match self {
            Self::Throughput => "throughput",
            Self::Latency => "latency",
            Self::Connections => "connections",
            Self::Memory => "memory",
            Self::Cpu => "CPU",
            Self::Reliability => "reliability",
        }
    }
}

/// A part of the validation of service levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Rates of single operations and of the whole; latency and stalls under 100,000 messages a second.
    Baseline,
    /// The control plane in a flood, connections and memory, availability.
    Overload,
    /// Both.
    Full,
}

impl Part {
    /// Whether what belongs to `other` is in it.
    pub fn holds(self, other: Self) -> bool {
        self == Self::Full || self == other
    }
}

/// Where records are.
pub struct Places {
    /// The results that are kept.
    pub results: PathBuf,
    /// Those of the service levels, if not below them.
    pub nine_nines: Option<PathBuf>,
}

impl Places {
    /// The file of a promise.
    pub fn of(&self, file: &str) -> PathBuf {
        match (&self.nine_nines, file.strip_prefix("nine_nines/")) {
            (Some(folder), Some(name)) => folder.join(name),
            _ => self.results.join(file),
        }
    }
}

/// Our figure.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// In the promise's unit.
    pub value: f64,
    /// What the times of its scenario were multiplied by: below 1, what must hold was not tried for as long as it is
    /// meant to.
    pub scale: f64,
    /// When and where it was measured.
    pub unix_time: u64,
    pub commit: String,
    pub machine: String,
}

#[derive(Deserialize)]
struct Rows {
    ground: Ground,
    rows: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    what: String,
    value: f64,
}

/// Of `registry-bench`.
#[derive(Deserialize)]
struct Ground {
    commit: String,
    cpu: String,
    cpus: usize,
    unix_time: u64,
}

/// All promises of a file.
pub fn read(file: &Path) -> Result<Vec<Promise>, Failure> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(toml::from_str::<Promises>(&text).map_err(|error| format!("{}: {error}", file.display()))?.items)
}

impl Promise {
    /// Our figure; none if its record, or it in its record, is not there.
    pub fn found(&self, places: &Places) -> Result<Option<Found>, Failure> {
        let Some(file) = self.file.as_ref().map(|file| places.of(file)).filter(|file| file.exists()) else {
            return Ok(None);
        };
        match &self.row {
            Some(row) => self.in_table(&file, row),
            None => self.in_record(&file),
        }
    }

    fn in_table(&self, file: &Path, row: &str) -> Result<Option<Found>, Failure> {
        let Rows { ground, rows } = crate::record::read(file)?;
        let found = rows.into_iter().find(|found| found.what == *row);
        Ok(found.map(|found| Found {
            value: found.value * self.times,
            scale: 1.0,
            unix_time: ground.unix_time,
            commit: ground.commit,
            machine: format!("{} x {}", ground.cpus, ground.cpu),
        }))
    }

    fn in_record(&self, file: &Path) -> Result<Option<Found>, Failure> {
        let kept = record::Kept::read(file)?;
        let (phase, group) = (self.phase.as_deref().unwrap_or_default(), self.group.as_deref().unwrap_or_default());
        let Some(line) = kept.phase(phase, group) else { return Ok(None) };
        let value = figure_of(line, self.field.as_deref().unwrap_or_default())?;
        let environment = &kept.run.environment;
        Ok(value.map(|value| Found {
            value: value * self.times,
            scale: kept.run.scale,
            unix_time: environment.unix_time,
            commit: environment.commit.clone().unwrap_or_default(),
            machine: environment.cpus(),
        }))
    }

    /// What a figure says of it.
    pub fn verdict(&self, found: Option<f64>) -> Verdict {
        let Some(found) = found else { return Verdict::NotMeasured };
        if judge::is_within(found, self.at_least, self.at_most) { Verdict::Met } else { Verdict::Missed }
    }

    /// How many times better than its bound a figure is; below 1 it is worse. Of a share that must be near 100 % it is
    /// of what lacks. None where nothing lacks, or the bound is 0.
    pub fn margin(&self, found: f64) -> Option<f64> {
        match (self.at_least, self.at_most) {
            (Some(least), None) if self.unit == "%" => (found < 100.0).then(|| (100.0 - least) / (100.0 - found)),
            (Some(least), None) if least > 0.0 => Some(found / least),
            (None, Some(most)) if most > 0.0 && found > 0.0 => Some(most / found),
            _ => None,
        }
    }

    /// The bound, in words.
    pub fn bound(&self) -> String {
        let mut words = String::new();
        for (sign, bound) in [("<=", self.at_most), (">=", self.at_least)] {
            if let Some(bound) = bound {
                let _ = write!(words, "{sign} {} {}", shown(bound), self.unit);
            }
        }
        words.trim().to_owned()
    }
}

/// A field of a line, as it stands there, or the sum of its counts by kind; or what follows from several of them.
fn figure_of(line: &PhaseLine, field: &str) -> Result<Option<f64>, Failure> {
    let offered = (line.offered > 0).then_some(line.offered as f64);
    Ok(match field {
        "answered_percent" => offered.map(|offered| 100.0 * line.succeeded as f64 / offered),
        "answered_percent_at_least" => {
            let failed = line.offered.saturating_sub(line.succeeded);
            offered.map(|offered| 100.0 * (1.0 - failures_at_most(failed) / offered).max(0.0))
        }
        _ => number(serde_json::to_value(line)?.get(field).ok_or(format!("{field:?} is no field of a phase"))?),
    })
}

fn number(value: &serde_json::Value) -> Option<f64> {
    match value {
        serde_json::Value::Object(kinds) => Some(kinds.values().filter_map(serde_json::Value::as_f64).sum()),
        other => other.as_f64(),
    }
}

/// How many failures a sample with so many may stand for, with 95 % confidence: the mean of the Poisson distribution
/// that shows no more than these in one sample of twenty. 3 where none failed.
pub fn failures_at_most(failed: u64) -> f64 {
    let no_more_than_seen = |mean: f64| {
        let (mut term, mut sum) = ((-mean).exp(), 0.0);
        for count in 0..=failed {
            sum += term;
            term *= mean / (count + 1) as f64;
        }
        sum
    };
    // Beyond that many the first term is no more than 0; then the distribution is as good as a normal one.
    if failed > 500 {
        let failed = failed as f64;
        return failed + 1.645 * failed.sqrt() + 1.0;
    }
    let (mut low, mut high) = (failed as f64, 2.0 * failed as f64 + 10.0);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if no_more_than_seen(middle) > 0.05 { low = middle } else { high = middle }
    }
    high
}

/// With as many digits as say something.
pub fn shown(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        _ if value.fract() == 0.0 && value.abs() < 1e15 => format!("{value:.0}"),
        near if (99.0..100.0).contains(&near) => format!("{value:.6}").trim_end_matches('0').to_owned(),
        small if small < 10.0 => format!("{value:.3}"),
        middle if middle < 1000.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn committed() -> Vec<Promise> {
        let file = |name: &str| read(&Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).expect("valid");
        [file("acceptance.toml"), file("levels.toml")].concat()
    }

    /// One with bounds and nothing else.
    pub fn bounded(unit: &str, at_least: Option<f64>, at_most: Option<f64>) -> Promise {
        let mut promise = toml::from_str::<Promise>(
            "phases = []\narea = \"cpu\"\nwhat = \"w\"\noriginal = \"o\"\nfile = \"nine_nines/latency.jsonl\"",
        )
        .expect("valid");
        (promise.unit, promise.at_least, promise.at_most) = (unit.into(), at_least, at_most);
        promise
    }

    #[test]
    fn every_item_has_a_figure_with_a_bound_or_a_test() {
        for item in committed() {
            let has_figure =
                item.command.is_some() && item.file.is_some() && (item.row.is_some() || item.field.is_some());
            let has_bound = item.at_most.is_some() != item.at_least.is_some();
            assert_eq!(item.test.is_none(), has_figure && has_bound, "{}", item.what);
        }
    }

    /// The scenario of a record.
    fn scenario_of(file: &str) -> Option<PathBuf> {
        let scenarios = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
        let stem = file.strip_suffix(".jsonl")?;
        let name = match stem {
            // It is run by both names.
            "nine_nines/memory" => "memory_50k".to_owned(),
            "nine_nines/control-plane" => "nine_nines/control_plane".to_owned(),
            other => other.strip_prefix("scenarios/").unwrap_or(other).to_owned(),
        };
        Some(scenarios.join(name).with_extension("toml"))
    }

    #[test]
    fn what_is_named_in_a_scenario_is_there() {
        for item in committed() {
            let Some(file) = item.file.as_deref().and_then(scenario_of) else { continue };
            let text = std::fs::read_to_string(&file).expect(&item.what);
            let scenario = crate::scenario::Scenario::parse(&text).expect(&item.what);
            assert!(scenario.phases.iter().any(|phase| Some(&phase.name) == item.phase.as_ref()), "{}", item.what);
            assert!(scenario.groups.iter().any(|group| Some(&group.name) == item.group.as_ref()), "{}", item.what);
            let line = record::tests::line("p", "g");
            figure_of(&line, item.field.as_deref().unwrap_or_default()).expect(&item.what);
        }
    }

    fn root() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the project's folder").to_owned()
    }

    #[test]
    fn a_section_that_is_named_is_there() {
        for item in committed() {
            assert_eq!(item.see.is_some(), item.advice.is_some(), "{}", item.what);
            assert!(item.level.is_some() || !(item.steady || item.see.is_some()), "{}", item.what);
            let Some(see) = item.see else { continue };
            let (file, section) = see.split_once(", ").expect("a file and a section");
            let text = std::fs::read_to_string(root().join(file)).expect(file);
            let heading = format!("## {section}");
            assert!(text.lines().any(|line| line == heading), "{}: no {heading:?} in {file}", item.what);
        }
    }

    /// All sources below a folder.
    fn sources(folder: &Path, text: &mut String) {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                sources(&path, text);
            } else if path.extension().is_some_and(|end| end == "rs") {
                *text += &std::fs::read_to_string(&path).expect("text");
                // A module is its file.
                *text += &format!("\nmod {};\n", path.file_stem().unwrap_or_default().to_string_lossy());
            }
        }
    }

    #[test]
    fn a_test_that_is_named_is_there() {
        let mut text = String::new();
        ["src", "tests"].iter().for_each(|folder| sources(&root().join(folder), &mut text));
        for item in committed() {
            for test in item.test.iter().flat_map(|test| test.split("; ")) {
                let words: Vec<&str> = test.split([' ', ':']).filter(|word| !word.is_empty()).collect();
                assert_eq!(words[..2], ["cargo", "test"], "{test}");
                if words[2] == "--test" {
                    let name = words[3];
                    let is_there = [format!("tests/{name}.rs"), format!("tests/{name}/main.rs")];
                    assert!(is_there.iter().any(|file| root().join(file).is_file()), "{test}");
                }
                for word in &words[if words[2] == "--test" { 4 } else { 3 }..] {
                    let is_there = [format!("fn {word}("), format!("mod {word};"), format!("mod {word} {{")];
                    assert!(is_there.iter().any(|there| text.contains(there)), "{test}: no {word}");
                }
            }
        }
    }

    #[test]
    fn a_figure_that_is_not_there_is_not_measured() {
        let items = committed();
        let item = items.iter().find(|item| item.file.is_some()).expect("one");
        let found = item.found(&Places { results: "/nowhere".into(), nine_nines: None }).expect("no error");
        assert_eq!((&found, item.verdict(None)), (&None, Verdict::NotMeasured));
        assert_eq!(number(&serde_json::json!({"a": 2, "b": 3})), Some(5.0));
        let mut line = record::tests::line("p", "g");
        assert_eq!(figure_of(&line, "latency_p99_us").expect("a field"), None);
        assert_eq!(figure_of(&line, "answered_percent").expect("derived"), None, "nothing was offered");
        assert!(figure_of(&line, "latency").is_err());
        (line.offered, line.succeeded) = (200, 199);
        assert_eq!(figure_of(&line, "answered_percent").expect("derived"), Some(99.5));
    }

    #[test]
    fn what_a_sample_allows_is_the_rule_of_three_and_its_kin() {
        // The upper 95 % bounds of a Poisson mean, from tables.
        for (failed, most) in [(0, 2.996), (1, 4.744), (5, 10.513), (100, 118.08)] {
            assert!((failures_at_most(failed) - most).abs() < 0.01, "{failed}: {}", failures_at_most(failed));
        }
        assert!((failures_at_most(501) - failures_at_most(500)).abs() < 2.0, "the two ways meet");
        let mut line = record::tests::line("p", "g");
        (line.offered, line.succeeded) = (1_000_000, 1_000_000);
        let least = figure_of(&line, "answered_percent_at_least").expect("derived").expect("it was offered");
        assert!((least - 99.9997).abs() < 1e-5, "{least}");
    }

    #[test]
    fn margins_and_bounds_are_as_they_are_read() {
        assert_eq!(bounded("us", None, Some(100.0)).margin(50.0), Some(2.0));
        assert_eq!(bounded("/s", Some(100.0), None).margin(50.0), Some(0.5));
        assert_eq!(bounded("calls", None, Some(0.0)).margin(0.0), None);
        let share = bounded("%", Some(99.9), None);
        let margin = share.margin(99.99).expect("something lacks");
        assert!((margin - 10.0).abs() < 1e-6, "{margin}");
        assert_eq!((share.margin(100.0), share.bound()), (None, ">= 99.9 %".into()));
        assert_eq!(bounded("us", None, Some(5000.0)).bound(), "<= 5000 us");
        assert_eq!(
            [0.0, 0.6046, 87.0, 86.975, 3251809.1, 99.99975].map(shown).join(" "),
            "0 0.605 87 87.0 3251809 99.99975"
        );
    }
}
