//! `corelane-bench history`: the latencies of every record that was kept, a line each, and a page of them.
//!
//! Percentiles of latency sway with the host by more than what a change does to them, so nothing is judged by them
//! here; they are kept in sight. What is judged is in `levels` and by the gate.
//!
//! Invariant: a run has one line for each group in each of its phases, however often it is added, and lines are in the
//! order of time.

use std::{
    collections::BTreeMap,
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

use crate::{Failure, scenario::record::Kept};

/// `corelane-bench history`.
#[derive(clap::Args)]
pub struct History {
    /// Records that are kept: NAME.jsonl as `corelane-bench run` writes them.
    records: Vec<PathBuf>,
    /// The history: a table of comma-separated values, with its page beside it as .md.
    #[arg(long, default_value = "bench/results/history.csv")]
    file: PathBuf,
}

const HEAD: &str = "unix_time,date,commit,scenario,phase,group,times,machine,calls_per_s,p50_us,p95_us,p99_us,p99_9_us,cpu_us_per_call";

/// A group in a phase of a run.
#[derive(Clone, Debug, PartialEq)]
struct Entry {
    unix_time: u64,
    commit: String,
    scenario: String,
    phase: String,
    group: String,
    /// What the scenario's times were multiplied by.
    times: f64,
    machine: String,
    calls_per_s: f64,
    /// p50, p95, p99, p99.9.
    us: [f64; 4],
    cpu_us_per_call: Option<f64>,
}

impl History {
    /// Adds what is not there yet, and writes the page.
    pub fn run(&self) -> Result<(), Failure> {
        let mut entries = if self.file.exists() { read(&self.file)? } else { Vec::new() };
        let before = entries.len();
        for record in &self.records {
            for entry in of(&Kept::read(record)?) {
                add(&mut entries, entry);
            }
        }
        entries.sort_by(|one, other| one.key().cmp(&other.key()));
        let lines: String = entries.iter().map(|entry| entry.line() + "\n").collect();
        fs::write(&self.file, format!("{HEAD}\n{lines}"))
            .map_err(|error| format!("{}: {error}", self.file.display()))?;
        // Of what stands there now, with as many digits: the page comes out the same when it is made again.
        fs::write(self.file.with_extension("md"), page(&read(&self.file)?)?)?;
        println!("{}: {} lines, {} of them new", self.file.display(), entries.len(), entries.len() - before);
        Ok(())
    }
}

/// In place of what there is of the same group, phase and run.
fn add(entries: &mut Vec<Entry>, entry: Entry) {
    match entries.iter_mut().find(|there| there.key() == entry.key()) {
        Some(there) => *there = entry,
        None => entries.push(entry),
    }
}

/// Of a record, every group that was answered in a phase.
fn of(kept: &Kept) -> Vec<Entry> {
    let environment = &kept.run.environment;
    // A value of the table holds neither its separator nor a line's end.
    let plain = |text: &str| text.replace([',', '\n', '\r'], " ");
    let each = |line: &crate::scenario::record::PhaseLine| {
        Some(Entry {
            unix_time: environment.unix_time,
            commit: plain(environment.commit.as_deref().unwrap_or("unknown")),
            scenario: plain(&kept.run.scenario.name),
            phase: plain(&line.phase),
            group: plain(&line.group),
            times: kept.run.scale,
            machine: plain(&environment.cpus()),
            calls_per_s: line.in_time as f64 / line.duration_s,
            us: [line.latency_p50_us?, line.latency_p95_us?, line.latency_p99_us?, line.latency_p999_us?],
            cpu_us_per_call: line.cpu_us_per_call,
        })
    };
    kept.phases.iter().filter_map(each).collect()
}

impl Entry {
    fn key(&self) -> (u64, &str, &str, &str) {
        (self.unix_time, &self.scenario, &self.phase, &self.group)
    }

    fn line(&self) -> String {
        let [p50, p95, p99, p999] = self.us;
        format!(
            "{},{},{},{},{},{},{},{},{:.1},{p50},{p95},{p99},{p999},{}",
            self.unix_time,
            date(self.unix_time),
            self.commit,
            self.scenario,
            self.phase,
            self.group,
            self.times,
            self.machine,
            self.calls_per_s,
            self.cpu_us_per_call.map_or(String::new(), |us| format!("{us:.3}"))
        )
    }

    fn parse(line: &str) -> Option<Self> {
        let values: Vec<&str> = line.split(',').collect();
        let &[unix_time, _, commit, scenario, phase, group, times, machine, rate, p50, p95, p99, p999, cpu] =
            values.as_slice()
        else {
            return None;
        };
        Some(Self {
            unix_time: unix_time.parse().ok()?,
            commit: commit.into(),
            scenario: scenario.into(),
            phase: phase.into(),
            group: group.into(),
            times: times.parse().ok()?,
            machine: machine.into(),
            calls_per_s: rate.parse().ok()?,
            us: [p50.parse().ok()?, p95.parse().ok()?, p99.parse().ok()?, p999.parse().ok()?],
            cpu_us_per_call: if cpu.is_empty() { None } else { Some(cpu.parse().ok()?) },
        })
    }
}

fn read(file: &Path) -> Result<Vec<Entry>, Failure> {
    let text = fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let mut lines = text.lines().enumerate();
    if lines.next().is_none_or(|(_, head)| head != HEAD) {
        return Err(format!("{}: its first line is not {HEAD}", file.display()).into());
    }
    let parse = |(place, line): (usize, &str)| {
        Entry::parse(line).ok_or_else(|| format!("{}:{}: not a line of the history", file.display(), place + 1).into())
    };
    lines.map(parse).collect()
}

/// The day of a time, in UTC: the calendar of Gregory counted from the first of March of the year 0.
fn date(unix_time: u64) -> String {
    let days = unix_time / 86_400 + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

fn page(entries: &[Entry]) -> Result<String, Failure> {
    let mut page = String::from(
        "# Latencies of the records that were kept\n\nMade by `corelane-bench history` from the table beside it. Nothing is \
         judged by these: a percentile sways with the host, and those of another machine, or of a run of another length, \
         say nothing of the code. p99 against first: of the oldest line of the same group, machine and length.\n",
    );
    let mut groups = BTreeMap::<_, Vec<&Entry>>::new();
    for entry in entries {
        groups.entry((&entry.scenario, &entry.phase, &entry.group)).or_default().push(entry);
    }
    for ((scenario, phase, group), entries) in groups {
        writeln!(page, "\n## {scenario}: {phase}, {group}\n")?;
        writeln!(
            page,
            "| date | commit | machine | times | calls/s | p50 us | p95 | p99 | p99.9 | CPU us/call | p99 against first |\n\
             |---|---|---|---|---|---|---|---|---|---|---|"
        )?;
        for (place, entry) in entries.iter().enumerate() {
            let alike = |first: &&&Entry| first.machine == entry.machine && first.times == entry.times;
            let against = entries[..place].iter().find(alike).filter(|first| first.us[2] > 0.0);
            writeln!(
                page,
                "| {} | {} | {} | x {} | {:.0} | {:.0} | {:.0} | {:.0} | {:.0} | {} | {} |",
                date(entry.unix_time),
                entry.commit,
                entry.machine,
                entry.times,
                entry.calls_per_s,
                entry.us[0],
                entry.us[1],
                entry.us[2],
                entry.us[3],
                entry.cpu_us_per_call.map_or("-".into(), |us| format!("{us:.2}")),
                against.map_or("-".into(), |first| format!("x {:.2}", entry.us[2] / first.us[2]))
            )?;
        }
    }
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::record::tests::{line, run};

    fn entry(unix_time: u64, p99: f64) -> Entry {
        let (mut run, mut line) = (run(), line("measured", "callers"));
        (run.environment.unix_time, run.environment.cpu_model) = (unix_time, Some("A, B".into()));
        (line.latency_p50_us, line.latency_p95_us) = (Some(10.5), Some(20.0));
        (line.latency_p99_us, line.latency_p999_us) = (Some(p99), Some(40.25));
        (line.in_time, line.duration_s) = (300, 2.0);
        let silent = crate::scenario::record::tests::line("measured", "silent");
        let entries = of(&Kept { run, phases: vec![line, silent] });
        assert_eq!(entries.len(), 1, "who was not answered has no latency");
        entries.into_iter().next().expect("one")
    }

    #[test]
    fn a_line_is_read_back_as_it_was_written() {
        let mut entry = entry(1_795_881_229, 30.0);
        assert_eq!(Entry::parse(&entry.line()).as_ref(), Some(&entry), "{}", entry.line());
        entry.cpu_us_per_call = Some(0.605);
        assert_eq!(Entry::parse(&entry.line()).as_ref(), Some(&entry));
        assert_eq!(entry.line().split(',').count(), HEAD.split(',').count());
        assert_eq!(Entry::parse("1,2,3"), None);
    }

    #[test]
    fn the_same_run_is_one_line_and_another_is_another() {
        let mut entries = vec![];
        for (time, p99) in [(5, 30.0), (5, 30.0), (6, 60.0), (5, 31.0)] {
            add(&mut entries, entry(time, p99));
        }
        let seen: Vec<(u64, f64)> = entries.iter().map(|entry| (entry.unix_time, entry.us[2])).collect();
        assert_eq!(seen, [(5, 31.0), (6, 60.0)]);
        let page = page(&entries).expect("a page");
        assert!(page.contains("| 31 | 40 | - | - |") && page.contains("| 60 | 40 | - | x 1.94 |"), "{page}");
    }

    #[test]
    fn adding_twice_changes_nothing() {
        let folder = std::env::temp_dir().join(format!("corelane-history-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let record = folder.join("r.jsonl");
        let mut measured = line("p", "g");
        (measured.latency_p50_us, measured.latency_p95_us) = (Some(1.0), Some(2.0));
        (measured.latency_p99_us, measured.latency_p999_us) = (Some(3.0), Some(4.0));
        use crate::scenario::record::{Line, Verdict, write};
        let verdict = Line::Verdict(Verdict { passed: true, conditions: vec![] });
        write(&record, &[Line::Run(Box::new(run())), Line::Phase(Box::new(measured)), verdict]).expect("written");
        let history = History { records: vec![record], file: folder.join("history.csv") };
        history.run().expect("added");
        let once = fs::read_to_string(&history.file).expect("written");
        assert_eq!(once.lines().count(), 2, "{once}");
        history.run().expect("added");
        assert_eq!(fs::read_to_string(&history.file).expect("written"), once);
        fs::write(&history.file, once.replace("g,", "g")).expect("written");
        let error = history.run().expect_err("a line that is none").to_string();
        assert!(error.contains("history.csv:2"), "{error}");
        fs::remove_dir_all(folder).expect("removed");
    }

    #[test]
    fn days_are_those_of_the_calendar() {
        for (unix_time, day) in [
            (0, "1970-01-01"),
            (86_399, "1970-01-01"),
            (951_782_400, "2000-02-29"),
            (1_735_689_599, "2024-12-31"),
            (1_795_881_229, "2026-11-28"),
        ] {
            assert_eq!(date(unix_time), day);
        }
    }
}
