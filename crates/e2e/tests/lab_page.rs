//! The lab's page in a real browser, driven as a person would.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};
use e2e::browser::Browser;
use serde_json::Value;

const SOON: Duration = Duration::from_secs(20);
const LATER: Duration = Duration::from_secs(120);

/// WebDriver's names of keys.
const TAB: &str = "\u{e004}";
const ENTER: &str = "\u{e007}";
const ESCAPE: &str = "\u{e00c}";
const RIGHT: &str = "\u{e014}";
const END: &str = "\u{e010}";
const HOME: &str = "\u{e011}";

/// `quorate lab`, on a port of its own.
struct Lab {
    process: Child,
    url: String,
}

impl Lab {
    fn open() -> Result<Lab> {
        let program = e2e::tools::subject()?.path;
        let mut process = Command::new(program)
            .args(["lab", "--listen", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        let stdout = process.stdout.take().context("its output")?;
        BufReader::new(stdout).read_line(&mut line)?;
        let url = line.split_whitespace().find(|word| word.starts_with("http"));
        let url = url.with_context(|| format!("no address in {line:?}"))?.to_owned();
        Ok(Lab { process, url })
    }

    fn visit(&self, browser: &Browser) -> Result<()> {
        browser.open(&self.url)?;
        ready(browser)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

fn ready(browser: &Browser) -> Result<()> {
    browser.wait("the page is ready", SOON, "document.body.dataset.ready === 'yes'")
}

fn number(browser: &Browser, expression: &str) -> Result<u64> {
    let value = browser.eval(expression)?;
    value.as_u64().with_context(|| format!("{expression}: {value}"))
}

fn text(browser: &Browser, selector: &str) -> Result<String> {
    let value = browser.eval(&format!("document.querySelector('{selector}').textContent"))?;
    Ok(value.as_str().unwrap_or_default().to_owned())
}

/// Nobody is warned of anything on the console.
fn quiet(browser: &Browser) -> Result<()> {
    assert_eq!(browser.console()?, Vec::<String>::new());
    Ok(())
}

const LEADER: &str = "lab.recording.at(lab.k).nodes.findIndex(n => n.view.role === 'leader')";

fn terms(browser: &Browser) -> Result<Vec<u64>> {
    let terms = browser.eval(
        "lab.recording.at(lab.k).nodes.map(n => Number(n.view.term.replace(/[^0-9]/g, '')))",
    )?;
    Ok(terms.as_array().into_iter().flatten().filter_map(Value::as_u64).collect())
}

/// Where a stroke goes that cuts all links of a process: across them, near it.
fn across(browser: &Browser, node: u64) -> Result<Vec<(f64, f64)>> {
    let points = browser
        .eval(&format!(
            "(() => {{ const s = lab.stage; s.board.scrollIntoView({{ block: 'center' }}); \
             const p = s.places[{node}], box = s.board.getBoundingClientRect(), c = {{ x: s.width / 2, y: s.height / 2 }}; \
             const m = {{ x: p.x + (c.x - p.x) * .35, y: p.y + (c.y - p.y) * .35 }}; \
             const d = {{ x: -(c.y - p.y), y: c.x - p.x }}, l = Math.hypot(d.x, d.y); \
             return [-1, 0, 1].map(f => [box.x + m.x + d.x / l * f * 150, box.y + m.y + d.y / l * f * 150]); }})()"
        ))
        ?;
    let point = |point: &Value| Some((point[0].as_f64()?, point[1].as_f64()?));
    Ok(points.as_array().into_iter().flatten().filter_map(point).collect())
}

/// Starts Raft, cuts the leader off with a stroke, sees the new term, heals, scrubs back, forks, and opens the link of
/// what has come of it in a new tab.
#[test]
#[cfg_attr(not(peers), ignore = "needs Chromium: QUORATE_PEERS=1")]
fn a_visitor_cuts_the_leader_off() -> Result<()> {
    let (lab, browser) = (Lab::open()?, Browser::start(1400, 1000)?);
    lab.visit(&browser)?;
    browser.eval("document.getElementById('speed').value = '10'")?;
    browser.click("#start")?;
    browser.wait("a leader", SOON, &format!("{LEADER} >= 0"))?;
    browser.click("#play")?;
    let leader = number(&browser, LEADER)?;
    let before = terms(&browser)?[usize::try_from(leader)?];
    browser.drag(&across(&browser, leader)?)?;
    browser.wait("the links are cut", SOON, "lab.recording.at(lab.k).cut.size === 4")?;
    let cut_at = number(&browser, "lab.k")?;
    browser.click("#play")?;
    let another = format!(
        "lab.recording.at(lab.k).nodes.some((n, i) => i !== {leader} && n.view.role === 'leader')"
    );
    browser.wait("another leader", LATER, &another)?;
    browser.click("#play")?;
    let after = terms(&browser)?.into_iter().max().unwrap_or(0);
    assert!(after > before, "a new term: {before}, then {after}");
    // Healed, the old leader follows the new one.
    browser.keys("h")?;
    browser.wait("no link is cut", SOON, "lab.recording.at(lab.k).cut.size === 0")?;
    browser.keys(" ")?;
    let together = "(terms => terms.every(t => t === terms[0]))(lab.recording.at(lab.k).nodes.map(n => n.view.term))";
    browser.wait("all are in one term", LATER, together)?;
    browser.keys(" ")?;
    assert!(
        browser.eval(
            "[...document.querySelectorAll('#rules li')].every(li => li.className === 'held')"
        )? == Value::Bool(true)
    );
    // Back to before the cut: there it still leads. From there another story begins.
    let digest = text(&browser, "#digest")?;
    browser
        .eval(&format!(
            "(t => {{ t.value = {}; t.dispatchEvent(new Event('input')); return true; }})(document.getElementById('time'))",
            cut_at - 6
        ))
        ?;
    assert_eq!(number(&browser, LEADER)?, leader);
    browser.keys("f")?;
    browser.wait(
        "a fork",
        SOON,
        &format!("document.getElementById('digest').textContent !== '{digest}'"),
    )?;
    let forked = text(&browser, "#digest")?;
    browser.wait("the link", SOON, "location.hash.includes('run=')")?;
    std::thread::sleep(Duration::from_millis(500));
    let url = browser.url()?;
    browser.open_in_new_tab(&url)?;
    ready(&browser)?;
    assert_eq!(text(&browser, "#digest")?, forked, "the link is the run");
    quiet(&browser)
}

/// The counterexample to commitment by counting is one click away, and figure 8 is a lesson.
#[test]
#[cfg_attr(not(peers), ignore = "needs Chromium: QUORATE_PEERS=1")]
fn a_visitor_finds_a_counterexample() -> Result<()> {
    let (lab, browser) = (Lab::open()?, Browser::start(1400, 1000)?);
    lab.visit(&browser)?;
    browser.eval("document.getElementById('speed').value = '1'")?;
    browser.click("input[name=commit-old-term]")?;
    let broken = "lab.setup.variants.includes('commit-old-term')";
    browser.wait("it is broken", SOON, broken)?;
    browser.click("#search")?;
    let found =
        "!document.getElementById('progress').open && !document.getElementById('lesson').hidden";
    browser.wait("a counterexample", LATER, found)?;
    assert!(text(&browser, "#lesson")?.contains("cut down to"), "{}", text(&browser, "#lesson")?);
    browser.wait("the story is told", LATER, "lab.playing === false")?;
    // Not the mistake over again, but what it does: a committed entry is lost.
    assert!(text(&browser, "#lesson")?.contains("leader-completeness"));
    assert!(!text(&browser, "#verdict")?.is_empty());
    assert!(number(&browser, "document.querySelectorAll('#rules li.broke').length")? >= 1);
    // The paper's own schedule, on the broken variant: what was committed is overwritten.
    browser.eval("[...document.querySelectorAll('#lessons button')].find(b => b.textContent.startsWith('figure-8')).click()")?;
    browser.wait("figure 8", SOON, "lab.run.setup.n === 5 && lab.recording.length > 50")?;
    browser.eval("lab.seek(1e9)")?;
    browser.wait("a rule is broken", SOON, "!document.getElementById('verdict').hidden")?;
    quiet(&browser)
}

#[test]
#[cfg_attr(not(peers), ignore = "needs Chromium: QUORATE_PEERS=1")]
fn the_keyboard_is_enough() -> Result<()> {
    let (lab, browser) = (Lab::open()?, Browser::start(1200, 900)?);
    lab.visit(&browser)?;
    // From the top to the button that starts, and there.
    for _ in 0..12 {
        if browser.eval("document.activeElement.id")? == "start" {
            break;
        }
        browser.keys(TAB)?;
    }
    assert_eq!(browser.eval("document.activeElement.id")?, "start");
    browser.keys(ENTER)?;
    browser.wait("it plays", SOON, "lab.playing")?;
    browser.eval("document.activeElement.blur()")?;
    browser.keys(" ")?;
    browser.keys(HOME)?;
    assert_eq!(number(&browser, "lab.k")?, 0);
    browser.keys(&RIGHT.repeat(20))?;
    assert_eq!(number(&browser, "lab.k")?, 20);
    browser.keys("1c")?;
    browser.wait("n1 is down", SOON, "lab.recording.at(lab.k).nodes[1].status === 'down'")?;
    browser.keys("c")?;
    browser.wait("n1 is up", SOON, "lab.recording.at(lab.k).nodes[1].status === 'up'")?;
    browser.keys("p")?;
    browser.wait("n1 stands", SOON, "lab.recording.at(lab.k).nodes[1].status === 'paused'")?;
    assert_eq!(browser.eval("lab.recording.at(lab.k).nodes[0].status")?, "up");
    browser.keys("px")?;
    browser.wait("n1 is cut off", SOON, "lab.recording.at(lab.k).cut.size === 4")?;
    browser.keys("h")?;
    browser.wait("healed", SOON, "lab.recording.at(lab.k).cut.size === 0")?;
    browser.keys("w")?;
    browser.wait("a client has asked", SOON, "lab.run.script.acts.some(act => act.what.client)")?;
    browser.keys(END)?;
    assert_eq!(number(&browser, "lab.k")?, number(&browser, "lab.recording.length")?);
    browser.keys("?")?;
    browser.wait("the keys are shown", SOON, "document.getElementById('keys').open")?;
    browser.keys(ESCAPE)?;
    browser.wait("and gone", SOON, "!document.getElementById('keys').open")?;
    // Whoever does not see the board hears what is on it.
    let named = "[...document.querySelectorAll('button, select, input')].every(e => e.getAttribute('aria-label') || e.textContent.trim() || e.labels?.length || e.options?.length)";
    assert_eq!(browser.eval(named)?, Value::Bool(true));
    quiet(&browser)
}

/// Every protocol opens with each of its lessons, in light and dark, wide and as narrow as a phone.
#[test]
#[cfg_attr(not(peers), ignore = "needs Chromium: QUORATE_PEERS=1")]
fn every_protocol_is_shown_everywhere() -> Result<()> {
    let (lab, browser) = (Lab::open()?, Browser::start(1400, 1000)?);
    lab.visit(&browser)?;
    let pictures = std::env::var_os("QUORATE_PICTURES").map(PathBuf::from);
    let names = browser.eval("lab.protocols.map(about => about.name)")?;
    let names: Vec<&str> =
        names.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    assert!(names.len() >= 9, "{names:?}");
    for (nth, name) in names.iter().enumerate() {
        browser
            .eval(&format!(
                "(s => {{ s.value = '{name}'; s.dispatchEvent(new Event('change')); return true; }})(document.getElementById('protocol'))"
            ))
            ?;
        browser.wait(name, SOON, &format!("lab.run?.protocol === '{name}'"))?;
        let lessons = number(&browser, "lab.about.lessons.length")?;
        for lesson in 0..lessons {
            browser
                .eval(&format!("document.querySelectorAll('#lessons button')[{lesson}].click()"))?;
            let shown = format!(
                "JSON.stringify(lab.run.script) === JSON.stringify(lab.about.runs[{lesson}].script)"
            );
            browser.wait(name, SOON, &shown)?;
            browser.eval("lab.seek(1e9)")?;
            assert!(number(&browser, "lab.k")? > 0);
            // A lesson has no more mistakes in it than it says.
            let same = format!(
                "JSON.stringify(lab.setup.variants) === JSON.stringify(lab.about.runs[{lesson}].setup.variants)"
            );
            assert_eq!(browser.eval(&same)?, Value::Bool(true), "{name}, lesson {lesson}");
        }
        assert!(text(&browser, "#essay")?.len() > 100, "{name} has an essay");
        browser.prefer_dark(nth % 2 == 1)?;
        browser.resize(390, 844)?;
        std::thread::sleep(Duration::from_millis(200));
        assert!(
            number(&browser, "document.documentElement.scrollWidth")? <= 390,
            "{name} on a phone"
        );
        if let Some(to) = &pictures {
            browser.screenshot(&to.join(format!("{name}-phone.png")))?;
        }
        browser.resize(1400, 1000)?;
        if let Some(to) = &pictures {
            browser.screenshot(&to.join(format!("{name}.png")))?;
        }
        quiet(&browser)?;
    }
    Ok(())
}

/// The story that is told to whoever comes without a question, from its first step to its last.
#[test]
#[cfg_attr(not(peers), ignore = "needs Chromium: QUORATE_PEERS=1")]
fn the_tour_is_walked() -> Result<()> {
    let (lab, browser) = (Lab::open()?, Browser::start(1400, 1000)?);
    lab.visit(&browser)?;
    let steps = number(&browser, "lab.tour.length")?;
    assert!(steps > 10, "{steps} steps");
    for step in 0..steps {
        browser.click("#tour-next")?;
        let there = format!("lab.step === {step} && lab.recording.length > 0");
        browser.wait("the next step", SOON, &there)?;
        let (title, shows) = (text(&browser, "#tour h2")?, format!("lab.tour[{step}].shows"));
        assert!(title.starts_with(&format!("{}. ", step + 1)), "{title}");
        match browser.eval(&shows)?.as_str() {
            Some("flp") => browser.wait(
                "the adversary",
                LATER,
                "document.getElementById('flp').textContent.includes('stages')",
            )?,
            Some("tax") => browser.wait(
                "the plot",
                SOON,
                "document.querySelector('#tax img')?.naturalWidth > 0",
            )?,
            _ => browser.wait(
                "its run",
                SOON,
                &format!("lab.run?.protocol === lab.tour[{step}].protocol"),
            )?,
        }
    }
    assert_eq!(browser.eval("document.getElementById('tour-next').disabled")?, Value::Bool(true));
    quiet(&browser)
}

/// A run of 100,000 events: any moment that is jumped to is the one that is reached step by step.
#[test]
#[cfg_attr(not(peers), ignore = "needs Chromium: QUORATE_PEERS=1")]
fn a_long_run_is_scrubbed() -> Result<()> {
    let (lab, browser) = (Lab::open()?, Browser::start(1200, 900)?);
    lab.visit(&browser)?;
    let long = "(() => { const run = JSON.parse(JSON.stringify(lab.run)); run.setup.n = 7; \
                run.script.end = { events: 100000, at_us: 600000000 }; \
                lab.load(run).then(() => { document.body.dataset.long = lab.recording.length; }); return true; })()";
    browser.eval(long)?;
    browser.wait("a long run", LATER, "document.body.dataset.long === '100000'")?;
    let same = "(() => { const r = lab.recording; const at = k => { const s = r.at(k); \
                return JSON.stringify([s.nodes, [...s.cut].sort(), [...s.flying].sort((a, b) => a - b)]); }; \
                const places = [1, 499, 500, 501, 33333, 77777, 99999, 100000]; r.at(0); \
                const stepped = places.map(k => { while (r.state.k < k) r.step(r.state, r.events[r.state.k]); return at(k); }); \
                return places.map((k, i) => [k, i]).reverse().every(([k, i]) => { r.state = null; return at(k) === stepped[i]; }); })()";
    assert_eq!(browser.eval(same)?, Value::Bool(true));
    quiet(&browser)
}
