//! Hearing: what a server sends, cut into lines, or into responses of HTTP and the events in them.
//!
//! Written apart from the product's own readers, so that both would have to be wrong alike.
//! Not here: what a message says (`message`), whether it was to come (`client`).
//! Invariant: how the bytes were cut on their way does not show in what is heard.

/// A part of what is heard.
#[derive(Debug)]
pub enum Part {
    /// A response begins.
    Head { status: u16, session: Option<String>, is_last: bool, is_stream: bool },
    /// A JSON text: a line, a body, the data of an event with its id.
    Message { text: Vec<u8>, event: Option<String> },
    /// An event that only says where to come back to.
    Primed(String),
    /// The response is over.
    Over,
}

enum Stage {
    Lines,
    Head,
    Body {
        left: usize,
    },
    ChunkSize,
    Chunk {
        left: usize,
    },
    /// The end of a chunk, or of the last one.
    ChunkEnd {
        is_last: bool,
    },
}

/// Hears one connection.
pub struct Hearing {
    stage: Stage,
    /// Bytes of which nothing whole has come.
    bytes: Vec<u8>,
    /// Of a stream: text of which no whole event has come.
    events: Vec<u8>,
    /// Of a body.
    body: Vec<u8>,
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    memchr::memmem::find(bytes, wanted)
}

impl Hearing {
    /// Of lines, or of HTTP.
    pub fn new(is_lines: bool) -> Hearing {
        let stage = if is_lines { Stage::Lines } else { Stage::Head };
        Hearing { stage, bytes: Vec::new(), events: Vec::new(), body: Vec::new() }
    }

