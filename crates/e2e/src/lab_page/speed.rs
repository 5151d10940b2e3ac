//! How fast the lab's page is, in a browser.
//!
//! Two runs, both made by the server as any visitor's are. The first is seven nodes that gossip over slow links, so
//! that hundreds of messages are on their way all the time; it is played, and every frame is noted: when it came, how
//! long the page worked for it, how long it drew, and how many messages it drew. The second is a long run of Raft.
//! From moment to moment, drawn from a seed, the timeline is set as a hand would set it; a jump is over when the
//! first frame after it has been painted. Every moment that is jumped to must be the one that is reached step by step.
//!
//! Caveats: a headless browser has no display and mostly no graphics card, so its frames come from a timer, and are
//! painted by the processor. It tells time in steps of 0.1 ms. On a machine that is busy with other things frames
//! wait for the processor, too: the load is told with the figures.

use std::fmt::Write as _;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::{Lab, jumps_are_steps, load, load_long, script};
use crate::browser::Browser;

/// Processes in both runs.
const PROCESSES: u64 = 7;
/// Messages that must be on their way in every frame, in the median.
pub const MESSAGES_MIN: f64 = 500.0;
/// Frames in a second, in the median of the seconds.
pub const FRAMES_MIN: f64 = 55.0;
/// The 99th percentile of the jumps, to after the next painted frame.
pub const JUMP_MS_MAX: f64 = 100.0;
/// What one question to the browser may take.
const SECONDS_MAX: u32 = 25;
/// How long the gossiping nodes' messages are on their way: so many of them are then at any time.
const DELAY_US: (u64, u64) = (200_000, 400_000);
/// Before this the links fill.
const FILLED_US: u64 = 1_000_000;
/// Between the end of the window and the end of the run that is played.
const SPARE_US: u64 = 500_000;
/// Events of that run at most.
const PLAYED_EVENTS_MAX: u64 = 90_000;
/// Jumps in one question to the browser.
const JUMPS_AT_ONCE: usize = 50;

/// What to measure.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How long frames are watched, in seconds.
    pub seconds: u32,
    /// How much slower than the processes see it the run is played; one of the page's own speeds.
    pub slower: u32,
    /// Events of the long run.
    pub events: u64,
    /// Jumps on its timeline.
    pub jumps: usize,
    /// What the moments are drawn from.
    pub seed: u64,
}

impl Default for Plan {
    fn default() -> Self {
        Self { seconds: 10, slower: 10, events: 100_000, jumps: 300, seed: 1 }
    }
}

/// Median, 99th percentile, most and least of some figures.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// The median.
    pub median: f64,
    /// The 99th percentile, by the nearest rank.
    pub p99: f64,
    /// The most.
    pub most: f64,
    /// The least.
    pub least: f64,
}

impl Spread {
    /// Of at least one figure.
    ///
    /// # Errors
    /// If there is none.
    pub fn of(mut figures: Vec<f64>) -> Result<Self> {
        ensure!(!figures.is_empty(), "there is nothing to take the median of");
        figures.sort_by(f64::total_cmp);
        let at = |percent: usize| figures[(figures.len() * percent).div_ceil(100).max(1) - 1];
        Ok(Self { median: at(50), p99: at(99), most: at(100), least: at(0) })
    }
}

/// What was measured.
#[derive(Debug, Clone)]
pub struct Figures {
    /// Frames that were watched.
    pub frames: usize,
    /// Frames in a second.
    pub per_second: Spread,
    /// Between two frames, in ms.
    pub between_ms: Spread,
    /// The page's own work for a frame: time, state, board, panels; in ms.
    pub frame_ms: Spread,
    /// Of that the board, in ms.
    pub draw_ms: Spread,
    /// The same in the mean, which the browser's coarse clock does not blur.
    pub draw_ms_mean: f64,
    /// Messages on the board.
    pub messages: Spread,
    /// Events of the long run.
    pub events: u64,
    /// To make it, load it and read it, in ms.
    pub load_ms: f64,
    /// From the timeline's change to after the next painted frame, in ms.
    pub jump_ms: Spread,
    /// Of that the page's own work, in ms.
    pub jump_script_ms: Spread,
    /// Jumps that were made.
    pub jumps: usize,
}

