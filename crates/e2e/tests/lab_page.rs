//! The lab's page in a real browser, driven as a person would.

use std::path::PathBuf;

use anyhow::Result;
use e2e::browser::Browser;
use e2e::lab_page::speed::{MESSAGES_MIN, Plan, measure};
use e2e::lab_page::{LATER, Lab, SOON, jumps_are_steps, load_long, number, ready, saved};
use serde_json::Value;

/// WebDriver's names of keys.
const TAB: &str = "\u{e004}";
const ENTER: &str = "\u{e007}";
const ESCAPE: &str = "\u{e00c}";
const RIGHT: &str = "\u{e014}";
const UP: &str = "\u{e013}";
const END: &str = "\u{e010}";
const HOME: &str = "\u{e011}";

fn text(browser: &Browser, selector: &str) -> Result<String> {
    let value = browser.eval(&format!("document.querySelector('{selector}').textContent"))?;
    Ok(value.as_str().unwrap_or_default().to_owned())
}

/// The board has been drawn for a window of this width.
fn drawn(browser: &Browser, width: u32) -> Result<()> {
    let drawn = format!(
        "innerWidth === {width} && lab.stage.width === lab.stage.board.clientWidth && \
         lab.stage.height === lab.stage.board.clientHeight && !lab.stage.dirty"
    );
    browser.wait("the board is drawn", SOON, &drawn)
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
            "[...document.querySelectorAll('#rules [data-rule]')].every(li => li.className === 'held')"
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
    saved(&browser)?;
    let url = browser.url()?;
    browser.open_in_new_tab(&url)?;
    ready(&browser)?;
    assert_eq!(text(&browser, "#digest")?, forked, "the link is the run");
    quiet(&browser)
}

/// Raft is not made for traitors: the page says so, makes one, and shows what a lie does. The story leaves out what
/// nothing came of, until it is wanted.
#[test]
#[cfg_attr(not(peers), ignore = "needs Chromium: QUORATE_PEERS=1")]
fn a_visitor_makes_a_traitor_of_anybody() -> Result<()> {
    let (lab, browser) = (Lab::open()?, Browser::start(1400, 1000)?);
    lab.visit(&browser)?;
    browser.click("#start")?;
    browser.wait("a leader", LATER, &format!("{LEADER} >= 0"))?;
    browser.click("#play")?;
    let idle = "document.getElementById('left-out').textContent !== ''";
    browser.wait("idle events are left out, and it is said", SOON, idle)?;
    let place = |wanted: bool| {
        let all = "[...document.querySelectorAll('#story button[name]')].map(b => lab.recording.events[b.name])";
        format!("{all}.slice(0, -13).some(event => event.idle) === {wanted}")
    };
    browser.eval("lab.seek(lab.recording.told[lab.recording.told.length - 1] + 1)")?;
    browser.wait("none of them is in the story", SOON, &place(false))?;
    browser.eval("document.getElementById('idle').click()")?;
    browser.wait("now they are", SOON, &place(true))?;
    browser.keys("1")?;
    browser.keys("t")?;
    let lies = |lies: bool| format!("(lab.recording.at(lab.k).nodes[1].lies ?? false) === {lies}");
    browser.wait("n1 is a traitor", SOON, &lies(true))?;
    let said = "document.getElementById('hint').textContent.includes('not made for traitors')";
    assert_eq!(browser.eval(said)?, Value::Bool(true));
    saved(&browser)?;
    browser.keys("t")?;
    browser.wait("and loyal again", SOON, &lies(false))?;
    saved(&browser)?;
    browser.keys("t")?;
    browser.wait("and a traitor again", SOON, &lies(true))?;
    saved(&browser)?;
    // What it says then in the place of something else is marked.
    let lie = "lab.recording.events.findIndex(event => (event.kept_back ?? []).length || \
               (event.sent ?? []).some(id => lab.recording.messages[id].lie))";
    browser.wait("a lie", LATER, &format!("{lie} >= 0"))?;
    browser.eval(&format!("lab.seek({lie} + 1)"))?;
    let told = format!(
        "document.querySelector(`#story button[name='${{{lie}}}']`)?.innerText.includes('[a lie]') === true"
    );
    browser.wait("the story says that it is one", SOON, &told)?;
    quiet(&browser)
}

