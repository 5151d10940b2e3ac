//! What the lab's page tells of a run, in a real browser: the story beside the board, where rules broke, what is drawn.

use anyhow::{Context as _, Result};
use e2e::browser::Browser;
use e2e::lab_page::{Lab, SOON, load_long, number, ready, saved};
use serde_json::Value;

fn text(browser: &Browser, id: &str) -> Result<String> {
    let value = browser.eval(&format!("document.getElementById('{id}').innerText"))?;
    Ok(value.as_str().unwrap_or_default().to_owned())
}

fn quiet(browser: &Browser) -> Result<()> {
    assert_eq!(browser.console()?, Vec::<String>::new());
    Ok(())
}

/// Goes to a moment, and waits until it is shown.
fn seek(browser: &Browser, k: u64) -> Result<()> {
    browser
        .eval(&format!("lab.playing && document.getElementById('play').click(), lab.seek({k})"))?;
    browser.wait("it is shown", SOON, &format!("lab.shownK === {k} && !lab.stage.dirty"))
}

/// Figure 8 of Raft's paper with the mistake in it: the mechanism breaks, and later a promise.
fn figure_8(browser: &Browser) -> Result<()> {
    browser.eval(
        "lab.visit(lab.tour.findIndex(step => step.run?.setup.variants.includes('commit-old-term')))",
    )?;
    let there = "lab.recording.breaks.length > 1 && lab.run.setup.watched.length > 0";
    browser.wait("a broken run", SOON, there)
}

/// Where each rule broke: name, kind, and the moment from which on it is broken.
fn breaks(browser: &Browser) -> Result<Vec<(String, String, u64)>> {
    let told = browser.eval("lab.recording.breaks.map(b => [b.rule, b.kind, b.k])")?;
    let of = |one: &Value| {
        Some((one[0].as_str()?.to_owned(), one[1].as_str()?.to_owned(), one[2].as_u64()?))
    };
    Ok(told.as_array().into_iter().flatten().filter_map(of).collect())
}

/// Each broken rule stands in the story behind the event at which it broke, and is marked there on the line of time:
/// with that event it turns red, and not before. From the end one comes to where it began.
#[test]
#[cfg_attr(not(peers), ignore = "needs Chromium: QUORATE_PEERS=1")]
fn every_broken_rule_is_told_where_it_broke() -> Result<()> {
    let (lab, browser) = (Lab::open()?, Browser::start(1400, 900)?);
    lab.visit(&browser)?;
    figure_8(&browser)?;
    let breaks = breaks(&browser)?;
    let kinds: Vec<&str> = breaks.iter().map(|(_, kind, _)| kind.as_str()).collect();
    assert!(kinds.contains(&"promise") && kinds[0] == "mechanism", "{breaks:?}");
    for (rule, kind, k) in &breaks {
        let state = format!("document.querySelector('#rules [data-rule=\"{rule}\"]').className");
        seek(&browser, k - 1)?;
        assert_eq!(browser.eval(&state)?, "held", "{rule} before event {k}");
        seek(&browser, *k)?;
        assert_eq!(browser.eval(&state)?, "broke", "{rule} at event {k}");
        // The lines of rules that broke follow that of their event.
        let told = format!(
            "(line => {{ let event = line; while (event.dataset.broken) event = event.previousElementSibling; \
             return [line.classList.contains('{kind}'), event.className.includes('now'), event.firstChild.name]; }})\
             (document.querySelector('#story [data-broken=\"{rule}\"]'))"
        );
        assert_eq!(browser.eval(&told)?, serde_json::json!([true, true, (k - 1).to_string()]));
        let marked = format!(
            "import('/timeline.js').then(t => t.marks(lab.recording).find(mark => mark.rule === '{rule}').k)"
        );
        assert_eq!(number(&browser, &marked)?, *k, "{rule} is marked where it broke");
    }
    // Red is for promises.
    let color = |rule: &str| {
        browser.eval(&format!(
            "getComputedStyle(document.querySelector('#story [data-broken=\"{rule}\"] button')).color"
        ))
    };
    let promise = breaks.iter().find(|(_, kind, _)| kind == "promise").map_or("", |one| &one.0);
    assert_ne!(color(promise)?, color(&breaks[0].0)?);
    seek(&browser, number(&browser, "lab.recording.length")?)?;
    let began = text(&browser, "story-began")?;
    assert!(began.starts_with(&format!("It began with {}", breaks[0].0)), "{began}");
    browser.click("#story-began")?;
    browser.wait("where it began", SOON, &format!("lab.k === {}", breaks[0].2))?;
    quiet(&browser)
}

