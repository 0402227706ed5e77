//! The parts of the hot path, and how many samples each of them has.
//!
//! A sample belongs to the innermost function of its stack that says what it is for: copying, searching, allocating
//! and reading the clock are done for somebody, and count for whoever called them. Not here: where stacks come from
//! (`samples`).
//!
//! Invariant: every sample is in exactly one part.

use std::fmt::Write;

use serde::Deserialize;

use super::samples::{Folded, KERNEL};
use crate::observe::Environment;

/// A part, and how the paths of its functions begin. The longest beginning that fits decides.
struct Part {
    name: &'static str,
    functions: &'static [&'static str],
}

const KERNEL_PART: usize = 0;
const OTHER_PART: usize = PARTS.len() - 1;
const PARTS: [Part; 7] = [
    Part { name: "kernel", functions: &[] },
    Part {
        name: "parse",
        functions: &[
            "corelane::proto",
            "corelane::server::connection",
            "corelane::server::filter",
            "corelane::server::intake",
            "httparse",
        ],
    },
    Part { name: "route", functions: &["corelane::server", "corelane::shard"] },
    Part { name: "serve", functions: &["corelane::upstream"] },
    Part {
        name: "encode",
        functions: &[
            "corelane::proto::http1::respond",
            "corelane::proto::json::canonical",
            "corelane::proto::json::splice",
            "corelane::proto::json::write",
            "corelane::proto::jsonrpc::begin_result",
            "corelane::proto::jsonrpc::end",
            "corelane::proto::jsonrpc::error",
            "corelane::proto::jsonrpc::notification",
            "corelane::proto::jsonrpc::request",
            "corelane::proto::sse::comment",
            "corelane::proto::sse::event",
            "corelane::proto::sse::priming",
            "corelane::proto::sse::retry",
            "corelane::server::answer",
            "corelane::upstream::native::output",
        ],
    },
    Part {
        name: "ring and driver",
        functions: &[
            "corelane::boot",
            "corelane::ring",
            "corelane::runtime",
            "corelane::server::drive",
            "corelane::sys",
            "corelane::uring",
            "corelane_bench",
            "glommio",
            "glommio_ng",
            "io_uring",
        ],
    },
    Part { name: "other", functions: &[] },
];

/// Samples of each part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shares([u64; PARTS.len()]);

impl Shares {
    /// Shares out all samples.
    pub fn of(folded: &Folded) -> Self {
        let mut shares = Self::default();
        for (stack, count) in folded.stacks() {
            shares.0[part_of(stack)] += count;
        }
        shares
    }

    /// All samples.
    pub fn samples(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Each part by its name.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, u64)> {
        PARTS.iter().zip(self.0).map(|(part, samples)| (part.name, samples))
    }
}

fn part_of(stack: &str) -> usize {
    if stack.ends_with(KERNEL) {
        return KERNEL_PART;
    }
    stack.split(';').rev().find_map(part_of_function).unwrap_or(OTHER_PART)
}

/// The part of a function such as `a::b::f` or `<a::b::T as c::D>::f`, which is `a::b`'s in both forms.
fn part_of_function(function: &str) -> Option<usize> {
    let path = function.trim_start_matches(['<', '&']);
    let begins = |begin: &&&str| {
        path.strip_prefix(**begin).is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
    };
    let longest = |part: &Part| part.functions.iter().filter(begins).map(|begin| begin.len()).max();
    let fits = PARTS.iter().enumerate().filter_map(|(at, part)| Some((longest(part)?, at)));
    fits.max().map(|(_, at)| at)
}

/// What of a report of `corelane-bench load` is needed here.
#[derive(Deserialize)]
pub struct Report {
    pub environment: Environment,
    pub server: Option<Server>,
}

#[derive(Deserialize)]
pub struct Server {
    pub cpu_us_per_call: Option<f64>,
}

/// A profile in the table.
pub struct Column {
    pub name: String,
    pub shares: Shares,
    /// CPU us of a call, shared out like the samples.
    pub cost_us: Option<f64>,
}

