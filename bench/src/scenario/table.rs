//! A scenario of the registry: it has no wire, so `registry-bench` runs it in its own process and leaves a table, of
//! which this says whether what must hold does.
//!
//! It measures nothing itself. A table is JSON with rows, each `what` and `value`, or CSV with a header.
//!
//! Invariant: a condition whose figure is not in the table is not met, and a program that could not run decides
//! nothing.

use std::{
    collections::BTreeMap,
    path::Path,
    process::{Command, Stdio},
};

use serde::Deserialize;

use crate::{Failure, judge, scenario::verdict};

/// Read from TOML; the other kind of scenario has groups and phases.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tabled {
    pub name: String,
    /// What it shows, in a sentence.
    pub about: String,
    /// Where its figures come from.
    #[serde(default)]
    pub source: Option<String>,
    /// The words of `registry-bench`. `{table}` is the file of the table; `{N}`, a number, is multiplied by the scale
    /// of the run and is at least 1 if it is whole.
    pub registry: String,
    /// What the table's file is called: `.json` or `.csv`.
    pub table: String,
    #[serde(rename = "pass")]
    conditions: Vec<Condition>,
}

/// What must hold of one figure.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Condition {
    /// Of JSON: what the row says it is.
    #[serde(default)]
    row: Option<String>,
    /// Of CSV: a column, over the lines where the others have these values; the median of several.
    #[serde(default)]
    column: Option<String>,
    #[serde(default, rename = "where")]
    lines: BTreeMap<String, String>,
    #[serde(default)]
    at_most: Option<f64>,
    #[serde(default)]
    at_least: Option<f64>,
    /// Where the bound comes from, if it is not the scenario's source.
    #[serde(default)]
    why: Option<String>,
}

#[derive(Deserialize)]
struct Row {
    what: String,
    value: f64,
}

#[derive(Deserialize)]
struct Rows {
    rows: Vec<Row>,
}

impl Tabled {
    /// Reads one, if the text is of this kind.
    pub fn parse(text: &str) -> Result<Option<Self>, Failure> {
        if !toml::from_str::<toml::Table>(text)?.contains_key("registry") {
            return Ok(None);
        }
        let scenario: Self = toml::from_str(text)?;
        let csv = scenario.table.ends_with(".csv");
        if !csv && !scenario.table.ends_with(".json") {
            return Err(format!("table {:?}: its name ends in .json or .csv", scenario.table).into());
        }
        if scenario.conditions.is_empty() {
            return Err("a scenario of the registry has at least one [[pass]]".into());
        }
        for condition in &scenario.conditions {
            let names_one = if csv { &condition.column } else { &condition.row }.is_some();
            if !names_one || (condition.at_most.is_none() && condition.at_least.is_none()) {
                let figure = if csv { "a `column`" } else { "a `row`" };
                return Err(format!("{condition:?}: a condition names {figure}, and at_most or at_least").into());
            }
        }
        filled(&scenario.registry, "", 1.0)?;
        Ok(Some(scenario))
    }

    /// Runs it with the `registry-bench` beside the server, and prints the verdict. True if all that must hold did.
    pub fn play(&self, program: &Path, out: &Path, scale: f64) -> Result<bool, Failure> {
        std::fs::create_dir_all(out)?;
        let table = out.join(&self.table);
        let words = filled(&self.registry, &table.display().to_string(), scale)?;
        // That a target of its own was missed decides nothing: what must hold stands in the scenario.
        run(Command::new(program).args(words.split_whitespace()))?;
        let text = std::fs::read_to_string(&table).map_err(|error| format!("{}: {error}", table.display()))?;
        let passed = self.judged(&text)?;
        println!("{}: {}", self.name, if passed { "passed" } else { "FAILED" });
        println!("written: {}", table.display());
        Ok(passed)
    }

    fn judged(&self, text: &str) -> Result<bool, Failure> {
        let mut passed = true;
        println!("{}: {}", self.about, self.source.as_deref().unwrap_or("no source"));
        for condition in &self.conditions {
            let found = condition.found(text, self.table.ends_with(".csv"))?;
            let (least, most) = (condition.at_least, condition.at_most);
            let met = found.is_some_and(|found| judge::is_within(found, least, most));
            passed &= met;
            let why = condition.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
            println!(
                "{}{why}",
                verdict::line(met, &condition.name(), found.map(|found| format!("{found:.4}")), least, most)
            );
        }
        Ok(passed)
    }
}

impl Condition {
    fn name(&self) -> String {
        let lines: Vec<String> = self.lines.iter().map(|(column, value)| format!("{column} {value}")).collect();
        let figure = self.row.as_ref().or(self.column.as_ref()).cloned().unwrap_or_default();
        if lines.is_empty() { figure } else { format!("{figure} at {}", lines.join(", ")) }
    }

