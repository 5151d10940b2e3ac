//! demo: a cluster of real processes on one screen, to be broken by hand.
//!
//! Every member is a `quorate start` of its own on loopback with data in a temporary directory.
//! A small load writes all the time, a status question goes to every member a few times a second,
//! and the screen shows what they answer. Keys kill, pause and restart members. Where stdout is
//! not a terminal, the same figures come as lines of text.
//!
//! The parts: [`members`] are the processes, [`watcher`] is the load and the questions, [`view`]
//! turns what is known into lines and is pure, [`screen`] is the terminal.

mod members;
mod screen;
mod view;
mod watcher;

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;

use crate::commands::session::stop_signal;
use crate::exit::{Exit, Result};
use crate::print::put;
use crate::print::text::parse_duration;
use members::Members;
use screen::{Key, Screen};
use view::Journal;
use watcher::Watcher;

/// How often keys are looked at and processes are reaped.
const TICK: Duration = Duration::from_millis(50);
/// How often the screen is drawn.
const REDRAW: Duration = Duration::from_millis(200);
/// How often the plain text gets a line for each member.
const PLAIN_EVERY: Duration = Duration::from_secs(1);

/// Three or five members on one screen: kill one and look
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  quorate demo                 then press 1, k: the first member dies, another leads
  quorate demo --nodes 5
  quorate demo --for 10s | cat the same as plain text, for ten seconds")]
pub(crate) struct DemoArgs {
    /// Number of members: 3 or 5
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=9))]
    nodes: u8,
    /// Writers of the load; 0 is none
    #[arg(long, value_name = "N", default_value_t = 4)]
    writers: usize,
    /// End after so long
    #[arg(long = "for", value_name = "TIME", value_parser = parse_duration)]
    limit: Option<Duration>,
    /// Plain text even on a terminal
    #[arg(long)]
    plain: bool,
    /// The program that is a member: this one, or any that takes etcd's flags
    #[arg(long, value_name = "PATH", hide = true)]
    program: Option<PathBuf>,
}

impl DemoArgs {
    /// Runs the demo until the user or the time limit ends it, then ends every member.
    ///
    /// # Errors
    /// If members cannot be started or the terminal cannot be used.
    pub(crate) async fn run(self) -> Result<()> {
        let program = match &self.program {
            Some(program) => program.clone(),
            None => std::env::current_exe().map_err(Exit::io)?,
        };
        let mut members = Members::start(&program, self.nodes)?;
        let watcher = Watcher::start(&members.endpoints(), self.writers)?;
        let mut journal = Journal::new(Instant::now());
        let deadline = self.limit.map(|limit| Instant::now() + limit);
        let plain = self.plain || !std::io::stdout().is_terminal();
        let shown = tokio::select! {
            shown = show(&mut members, &watcher, &mut journal, plain) => shown,
            () = stop_signal() => Ok(()),
            () = until(deadline) => Ok(()),
        };
        // The screen is back to normal here: it went out of scope with `show`.
        let text = format!("ending {} members\n", self.nodes);
        let said = if plain { Ok(()) } else { put(&text) };
        members.end().await;
        shown.and(said)
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Shows the cluster until the user quits.
async fn show(
    members: &mut Members,
    watcher: &Watcher,
    journal: &mut Journal,
    plain: bool,
) -> Result<()> {
    let mut screen = if plain { None } else { Some(Screen::open().map_err(Exit::io)?) };
    let every = if plain { PLAIN_EVERY } else { REDRAW };
    let mut chosen = 0;
    let mut next = Instant::now();
    loop {
        members.reap();
        while let Some(key) = screen.as_mut().map_or(Ok(None), Screen::key).map_err(Exit::io)? {
            match key {
                Key::Quit => return Ok(()),
                Key::Choose(index) => chosen = index.min(members.len() - 1),
                Key::Up => chosen = chosen.checked_sub(1).unwrap_or(members.len() - 1),
                Key::Down => chosen = (chosen + 1) % members.len(),
                Key::Kill => members.kill(chosen),
                Key::Pause => members.pause_or_continue(chosen),
                Key::Restart => members.restart(chosen)?,
            }
            next = Instant::now();
        }
        if Instant::now() >= next {
            next = Instant::now() + every;
            let now = watcher.look(members, chosen);
            journal.note(&now);
            match &mut screen {
                Some(screen) => screen.draw(&view::lines(&now, journal)).map_err(Exit::io)?,
                None => put(&view::plain(&now, journal))?,
            }
        }
        tokio::time::sleep(TICK).await;
    }
}
