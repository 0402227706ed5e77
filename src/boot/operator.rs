//! `corelane servers|sessions|shards|limits|zones|transports|bindings|reload`: asks a running corelane what its
//! administration API says, and prints it.
//!
//! Not here: the API (`control`). Invariant: what is printed came from the process that was asked; nothing is changed
//! but what the command says.

mod changes;
mod pins;

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::config::{ServerName, Settings};

/// Longest time for an answer: longer than the registry takes for one.
const PATIENCE: Duration = Duration::from_secs(10);
/// Largest answer.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A tag that nothing has: a change on this condition is made whatever was there before, or nothing.
const NEVER: &str = "\"\"";

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// Nobody is there.
    #[error(
        "no running corelane answers on {door}: {source}; start `corelane serve`, or name the configuration that it runs \
         with (--config, CORELANE_CONTROL_LISTEN)"
    )]
    Unreachable {
        /// Where it was tried.
        door: String,
        /// Why that failed.
        source: std::io::Error,
    },
    /// What came is no answer.
    #[error("{door} does not answer like corelane: {what}")]
    Strange {
        /// Who was asked.
        door: String,
        /// What is strange.
        what: String,
    },
    /// It said no.
    #[error("{what}")]
    Refused {
        /// Its words.
        what: String,
    },
}

/// What is asked.
#[derive(Clone, Debug)]
pub enum Question {
    /// From now on tools of a server are to be what they are.
    Approve {
        /// The server.
        server: String,
        /// Which tools; none for all that changed.
        tools: Vec<String>,
        /// What was looked at; none for whatever is there.
        tag: Option<String>,
    },
    /// How the tools of this server differ from what was approved.
    Diff(String),
    /// A transport is bound to a server, in place of what it was bound to.
    Bind {
        /// The transport.
        transport: String,
        /// The server.
        server: String,
    },
    /// Transports, and the servers that they are bound to.
    Bindings,
    /// The servers behind the gateway.
    Servers,
    /// A server is registered.
    Register {
        /// Its name.
        server: String,
        /// Where it is.
        url: String,
        /// Of which kind.
        kind: String,
        /// What else is set, `KEY=VALUE` each.
        settings: Vec<String>,
        /// There is one of that name, which is to be another.
        replace: bool,
    },
    /// A transport is registered, and perhaps bound to a server.
    RegisterTransport {
        /// The transport.
        transport: String,
        /// The server.
        server: Option<String>,
    },
    /// The transports of the registry.
    Transports,
    /// A transport is bound to nothing any more.
    Unbind(String),
    /// A server that was registered is removed.
    Unregister(String),
    /// A transport that was registered is removed.
    UnregisterTransport(String),
    /// The configuration file is read again.
    Reload,
    /// Sessions and connections.
    Sessions,
    /// The registry's shards.
    Shards {
        /// Counts begin anew first.
        reset: bool,
        /// `auto`, `on` or `off` is chosen first.
        admission: Option<String>,
    },
    /// Its limits on connections.
    Limits,
    /// How near its limits it is.
    Zones,
}

/// Where it is asked.
enum Door {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl std::fmt::Display for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Door::Tcp(address) => address.fmt(f),
            Door::Unix(path) => path.display().fmt(f),
        }
    }
}

/// What was said to a question.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Said {
    /// To be printed.
    pub text: String,
    /// It was asked what differs, and something does.
    pub differs: bool,
}