impl Figures {
    /// Whether the page is fast enough.
    ///
    /// # Errors
    /// Says in what it is not.
    pub fn judge(&self, frames_min: f64, jump_ms_max: f64) -> Result<()> {
        let (frames, messages, jump) =
            (self.per_second.median, self.messages.median, self.jump_ms.p99);
        ensure!(messages >= MESSAGES_MIN, "{messages} messages were on their way: too few to tell");
        ensure!(
            frames >= frames_min,
            "{frames} frames in a second, in the median: {frames_min} are asked for"
        );
        ensure!(jump <= jump_ms_max, "p99 of the jumps is {jump:.1} ms: {jump_ms_max} are allowed");
        Ok(())
    }

    /// The figures as a table.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = format!(
            "{PROCESSES} processes, {} frames\n{:>34} {:>8} {:>8} {:>8} {:>8}\n",
            self.frames, "", "median", "p99", "most", "least"
        );
        let mut row = |what: &str, of: Spread| {
            let Spread { median, p99, most, least } = of;
            let _never_fails =
                writeln!(text, "{what:>34} {median:>8.1} {p99:>8.1} {most:>8.1} {least:>8.1}");
        };
        row("messages on their way", self.messages);
        row("frames in a second", self.per_second);
        row("between two frames, ms", self.between_ms);
        row("work of the page for a frame, ms", self.frame_ms);
        row("of that the board, ms", self.draw_ms);
        row(&format!("jump among {} events, ms", self.events), self.jump_ms);
        row("of that work of the page, ms", self.jump_script_ms);
        let _never_fails = writeln!(
            text,
            "the board in the mean: {:.2} ms a frame; {} events made and loaded in {:.2} s; all {} jumps where steps lead",
            self.draw_ms_mean,
            self.events,
            self.load_ms / 1e3,
            self.jumps
        );
        text
    }

    /// The figures as data.
    #[must_use]
    pub fn json(&self) -> Value {
        // The browser's clock has noise far below what it tells.
        let short = |figure: f64| (figure * 1e3).round() / 1e3;
        let spread = |of: Spread| json!({ "median": short(of.median), "p99": short(of.p99), "max": short(of.most), "min": short(of.least) });
        json!({
            "processes": PROCESSES,
            "frames": self.frames,
            "frames_per_second": spread(self.per_second),
            "between_frames_ms": spread(self.between_ms),
            "frame_script_ms": spread(self.frame_ms),
            "draw_ms": spread(self.draw_ms),
            "draw_ms_mean": short(self.draw_ms_mean),
            "messages": spread(self.messages),
            "events": self.events,
            "load_ms": short(self.load_ms),
            "jumps": self.jumps,
            "jump_ms": spread(self.jump_ms),
            "jump_script_ms": spread(self.jump_script_ms),
        })
    }
}