/// The story says of each event what was said, sent and lost in it, and that something was written.
#[test]
#[cfg_attr(not(peers), ignore = "needs Chromium: QUORATE_PEERS=1")]
fn the_story_says_what_came_of_each_event() -> Result<()> {
    let (lab, browser) = (Lab::open()?, Browser::start(1400, 900)?);
    lab.visit(&browser)?;
    figure_8(&browser)?;
    seek(&browser, number(&browser, "lab.recording.length")?)?;
    let untold = "(r => [...document.querySelectorAll('#story button')].filter(line => /^[0-9]+$/.test(line.name)).filter(line => {
        const event = r.events[line.name];
        const said = (event.said ?? []).every(words => line.innerText.includes(words));
        const sent = (event.sent ?? []).every(id => line.innerText.includes(r.messages[id].text) && line.innerText.includes(`n${r.messages[id].to}`));
        return !said || !sent || (event.persisted ?? false) !== line.innerText.includes('[writes]');
    }).map(line => line.innerText))(lab.recording)";
    assert_eq!(browser.eval(untold)?, serde_json::json!([]));
    let all = "[...document.querySelectorAll('#story button')].map(line => line.innerText).join()";
    for part in ["→ n", "[writes]", "granted", "lost ("] {
        let told = format!("{all}.includes('{part}')");
        if browser.eval(&told)? != Value::Bool(true) {
            browser.click("#story-earlier")?;
        }
        assert_eq!(browser.eval(&told)?, Value::Bool(true), "{part}");
    }
    quiet(&browser)
}

/// The story says which events it has, and there is a way to those before and after.
#[test]
#[cfg_attr(not(peers), ignore = "needs Chromium: QUORATE_PEERS=1")]
fn the_story_has_pages() -> Result<()> {
    let (lab, browser) = (Lab::open()?, Browser::start(1400, 900)?);
    lab.visit(&browser)?;
    load_long(&browser, 3, 2_000)?;
    browser.eval("document.getElementById('idle').click()")?;
    seek(&browser, 1_000)?;
    let shown = || -> Result<(u64, u64)> {
        let names =
            "[...document.querySelectorAll('#story button')].map(line => Number(line.name) + 1)";
        let (first, last) = (
            number(&browser, &format!("{names}[0]"))?,
            number(&browser, &format!("{names}.at(-1)"))?,
        );
        let told = text(&browser, "story-span")?;
        assert_eq!(told, format!("events {first} to {last} of 2000"));
        Ok((first, last))
    };
    let here = shown()?;
    assert!(here.0 < 1_000 && here.1 > 1_000, "{here:?}");
    browser.click("#story-earlier")?;
    let earlier = shown()?;
    assert!(earlier.0 < here.0 && earlier.1 >= here.0 && earlier.1 < here.1, "{earlier:?}");
    assert_eq!(number(&browser, "lab.k")?, 1_000, "the moment is the same");
    browser.click("#story-later")?;
    assert_eq!(shown()?, here);
    browser.click("#story-later")?;
    assert!(shown()?.0 > here.0);
    // Another moment: its surroundings.
    seek(&browser, 3)?;
    assert_eq!(shown()?.0, 1);
    assert_eq!(browser.eval("document.getElementById('story-earlier').disabled")?, true);
    seek(&browser, 2_000)?;
    assert_eq!(shown()?.1, 2_000);
    assert_eq!(browser.eval("document.getElementById('story-later').disabled")?, true);
    // Whoever stands on the button that leads nowhere any more goes on with the other.
    seek(&browser, 60)?;
    browser.eval("document.getElementById('story-earlier').focus()")?;
    browser.eval("document.getElementById('story-earlier').click()")?;
    assert_eq!(browser.eval("document.activeElement.id")?, "story-later");
    quiet(&browser)
}