/// Profiles beside each other: CPU us of a call where that is known, and the share of the samples.
pub fn table(columns: &[Column]) -> String {
    if columns.is_empty() {
        return String::new();
    }
    let mut table = String::from("| part |");
    for column in columns {
        let unit = if column.cost_us.is_some() { "us per call (share)" } else { "share" };
        // Writing to a String cannot fail.
        let _ = write!(table, " {}, {unit} |", column.name);
    }
    table.push('\n');
    table += &"|---".repeat(columns.len() + 1);
    table.push_str("|\n");
    for (at, part) in PARTS.iter().enumerate() {
        let _ = write!(table, "| {} |", part.name);
        for column in columns {
            let share = column.shares.0[at] as f64 / column.shares.samples().max(1) as f64;
            let _ = match column.cost_us {
                Some(cost) => write!(table, " {:.2} ({:.1} %) |", cost * share, share * 100.0),
                None => write!(table, " {:.1} % |", share * 100.0),
            };
        }
        table.push('\n');
    }
    table.push_str("| **all** |");
    for column in columns {
        let samples = column.shares.samples();
        let _ = match column.cost_us {
            Some(cost) => write!(table, " **{cost:.2}** ({samples} samples) |"),
            None => write!(table, " {samples} samples |"),
        };
    }
    table.push('\n');
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(stack: &str) -> &'static str {
        PARTS[part_of(stack)].name
    }

    #[test]
    fn the_longest_beginning_decides_and_ends_where_a_name_does() {
        assert_eq!(part("corelane::proto::json::scan::Scanner::scan"), "parse");
        assert_eq!(part("corelane::proto::json::write::string"), "encode");
        assert_eq!(part("corelane::server::router::<impl corelane::server::core::Core<S>>::call"), "route");
        assert_eq!(part("corelane::server::drive::Loop<S>::perform::{{closure}}"), "ring and driver");
        assert_eq!(part("corelane::server::answer::dress"), "encode");
        assert_eq!(part("corelane::server::answers::x"), "route", "another module");
        assert_eq!(
            part("<corelane::upstream::native::service::NativeService<S> as corelane::server::service::Service>::call"),
            "serve"
        );
        assert_eq!(part("glommio_ng::task::raw::RawTask<F,R,S>::run"), "ring and driver");
        assert_eq!(part("corelanes::proto::x"), "other");
    }

    #[test]
    fn what_is_done_for_somebody_counts_for_whoever_called_it() {
        assert_eq!(part("corelane-0;corelane::proto::json::write::raw;__memcpy_avx"), "encode");
        assert_eq!(part("corelane-0;corelane::uring::driver::Driver::enter;syscall"), "ring and driver");
        assert_eq!(part("corelane-0;corelane::uring::driver::Driver::enter;syscall;io_send_[k]"), "kernel");
        assert_eq!(part("corelane-0;core::ptr::drop_in_place<corelane::shard::Shards>"), "other", "an argument");
        assert_eq!(part("corelane-0;malloc"), "other");
    }

    #[test]
    fn every_sample_is_in_one_part_and_shares_out_the_cost() {
        let folded: Folded = "a;corelane::ring::x 1\na;io_send_[k] 6\na;malloc 3\n".parse().expect("stacks");
        let shares = Shares::of(&folded);
        assert_eq!(shares.samples(), folded.samples());
        let column = |cost_us| Column { name: "a".into(), shares, cost_us };
        let table = table(&[column(Some(5.0)), column(None)]);
        for row in [
            "| part | a, us per call (share) | a, share |",
            "| kernel | 3.00 (60.0 %) | 60.0 % |",
            "| ring and driver | 0.50 (10.0 %) | 10.0 % |",
            "| other | 1.50 (30.0 %) | 30.0 % |",
            "| **all** | **5.00** (10 samples) | 10 samples |",
        ] {
            assert!(table.lines().any(|line| line == row), "{row}\n{table}");
        }
    }

    /// A part whose module was renamed would silently lose its samples to the one above.
    #[test]
    fn every_module_that_is_named_exists() {
        let sources = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../src");
        for function in PARTS.iter().flat_map(|part| part.functions) {
            let Some(path) = function.strip_prefix("corelane::") else { continue };
            let file = sources.join(path.replace("::", "/"));
            let is_module = file.is_dir() || file.with_extension("rs").is_file();
            let is_function = path.rsplit_once("::").is_some_and(|(module, name)| {
                let text = std::fs::read_to_string(sources.join(module.replace("::", "/")).with_extension("rs"));
                text.is_ok_and(|text| text.contains(&format!("pub fn {name}(")))
            });
            assert!(is_module || is_function, "nothing in src/ is called {function}");
        }
    }
}