/// Measures, in a browser of its own.
///
/// # Errors
/// The browser's; if a jump leads elsewhere than steps do; if the page has warned of something.
pub fn measure(plan: &Plan) -> Result<Figures> {
    ensure!((1..=SECONDS_MAX).contains(&plan.seconds), "from 1 to {SECONDS_MAX} seconds");
    ensure!(plan.jumps > 0 && plan.events > 0, "no jump, or nowhere to jump");
    let (lab, browser) = (Lab::open()?, Browser::start(1400, 1000)?);
    lab.visit(&browser)?;
    let frames = play(&browser, plan)?;
    let load_ms = load_long(&browser, PROCESSES, plan.events)?;
    let places = places(plan);
    ensure!(jumps_are_steps(&browser, &places)?, "a jump leads elsewhere than steps do");
    let mut jumps = Vec::new();
    for some in places.chunks(JUMPS_AT_ONCE) {
        jumps.extend(rows(&browser.eval(&jump(some))?)?);
    }
    let heard = browser.console()?;
    ensure!(heard.is_empty(), "the page has warned: {heard:?}");
    let [between, frame, draw, messages] = columns(&frames);
    let [jump, jump_script] = columns(&jumps);
    Ok(Figures {
        frames: frames.len(),
        per_second: Spread::of(per_second(&between, plan.seconds))?,
        between_ms: Spread::of(between)?,
        frame_ms: Spread::of(frame)?,
        draw_ms_mean: mean(&draw),
        draw_ms: Spread::of(draw)?,
        messages: Spread::of(messages)?,
        events: plan.events,
        load_ms,
        jump_ms: Spread::of(jump)?,
        jump_script_ms: Spread::of(jump_script)?,
        jumps: jumps.len(),
    })
}

/// Plays a run with many messages on their way. Of each frame: ms since the one before, ms of the page's work, ms of
/// the board, messages on it.
fn play(browser: &Browser, plan: &Plan) -> Result<Vec<[f64; 4]>> {
    let (seconds, slower) = (plan.seconds, plan.slower);
    ensure!(slower > 0, "a run cannot be played without end");
    let end_us = FILLED_US + u64::from(seconds) * 1_000_000 / u64::from(slower) + SPARE_US;
    let run = json!({
        "protocol": "gossip",
        "setup": { "n": PROCESSES, "seed": 1, "variants": [], "knobs": {}, "watched": [] },
        "script": script(DELAY_US, PLAYED_EVENTS_MAX, end_us),
    });
    load(browser, &run)?;
    let speed = format!(
        "(s => {{ s.value = '{slower}'; return s.value === '{slower}'; }})(document.getElementById('speed'))"
    );
    ensure!(browser.eval(&speed)? == Value::Bool(true), "the page has no speed 1 : {slower}");
    let frames: Vec<[f64; 4]> = rows(&browser.eval(&format!(
        "(async () => {{ \
         const stage = lab.stage, draw = stage.draw, play = document.getElementById('play'); \
         let drawMs = 0; \
         stage.draw = (...of) => {{ const began = performance.now(); draw.apply(stage, of); drawMs = performance.now() - began; }}; \
         lab.seek(lab.recording.countAt({FILLED_US})); play.click(); \
         const rows = []; let began, before; \
         await new Promise(done => {{ const look = () => {{ \
         const now = performance.now(), state = lab.recording.at(lab.k); \
         const flying = [...state.flying].filter(id => lab.recording.messages[id].from !== lab.recording.messages[id].to); \
         if (before === undefined) began = now; else rows.push([now - before, lab.frameMs, drawMs, flying.length]); \
         before = now; \
         if (lab.playing && now - began < {seconds} * 1000) requestAnimationFrame(look); else done(); }}; \
         requestAnimationFrame(look); }}); \
         delete stage.draw; if (lab.playing) play.click(); \
         return rows; }})()"
    ))?)?;
    let watched_ms: f64 = frames.iter().map(|frame| frame[0]).sum();
    ensure!(watched_ms >= f64::from(seconds) * 1e3, "the run was over after {watched_ms} ms");
    Ok(frames)
}

/// Sets the timeline to one moment after the other. Of each: ms to after the next painted frame, ms of the page's work.
fn jump(places: &[u64]) -> String {
    let places = json!(places);
    // A message that is posted in a frame arrives when the frame has been painted.
    format!(
        "(async () => {{ const time = document.getElementById('time'), channel = new MessageChannel(); \
         const painted = () => new Promise(done => requestAnimationFrame(() => {{ \
         channel.port1.onmessage = done; channel.port2.postMessage(0); }})); \
         const rows = []; \
         for (const k of {places}) {{ \
         await painted(); \
         const began = performance.now(); \
         time.value = k; time.dispatchEvent(new Event('input')); \
         const set = performance.now() - began; \
         await painted(); \
         rows.push([performance.now() - began, set + lab.frameMs]); \
         if (lab.k !== k || lab.recording.state.k !== k) throw new Error(`at ${{lab.k}} instead of ${{k}}`); }} \
         return rows; }})()"
    )
}

