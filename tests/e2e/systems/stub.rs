//! A stub of an outside service: real HTTP, answers from a function, and a record of the requests.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use trunkline_support::eventually;

/// A request.
#[derive(Debug, Clone)]
pub struct Asked {
    pub path: String,
    head: String,
    /// The body as JSON.
    pub body: Value,
}

impl Asked {
    /// The value of a header, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find_map(|(known, value)| known.eq_ignore_ascii_case(name).then(|| value.trim()))
    }
}

/// An answer.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    status: u16,
    headers: String,
    body: String,
    /// The delay of the answer.
    after: Duration,
}

impl Answer {
    pub fn json(status: u16, body: &Value) -> Self {
        Self { status, body: body.to_string(), ..Self::default() }
    }

    pub fn status(status: u16) -> Self {
        Self::json(status, &Value::Null)
    }

    pub fn header(self, name: &str, value: &str) -> Self {
        Self { headers: format!("{}{name}: {value}\r\n", self.headers), ..self }
    }

    pub fn after(self, after: Duration) -> Self {
        Self { after, ..self }
    }
}

type Answers = dyn Fn(&Asked, usize) -> Answer + Send + Sync;

/// A service that answers for as long as the test runs.
pub struct Stub {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Stub {
    /// Starts a service. `answers` also gets the number of earlier requests with the same body.
    pub fn start(answers: impl Fn(&Asked, usize) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (kept, answers): (_, Arc<Answers>) = (asked.clone(), Arc::new(answers));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (kept, answers) = (kept.clone(), answers.clone());
                // In some stories a client closes its connection early.
                std::thread::spawn(move || drop(serve(stream, &kept, &*answers)));
            }
        });
        Self { address, asked }
    }

    /// `http://127.0.0.1:PORT`
    pub fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All requests so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("no panic").clone()
    }

    /// The matching requests so far.
    pub fn those(&self, fits: impl Fn(&Asked) -> bool) -> Vec<Asked> {
        self.asked().into_iter().filter(|asked| fits(asked)).collect()
    }

    /// Waits for a matching request, and gives the first.
    pub async fn one(&self, what: &str, fits: impl Fn(&Asked) -> bool) -> Asked {
        eventually(what, || {
            let found = self.those(&fits).into_iter().next();
            async move { found }
        })
        .await
    }

    /// Waits for this many matching requests.
    pub async fn at_least(&self, count: usize, what: &str, fits: impl Fn(&Asked) -> bool) -> Vec<Asked> {
        eventually(what, || {
            let found = self.those(&fits);
            async move { (found.len() >= count).then_some(found) }
        })
        .await
    }
}

fn serve(mut stream: TcpStream, kept: &Mutex<Vec<Asked>>, answers: &Answers) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut head = String::new();
    while reader.read_line(&mut head)? > 2 {}
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut asked = Asked { path, head, body: Value::Null };
    let length = asked.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut body = Vec::new();
    reader.take(length).read_to_end(&mut body)?;
    asked.body = serde_json::from_slice(&body).unwrap_or_default();
    let before = {
        let mut kept = kept.lock().expect("no panic");
        // Some bodies count attempts, so repeats are recognised by the key.
        let key = asked.header("idempotency-key").map(str::to_owned);
        let before = kept.iter().filter(|other| other.header("idempotency-key") == key.as_deref()).count();
        kept.push(asked.clone());
        before
    };
    let answer = answers(&asked, before);
    trunkline_telemetry::wait::block(answer.after);
    let Answer { status, headers, body, .. } = answer;
    let head = format!("HTTP/1.1 {status} Stub\r\ncontent-length: {}\r\n{headers}\r\n", body.len());
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())
}