    /// Bytes came in: what is whole by now goes to `parts`.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn hear(&mut self, bytes: &[u8], parts: &mut Vec<Part>) -> Result<(), String> {
        self.bytes.extend_from_slice(bytes);
        let mut used = 0;
        while let Some(taken) = self.take(used, parts)? {
            used += taken;
        }
        self.bytes.drain(..used);
        Ok(())
    }

    /// Whether something has come in part.
    pub fn is_amid(&self) -> bool {
        !self.bytes.is_empty() || !matches!(self.stage, Stage::Lines | Stage::Head)
    }

    /// Takes one thing from the front; how many bytes it was, if it was whole.
    fn take(&mut self, used: usize, parts: &mut Vec<Part>) -> Result<Option<usize>, String> {
        let bytes = &self.bytes[used..];
        if bytes.is_empty() {
            return Ok(None);
        }
        match self.stage {
            Stage::Lines => {
                let Some(end) = memchr::memchr(b'\n', bytes) else { return Ok(None) };
                parts.push(Part::Message { text: bytes[..end].to_vec(), event: None });
                Ok(Some(end + 1))
            }
            Stage::Head => {
                let Some(end) = find(bytes, b"\r\n\r\n") else { return Ok(None) };
                let head = std::str::from_utf8(&bytes[..end]).map_err(|_| "a head that is no text".to_owned())?;
                let (stage, part) = read_head(head)?;
                self.stage = stage;
                parts.push(part);
                if let Stage::Body { left: 0 } = self.stage {
                    self.stage = Stage::Head;
                    parts.push(Part::Over);
                }
                Ok(Some(end + 4))
            }
            Stage::Body { left } => {
                let count = left.min(bytes.len());
                self.body.extend_from_slice(&bytes[..count]);
                self.stage = Stage::Body { left: left - count };
                if left == count {
                    self.stage = Stage::Head;
                    parts.push(Part::Message { text: std::mem::take(&mut self.body), event: None });
                    parts.push(Part::Over);
                }
                Ok(Some(count))
            }
            Stage::ChunkSize => {
                let Some(end) = find(bytes, b"\r\n") else { return Ok(None) };
                let digits = std::str::from_utf8(&bytes[..end]).unwrap_or("none");
                let left = usize::from_str_radix(digits, 16).map_err(|_| format!("a chunk of {digits} bytes"))?;
                self.stage = if left == 0 { Stage::ChunkEnd { is_last: true } } else { Stage::Chunk { left } };
                Ok(Some(end + 2))
            }
            Stage::Chunk { left } => {
                let count = left.min(bytes.len());
                self.events.extend_from_slice(&bytes[..count]);
                self.stage = Stage::Chunk { left: left - count };
                if left == count {
                    self.stage = Stage::ChunkEnd { is_last: false };
                    self.take_events(parts)?;
                }
                Ok(Some(count))
            }
            Stage::ChunkEnd { is_last } => {
                if bytes.len() < 2 {
                    return Ok(None);
                }
                if &bytes[..2] != b"\r\n" {
                    return Err("a chunk that does not end where it should".to_owned());
                }
                self.stage = if is_last { Stage::Head } else { Stage::ChunkSize };
                if is_last {
                    if !self.events.is_empty() {
                        return Err(format!("a stream that ends within an event: {}", show(&self.events)));
                    }
                    parts.push(Part::Over);
                }
                Ok(Some(2))
            }
        }
    }

    fn take_events(&mut self, parts: &mut Vec<Part>) -> Result<(), String> {
        let mut used = 0;
        while let Some(end) = find(&self.events[used..], b"\n\n") {
            let (mut id, mut data, mut name) = (None, None, None);
            let block = &self.events[used..used + end];
            for line in block.split(|&byte| byte == b'\n') {
                if let Some(value) = line.strip_prefix(b"id: ") {
                    id = Some(String::from_utf8_lossy(value).into_owned());
                } else if let Some(value) = line.strip_prefix(b"data:") {
                    data = Some(value.strip_prefix(b" ").unwrap_or(value));
                } else if let Some(value) = line.strip_prefix(b"event: ") {
                    name = Some(value);
                } else if !(line.is_empty() || line.starts_with(b":") || line.starts_with(b"retry: ")) {
                    return Err(format!("a line that belongs to no event: {}", show(line)));
                }
            }
            used += end + 2;
            match (data, id) {
                (Some([]), Some(id)) => parts.push(Part::Primed(id)),
                (Some(text), event) if name == Some(b"message") => {
                    parts.push(Part::Message { text: text.to_vec(), event });
                }
                (None, None) => {}
                (data, id) => return Err(format!("an event of {id:?} with {:?}", data.map(show))),
            }
        }
        self.events.drain(..used);
        Ok(())
    }
}

/// Bytes as text, for a complaint.
pub fn show(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(400)]).into_owned();
    if bytes.len() > 400 { format!("{text}... ({} bytes)", bytes.len()) } else { text }
}

fn read_head(head: &str) -> Result<(Stage, Part), String> {
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 "));
    let status: u16 = status.and_then(|rest| rest.get(..3)?.parse().ok()).ok_or_else(|| format!("a head: {head}"))?;
    let (mut length, mut session, mut is_last, mut is_stream, mut is_chunked) = (None, None, false, false, false);
    for line in lines {
        let Some((name, value)) = line.split_once(':') else { return Err(format!("a field: {line}")) };
        let value = value.trim_matches(' ');
        match name {
            "Content-Length" => length = value.parse::<usize>().ok(),
            "Mcp-Session-Id" => session = Some(value.to_owned()),
            "Connection" => is_last = value == "close",
            "Content-Type" => is_stream = value == "text/event-stream",
            "Transfer-Encoding" => is_chunked = value == "chunked",
            _ => {}
        }
    }
    let stage = match (length, is_chunked) {
        (Some(left), false) => Stage::Body { left },
        (None, true) => Stage::ChunkSize,
        // Without a body there is no length either.
        (None, false) if matches!(status, 202 | 204) => Stage::Body { left: 0 },
        (length, _) => return Err(format!("a body of {length:?} bytes in a response of status {status}: {head}")),
    };
    Ok((stage, Part::Head { status, session, is_last, is_stream }))
}
