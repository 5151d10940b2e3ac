//! The lab's page: `quorate lab` on a port of its own, and what tests and measurements ask a browser that shows it.

pub mod speed;

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::browser::Browser;

/// How long the page may take for what it does at once.
pub const SOON: Duration = Duration::from_secs(20);
/// How long it may take for what takes long.
pub const LATER: Duration = Duration::from_secs(120);

/// `quorate lab`. It ends when this is dropped.
#[derive(Debug)]
pub struct Lab {
    process: Child,
    url: String,
}

impl Lab {
    /// Starts it.
    ///
    /// # Errors
    /// If it does not start, or says no address.
    pub fn open() -> Result<Lab> {
        Lab::with(&[])
    }

    /// Starts it on a trace of the simulator.
    ///
    /// # Errors
    /// If it does not start, or says no address.
    pub fn open_on(trace: &Path) -> Result<Lab> {
        Lab::with(&["--trace".as_ref(), trace.as_os_str()])
    }

    fn with(args: &[&OsStr]) -> Result<Lab> {
        let program = crate::tools::subject()?.path;
        let process = Command::new(program)
            .args(["lab", "--listen", "127.0.0.1:0"])
            .args(args)
            .stdout(Stdio::piped())
            .spawn()?;
        let mut lab = Lab { process, url: String::new() };
        let mut line = String::new();
        let stdout = lab.process.stdout.take().context("its output")?;
        BufReader::new(stdout).read_line(&mut line)?;
        let url = line.split_whitespace().find(|word| word.starts_with("http"));
        url.with_context(|| format!("no address in {line:?}"))?.clone_into(&mut lab.url);
        Ok(lab)
    }

    /// Opens its page, and waits until that is ready.
    ///
    /// # Errors
    /// If it is not ready in time.
    pub fn visit(&self, browser: &Browser) -> Result<()> {
        browser.open(&self.url)?;
        ready(browser)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _may_be_gone = self.process.kill();
        let _reaped = self.process.wait();
    }
}

/// Waits until the page that is open is ready.
///
/// # Errors
/// If it is not ready in time.
pub fn ready(browser: &Browser) -> Result<()> {
    browser.wait("the page is ready", SOON, "document.body.dataset.ready === 'yes'")
}

/// Waits until the address has all that is shown.
///
/// # Errors
/// If it has not in time.
pub fn saved(browser: &Browser) -> Result<()> {
    browser.wait("the link is the run", SOON, "document.body.dataset.saved === 'yes'")
}

/// What an expression gives, as a number.
///
/// # Errors
/// The browser's, and if it is no number.
pub fn number(browser: &Browser, expression: &str) -> Result<u64> {
    let value = browser.eval(expression)?;
    value.as_u64().with_context(|| format!("{expression}: {value}"))
}

/// Loads a run of Raft with this many processes, undisturbed, that ends after so many events. Gives back how long that
/// took, in milliseconds.
///
/// # Errors
/// The browser's, and if it has not as many events.
pub fn load_long(browser: &Browser, processes: u64, events: u64) -> Result<f64> {
    let run = json!({
        "protocol": "raft",
        "setup": { "n": processes, "seed": 1, "variants": [], "knobs": {}, "watched": [] },
        "script": script((1_000, 2_000), events, 600_000_000),
    });
    let took = load(browser, &run)?;
    let there = number(browser, "lab.recording.length")?;
    ensure!(there == events, "{there} events instead of {events}");
    Ok(took)
}

/// Nobody does anything; messages take so long; the run ends after so many events, or at this time.
fn script(delay_us: (u64, u64), events: u64, at_us: u64) -> Value {
    let weather = json!({
        "delay_us_min": delay_us.0, "delay_us_max": delay_us.1, "slow_per_mille": 0, "drop_per_mille": 0,
        "duplicate_per_mille": 0, "in_order": false, "map": "room",
    });
    let end = json!({ "events": events, "at_us": at_us });
    json!({ "weather": weather, "acts": [], "end": end, "calm_from_us": null })
}

/// Has the server make a run, and shows it. Gives back how long that took, in milliseconds.
fn load(browser: &Browser, run: &Value) -> Result<f64> {
    let took = browser.eval(&format!(
        "(async () => {{ const began = performance.now(); await lab.load({run}, {{ push: 'replace' }}); \
         return performance.now() - began; }})()"
    ))?;
    took.as_f64().with_context(|| format!("the time to load: {took}"))
}

/// A jump to any of these moments gives the state that is reached step by step.
///
/// # Errors
/// The browser's.
pub fn jumps_are_steps(browser: &Browser, places: &[u64]) -> Result<bool> {
    let places = json!(places);
    let same = format!(
        "(() => {{ const r = lab.recording, places = {places}.sort((a, b) => a - b); \
         const told = () => JSON.stringify([r.state.k, r.state.nodes, [...r.state.cut].sort(), \
         [...r.state.flying].sort((a, b) => a - b)]); \
         r.load(0); \
         const stepped = places.map(k => {{ while (r.state.k < k) r.step(r.state, r.events[r.state.k]); return told(); }}); \
         const same = places.map((k, i) => [k, i]).reverse() \
         .every(([k, i]) => {{ r.state = null; r.at(k); return r.state.k === k && told() === stepped[i]; }}); \
         r.at(lab.k); return same; }})()"
    );
    Ok(browser.eval(&same)? == Value::Bool(true))
}
