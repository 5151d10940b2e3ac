//! A real browser: headless Chromium, driven by WebDriver as a person would, with mouse and keyboard.
//!
//! The protocol is JSON over HTTP/1.1 to a `chromedriver` of our own on loopback; what little of HTTP that takes is
//! here. Everything that the browser's console has heard of errors is kept ([`Browser::console`]).

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::ports;

/// A question that takes longer than this is taken for lost.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// How long the driver may take to listen.
const READY_MAX: Duration = Duration::from_secs(20);
/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(50);

/// A browser with one window. It ends when this is dropped.
#[derive(Debug)]
pub struct Browser {
    driver: Child,
    port: u16,
    session: String,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// Starts one with a window of this many CSS pixels.
    ///
    /// # Errors
    /// If chromium or chromedriver cannot be started.
    pub fn start(width: u32, height: u32) -> Result<Browser> {
        let port = ports::free()?;
        let driver = Command::new("chromedriver")
            .arg(format!("--port={port}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("chromedriver cannot be started: Debian's package chromium-driver has it")?;
        let profile = tempfile::tempdir()?;
        let mut browser = Browser { driver, port, session: String::new(), _profile: profile };
        let end = Instant::now() + READY_MAX;
        while browser.call("GET", "/status", &Value::Null).is_err() {
            ensure!(Instant::now() < end, "chromedriver does not listen");
            std::thread::sleep(POLL);
        }
        let profile = format!("--user-data-dir={}", browser._profile.path().display());
        let size = format!("--window-size={width},{height}");
        // Root may not use Chromium's sandbox; the page is our own.
        let args = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            &size,
            &profile,
        ];
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": { "args": args },
            "goog:loggingPrefs": { "browser": "ALL" },
        } } });
        let session = browser.call("POST", "/session", &wanted)?;
        session["sessionId"].as_str().context("no session")?.clone_into(&mut browser.session);
        Ok(browser)
    }

    /// Opens a page, and waits until it is loaded.
    ///
    /// # Errors
    /// The driver's.
    pub fn open(&self, url: &str) -> Result<()> {
        self.ask("POST", "/url", &json!({ "url": url })).map(drop)
    }

    /// Loads the page anew, as its address has it.
    ///
    /// # Errors
    /// The driver's.
    pub fn reload(&self) -> Result<()> {
        self.ask("POST", "/refresh", &json!({})).map(drop)
    }

    /// Opens a page in a new tab, and goes there.
    ///
    /// # Errors
    /// The driver's.
    pub fn open_in_new_tab(&self, url: &str) -> Result<()> {
        let tab = self.ask("POST", "/window/new", &json!({ "type": "tab" }))?;
        self.ask("POST", "/window", &json!({ "handle": tab["handle"] }))?;
        self.open(url)
    }

    /// The address that the browser shows.
    ///
    /// # Errors
    /// The driver's.
    pub fn url(&self) -> Result<String> {
        Ok(self.ask("GET", "/url", &Value::Null)?.as_str().unwrap_or_default().to_owned())
    }

    /// What an expression of JavaScript gives.
    ///
    /// # Errors
    /// The driver's, and what the script throws.
    pub fn eval(&self, expression: &str) -> Result<Value> {
        let script = format!("return ({expression});");
        self.ask("POST", "/execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// Waits until an expression is true; says what it was about if it is not in time.
    ///
    /// # Errors
    /// If it is not true in time.
    pub fn wait(&self, what: &str, bound: Duration, expression: &str) -> Result<()> {
        let end = Instant::now() + bound;
        while self.eval(expression)? != Value::Bool(true) {
            if Instant::now() > end {
                bail!("not within {} s: {what}", bound.as_secs());
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    /// Moves the mouse, in pixels of the page that is seen: presses at the first point, goes along, lets go at the last.
    ///
    /// # Errors
    /// The driver's.
    pub fn drag(&self, points: &[(f64, f64)]) -> Result<()> {
        let mut actions = Vec::new();
        for (nth, (x, y)) in points.iter().enumerate() {
            actions.push(
                json!({ "type": "pointerMove", "duration": 60, "x": x.round(), "y": y.round() }),
            );
            if nth == 0 {
                actions.push(json!({ "type": "pointerDown", "button": 0 }));
            }
        }
        actions.push(json!({ "type": "pointerUp", "button": 0 }));
        self.actions(json!({ "type": "pointer", "id": "mouse", "actions": actions }))
    }

    /// Clicks at a point.
    ///
    /// # Errors
    /// The driver's.
    pub fn click_at(&self, x: f64, y: f64) -> Result<()> {
        self.drag(&[(x, y)])
    }

    /// Clicks in the middle of what a selector finds, once it is in sight.
    ///
    /// # Errors
    /// If there is no such element.
    pub fn click(&self, selector: &str) -> Result<()> {
        let selector = serde_json::to_string(selector)?;
        let place = self.eval(&format!(
            "(() => {{ const it = document.querySelector({selector}); if (!it) return null; \
             it.scrollIntoView({{ block: 'center' }}); const box = it.getBoundingClientRect(); \
             return [box.x + box.width / 2, box.y + box.height / 2]; }})()"
        ))?;
        let (Some(x), Some(y)) = (place[0].as_f64(), place[1].as_f64()) else {
            bail!("nothing is found by {selector}");
        };
        self.click_at(x, y)
    }

    /// Gives a file to an input that takes one.
    ///
    /// # Errors
    /// The driver's, and if there is no such input.
    pub fn choose_file(&self, selector: &str, file: &Path) -> Result<()> {
        let wanted = json!({ "using": "css selector", "value": selector });
        let found = self.ask("POST", "/element", &wanted)?;
        let element = found.as_object().and_then(|found| found.values().next()?.as_str());
        let path = format!("/element/{}/value", element.context("no element")?);
        self.ask("POST", &path, &json!({ "text": file.to_string_lossy() })).map(drop)
    }

    /// Presses and releases these keys one after the other; special ones are WebDriver's code points.
    ///
    /// # Errors
    /// The driver's.
    pub fn keys(&self, keys: &str) -> Result<()> {
        let press = |key: char| {
            let key = key.to_string();
            [json!({ "type": "keyDown", "value": key }), json!({ "type": "keyUp", "value": key })]
        };
        let actions: Vec<Value> = keys.chars().flat_map(press).collect();
        self.actions(json!({ "type": "key", "id": "keyboard", "actions": actions }))
    }

    fn actions(&self, source: Value) -> Result<()> {
        self.ask("POST", "/actions", &json!({ "actions": [source] })).map(drop)
    }

    /// A window of so many CSS pixels, as on a phone.
    ///
    /// # Errors
    /// The driver's.
    pub fn resize(&self, width: u32, height: u32) -> Result<()> {
        let metrics =
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": true });
        self.devtools("Emulation.setDeviceMetricsOverride", metrics)
    }

    /// What the visitor prefers.
    ///
    /// # Errors
    /// The driver's.
    pub fn prefer_dark(&self, dark: bool) -> Result<()> {
        let value = if dark { "dark" } else { "light" };
        let features = json!([{ "name": "prefers-color-scheme", "value": value }]);
        self.devtools("Emulation.setEmulatedMedia", json!({ "features": features }))
    }

    fn devtools(&self, command: &str, params: Value) -> Result<()> {
        let body = json!({ "cmd": command, "params": params });
        self.ask("POST", "/goog/cdp/execute", &body).map(drop)
    }

    /// Writes what is seen to a file, as PNG.
    ///
    /// # Errors
    /// The driver's, and the file's.
    pub fn screenshot(&self, path: &Path) -> Result<()> {
        let shot = self.ask("GET", "/screenshot", &Value::Null)?;
        let bytes = from_base64(shot.as_str().context("no picture")?)?;
        Ok(std::fs::write(path, bytes)?)
    }

    /// What the console has heard since the last time: warnings and errors.
    ///
    /// # Errors
    /// The driver's.
    pub fn console(&self) -> Result<Vec<String>> {
        let lines = self.ask("POST", "/se/log", &json!({ "type": "browser" }))?;
        let bad = |line: &&Value| matches!(line["level"].as_str(), Some("SEVERE" | "WARNING"));
        let text = |line: &Value| line["message"].as_str().unwrap_or_default().to_owned();
        Ok(lines.as_array().into_iter().flatten().filter(bad).map(text).collect())
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> Result<Value> {
        self.call(method, &format!("/session/{}{path}", self.session), body)
    }

    /// One question on a connection of its own.
    fn call(&self, method: &str, path: &str, body: &Value) -> Result<Value> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        let body = if body.is_null() { String::new() } else { body.to_string() };
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )?;
        let answer: Value = serde_json::from_slice(&read_body(stream)?)?;
        if let Some(error) = answer["value"]["error"].as_str() {
            bail!(
                "{method} {path}: {error}: {}",
                answer["value"]["message"].as_str().unwrap_or_default()
            );
        }
        Ok(answer["value"].clone())
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty() {
            let _ended = self.ask("DELETE", "", &Value::Null);
        }
        let _gone = self.driver.kill();
        let _reaped = self.driver.wait();
    }
}

/// The body of an answer, as long as its head says.
fn read_body(stream: TcpStream) -> Result<Vec<u8>> {
    let mut input = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        ensure!(input.read_line(&mut line)? > 0, "no answer");
        let Some((name, value)) = line.split_once(':') else {
            if line.trim().is_empty() {
                break;
            }
            continue;
        };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse()?;
        }
    }
    let mut body = vec![0; length];
    input.read_exact(&mut body)?;
    Ok(body)
}

fn from_base64(text: &str) -> Result<Vec<u8>> {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    let (mut word, mut bits) = (0_u32, 0);
    for letter in text.bytes().filter(|letter| *letter != b'=') {
        let six = LETTERS.iter().position(|known| *known == letter).context("not base64")?;
        word = word << 6 | u32::try_from(six)?;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from(word >> bits & 0xff)?);
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::from_base64;

    #[test]
    fn base64_is_read() {
        assert_eq!(from_base64("cXVvcmF0ZQ==").unwrap(), b"quorate");
        assert!(from_base64("q~").is_err());
    }
}
