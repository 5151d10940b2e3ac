//! A trace of a whole cluster, as the simulator writes it, on the lab's page in a real browser.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use e2e::browser::Browser;
use e2e::lab_page::{Lab, SOON, jumps_are_steps, number, ready, saved};
use e2e::tools;
use serde_json::Value;

/// WebDriver's names of keys.
const ENTER: &str = "\u{e007}";
const RIGHT: &str = "\u{e014}";
const END: &str = "\u{e010}";
const HOME: &str = "\u{e011}";

/// A trace in a file, and what is in it.
struct Trace {
    path: PathBuf,
    file: Value,
}

impl Trace {
    /// Has the simulator write one.
    fn write(directory: &Path, args: &[&str]) -> Result<Trace> {
        let path = directory.join(format!("{}.json", args.join("-").replace(':', "")));
        let mut command = Command::new(tools::simulator()?);
        let ran = command.arg("trace").args(args).arg("--out").arg(&path).output()?;
        let said = String::from_utf8_lossy(&ran.stderr);
        ensure!(path.is_file(), "{said}: was it built with --features mutants?");
        let file = serde_json::from_slice(&std::fs::read(&path)?)?;
        Ok(Trace { path, file })
    }

    fn events(&self) -> &[Value] {
        self.file["events"].as_array().map_or(&[], Vec::as_slice)
    }

    /// How many events there are up to the first of which this is true, that one included.
    fn after(&self, what: &str, is: impl Fn(&Value) -> bool) -> Result<usize> {
        let place = self.events().iter().position(is);
        Ok(place.with_context(|| format!("nowhere {what}"))? + 1)
    }

    fn shown(&self) -> String {
        format!("lab.recording?.outcome.digest === {}", self.file["hash"])
    }
}

/// The first of these seeds in which that happens.
fn find(directory: &Path, is: impl Fn(&Value) -> bool) -> Result<(Trace, usize)> {
    for seed in 1..=30 {
        let trace = Trace::write(directory, &[&seed.to_string()])?;
        if let Ok(k) = trace.after("", &is) {
            return Ok((trace, k));
        }
    }
    anyhow::bail!("in no seed")
}

/// The first of these seeds in which that mistake breaks that rule.
fn broken(directory: &Path, mutant: &str, rule: &str) -> Result<Trace> {
    for seed in 1..=30 {
        let trace = Trace::write(directory, &[&seed.to_string(), "--mutant", mutant])?;
        if trace.file["broken"]["rule"] == rule {
            return Ok(trace);
        }
    }
    anyhow::bail!("in no seed")
}

fn seek(browser: &Browser, k: usize) -> Result<()> {
    browser.eval(&format!(
        "(t => {{ t.value = {k}; t.dispatchEvent(new Event('input')); return true; }})(document.getElementById('time'))"
    ))?;
    browser.wait("it is shown", SOON, &format!("lab.shownK === {k} && !lab.stage.dirty"))
}

/// What the button of a member says to whoever does not see it.
fn label(browser: &Browser, member: &Value) -> Result<String> {
    let member = member.as_str().unwrap_or_default();
    let found = browser.eval(&format!(
        "[...document.querySelectorAll('#nodes button')].find(b => b.getAttribute('aria-label').split(',')[0] === '{member}').getAttribute('aria-label')"
    ))?;
    Ok(found.as_str().unwrap_or_default().to_owned())
}

fn text(browser: &Browser, id: &str) -> Result<String> {
    let found = browser.eval(&format!("document.getElementById('{id}').innerText"))?;
    Ok(found.as_str().unwrap_or_default().to_owned())
}

fn quiet(browser: &Browser) -> Result<()> {
    assert_eq!(browser.console()?, Vec::<String>::new());
    Ok(())
}

fn picture(browser: &Browser, name: &str) -> Result<()> {
    match std::env::var_os("QUORATE_PICTURES") {
        Some(directory) => browser.screenshot(&PathBuf::from(directory).join(name)),
        None => Ok(()),
    }
}