/// Moments of the long run, drawn from the seed (Knuth's linear congruential generator).
fn places(plan: &Plan) -> Vec<u64> {
    let mut state = plan.seed;
    let draw = |_| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % (plan.events + 1)
    };
    (0..plan.jumps).map(draw).collect()
}

/// How many frames came in each whole second.
fn per_second(between_ms: &[f64], seconds: u32) -> Vec<f64> {
    let mut counts = vec![0.0; seconds as usize];
    let (mut at_ms, mut second) = (0.0, 0_usize);
    for between in between_ms {
        at_ms += between;
        while at_ms >= f64::from(u32::try_from(second).unwrap_or(u32::MAX)) * 1e3 + 1e3 {
            second += 1;
        }
        if let Some(count) = counts.get_mut(second) {
            *count += 1.0;
        }
    }
    counts
}

fn rows<const N: usize>(answer: &Value) -> Result<Vec<[f64; N]>> {
    let row = |row: &Value| {
        let figures: Option<Vec<f64>> = row.as_array()?.iter().map(Value::as_f64).collect();
        <[f64; N]>::try_from(figures?).ok()
    };
    let rows: Option<Vec<_>> = answer.as_array().and_then(|all| all.iter().map(row).collect());
    rows.with_context(|| format!("not rows of {N} figures: {answer}"))
}

fn columns<const N: usize>(rows: &[[f64; N]]) -> [Vec<f64>; N] {
    std::array::from_fn(|nth| rows.iter().map(|row| row[nth]).collect())
}

#[expect(clippy::cast_precision_loss, reason = "a count of frames")]
fn mean(figures: &[f64]) -> f64 {
    figures.iter().sum::<f64>() / figures.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_of_the_nearest_rank() {
        let spread = Spread::of((1..=200).rev().map(f64::from).collect()).unwrap();
        assert_eq!(spread, Spread { median: 100.0, p99: 198.0, most: 200.0, least: 1.0 });
        assert!(Spread::of(Vec::new()).is_err());
    }

    #[test]
    fn frames_are_counted_by_the_second() {
        // Ten in the first second; then one that took half a second; the third second was not over.
        let mut between = vec![99.0; 10];
        between.extend([500.0, 600.0, 50.0]);
        assert_eq!(per_second(&between, 2), [10.0, 1.0]);
    }

    #[test]
    fn what_is_too_slow_is_named() {
        let spread = |median, p99| Spread { median, p99, most: p99, least: 0.0 };
        let figures = |messages, frames, jump| Figures {
            frames: 1,
            per_second: spread(frames, frames),
            between_ms: spread(16.7, 17.0),
            frame_ms: spread(1.0, 2.0),
            draw_ms: spread(0.4, 1.0),
            draw_ms_mean: 0.4,
            messages: spread(messages, messages),
            events: 100,
            load_ms: 1.0,
            jump_ms: spread(16.0, jump),
            jump_script_ms: spread(1.0, 2.0),
            jumps: 1,
        };
        let judged = |of: Figures| of.judge(FRAMES_MIN, JUMP_MS_MAX).map_err(|e| e.to_string());
        assert_eq!(judged(figures(600.0, 60.0, 40.0)), Ok(()));
        assert!(judged(figures(499.0, 60.0, 40.0)).unwrap_err().contains("messages"));
        assert!(judged(figures(600.0, 54.0, 40.0)).unwrap_err().contains("frames in a second"));
        assert!(judged(figures(600.0, 60.0, 101.0)).unwrap_err().contains("p99 of the jumps"));
    }
}
