//! What a scenario is: populations of connections, the phases they go through, and what must hold. Read from TOML.
//!
//! It opens nothing and measures nothing. Times are as the file says; `scaled` shortens them, and nothing else.
//!
//! Invariant: a scenario that was read is whole: every group has a figure for every phase, and every condition names a
//! group and a phase that exist.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    Failure,
    message::{Ask, Wire},
};

/// See the module.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    pub name: String,
    /// What it shows, in a sentence.
    pub about: String,
    /// Where its figures come from.
    #[serde(default)]
    pub source: Option<String>,
    #[serde(default = "default_wire")]
    pub wire: Wire,
    /// Encoded length of message M in bytes.
    #[serde(default = "default_payload")]
    pub payload: usize,
    /// The tool that message M calls, its arguments (`$PAD` is where the padding goes), and the path of the endpoint.
    #[serde(default = "default_tool")]
    pub tool: String,
    #[serde(default = "default_arguments")]
    pub arguments: String,
    #[serde(default = "default_path")]
    pub path: String,
    /// The words of the server that is started unless one runs already; {http}, {tcp} and {unix} are its addresses.
    #[serde(default)]
    pub serve: Option<String>,
    /// Settings of that server, as variables of its environment.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
    #[serde(default = "one")]
    pub seed: u64,
    #[serde(rename = "group")]
    pub groups: Vec<Group>,
    #[serde(rename = "phase")]
    pub phases: Vec<Phase>,
    #[serde(rename = "pass", default)]
    pub conditions: Vec<Condition>,
}

fn default_wire() -> Wire {
    Wire::HttpLegacy
}

fn default_tool() -> String {
    "echo".into()
}

fn default_arguments() -> String {
    r#"{"data":"$PAD"}"#.into()
}

fn default_path() -> String {
    "/mcp".into()
}

const fn default_payload() -> usize {
    175
}

const fn one() -> u64 {
    1
}

/// What the connections of a group do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Deed {
    /// They stay and call: at a rate, or as fast as answers come.
    #[default]
    Call,
    /// They come, shake hands, call so many times, and leave: at a rate of visits.
    Visit,
    /// They say a call a few bytes at a time, and never come to its end.
    Trickle,
    /// They stay and ask for the server's health at its control address (GET /healthz over HTTP), at a rate.
    Health,
}

/// A population of connections that are alike.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    pub name: String,
    #[serde(default)]
    pub deed: Deed,
    /// Calls in flight on each connection (more than 1: lines only).
    #[serde(default = "one_usize")]
    pub depth: usize,
    /// Gaps are random (exponential), or equal.
    #[serde(default)]
    pub poisson: bool,
    /// Calls of a visit.
    #[serde(default = "one_usize")]
    pub calls: usize,
    /// Answers are read so many bytes at a time, with so many ms between.
    #[serde(default)]
    pub reads: Option<Reads>,
    /// Bytes that a trickling connection says at a time.
    #[serde(default = "one_usize")]
    pub trickle_bytes: usize,
    /// What is asked, by weight; message M alone unless said.
    #[serde(default)]
    pub mix: Vec<Part>,
}

const fn one_usize() -> usize {
    1
}

/// How little is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reads {
    /// None at all if 0.
    pub bytes: u32,
    #[serde(default)]
    pub every_ms: u64,
}

/// One part of a mix.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    pub weight: u32,
    #[serde(flatten)]
    pub ask: Ask,
}

/// A stretch of time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Phase {
    pub name: String,
    /// How long; with `fill`, at most.
    pub seconds: f64,
    /// Ends when every connection is there, as soon as they can be.
    #[serde(default)]
    pub fill: bool,
    /// What a group does in it, by its name; a group that is not named goes on as it was.
    #[serde(default)]
    pub groups: BTreeMap<String, Course>,
}

/// What a group does in a phase. Figures that are not said stay as they were.
#[derive(Clone, Copy, Debug, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Course {
    /// How many connections there are.
    #[serde(default)]
    pub connections: Option<usize>,
    /// Calls (visits, pieces) a second of all together.
    #[serde(default)]
    pub rate: Option<f64>,
    /// Or of each connection.
    #[serde(default)]
    pub rate_each: Option<f64>,
    /// Connections and rate are reached in equal steps over the phase; else at once.
    #[serde(default)]
    pub ramp: bool,
    /// As fast as answers come.
    #[serde(default)]
    pub closed: bool,
}

/// What a group does in a phase, all figures said.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    pub connections_from: usize,
    pub connections_to: usize,
    /// Calls a second at its begin and its end; none: a closed loop.
    pub rate: Option<(f64, f64)>,
}

/// What must hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Condition {
    /// A phase, or the whole run.
    #[serde(default)]
    pub phase: Option<String>,
    /// A group, or all of them.
    #[serde(default)]
    pub group: Option<String>,
    pub figure: Figure,
    #[serde(default)]
    pub at_most: Option<f64>,
    #[serde(default)]
    pub at_least: Option<f64>,
    /// Where the bound comes from, if it is not the scenario's source.
    #[serde(default)]
    pub why: Option<String>,
}