/// Asks the corelane that runs with these settings.
///
/// # Errors
/// If nobody answers, or with a no.
pub fn ask(settings: &Settings, question: &Question, json: bool) -> Result<Said, OperatorError> {
    if let Question::Approve { server, .. }
    | Question::Diff(server)
    | Question::Register { server, .. }
    | Question::Unregister(server) = question
        && ServerName::new(server).is_none()
    {
        let what = format!("{server:?} cannot be the name of a server: allowed is {}", ServerName::RULE);
        return Err(OperatorError::Refused { what });
    }
    let door = match settings.control.socket.as_path() {
        Some(path) => Door::Unix(path.to_owned()),
        None => Door::Tcp(settings.control.listen),
    };
    let strange = |what: std::io::Error| OperatorError::Strange { door: door.to_string(), what: what.to_string() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(strange)?;
    let answer = runtime.block_on(answered(&door, question))?;
    let (text, differs) = match question {
        Question::Approve { server, .. } => (pins::approved(server, &answer), false),
        Question::Bindings => (changes::bindings(&answer), false),
        Question::Diff(_) => pins::difference(&answer),
        Question::Bind { .. }
        | Question::RegisterTransport { .. }
        | Question::Unbind(_)
        | Question::UnregisterTransport(_) => (changes::done(&answer), false),
        Question::Register { .. } => (changes::registered(&answer), false),
        Question::Transports => (changes::transports(&answer), false),
        Question::Unregister(_) => (changes::unregistered(&answer), false),
        Question::Servers => (servers(&answer), false),
        Question::Reload => (format!("{}\n", cell(&answer, "changed")), false),
        Question::Sessions => (sessions(&answer), false),
        Question::Shards { .. } => (shards(&answer), false),
        Question::Limits => (limits(&answer), false),
        Question::Zones => (zones(&answer), false),
    };
    Ok(Said { text: if json { format!("{answer:#}\n") } else { text }, differs })
}

async fn answered(door: &Door, question: &Question) -> Result<Value, OperatorError> {
    match question {
        Question::Approve { server, tools, tag } => {
            let path = format!("/admin/v1/servers/{server}/pins");
            let tag = match tag {
                Some(tag) => format!("\"{}\"", tag.trim_matches('"')),
                None => format!("\"{}\"", cell(&get(door, &path).await?, "tag")),
            };
            let approve = if tools.is_empty() { Value::from("all") } else { Value::from(tools.clone()) };
            let body = serde_json::json!({ "approve": approve }).to_string();
            request(door, Method::POST, &path, &[("If-Match", &tag)], body).await
        }
        Question::Bind { transport, server } => {
            let body = serde_json::json!({ "server": server }).to_string();
            request(door, Method::PUT, &binding_of(transport), &[("If-None-Match", NEVER)], body).await
        }
        Question::Bindings => get(door, "/admin/v1/bindings").await,
        Question::Diff(server) => get(door, &format!("/admin/v1/servers/{server}/pins")).await,
        Question::Register { server, url, kind, settings, replace } => {
            let body = changes::described(url, kind, settings)?.to_string();
            let condition = if *replace { ("If-Match", "*") } else { ("If-None-Match", "*") };
            request(door, Method::PUT, &format!("/admin/v1/servers/{server}"), &[condition], body).await
        }
        Question::RegisterTransport { transport, server } => {
            let body =
                server.as_ref().map_or_else(String::new, |server| serde_json::json!({ "server": server }).to_string());
            request(door, Method::PUT, &transport_of(transport), &[], body).await
        }
        Question::Transports => get(door, "/admin/v1/transports").await,
        // Whoever types it wants it whatever it was before; so with all that are named by a star.
        Question::Unbind(transport) => remove(door, &binding_of(transport)).await,
        Question::Unregister(server) => remove(door, &format!("/admin/v1/servers/{server}")).await,
        Question::UnregisterTransport(transport) => remove(door, &transport_of(transport)).await,
        Question::Servers => get(door, "/admin/v1/servers").await,
        Question::Reload => request(door, Method::POST, "/admin/v1/reload", &[], String::new()).await,
        Question::Sessions => get(door, "/admin/v1/sessions").await,
        Question::Limits => get(door, "/admin/v1/limits").await,
        Question::Zones => get(door, "/admin/v1/zones").await,
        Question::Shards { reset, admission } => {
            if let Some(admission) = admission {
                let body = serde_json::json!({ "admission": admission }).to_string();
                // Whoever types it wants it whatever it was before.
                request(door, Method::PUT, "/admin/v1/admission", &[("If-Match", "*")], body).await?;
            }
            if *reset {
                request(door, Method::POST, "/admin/v1/shards/reset", &[], String::new()).await?;
            }
            let mut answer = get(door, "/admin/v1/shards").await?;
            answer["contention"] = get(door, "/admin/v1/contention").await?;
            Ok(answer)
        }
    }
}

fn transport_of(name: &str) -> String {
    format!("/admin/v1/transports/{}", changes::segment(name))
}

fn binding_of(transport: &str) -> String {
    format!("/admin/v1/bindings/{}", changes::segment(transport))
}

async fn remove(door: &Door, path: &str) -> Result<Value, OperatorError> {
    request(door, Method::DELETE, path, &[("If-Match", "*")], String::new()).await
}

async fn get(door: &Door, path: &str) -> Result<Value, OperatorError> {
    request(door, Method::GET, path, &[], String::new()).await
}

async fn request(
    door: &Door,
    method: Method,
    path: &str,
    fields: &[(&str, &str)],
    body: String,
) -> Result<Value, OperatorError> {
    let unreachable = |source| OperatorError::Unreachable { door: door.to_string(), source };
    let attempt = async {
        match door {
            Door::Tcp(address) => {
                let stream = tokio::net::TcpStream::connect(address).await.map_err(unreachable)?;
                exchange(door, stream, method, path, fields, body).await
            }
            Door::Unix(path_of_socket) => {
                let stream = tokio::net::UnixStream::connect(path_of_socket).await.map_err(unreachable)?;
                exchange(door, stream, method, path, fields, body).await
            }
        }
    };
    let late = |_| unreachable(std::io::ErrorKind::TimedOut.into());
    tokio::time::timeout(PATIENCE, attempt).await.map_err(late)?
}

async fn exchange(
    door: &Door,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    method: Method,
    path: &str,
    fields: &[(&str, &str)],
    body: String,
) -> Result<Value, OperatorError> {
    let strange = |what: String| OperatorError::Strange { door: door.to_string(), what };
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| strange(error.to_string()))?;
    let connection = tokio::spawn(connection);
    let host = if let Door::Tcp(address) = door { address.to_string() } else { "localhost".to_owned() };
    let mut request = Request::builder().method(method).uri(path).header("Host", host);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(Bytes::from(body))).map_err(|error| strange(error.to_string()))?;
    let answer = sender.send_request(request).await.map_err(|error| strange(error.to_string()))?;
    let status = answer.status();
    let text = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
    let text = text.map_err(|error| strange(error.to_string()))?.to_bytes();
    connection.abort();
    if status == StatusCode::NO_CONTENT {
        return Ok(Value::Null);
    }
    let answer: Value =
        serde_json::from_slice(&text).map_err(|_| strange(format!("HTTP {status} without a JSON text")))?;
    if status.is_success() {
        return Ok(answer);
    }
    let said = answer["error"].as_str().map_or_else(|| format!("HTTP {status}"), str::to_owned);
    Err(OperatorError::Refused { what: said })
}