/// Whoever has seen the end sees all of it again, or goes to the break at once.
#[test]
#[cfg_attr(not(peers), ignore = "needs Chromium: QUORATE_PEERS=1")]
fn a_broken_run_is_seen_again() -> Result<()> {
    let (lab, browser) = (Lab::open()?, Browser::start(1400, 900)?);
    lab.visit(&browser)?;
    assert_eq!(browser.eval("document.getElementById('to-break').hidden")?, true);
    figure_8(&browser)?;
    seek(&browser, 5)?;
    browser.click("#to-break")?;
    let harm = "lab.k === lab.recording.breaks.find(b => b.rule === 'leader-completeness').k && !lab.playing";
    browser.wait("the break", SOON, harm)?;
    let seen = "document.getElementById('verdict').textContent.startsWith('leader-completeness')";
    browser.wait("it is said", SOON, seen)?;
    browser.eval("document.getElementById('speed').value = '4000'")?;
    browser.click("#replay")?;
    browser.wait("from the beginning", SOON, "lab.playing && lab.k < 20")?;
    quiet(&browser)
}

/// Before its first event nobody is down: they have not started.
#[test]
#[cfg_attr(not(peers), ignore = "needs Chromium: QUORATE_PEERS=1")]
fn before_the_first_event_nobody_is_down() -> Result<()> {
    let (lab, browser) = (Lab::open()?, Browser::start(1400, 900)?);
    lab.visit(&browser)?;
    seek(&browser, 0)?;
    saved(&browser)?;
    browser.reload()?;
    ready(&browser)?;
    let states = "lab.recording.at(lab.k).nodes.map(frame => frame.status)";
    let waits = "not started";
    assert_eq!(browser.eval(states)?, serde_json::json!([waits, waits, waits]));
    browser.wait("it is drawn", SOON, "lab.shownK === 0 && !lab.stage.dirty")?;
    let said = "[...document.querySelectorAll('#nodes button')].every(b => b.getAttribute('aria-label').includes('not started'))";
    assert_eq!(browser.eval(said)?, true);
    seek(&browser, 1)?;
    assert_eq!(browser.eval(states)?, serde_json::json!(["up", waits, waits]));
    quiet(&browser)
}

/// The tour is left by whoever makes another run, or does something to this one; a step may ask for a mistake.
#[test]
#[cfg_attr(not(peers), ignore = "needs Chromium: QUORATE_PEERS=1")]
fn the_tour_is_left() -> Result<()> {
    let (lab, browser) = (Lab::open()?, Browser::start(1400, 900)?);
    lab.visit(&browser)?;
    let left = |what: &str| -> Result<()> {
        browser.wait(what, SOON, "lab.step === -1")?;
        saved(&browser).context(what.to_owned())?;
        assert_eq!(browser.eval("location.hash.includes('step=')")?, false, "{what}");
        let next = text(&browser, "tour-next")?;
        assert_eq!(next, "Begin", "{what}");
        Ok(())
    };
    let ways = [
        (
            "protocol",
            "(s => { s.value = 'raft'; s.dispatchEvent(new Event('change')); })(document.getElementById('protocol'))",
        ),
        ("start", "document.getElementById('start').click()"),
        (
            "processes",
            "(n => { n.value = 5; n.dispatchEvent(new Event('change')); })(document.getElementById('n'))",
        ),
        ("faults", "document.getElementById('random').click()"),
        ("lesson", "document.querySelector('#lessons button').click()"),
        ("act", "document.querySelector('#acts button[name=heal]').click()"),
        ("fork", "document.getElementById('fork').click()"),
        ("mistake", "document.querySelector('#variants input:not(:checked)').click()"),
        ("adversary", "document.getElementById('flp-box').open = true"),
    ];
    for (what, way) in ways {
        // The adversary can be set on this one.
        browser
            .eval("lab.visit(lab.tour.findIndex(step => step.protocol === 'paxos' && step.run))")?;
        browser.eval("lab.playing && document.getElementById('play').click()")?;
        saved(&browser)?;
        assert_eq!(browser.eval("location.hash.includes('step=')")?, true, "{what}");
        browser.eval(&format!("(() => {{ document.body.dataset.saved = 'no'; {way}; }})()"))?;
        left(what)?;
    }
    // This step says that its mistake may be ticked.
    let asked = "truncate-by-high-watermark";
    browser
        .eval(&format!("lab.visit(lab.tour.findIndex(step => step.text.includes('{asked}')))"))?;
    let step = number(&browser, "lab.step")?;
    browser.click(&format!("input[name={asked}]"))?;
    let ticked = format!("lab.setup.variants.includes('{asked}')");
    browser.wait("it is broken", SOON, &ticked)?;
    assert_eq!(number(&browser, "lab.step")?, step);
    quiet(&browser)
}