/// What a condition looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Figure {
    P50Us,
    P95Us,
    P99Us,
    P999Us,
    MaxUs,
    /// Failed of all that were attempted, in percent.
    ErrorPercent,
    Errors,
    /// Calls that succeeded, per second.
    CallsPerSecond,
    /// Twice that: a call and its answer.
    MessagesPerSecond,
    /// Of the calls that were due, in percent.
    AnsweredPercent,
    /// Connections that are up at the end of the phase.
    Connections,
    /// Connections that were lost.
    Lost,
    /// Calls and connections that were attempted and neither succeeded nor failed by a name.
    Unaccounted,
    /// Of the server.
    RssMib,
    /// The same, for each connection of the generator, above what it had before the first.
    RssBytesEach,
    ServerCpuPercent,
    ServerCpuSeconds,
    CpuUsPerCall,
    /// The longest time between two turns of a core's loop while it was awake, since the server began (its own metric).
    LongestGapMs,
    /// The mean of those of a millisecond and more, in a phase.
    MeanGapMs,
    /// How long it took.
    Seconds,
}

impl Scenario {
    /// Reads and checks it.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let scenario: Self = toml::from_str(text)?;
        scenario.check()?;
        Ok(scenario)
    }

    fn check(&self) -> Result<(), String> {
        if self.groups.is_empty() || self.phases.is_empty() {
            return Err("a scenario has at least one [[group]] and one [[phase]]".into());
        }
        for (place, group) in self.groups.iter().enumerate() {
            let name = &group.name;
            if self.groups[..place].iter().any(|other| other.name == *name) {
                return Err(format!("two groups are called {name:?}"));
            }
            if group.depth == 0 || (group.depth > 1 && !self.wire.is_lines()) {
                return Err(format!("group {name:?}: depth {}: at least 1, and more on lines only", group.depth));
            }
            if group.deed == Deed::Health && (group.depth > 1 || group.reads.is_some() || !group.mix.is_empty()) {
                return Err(format!("group {name:?}: asking for health has no depth, no mix, and reads all"));
            }
            if group.calls == 0 || group.trickle_bytes == 0 {
                return Err(format!("group {name:?}: `calls` and `trickle_bytes` are at least 1"));
            }
            if group.mix.iter().any(|part| part.weight == 0) {
                return Err(format!("group {name:?}: a part of the mix has no weight"));
            }
        }
        for (place, phase) in self.phases.iter().enumerate() {
            if self.phases[..place].iter().any(|other| other.name == phase.name) {
                return Err(format!("two phases are called {:?}", phase.name));
            }
            if !(phase.seconds.is_finite() && phase.seconds > 0.0) {
                return Err(format!("phase {:?}: {} seconds: more than 0", phase.name, phase.seconds));
            }
            for (name, course) in &phase.groups {
                if !self.groups.iter().any(|group| group.name == *name) {
                    return Err(format!("phase {:?} speaks of a group {name:?} that there is not", phase.name));
                }
                if usize::from(course.rate.is_some())
                    + usize::from(course.rate_each.is_some())
                    + usize::from(course.closed)
                    > 1
                {
                    return Err(format!("phase {:?}, group {name:?}: rate, rate_each or closed, one", phase.name));
                }
                let deed = self.groups.iter().find(|group| group.name == *name).map(|group| group.deed);
                if course.closed && deed != Some(Deed::Call) {
                    return Err(format!(
                        "phase {:?}, group {name:?}: only calls can be made in a closed loop",
                        phase.name
                    ));
                }
                if [course.rate, course.rate_each].iter().flatten().any(|rate| !rate.is_finite() || *rate < 0.0) {
                    return Err(format!("phase {:?}, group {name:?}: a rate is a number from 0 up", phase.name));
                }
            }
        }
        for condition in &self.conditions {
            let known = |name: &Option<String>, mut all: Box<dyn Iterator<Item = &String> + '_>| {
                name.as_ref().is_none_or(|name| all.any(|other| other == name))
            };
            if !known(&condition.phase, Box::new(self.phases.iter().map(|phase| &phase.name)))
                || !known(&condition.group, Box::new(self.groups.iter().map(|group| &group.name)))
            {
                return Err(format!("a condition on {:?} names a phase or group that there is not", condition.figure));
            }
            if condition.at_most.is_none() && condition.at_least.is_none() {
                return Err(format!("a condition on {:?} has neither at_most nor at_least", condition.figure));
            }
        }
        Ok(())
    }

    /// The same with all times multiplied by `scale`; what must hold stays as it is.
    pub fn scaled(mut self, scale: f64) -> Self {
        for phase in &mut self.phases {
            // A phase that fills is over when it is: its time is a limit.
            if !phase.fill {
                phase.seconds *= scale;
            }
        }
        self
    }

    /// What `group` does in each phase.
    pub fn steps(&self, group: usize) -> Vec<Step> {
        let group = &self.groups[group];
        let (mut connections, mut rate, mut each, mut closed) = (0, 0.0, None, false);
        let mut steps = Vec::new();
        for phase in &self.phases {
            let course = phase.groups.get(&group.name).copied().unwrap_or_default();
            let (connections_from, rate_from, each_from) = (connections, rate, each);
            connections = course.connections.unwrap_or(connections);
            if course.rate.is_some() || course.rate_each.is_some() || course.closed {
                (rate, each, closed) = (course.rate.unwrap_or(0.0), course.rate_each, course.closed);
            }
            let of = |rate: f64, each: Option<f64>, count: usize| each.map_or(rate, |each| each * count as f64);
            let to = of(rate, each, connections);
            let from = if course.ramp { of(rate_from, each_from, connections_from) } else { to };
            let connections_from = if course.ramp { connections_from } else { connections };
            steps.push(Step { connections_from, connections_to: connections, rate: (!closed).then_some((from, to)) });
        }
        steps
    }

    /// Most connections that a group ever has.
    pub fn most(&self, group: usize) -> usize {
        self.steps(group).iter().map(|step| step.connections_to).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const TEXT: &str = r#"
        name = "t"
        about = "for this test"
        wire = "ndjson"
        [[group]]
        name = "callers"
        [[group]]
        name = "flood"
        depth = 8
        [[phase]]
        name = "ramp"
        seconds = 10
        groups.callers = { connections = 100, rate_each = 50, ramp = true }
        [[phase]]
        name = "hold"
        seconds = 20
        groups.flood = { connections = 4, closed = true }
        [[phase]]
        name = "faster"
        seconds = 5
        groups.callers = { rate = 9000, ramp = true }
        [[pass]]
        phase = "hold"
        group = "callers"
        figure = "p99_us"
        at_most = 1000
    "#;

    #[test]
    fn what_is_not_said_stays_and_rates_follow_connections() {
        let scenario = Scenario::parse(TEXT).expect("valid");
        let step = |from, to, rate| Step { connections_from: from, connections_to: to, rate };
        assert_eq!(
            scenario.steps(0),
            [
                step(0, 100, Some((0.0, 5000.0))),
                step(100, 100, Some((5000.0, 5000.0))),
                step(100, 100, Some((5000.0, 9000.0)))
            ]
        );
        assert_eq!(scenario.steps(1), [step(0, 0, Some((0.0, 0.0))), step(4, 4, None), step(4, 4, None)]);
        assert_eq!((scenario.most(0), scenario.most(1)), (100, 4));
    }

    #[test]
    fn scaling_shortens_time_and_nothing_else() {
        let (whole, short) = (Scenario::parse(TEXT).expect("valid"), Scenario::parse(TEXT).expect("valid").scaled(0.1));
        assert_eq!(short.phases[1].seconds, 2.0);
        assert_eq!((short.conditions, short.groups), (whole.conditions, whole.groups));
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_place() {
        for (from, to, said) in [
            ("name = \"hold\"", "name = \"ramp\"", "two phases"),
            ("group = \"callers\"", "group = \"caller\"", "names a phase or group"),
            ("seconds = 10", "seconds = 0", "more than 0"),
            ("groups.flood", "groups.floods", "that there is not"),
            ("rate_each = 50,", "rate_each = 50, closed = true,", "one"),
            ("at_most = 1000", "", "neither"),
            ("depth = 8", "depth = 0", "at least 1"),
            ("wire = \"ndjson\"", "wire = \"http-modern\"", "on lines only"),
            ("about", "abuot", "abuot"),
        ] {
            assert!(TEXT.contains(from), "{from}");
            let error = Scenario::parse(&TEXT.replacen(from, to, 1)).expect_err(to).to_string();
            assert!(error.contains(said), "{to}: {error}");
        }
    }

    #[test]
    fn every_scenario_in_the_repository_can_be_read() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
        let files =
            |folder: &Path| std::fs::read_dir(folder).expect("there are scenarios").flatten().map(|file| file.path());
        let all = files(&folder).filter(|file| file.is_file()).chain(files(&folder.join("nine_nines")));
        let mut names = Vec::new();
        for file in all {
            let text = std::fs::read_to_string(&file).expect("it can be read");
            let tabled =
                super::super::Tabled::parse(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            let name = tabled.map(|tabled| tabled.name).unwrap_or_else(|| {
                let scenario = Scenario::parse(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
                assert!(!scenario.conditions.is_empty(), "{}: nothing must hold", scenario.name);
                scenario.name
            });
            assert_eq!(file.file_stem().and_then(|stem| stem.to_str()), Some(name.as_str()));
            names.push(name);
        }
        assert!(names.len() >= 10, "{names:?}");
    }
}