/// Columns as wide as what stands in them, the first to the left, numbers to the right.
fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let widths: Vec<usize> = (0..head.len())
        .map(|column| rows.iter().map(|row| row[column].chars().count()).chain([head[column].len()]).max().unwrap_or(0))
        .collect();
    let mut out = String::new();
    let head = head.iter().map(|word| (*word).to_owned()).collect();
    for row in std::iter::once(&head).chain(rows) {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            // Writing to a String cannot fail.
            let is_number = cell.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
            let _ = match is_number {
                true => write!(line, "{cell:>width$}  "),
                false => write!(line, "{cell:<width$}  "),
            };
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

fn cell(row: &Value, name: &str) -> String {
    match &row[name] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn rows_of(answer: &Value, list: &str, columns: &[&str]) -> Vec<Vec<String>> {
    let rows = answer[list].as_array().into_iter().flatten();
    rows.map(|row| columns.iter().map(|column| cell(row, column)).collect()).collect()
}

fn servers(answer: &Value) -> String {
    let columns = [
        "name",
        "kind",
        "state",
        "tools",
        "changed",
        "calls",
        "failures",
        "in_flight",
        "waiting",
        "lost",
        "connections",
        "reached_by",
    ];
    let mut rows = rows_of(answer, "servers", &columns);
    let all = answer["servers"].as_array().map(Vec::as_slice).unwrap_or_default();
    for (row, server) in rows.iter_mut().zip(all) {
        row[4] = server["pinning"]["changed"].as_array().map_or(0, Vec::len).to_string();
    }
    if rows.is_empty() {
        return "no servers are configured; see [servers] in `corelane config --default`\n".to_owned();
    }
    let reasons: Vec<&str> = all.iter().filter_map(|server| server["last_failure"].as_str()).collect();
    match reasons.is_empty() {
        true => table(&columns, &rows),
        false => format!("{}\n{}\n", table(&columns, &rows), reasons.join("\n")),
    }
}

fn sessions(answer: &Value) -> String {
    let columns = ["sessions", "connections", "calls_in_flight"];
    let mut rows = rows_of(answer, "cores", &columns);
    for (core, row) in rows.iter_mut().enumerate() {
        row.insert(0, format!("core {core}"));
    }
    rows.push(std::iter::once("all".to_owned()).chain(columns.iter().map(|column| cell(answer, column))).collect());
    table(&["", "sessions", "connections", "calls_in_flight"], &rows)
}

fn shards(answer: &Value) -> String {
    let columns = [
        "shard",
        "core",
        "sessions",
        "connections",
        "messages",
        "messages_per_s",
        "queue_depth",
        "servers",
        "transports",
        "bindings",
        "writes",
        "refused",
        "mean_ns",
        "least_ns",
        "most_ns",
        "alarmed",
    ];
    let contention = &answer["contention"];
    let closed = contention["admission_closed"].as_bool().unwrap_or(false);
    format!(
        "admission: {} ({}), {} of {} shards alarmed\n\nservers, transports and bindings are those of the registry; servers \
         behind the gateway: `corelane servers`\n\n{}",
        cell(contention, "admission"),
        if closed { "nothing new is let in" } else { "registrations are let in" },
        contention["alarmed"],
        contention["shards"],
        table(&columns, &rows_of(answer, "shards", &columns))
    )
}

fn limits(answer: &Value) -> String {
    let columns = ["key", "now", "soft", "most", "unit", "refused", "cause", "alerted", "runbook"];
    table(&columns, &rows_of(answer, "limits", &columns))
}

fn zones(answer: &Value) -> String {
    let readings = ["reading", "zone", "value", "unit", "thresholds", "runbook"];
    let mut out = format!("{}\n\n{}", cell(answer, "zone"), table(&readings, &rows_of(answer, "readings", &readings)));
    let alerts = ["unix_ms", "reading", "from", "to", "value", "threshold", "unit"];
    let rows = rows_of(answer, "alerts", &alerts);
    if !rows.is_empty() {
        let _ = write!(out, "\nchanges, the last first:\n{}", table(&alerts, &rows));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_as_wide_as_what_stands_in_it() {
        let rows = vec![vec!["a".to_owned(), "5".to_owned()], vec!["longer".to_owned(), "12345".to_owned()]];
        assert_eq!(table(&["name", "n"], &rows), "name    n\na           5\nlonger  12345\n");
    }

    #[test]
    fn nobody_there_is_said_with_what_to_do() {
        let mut settings = Settings::default();
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        settings.control.listen = free.local_addr().expect("its address");
        drop(free);
        let error = ask(&settings, &Question::Servers, false).expect_err("nobody listens there");
        assert!(error.to_string().contains("corelane serve"), "{error}");
    }
}