/// A run in which a rule breaks is opened by its file, by the keyboard: a leader and its term are seen when the trace
/// says so, and the rule is red from the moment on in which it broke.
#[test]
#[cfg_attr(not(peers), ignore = "needs Chromium: QUORATE_PEERS=1")]
fn a_trace_with_a_broken_rule_is_seen() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let rule = "one leader a term";
    let trace = broken(directory.path(), "raft::TermTakenInPassing", rule)?;
    let (lab, browser) = (Lab::open()?, Browser::start(1400, 1000)?);
    lab.visit(&browser)?;
    browser.choose_file("#trace-file", &trace.path)?;
    browser.wait("the trace", SOON, &trace.shown())?;
    assert!(text(&browser, "trace-text")?.contains("raft::TermTakenInPassing"));
    assert!(text(&browser, "trace")?.starts_with("A recording"));
    assert_eq!(number(&browser, "lab.recording.length")?, trace.events().len() as u64);
    let hidden = "['#fork', '#acts', '#break', '#tour'].every(it => document.querySelector(it).offsetParent === null)";
    assert_eq!(browser.eval(hidden)?, Value::Bool(true), "nothing can be done to a recording");
    // Step by step from the beginning.
    browser.eval("document.activeElement.blur()")?;
    browser.keys(HOME)?;
    browser.keys(&RIGHT.repeat(3))?;
    assert_eq!(number(&browser, "lab.k")?, 3);
    // The first leader, in its term, at the moment of which the trace says so; one event before it does not lead.
    let leads = |event: &Value| event["kind"] == "stands" && event["role"] == "leader";
    let k = trace.after("a leader", leads)?;
    let (member, term) = (&trace.events()[k - 1]["member"], &trace.events()[k - 1]["term"]);
    seek(&browser, k)?;
    let now = label(&browser, member)?;
    assert!(now.contains("leader") && now.contains(&format!("term {term}")), "{now}");
    assert_eq!(number(&browser, "document.querySelectorAll('#nodes .lead').length")?, 1);
    seek(&browser, k - 1)?;
    assert!(!label(&browser, member)?.contains("leader"));
    // A message is seen to go, from when it was sent.
    let sent = trace.after("a vote", |event| {
        event["kind"] == "message"
            && event["says"].as_str().is_some_and(|says| says.starts_with("Vote "))
    })?;
    seek(&browser, sent)?;
    let flies = "[...lab.recording.at(lab.k).flying].some(id => lab.recording.messages[id].kind === 'Vote')";
    assert_eq!(browser.eval(flies)?, Value::Bool(true));
    // The rule is red with its moment, and not before.
    let red = |browser: &Browser| {
        browser.eval("[document.querySelector('#rules [data-rule]').className, document.getElementById('verdict').hidden]")
    };
    browser.click("#trace-broke")?;
    browser.wait(
        "where it broke",
        SOON,
        "lab.k === lab.shownK && !document.getElementById('verdict').hidden",
    )?;
    assert_eq!(red(&browser)?, serde_json::json!(["broke", false]));
    assert!(text(&browser, "verdict")?.starts_with(rule));
    assert_eq!(number(&browser, "document.querySelectorAll('#nodes .lead').length")?, 2);
    picture(&browser, "trace-broken.png")?;
    let k = number(&browser, "lab.k")?;
    seek(&browser, usize::try_from(k)? - 1)?;
    assert_eq!(red(&browser)?, serde_json::json!(["held", true]));
    // A line of the story is a way to its moment.
    browser.eval("document.querySelector('#story li:first-child button').click()")?;
    browser.wait(
        "its moment",
        SOON,
        "lab.k === Number(document.querySelector('#story .now button').name) + 1",
    )?;
    // Without what clients ask there is less to read.
    let clients = "[...document.querySelectorAll('#story button')].some(line => / c[0-9a-f]+ (asks|hears)/.test(line.textContent))";
    browser.eval("lab.seek(1e9)")?;
    browser.wait("clients", SOON, clients)?;
    browser.click("#story-members")?;
    browser.wait(
        "no clients",
        SOON,
        &format!("!{clients} && document.querySelectorAll('#story li').length > 2"),
    )?;
    // Nothing that is pressed changes it; closed, there is a run of one's own.
    let before = number(&browser, "lab.k")?;
    browser.eval("document.activeElement.blur()")?;
    browser.keys("1cxpfhw")?;
    assert_eq!(number(&browser, "lab.k")?, before);
    assert!(text(&browser, "hint")?.starts_with("This is a recording"));
    browser.eval("document.getElementById('trace-close').focus()")?;
    browser.keys(ENTER)?;
    browser.wait("a run", SOON, "lab.run?.protocol === 'raft' && !document.body.dataset.shows")?;
    quiet(&browser)
}