/// The counterexample to commitment by counting is one click away, and figure 8 is a lesson.
#[test]
#[cfg_attr(not(peers), ignore = "needs Chromium: QUORATE_PEERS=1")]
fn a_visitor_finds_a_counterexample() -> Result<()> {
    let (lab, browser) = (Lab::open()?, Browser::start(1400, 900)?);
    lab.visit(&browser)?;
    // On a small laptop's screen all that is needed for it is seen at once.
    let seen = "['#play', '#search', '#variants label', '#rules li.held', '#board', '#story', '#story-pages'].filter(selector => \
                (box => box.top < 0 || box.bottom > innerHeight || box.height < 12)(document.querySelector(selector).getBoundingClientRect()))";
    for height in [900, 757] {
        browser.resize(1400, height)?;
        drawn(&browser, 1400)?;
        assert_eq!(browser.eval(seen)?, serde_json::json!([]), "{height} high");
        let room = "['board', 'story'].every(id => document.getElementById(id).clientHeight > 200)";
        assert_eq!(browser.eval(room)?, Value::Bool(true), "{height} high");
        // No mistake is cut in two by the end of its list.
        let cut = "(list => [...list.children].filter(item => (box => box.top < list.getBoundingClientRect().bottom - 2 && \
                   box.bottom > list.getBoundingClientRect().bottom + 2)(item.getBoundingClientRect())).length)(document.getElementById('variants'))";
        assert_eq!(number(&browser, cut)?, 0, "{height} high");
    }
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
    let verdict = "document.getElementById('verdict').textContent";
    let harm = format!(
        "{verdict}.startsWith('leader-completeness') && {verdict}.includes('commit-own-term')"
    );
    browser.wait("the harm, and the rule that it began with", SOON, &harm)?;
    assert!(number(&browser, "document.querySelectorAll('#rules li.broke').length")? >= 1);
    // The paper's own schedule, on the broken variant: what was committed is overwritten.
    browser.eval("[...document.querySelectorAll('#lessons button')].find(b => b.textContent.startsWith('figure-8')).click()")?;
    browser.wait("figure 8", SOON, "lab.run.setup.n === 5 && lab.recording.length > 50")?;
    browser.eval("lab.seek(1e9)")?;
    browser.wait("a rule is broken", SOON, "!document.getElementById('verdict').hidden")?;
    quiet(&browser)
}

/// A rule of how a run has to end is broken with its last event: it is red then, and the card is there for whoever is
/// sent the address.
#[test]
#[cfg_attr(not(peers), ignore = "needs Chromium: QUORATE_PEERS=1")]
fn what_is_found_at_the_end_is_seen() -> Result<()> {
    let (lab, browser) = (Lab::open()?, Browser::start(1400, 1000)?);
    lab.visit(&browser)?;
    for (protocol, mistake, rule) in
        [("ben-or", "stop-at-once", "all-decide"), ("pbft", "no-view-change", "answered")]
    {
        browser.eval(&format!(
            "(s => {{ s.value = '{protocol}'; s.dispatchEvent(new Event('change')); return true; }})(document.getElementById('protocol'))"
        ))?;
        browser.wait(protocol, SOON, &format!("lab.run?.protocol === '{protocol}'"))?;
        browser.click(&format!("input[name={mistake}]"))?;
        let ticked = format!("lab.setup.variants.includes('{mistake}')");
        browser.wait("it is broken", SOON, &ticked)?;
        browser.click("#search")?;
        let found = format!(
            "!document.getElementById('progress').open && lab.setup.watched.includes('{rule}')"
        );
        browser.wait("a counterexample", LATER, &found)?;
        browser.eval("lab.seek(1e9)")?;
        let red = format!(
            "document.querySelector('#rules [data-rule={rule}]').className === 'broke' && \
             document.getElementById('verdict').textContent.startsWith('{rule}')"
        );
        browser.wait("the rule is red", SOON, &red)?;
        saved(&browser)?;
        browser.reload()?;
        ready(&browser)?;
        browser.wait("and it is again", SOON, &red)?;
        assert!(text(&browser, "#lesson")?.contains(rule), "{}", text(&browser, "#lesson")?);
    }
    quiet(&browser)
}