/// A link that is cut one way is red on the side of whoever is not heard, and the legend says so.
#[test]
#[cfg_attr(not(peers), ignore = "needs Chromium: QUORATE_PEERS=1")]
fn a_link_cut_one_way_is_drawn_so() -> Result<()> {
    let (lab, browser) = (Lab::open()?, Browser::start(1400, 900)?);
    lab.visit(&browser)?;
    seek(&browser, 10)?;
    let legend = "document.querySelectorAll('#legend .cut').length";
    assert_eq!(number(&browser, legend)?, 0);
    // How many points of each half are red.
    let red = |from: usize, to: usize| -> Result<(bool, bool)> {
        let halves = browser.eval(&format!(
            "(() => {{ const s = lab.stage, [a, b] = [s.places[{from}], s.places[{to}]], ratio = devicePixelRatio || 1; \
             const copy = Object.assign(document.createElement('canvas'), {{ width: s.canvas.width, height: s.canvas.height }}).getContext('2d', {{ willReadFrequently: true }}); \
             copy.drawImage(s.canvas, 0, 0); \
             const is = part => {{ const x = a.x + (b.x - a.x) * part, y = a.y + (b.y - a.y) * part; \
               const d = copy.getImageData(Math.round(x * ratio) - 1, Math.round(y * ratio) - 1, 3, 3).data; \
               for (let i = 0; i < d.length; i += 4) if (d[i + 3] > 40 && d[i] > d[i + 1] + 60 && d[i] > d[i + 2] + 60) return true; \
               return false; }}; \
             const half = from => Array.from({{ length: 40 }}, (_, nth) => from + nth * .006).some(is); \
             return [half(.2), half(.56)]; }})()"
        ))?;
        Ok((halves[0] == true, halves[1] == true))
    };
    assert_eq!(red(0, 1)?, (false, false));
    browser.eval("lab.stage.handlers.link(0, 1, true)")?;
    browser.wait("one way", SOON, "lab.recording.at(lab.k).cut.size === 1 && !lab.stage.dirty")?;
    assert_eq!(red(0, 1)?, (true, false), "n1 does not hear n0");
    assert_eq!(number(&browser, legend)?, 2);
    assert!(text(&browser, "legend")?.contains("one way"));
    browser.eval("lab.stage.handlers.link(1, 2, false)")?;
    browser.wait(
        "both ways",
        SOON,
        "lab.recording.at(lab.k).cut.size === 3 && !lab.stage.dirty",
    )?;
    assert_eq!(red(1, 2)?, (true, true), "neither hears the other");
    quiet(&browser)
}

/// Beside the buttons that need a process stands that one has to be chosen, or which is.
#[test]
#[cfg_attr(not(peers), ignore = "needs Chromium: QUORATE_PEERS=1")]
fn the_buttons_say_whom_they_are_for() -> Result<()> {
    let (lab, browser) = (Lab::open()?, Browser::start(1400, 900)?);
    lab.visit(&browser)?;
    assert_eq!(text(&browser, "acts-of")?, "Choose a process:");
    let described = "[...document.querySelectorAll('#acts [aria-describedby=acts-of]')].map(b => b.name).join()";
    assert_eq!(browser.eval(described)?, "crash,pause,cut,expire,traitor");
    browser.click("#acts button[name=crash]")?;
    assert!(text(&browser, "hint")?.starts_with("Choose a process first"));
    assert_eq!(number(&browser, "lab.run.script.acts.length")?, 0);
    browser.keys("1")?;
    browser.wait(
        "who is chosen",
        SOON,
        "document.getElementById('acts-of').textContent === 'To n1:'",
    )?;
    browser.click("#acts button[name=crash]")?;
    browser.wait("n1 is down", SOON, "lab.recording.at(lab.k).nodes[1].status === 'down'")?;
    // The seed comes before the button that uses it; in a group at most one button is the main one.
    let before = "Boolean(document.getElementById('seed').compareDocumentPosition(document.getElementById('start')) & Node.DOCUMENT_POSITION_FOLLOWING)";
    assert_eq!(browser.eval(before)?, true);
    let most = "Math.max(...[...document.querySelectorAll('.group, .card, form')].map(box => box.querySelectorAll('button.primary').length))";
    assert_eq!(number(&browser, most)?, 1);
    let stories =
        "[...document.querySelectorAll('h2')].filter(h => /story/i.test(h.textContent)).length";
    assert_eq!(number(&browser, stories)?, 1);
    quiet(&browser)
}
