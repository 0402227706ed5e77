//! `corelane-bench levels PART`: the service levels of the original, each with its margin, on one page.
//!
//! It measures nothing: `nine-nines OBJECTIVE` makes the records, `bench/levels.toml` says which figure of which
//! record answers which level. In front of the records' own tables stand the levels, the bottleneck of the throughput,
//! what changed against the records before, and what to do first.
//!
//! Invariant: every word about a figure is derived from records, and a level without a figure is an error.

mod advice;
mod bottleneck;
mod change;

use std::{fmt::Write, fs, path::PathBuf};

use crate::{
    Failure,
    judge::Verdict,
    promise::{self, Found, Part, Places, Promise, failures_at_most, shown},
    report::Pages,
    scenario::record::Kept,
};
use advice::Advice;
use bottleneck::Bottleneck;
use change::Change;

/// `corelane-bench levels`.
#[derive(clap::Args)]
pub struct Levels {
    /// Which of them.
    #[arg(value_enum)]
    part: Part,
    /// Where the records of the service levels are, as `scripts/nine_nines.sh` leaves them.
    #[arg(long, default_value = "bench/results/nine_nines")]
    records: PathBuf,
    /// Where the other records are that levels are read from: the registry's, and those of the network.
    #[arg(long, default_value = "bench/results")]
    results: PathBuf,
    /// Results that were made before, to compare with: a folder like bench/results.
    #[arg(long)]
    against: Option<PathBuf>,
    /// What is promised, and where our figures are.
    #[arg(long, default_value = "bench/levels.toml")]
    items: PathBuf,
    /// Where the page with plots goes; below the records, as nine_nines_PART.html, unless given.
    #[arg(long)]
    html: Option<PathBuf>,
    /// Where the tables go as Markdown; the same with .md unless given.
    #[arg(long)]
    markdown: Option<PathBuf>,
}

/// A level, and what was found of it.
struct Level {
    promise: Promise,
    found: Option<Found>,
}

impl Level {
    fn verdict(&self) -> Verdict {
        self.promise.verdict(self.found.as_ref().map(|found| found.value))
    }

    fn margin(&self) -> Option<f64> {
        self.found.as_ref().and_then(|found| self.promise.margin(found.value))
    }
}

/// The confidence of what a sample allows is that of `failures_at_most`; this many nines are the original's claim.
const NINE_NINES: f64 = 1e-9;

impl Levels {
    /// Writes both pages and prints the levels. True if all are met and nothing is worse than before; an error if one
    /// was not measured.
    pub fn run(&self) -> Result<bool, Failure> {
        let places = Places { results: self.results.clone(), nine_nines: Some(self.records.clone()) };
        let levels = promise::read(&self.items)?
            .into_iter()
            .filter(|promise| promise.level.is_some_and(|level| self.part.holds(level)))
            .map(|promise| Ok(Level { found: promise.found(&places)?, promise }))
            .collect::<Result<Vec<_>, Failure>>()?;
        let changes = match &self.against {
            Some(folder) => Some(change::changes(&levels, &Places { results: folder.clone(), nine_nines: None })?),
            None => None,
        };
        let bottleneck = self.kept("throughput", Part::Baseline)?.map(|kept| Bottleneck::of(&kept)).transpose()?;
        let records = records(&levels, &places);
        let kept = records.iter().map(|file| Kept::read(file)).collect::<Result<Vec<_>, _>>()?;
        let advice = advice::ranked(&levels, bottleneck.as_ref(), changes.as_deref(), &kept);
        let preface = self.preface(&levels, bottleneck.as_ref(), changes.as_deref(), &advice)?;
        let pages = Pages::of(&records, &preface)?;
        let name = format!(
            "nine_nines_{}",
            clap::ValueEnum::to_possible_value(&self.part).map_or_else(String::new, |it| it.get_name().to_owned())
        );
        fs::write(self.html.clone().unwrap_or_else(|| self.records.join(&name).with_extension("html")), pages.html)?;
        fs::write(
            self.markdown.clone().unwrap_or_else(|| self.records.join(&name).with_extension("md")),
            pages.markdown,
        )?;
        crate::record::show(&preface);
        let is_missing = |level: &&Level| level.found.is_none();
        let missing: Vec<&str> = levels.iter().filter(is_missing).map(|level| level.promise.what.as_str()).collect();
        if !missing.is_empty() {
            return Err(format!("not measured, or not in its record: {}", missing.join("; ")).into());
        }
        let is_met = levels.iter().all(|level| level.verdict() == Verdict::Met);
        Ok(is_met && !changes.iter().flatten().any(Change::is_regression))
    }