/// What a step of the story says and what it shows are on one screen of a phone.
#[test]
#[cfg_attr(not(peers), ignore = "needs Chromium: QUORATE_PEERS=1")]
fn the_story_is_seen_on_a_phone() -> Result<()> {
    let (lab, browser) = (Lab::open()?, Browser::start(500, 900)?);
    lab.visit(&browser)?;
    browser.resize(390, 844)?;
    drawn(&browser, 390)?;
    let seen = |selector: &str| {
        format!(
            "(box => box.height > 0 && box.top >= 0 && box.bottom <= innerHeight)(document.querySelector('{selector}').getBoundingClientRect())"
        )
    };
    assert_eq!(browser.eval(&seen("#tour-next"))?, Value::Bool(true));
    browser.click("#tour-next")?;
    browser.wait("the first step", SOON, "lab.step === 0 && lab.recording.length > 0")?;
    browser.eval("lab.playing && document.getElementById('play').click()")?;
    browser.eval("lab.seek(1e9)")?;
    browser.wait("the harm, below the story", SOON, &seen("#verdict"))?;
    browser.wait("the title of the step", SOON, &seen("#tour h2"))?;
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
    // The mistakes are a key away.
    browser.keys("b ")?;
    let ticked = "lab.setup.variants.length === 1";
    browser.wait("a mistake is made", SOON, ticked)?;
    browser.keys(" ")?;
    browser.wait("and taken back", SOON, "lab.setup.variants.length === 0")?;
    browser.eval("document.activeElement.blur()")?;
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
        drawn(&browser, 390)?;
        assert!(
            number(&browser, "document.documentElement.scrollWidth")? <= 390,
            "{name} on a phone"
        );
        if let Some(to) = &pictures {
            browser.screenshot(&to.join(format!("{name}-phone.png")))?;
        }
        browser.resize(1400, 1000)?;
        drawn(&browser, 1400)?;
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
    assert_eq!(browser.eval("document.activeElement.id")?, "tour-back", "the way on is there");
    quiet(&browser)
}

/// A run of 100,000 events: any moment that is jumped to is the one that is reached step by step.
#[test]
#[cfg_attr(not(peers), ignore = "needs Chromium: QUORATE_PEERS=1")]
fn a_long_run_is_scrubbed() -> Result<()> {
    let (lab, browser) = (Lab::open()?, Browser::start(1200, 900)?);
    lab.visit(&browser)?;
    load_long(&browser, 7, 100_000)?;
    let places = [1, 499, 500, 501, 33_333, 77_777, 99_999, 100_000];
    assert!(jumps_are_steps(&browser, &places)?);
    quiet(&browser)
}

/// What `cargo xtask lab-speed` measures, for a moment: nothing is asked of the figures but that they are there.
#[test]
#[cfg_attr(not(peers), ignore = "needs Chromium: QUORATE_PEERS=1")]
fn speed_is_measured() -> Result<()> {
    let plan = Plan { seconds: 1, events: 5_000, jumps: 20, ..Plan::default() };
    let figures = measure(&plan)?;
    assert!(figures.messages.median >= MESSAGES_MIN, "{}", figures.table());
    assert_eq!((figures.jumps, figures.events), (20, 5_000));
    assert!(figures.frames > 0 && figures.per_second.most > 0.0, "{}", figures.table());
    assert!(figures.jump_ms.least > 0.0, "{}", figures.table());
    assert_eq!(figures.json()["jumps"], 20);
    Ok(())
}