    fn found(&self, text: &str, csv: bool) -> Result<Option<f64>, Failure> {
        if !csv {
            let rows: Rows = serde_json::from_str(text)?;
            return Ok(rows.rows.iter().find(|row| Some(&row.what) == self.row.as_ref()).map(|row| row.value));
        }
        let mut lines = text.lines().map(|line| line.split(',').collect::<Vec<_>>());
        let header = lines.next().unwrap_or_default();
        let place = |name: &str| {
            header.iter().position(|column| *column == name).ok_or_else(|| format!("the table has no column {name:?}"))
        };
        let at = place(self.column.as_deref().unwrap_or_default())?;
        let wanted: Vec<(usize, &String)> =
            self.lines.iter().map(|(column, value)| Ok((place(column)?, value))).collect::<Result<_, String>>()?;
        let found: Vec<f64> = lines
            .filter(|line| wanted.iter().all(|(at, value)| line.get(*at) == Some(&value.as_str())))
            .filter_map(|line| line.get(at)?.parse().ok())
            .collect();
        Ok(judge::median(&found))
    }
}

/// Runs `registry-bench`: whether all its own targets were met.
pub fn run(command: &mut Command) -> Result<bool, Failure> {
    let program = Path::new(command.get_program()).display().to_string();
    let status = command
        .stdin(Stdio::null())
        .status()
        .map_err(|error| format!("{program}: {error}; `cargo build --release --workspace` makes it"))?;
    match status.code() {
        Some(0) => Ok(true),
        Some(1) => Ok(false),
        _ => Err(format!("{program} {:?}: {status}", command.get_args().collect::<Vec<_>>()).into()),
    }
}

/// The words with what stands in braces filled in.
fn filled(words: &str, table: &str, scale: f64) -> Result<String, Failure> {
    let mut out = String::new();
    let mut rest = words;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, behind) = after.split_once('}').ok_or_else(|| format!("{words:?}: a `{{` is not closed"))?;
        out += before;
        match (name, name.parse::<u64>(), name.parse::<f64>()) {
            ("table", ..) => out += table,
            (_, Ok(whole), _) => out += &((whole as f64 * scale).round() as u64).max(1).to_string(),
            (_, _, Ok(number)) => out += &(number * scale).to_string(),
            _ => return Err(format!("{{{name}}}: {{table}} or a number").into()),
        }
        rest = behind;
    }
    Ok(out + rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const JSON: &str = r#"
        name = "t"
        about = "for this test"
        registry = "core-ops --operations {2000} --share {0.5} --output {table}"
        table = "t.json"
        [[pass]]
        row = "encode"
        at_least = 3.7
    "#;

    fn tabled(text: &str) -> Tabled {
        Tabled::parse(text).expect("valid").expect("of this kind")
    }

    #[test]
    fn words_are_scaled_and_a_whole_number_stays_one() {
        let words = tabled(JSON).registry;
        let filled = |scale| filled(&words, "/x/t.json", scale).expect("good");
        assert_eq!(filled(0.5), "core-ops --operations 1000 --share 0.25 --output /x/t.json");
        assert_eq!(filled(0.0001), "core-ops --operations 1 --share 0.00005 --output /x/t.json");
    }

    #[test]
    fn a_row_decides_and_one_that_is_not_there_is_missed() {
        let (scenario, table) = (tabled(JSON), |value: f64| {
            format!(r#"{{"rows": [{{"what": "encode", "value": {value}, "unit": "/s"}}]}}"#)
        });
        assert!(scenario.judged(&table(3.8)).expect("a table"));
        assert!(!scenario.judged(&table(3.6)).expect("a table"));
        assert!(!scenario.judged(r#"{"rows": []}"#).expect("a table"));
        assert!(scenario.judged("no table").is_err());
    }

    #[test]
    fn of_several_lines_the_median_decides() {
        let text =
            JSON.replace("t.json", "t.csv").replace("row = \"encode\"", "column = \"ms\"\nwhere = { n = \"10\" }");
        let scenario = tabled(&text.replace("at_least", "at_most"));
        assert!(scenario.judged("n,ms\n10,9\n10,3.6\n10,1\n20,50\n").expect("a table"));
        assert!(!scenario.judged("n,ms\n10,3.8\n").expect("a table"));
        assert!(!scenario.judged("n,ms\n20,1\n").expect("a table"), "no line of these");
        assert!(scenario.judged("n,us\n10,1\n").is_err(), "no such column");
    }

    #[test]
    fn the_other_kind_is_left_alone_and_a_wrong_one_refused() {
        assert!(Tabled::parse("name = \"t\"\n").expect("TOML").is_none());
        for (wrong, word) in [
            (JSON.replace("t.json", "t.txt"), ".json or .csv"),
            (JSON.replace("t.json", "t.csv"), "a `column`"),
            (JSON.replace("at_least = 3.7", ""), "at_most or at_least"),
            (JSON.replace("{2000}", "{many}"), "{many}"),
            (JSON.replace("{table}", "{table"), "not closed"),
        ] {
            let error = Tabled::parse(&wrong).expect_err(word).to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