/// `quorate lab --trace`: the address has the trace and the moment, a member that is down is marked, and links that are
/// cut; at the end it is said to be clean.
#[test]
#[cfg_attr(not(peers), ignore = "needs Chromium: QUORATE_PEERS=1")]
fn the_lab_is_opened_on_a_trace() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let is = |kind: &'static str, status: &'static str| {
        move |event: &Value| {
            event["kind"] == kind && (status.is_empty() || event["status"] == status)
        }
    };
    let (trace, down) = find(directory.path(), is("status", "down"))?;
    let (lab, browser) = (Lab::open_on(&trace.path)?, Browser::start(1400, 1000)?);
    lab.visit(&browser)?;
    assert_eq!(browser.eval(&trace.shown())?, Value::Bool(true));
    seek(&browser, down)?;
    let member = &trace.events()[down - 1]["member"];
    assert!(label(&browser, member)?.contains("down"));
    assert_eq!(number(&browser, "document.querySelectorAll('#nodes .down').length")?, 1);
    saved(&browser)?;
    assert!(
        browser
            .url()?
            .contains(&format!("#trace={}&k={down}", trace.file["hash"].as_str().unwrap_or("")))
    );
    browser.reload()?;
    ready(&browser)?;
    assert_eq!(browser.eval(&trace.shown())?, Value::Bool(true));
    assert_eq!(number(&browser, "lab.k")?, down as u64);
    browser.keys(END)?;
    browser.wait("the end", SOON, "lab.shownK === lab.recording.length")?;
    assert!(text(&browser, "trace-end")?.starts_with("Clean"));
    assert!(
        text(&browser, "rules")?.contains("clean")
            && browser.eval("document.getElementById('verdict').hidden")? == Value::Bool(true)
    );
    let places: Vec<u64> = [1, 10, 499, 500, 501, 999, 1000]
        .into_iter()
        .filter(|k| *k < trace.events().len() as u64)
        .collect();
    assert!(jumps_are_steps(&browser, &places)?);
    // Another trace, dropped on the page: links that are cut.
    let (other, cut) =
        find(directory.path(), |event| event["cut"].as_array().is_some_and(|cut| !cut.is_empty()))?;
    let file = serde_json::to_string(&other.file)?;
    browser.eval(&format!(
        "(data => {{ data.items.add(new File([JSON.stringify({file})], 'dropped.json')); \
         return document.body.dispatchEvent(new DragEvent('drop', {{ dataTransfer: data, bubbles: true, cancelable: true }})); }})(new DataTransfer())"
    ))?;
    browser.wait("the other", SOON, &other.shown())?;
    seek(&browser, cut)?;
    let links = other.events()[cut - 1]["cut"].as_array().map_or(0, Vec::len);
    assert_eq!(number(&browser, "lab.recording.at(lab.k).cut.size")?, links as u64);
    // As on a phone, in light and dark: nothing is wider than the window.
    for (width, height, dark) in
        [(1400, 1000, false), (1400, 1000, true), (390, 844, false), (390, 844, true)]
    {
        browser.resize(width, height)?;
        browser.prefer_dark(dark)?;
        browser.wait(
            "drawn",
            SOON,
            "lab.stage.width === lab.stage.board.clientWidth && !lab.stage.dirty",
        )?;
        assert_eq!(number(&browser, "document.documentElement.scrollWidth")?, u64::from(width));
        picture(&browser, &format!("trace-{width}-{}.png", if dark { "dark" } else { "light" }))?;
    }
    quiet(&browser)
}