/// What is seen in one moment is seen again when the page is loaded anew: the run, the moment, and what is told.
#[test]
#[cfg_attr(not(peers), ignore = "needs Chromium: QUORATE_PEERS=1")]
fn an_address_has_all_that_is_seen() -> Result<()> {
    let (lab, browser) = (Lab::open()?, Browser::start(1400, 1000)?);
    lab.visit(&browser)?;
    let seen = "[lab.k, lab.step, document.getElementById('digest').textContent, \
                document.getElementById('tour').innerText, document.getElementById('lesson').innerText]";
    let same_again = |what: &str| -> Result<()> {
        browser.eval("lab.playing && document.getElementById('play').click()")?;
        browser.eval("lab.seek(9)")?;
        saved(&browser)?;
        let before = browser.eval(seen)?;
        browser.reload()?;
        ready(&browser)?;
        assert_eq!(browser.eval(seen)?, before, "{what}");
        assert_eq!(number(&browser, "lab.k")?, 9, "{what}");
        Ok(())
    };
    let steps = number(&browser, "lab.tour.length")?;
    for shows in ["run", "flp", "tax"] {
        let step =
            format!("lab.tour.findIndex((step, nth) => step.shows === '{shows}' && nth > 1)");
        let step = number(&browser, &step)?;
        assert!(step < steps);
        browser.eval(&format!("lab.visit({step})"))?;
        same_again(shows)?;
        assert_eq!(number(&browser, "lab.step")?, step);
    }
    browser.eval("document.querySelector('#lessons button').click()")?;
    browser.wait("a lesson", SOON, "lab.lesson !== null && lab.playing")?;
    same_again("a lesson")?;
    // A run that plays is in the address, too, and not far behind.
    browser.click("#start")?;
    browser.wait("it plays", SOON, "lab.playing && lab.lesson === null")?;
    browser.wait("its address follows", SOON, "Number(/k=(\\d+)/.exec(location.hash)[1]) > 12")?;
    // Whoever goes to the run by the keyboard does not lose it.
    browser.eval("document.querySelector('.skip').click()")?;
    assert_eq!(browser.eval("document.activeElement.id")?, "stage");
    assert_eq!(browser.eval("location.hash.includes('run=')")?, Value::Bool(true));
    quiet(&browser)
}

/// Whatever is pressed by the keyboard, the next key is not lost.
#[test]
#[cfg_attr(not(peers), ignore = "needs Chromium: QUORATE_PEERS=1")]
fn the_focus_stays() -> Result<()> {
    let (lab, browser) = (Lab::open()?, Browser::start(1400, 1000)?);
    lab.visit(&browser)?;
    browser
        .eval("document.querySelectorAll('aside details').forEach(box => { box.open = true; })")?;
    let press = |selector: &str, key: &str, after: &str| -> Result<()> {
        browser.eval(&format!(
            "(it => {{ it.focus(); document.body.dataset.saved = 'no'; }})(document.querySelector('{selector}'))"
        ))?;
        browser.keys(key)?;
        saved(&browser)?;
        browser.eval(
            "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))",
        )?;
        let kept = format!("document.activeElement.closest('{after}') !== null");
        let on = browser.eval("document.activeElement.outerHTML.slice(0, 80)")?;
        assert_eq!(browser.eval(&kept)?, Value::Bool(true), "{selector}, then {on}");
        Ok(())
    };
    for id in ["#start", "#play", "#back", "#forward", "#fork", "#random", "#link", "#tour-next"] {
        press(id, ENTER, id)?;
    }
    // Back at the first step there is no way back: the way on has it.
    press("#tour-next", ENTER, "#tour-next")?;
    press("#tour-back", ENTER, "#tour-next")?;
    press("#protocol", "R", "#protocol")?;
    let acts = browser.eval("[...document.querySelectorAll('#acts button')].map(b => b.name)")?;
    browser.eval("document.querySelector('#nodes button').click()")?;
    for name in acts.as_array().into_iter().flatten().filter_map(Value::as_str) {
        let button = format!("#acts button[name=\"{name}\"]");
        press(&button, ENTER, &button)?;
    }
    press("#story li.later button", ENTER, "#story li.now button")?;
    press("#lessons button", ENTER, "#lessons button")?;
    press("input[name=commit-old-term]", " ", "input[name=commit-old-term]")?;
    press("input[name=election_ms]", UP, "input[name=election_ms]")?;
    press("input[name=delay_us_max]", UP, "input[name=delay_us_max]")?;
    // Nothing comes of this mistake in ten thousand seeds. The search is stopped by its button, whoever began it goes
    // on from there, and the next question is answered.
    browser.eval("document.querySelector('input[name=commit-old-term]').click()")?;
    browser.eval("document.querySelector('input[name=overwritten-is-durable]').click()")?;
    browser.eval("document.getElementById('search').focus()")?;
    browser.keys(ENTER)?;
    let goes_on = "document.querySelector('#progress p').textContent.includes('What comes of it?')";
    browser.wait("it goes on past the mechanism", LATER, goes_on)?;
    browser.keys(ENTER)?;
    browser.wait("it is over", SOON, "!document.getElementById('progress').open")?;
    assert_eq!(browser.eval("document.activeElement.id")?, "search");
    browser.eval("document.getElementById('digest').textContent = ''")?;
    browser.click("#start")?;
    let answered = "document.getElementById('digest').textContent !== ''";
    browser.wait("another run", SOON, answered)?;
    quiet(&browser)
}