    /// The record of an objective, if it belongs to this part and is there.
    fn kept(&self, objective: &str, part: Part) -> Result<Option<Kept>, Failure> {
        let file = self.records.join(objective).with_extension("jsonl");
        (self.part.holds(part) && file.exists()).then(|| Kept::read(&file)).transpose()
    }

    fn preface(
        &self,
        levels: &[Level],
        bottleneck: Option<&Bottleneck>,
        changes: Option<&[Change<'_>]>,
        advice: &[Advice],
    ) -> Result<String, Failure> {
        let mut page = table(levels)?;
        if let Some(kept) = self.kept("availability", Part::Overload)? {
            page += &sample(&kept)?;
        }
        if let Some(bottleneck) = bottleneck {
            page += &bottleneck.page()?;
        }
        match changes {
            Some(changes) => page += &change::page(changes)?,
            None => page += "# Against the records before\n\nThere are none, or none were named with `--against`.\n\n",
        }
        page += &advice::page(advice)?;
        Ok(page)
    }
}

/// The records of service levels that levels lie in, in the order of the levels.
fn records(levels: &[Level], places: &Places) -> Vec<PathBuf> {
    let mut records = Vec::new();
    for level in levels {
        let file =
            level.promise.file.as_deref().filter(|file| file.starts_with("nine_nines/") && file.ends_with(".jsonl"));
        if let Some(file) = file.map(|file| places.of(file)).filter(|file| file.exists())
            && !records.contains(&file)
        {
            records.push(file);
        }
    }
    records
}

fn table(levels: &[Level]) -> Result<String, Failure> {
    let mut page = String::from("# Service levels\n\n");
    let count = |verdict| levels.iter().filter(|level| level.verdict() == verdict).count();
    writeln!(
        page,
        "{} met, {} missed, {} not measured. A margin is how many times better than its threshold a figure is; of a share \
         near 100 % it is of what lacks.\n",
        count(Verdict::Met),
        count(Verdict::Missed),
        count(Verdict::NotMeasured)
    )?;
    writeln!(
        page,
        "| service level | threshold | the original's claim | measured | margin | | record | commit |\n\
         |---|---|---|---|---|---|---|---|"
    )?;
    for level in levels {
        let (promise, found) = (&level.promise, level.found.as_ref());
        let shortened = found.map(|found| found.scale).filter(|scale| *scale < 1.0);
        writeln!(
            page,
            "| {} | {} | {} | {} | {} | {} | {}{} | {} |",
            promise.what,
            promise.bound(),
            promise.original,
            found.map_or("-".into(), |found| format!("{} {}", shown(found.value), promise.unit)),
            level.margin().map_or("-".into(), |margin| format!("x {}", shown(margin))),
            level.verdict().words(),
            promise.file.as_deref().unwrap_or("-"),
            shortened.map_or(String::new(), |scale| format!(", times x {scale}")),
            found.map_or("-", |found| &found.commit)
        )?;
    }
    page += "\n";
    Ok(page)
}

/// What the sample of the availability run allows to be said, and what it does not.
fn sample(kept: &Kept) -> Result<String, Failure> {
    let line = kept.phase("faults", "callers").ok_or("availability: the record has no faults/callers")?;
    let failed = line.offered.saturating_sub(line.succeeded);
    let most = failures_at_most(failed);
    let needed = failures_at_most(0) / NINE_NINES;
    let days = needed / (line.offered as f64 / line.duration_s) / 86_400.0;
    Ok(format!(
        "Availability: {failed} of {} calls failed beside clients that misbehave. With 95 % confidence no more than {:.6} % \
         fail; nine nines would take {needed:.1e} calls without a failure, {days:.1} days at this rate.\n\n",
        line.offered,
        (100.0 * most / line.offered.max(1) as f64).min(100.0)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{promise::tests::bounded, scenario::record::tests::line};

    pub fn found(value: f64) -> Found {
        Found { value, scale: 1.0, unix_time: 5, commit: "c".into(), machine: "2 x m".into() }
    }

    pub fn level(at_most: f64, value: Option<f64>) -> Level {
        Level { promise: bounded("us", None, Some(at_most)), found: value.map(found) }
    }

    #[test]
    fn the_table_says_what_was_met_missed_and_not_measured() {
        let mut short = level(100.0, Some(50.0));
        short.found.as_mut().expect("found").scale = 0.02;
        let page =
            table(&[level(100.0, Some(50.0)), level(100.0, Some(200.0)), level(100.0, None), short]).expect("page");
        assert!(page.contains("2 met, 1 missed, 1 not measured"), "{page}");
        assert!(page.contains("| w | <= 100 us | o | 50 us | x 2 | met | nine_nines/latency.jsonl | c |"), "{page}");
        assert!(page.contains("| 200 us | x 0.500 | **missed** |") && page.contains("| - | - | not measured |"));
        assert!(page.contains("latency.jsonl, times x 0.02 |"));
    }

    #[test]
    fn a_part_is_whole_and_nothing_of_the_originals_table_is_left_out() {
        let items = crate::promise::tests::committed();
        let levels = |part: Part| items.iter().filter(move |item| item.level == Some(part)).count();
        // Registry, queue, session, pool, sustained, network of three sizes, throughput, latency four times and its
        // load and CPU, stalls twice.
        assert_eq!(levels(Part::Baseline), 17);
        // Control plane in process and over the socket, connections, memory twice, availability twice.
        assert_eq!(levels(Part::Overload), 7);
        assert_eq!(levels(Part::Full), 0, "each belongs to one of the two");
        assert!(Part::Full.holds(Part::Baseline) && !Part::Baseline.holds(Part::Overload));
    }

    #[test]
    fn a_sample_says_how_far_it_reaches() {
        let mut callers = line("faults", "callers");
        (callers.offered, callers.succeeded, callers.duration_s) = (1_000_000, 1_000_000, 50.0);
        let run = crate::scenario::record::tests::run();
        let page = sample(&Kept { run: run.clone(), phases: vec![callers] }).expect("it is there");
        assert!(page.contains("0 of 1000000 calls") && page.contains("no more than 0.000300 %"), "{page}");
        assert!(page.contains("3.0e9 calls") && page.contains("1.7 days"), "{page}");
        assert!(sample(&Kept { run, phases: vec![] }).is_err());
    }

    #[test]
    fn a_level_that_a_record_lacks_ends_with_an_error() {
        let folder = std::env::temp_dir().join(format!("corelane-levels-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let items = folder.join("items.toml");
        let promise = "[[item]]\nphases = []\narea = \"latency\"\nwhat = \"the wait\"\noriginal = \"o\"\nlevel = \"baseline\"\n\
                       file = \"nine_nines/latency.jsonl\"\nphase = \"p\"\ngroup = \"g\"\nfield = \"latency_p99_us\"\nat_most = 7\n";
        fs::write(&items, promise).expect("written");
        let levels = Levels {
            part: Part::Full,
            records: folder.clone(),
            results: folder.clone(),
            against: None,
            items,
            html: None,
            markdown: None,
        };
        let write = |line| {
            use crate::scenario::record::{Line, Verdict, tests::run, write, write_log};
            let verdict = Line::Verdict(Verdict { passed: true, conditions: vec![] });
            let lines = [Line::Run(Box::new(run())), Line::Phase(Box::new(line)), verdict];
            write(&folder.join("latency.jsonl"), &lines).expect("written");
            write_log(&folder.join("latency.hlog"), 0, &[]).expect("written");
        };
        write(line("p", "g"));
        let error = levels.run().expect_err("it has no such figure").to_string();
        assert!(error.contains("the wait"), "{error}");
        for (p99, is_met) in [(7.0, true), (7.5, false)] {
            let mut measured = line("p", "g");
            measured.latency_p99_us = Some(p99);
            write(measured);
            assert_eq!(levels.run().expect("it is there"), is_met, "{p99}");
        }
        let page = fs::read_to_string(folder.join("nine_nines_full.md")).expect("written");
        assert!(page.starts_with("# Service levels") && page.contains("# latency"), "{page}");
        assert!(
            fs::read_to_string(folder.join("nine_nines_full.html"))
                .expect("written")
                .contains("<h1>Service levels</h1>")
        );
        fs::remove_dir_all(folder).expect("removed");
    }
}