/// Whatever is given instead of a trace is refused in words, and what was shown goes on.
#[test]
#[cfg_attr(not(peers), ignore = "needs Chromium: QUORATE_PEERS=1")]
fn what_is_no_trace_is_refused() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let trace = Trace::write(directory.path(), &["3"])?;
    let (lab, browser) = (Lab::open()?, Browser::start(1400, 1000)?);
    lab.visit(&browser)?;
    let mut other = trace.file.clone();
    other["format"] = 1.into();
    let cases = [
        ("text", "no JSON", "it is not JSON"),
        ("plan", "{\"seed\": 1}", "no trace"),
        ("old", &other.to_string(), "format 1"),
        ("cut", &trace.file.to_string()[..1000], "it is not JSON"),
    ];
    for (name, contents, why) in cases {
        let path = directory.path().join(name);
        std::fs::write(&path, contents)?;
        browser.choose_file("#trace-file", &path)?;
        let told = format!(
            "document.getElementById('fault').innerText.startsWith('{name} cannot be shown')"
        );
        browser.wait(name, SOON, &told)?;
        let told = text(&browser, "fault")?;
        assert!(told.contains(why) && told.contains("quorate-sim trace SEED"), "{told}");
        assert_eq!(browser.eval("lab.run?.protocol")?, "raft");
    }
    let size = "import('/trace.js').then(t => { try { t.checkSize('x', t.TRACE_BYTES_MAX + 1); } catch (e) { return e.message; } })";
    assert!(browser.eval(size)?.as_str().is_some_and(|why| why.contains("64")));
    // Whatever is wrong with a file, it is shown or refused; nothing else is thrown.
    let odd = format!(
        "import('/trace.js').then(({{ parse, record }}) => {{ \
           const whole = JSON.stringify({}); let seed = 1; \
           const draw = below => (seed = (seed * 48271) % 2147483647) % below; \
           const values = [null, -1, 1e300, 'n1', 'nzz', {{}}, [], [['n1']], true, '__proto__', 2 ** 40]; \
           const counts = {{ shown: 0, refused: 0 }}; \
           for (let round = 0; round < 300; round += 1) {{ \
             const trace = JSON.parse(whole); \
             const at = draw(5) ? trace.events[draw(trace.events.length)] : trace; \
             const keys = Object.keys(at), key = keys[draw(keys.length)]; \
             if (draw(4)) at[key] = values[draw(values.length)]; else delete at[key]; \
             try {{ const made = record('t', parse('t', JSON.stringify(trace))); made.at(made.length); counts.shown += 1; }} \
             catch (error) {{ if (!/^t cannot be shown: /.test(error.message)) return String(error.stack); counts.refused += 1; }} \
           }} return counts; }})",
        trace.file
    );
    let counts = browser.eval(&odd)?;
    assert!(
        counts["refused"].as_u64() > Some(50) && counts["shown"].as_u64() > Some(5),
        "{counts}"
    );
    // An address of a trace that is not there says what to do.
    let url = browser.url()?.split('#').next().unwrap_or_default().to_owned();
    browser.open_in_new_tab(&format!(
        "{url}#trace={}&k=5",
        trace.file["hash"].as_str().unwrap_or("")
    ))?;
    ready(&browser)?;
    assert!(
        text(&browser, "fault")?.contains("quorate lab --trace"),
        "{}",
        text(&browser, "fault")?
    );
    browser.choose_file("#trace-file", &trace.path)?;
    browser.wait("it is opened", SOON, &trace.shown())?;
    assert_eq!(number(&browser, "lab.k")?, 5, "at the moment of the address");
    quiet(&browser)
}

/// A file that is no trace is refused before anything is served.
#[test]
#[cfg_attr(not(peers), ignore = "needs the binary: QUORATE_PEERS=1")]
fn the_command_line_refuses_what_is_no_trace() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("plan.json");
    std::fs::write(&path, "{\"seed\": 1}")?;
    let mut command = Command::new(tools::subject()?.path);
    let ran = command.args(["lab", "--listen", "127.0.0.1:0", "--trace"]).arg(&path).output()?;
    let why = String::from_utf8_lossy(&ran.stderr);
    assert!(!ran.status.success() && why.contains("quorate-sim trace SEED"), "{why}");
    Ok(())
}