/// What is written on the board, in a moment after each of these events: text that lies on other text, on a process,
/// or over the edge. Whatever asks the canvas for text is heard.
const CLASHES: &str = "(moments => {
    const stage = lab.stage, context = stage.context, clashes = [], board = stage.board.getBoundingClientRect();
    let texts = [];
    context.fillText = (text, x, y) => {
        const width = context.measureText(text).width;
        const left = { left: x, right: x - width, center: x - width / 2 }[context.textAlign] ?? x;
        texts.push({ text, left, top: y - 5, right: left + width, bottom: y + 5 });
        CanvasRenderingContext2D.prototype.fillText.call(context, text, x, y);
    };
    const circles = stage.buttons.map(button => button.getBoundingClientRect())
        .map(box => ({ x: box.x + box.width / 2 - board.x, y: box.y + box.height / 2 - board.y, radius: box.width / 2 }));
    for (const k of moments) {
        texts = [];
        const us = lab.recording.timeOf(k) + 400;
        stage.draw(lab.recording.at(k), us, lab.recording);
        const told = lab.recording.at(k).nodes.filter(({ view }) => view.role || view.term).length;
        if (texts.length < told) clashes.push(`${k}: ${texts.length} texts`);
        texts.forEach((a, nth) => {
            const near = ({ x, y, radius }) => Math.hypot(
                Math.min(Math.max(x, a.left), a.right) - x, Math.min(Math.max(y, a.top), a.bottom) - y) < radius;
            if (circles.some(near)) clashes.push(`${k}: ${a.text} is on a process`);
            if (a.left < 0 || a.top < 0 || a.right > stage.width || a.bottom > stage.height) clashes.push(`${k}: ${a.text} is cut off`);
            for (const b of texts.slice(nth + 1)) {
                const apart = a.right <= b.left || b.right <= a.left || a.bottom <= b.top || b.bottom <= a.top;
                if (!apart) clashes.push(`${k}: ${a.text} is on ${b.text}`);
            }
        });
    }
    delete context.fillText;
    return clashes.slice(0, 5);
})";

/// The largest ring of every protocol, and a small one whose messages speak, on a phone and wide.
#[test]
#[cfg_attr(not(peers), ignore = "needs Chromium: QUORATE_PEERS=1")]
fn nothing_is_written_on_anything() -> Result<()> {
    let (lab, browser) = (Lab::open()?, Browser::start(1400, 1000)?);
    lab.visit(&browser)?;
    let pictures = std::env::var_os("QUORATE_PICTURES").map(PathBuf::from);
    let names = browser
        .eval("lab.protocols.filter(about => about.runs.length).map(about => about.name)")?;
    for name in names.as_array().into_iter().flatten().filter_map(Value::as_str) {
        for most in [true, false] {
            browser.eval(&format!(
                "(async () => {{ const about = lab.protocols.find(about => about.name === '{name}'); \
                 const run = JSON.parse(JSON.stringify(about.runs[0])); run.setup.watched = []; \
                 if ({most}) run.setup.n = about.nodes.max; \
                 run.script.end = {{ events: 3000, at_us: 2000000 }}; await lab.load(run); }})()"
            ))?;
            for (width, height) in [(390, 844), (1400, 1000), (1400, 757)] {
                browser.resize(width, height)?;
                drawn(&browser, width)?;
                let moments = "Array.from({ length: 60 }, (_, nth) => Math.floor(lab.recording.length * nth / 59))";
                let clashes = browser.eval(&format!("{CLASHES}({moments})"))?;
                assert_eq!(clashes, serde_json::json!([]), "{name}, {width} wide, most: {most}");
                if let (Some(to), true) = (&pictures, most) {
                    browser.screenshot(&to.join(format!("{name}-most-{width}.png")))?;
                }
            }
        }
    }
    quiet(&browser)
}
