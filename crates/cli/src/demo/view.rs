//! What is known, as lines. Pure: the same look and journal give the same lines.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::time::Duration;

use proto::etcdserverpb as pb;
use tokio::time::Instant;

use super::members::Process;

/// Changes that are kept to be shown.
const NOTES_MAX: usize = 8;
/// Samples of the rate that are kept to be shown.
const RATES_MAX: usize = 48;
/// Time over which a rate is taken.
const RATE_OVER: Duration = Duration::from_secs(1);

/// One member.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) process: Process,
    /// Its latest answer, if it is fresh.
    pub(crate) status: Option<pb::StatusResponse>,
}

/// Everything that is known at one moment.
#[derive(Debug, Clone)]
pub(crate) struct Look {
    pub(crate) at: Instant,
    pub(crate) running_for: Duration,
    /// The member that keys act on.
    pub(crate) chosen: usize,
    pub(crate) rows: Vec<Row>,
    pub(crate) endpoints: Vec<String>,
    pub(crate) written: u64,
    pub(crate) refused: u64,
    pub(crate) unknown: u64,
}

/// What a line is about, for its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    Plain,
    Title,
    Leader,
    Trouble,
    Faint,
}

/// A line and its tone.
pub(crate) type Line = (Tone, String);

/// What has changed over time.
#[derive(Debug)]
pub(crate) struct Journal {
    start: Instant,
    notes: VecDeque<String>,
    rates: VecDeque<u64>,
    last: Vec<(Process, Option<Role>, u64)>,
    counted: (Instant, u64),
}

/// What a member says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Leader,
    Follower,
    Learner,
    Leaderless,
}

impl Role {
    fn of(status: &pb::StatusResponse) -> Self {
        let own = status.header.map_or(0, |header| header.member_id);
        match status.leader {
            _ if status.is_learner => Self::Learner,
            0 => Self::Leaderless,
            leader if leader == own => Self::Leader,
            _ => Self::Follower,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Leader => "leader",
            Self::Follower => "follower",
            Self::Learner => "learner",
            Self::Leaderless => "no leader",
        }
    }
}

impl Journal {
    /// An empty journal that counts its time from `start`.
    pub(crate) fn new(start: Instant) -> Self {
        let (notes, rates) = (VecDeque::new(), VecDeque::new());
        Self { start, notes, rates, last: Vec::new(), counted: (start, 0) }
    }

    /// Compares with the look before and notes what has changed.
    pub(crate) fn note(&mut self, look: &Look) {
        let elapsed = look.at - self.counted.0;
        if elapsed >= RATE_OVER {
            let written = u128::from(look.written - self.counted.1);
            let rate = written * 1000 / elapsed.as_millis().max(1);
            push(&mut self.rates, RATES_MAX, u64::try_from(rate).unwrap_or(u64::MAX));
            self.counted = (look.at, look.written);
        }
        let now: Vec<_> = look
            .rows
            .iter()
            .map(|row| {
                let role = row.status.as_ref().map(Role::of);
                (row.process.clone(), role, row.status.as_ref().map_or(0, |s| s.raft_term))
            })
            .collect();
        let seconds = (look.at - self.start).as_secs_f64();
        for (index, (row, now)) in look.rows.iter().zip(&now).enumerate() {
            let before = self.last.get(index);
            if before.is_some_and(|before| before.0 != now.0) {
                let text = format!("{seconds:7.1} s  {} {}", row.name, process_text(&now.0));
                push(&mut self.notes, NOTES_MAX, text);
            }
            let led = |(_, role, term): &(Process, Option<Role>, u64)| {
                (*role == Some(Role::Leader)).then_some(*term)
            };
            if led(now).is_some() && before.and_then(led) != led(now) {
                let text = format!("{seconds:7.1} s  {} leads in term {}", row.name, now.2);
                push(&mut self.notes, NOTES_MAX, text);
            }
        }
        self.last = now;
    }

    fn rate(&self) -> u64 {
        self.rates.back().copied().unwrap_or(0)
    }
}

fn push<T>(queue: &mut VecDeque<T>, max: usize, item: T) {
    if queue.len() == max {
        queue.pop_front();
    }
    queue.push_back(item);
}

fn process_text(process: &Process) -> &str {
    match process {
        Process::Running => "running",
        Process::Paused => "paused",
        Process::Killed => "killed",
        Process::Ended(_) => "ended",
    }
}

fn applied_max(look: &Look) -> u64 {
    let applied = look.rows.iter().filter_map(|row| row.status.as_ref());
    applied.map(|status| status.raft_applied_index).max().unwrap_or(0)
}

/// The whole screen.
pub(crate) fn lines(look: &Look, journal: &Journal) -> Vec<Line> {
    let seconds = look.running_for.as_secs();
    let title = format!(
        " quorate demo   {} members on loopback   {:02}:{:02}",
        look.rows.len(),
        seconds / 60,
        seconds % 60
    );
    let heading = format!(
        "   {:<8} {:<9} {:<10} {:>5} {:>10} {:>6} {:>10}  {}",
        "member", "process", "role", "term", "applied", "lag", "revision", "address"
    );
    let mut lines =
        vec![(Tone::Title, title), (Tone::Plain, String::new()), (Tone::Faint, heading)];
    let newest = applied_max(look);
    for (index, (row, address)) in look.rows.iter().zip(&look.endpoints).enumerate() {
        lines.push(member_line(index, row, address, look.chosen == index, newest));
        if let Process::Ended(why) = &row.process {
            lines.push((Tone::Trouble, format!("     {why}")));
        }
    }
    let counts = format!(
        "   writes  {:>6} /s  {}   {} written, {} refused, {} unknown",
        journal.rate(),
        sparkline(&journal.rates),
        look.written,
        look.refused,
        look.unknown
    );
    lines.extend([
        (Tone::Plain, String::new()),
        (Tone::Plain, counts),
        (Tone::Plain, String::new()),
    ]);
    lines.extend(journal.notes.iter().map(|note| (Tone::Plain, format!("  {note}"))));
    let keys = format!(
        "   1-{} choose   k kill -9   p pause / continue   r restart   q quit",
        look.rows.len()
    );
    let hint =
        format!("   quorate --endpoints {} get demo/ --prefix --limit 3", look.endpoints.join(","));
    lines.extend([(Tone::Plain, String::new()), (Tone::Title, keys), (Tone::Faint, hint)]);
    lines
}

fn member_line(index: usize, row: &Row, address: &str, chosen: bool, newest: u64) -> Line {
    let mark = if chosen { ">" } else { " " };
    let process = process_text(&row.process);
    let mut text = format!(" {mark} {} {:<6} {process:<9} ", index + 1, row.name);
    let tone = match &row.status {
        Some(status) => {
            let role = Role::of(status);
            let _infallible = write!(
                text,
                "{:<10} {:>5} {:>10} {:>6} {:>10}",
                role.name(),
                status.raft_term,
                status.raft_applied_index,
                newest.saturating_sub(status.raft_applied_index),
                status.header.map_or(0, |header| header.revision)
            );
            match role {
                Role::Leader => Tone::Leader,
                Role::Leaderless => Tone::Trouble,
                Role::Follower | Role::Learner => Tone::Plain,
            }
        }
        None => {
            let said = if row.process == Process::Running { "silent" } else { "-" };
            let _infallible =
                write!(text, "{said:<10} {:>5} {:>10} {:>6} {:>10}", "-", "-", "-", "-");
            Tone::Trouble
        }
    };
    let _infallible = write!(text, "  {address}");
    (tone, text)
}

fn sparkline(rates: &VecDeque<u64>) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let max = rates.iter().copied().max().unwrap_or(0).max(1);
    rates
        .iter()
        .map(|rate| BARS[usize::try_from(rate * (BARS.len() as u64 - 1) / max).unwrap_or(0)])
        .collect()
}

/// The same as one line a member, for pipes.
pub(crate) fn plain(look: &Look, journal: &Journal) -> String {
    let newest = applied_max(look);
    let mut out = format!(
        "{:.1}s writes={}/s written={} refused={} unknown={}\n",
        look.running_for.as_secs_f64(),
        journal.rate(),
        look.written,
        look.refused,
        look.unknown
    );
    for row in &look.rows {
        let _infallible = write!(out, "  {} process={}", row.name, process_text(&row.process));
        let _infallible = match (&row.status, &row.process) {
            (Some(status), _) => writeln!(
                out,
                " role={} term={} applied={} lag={} revision={}",
                Role::of(status).name().replace(' ', "-"),
                status.raft_term,
                status.raft_applied_index,
                newest.saturating_sub(status.raft_applied_index),
                status.header.map_or(0, |header| header.revision)
            ),
            (None, Process::Ended(why)) => writeln!(out, " ({why})"),
            (None, _) => writeln!(out, " role=silent"),
        };
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(member_id: u64, leader: u64, applied: u64) -> pb::StatusResponse {
        pb::StatusResponse {
            header: Some(pb::ResponseHeader { member_id, revision: 9, ..Default::default() }),
            leader,
            raft_term: 3,
            raft_applied_index: applied,
            ..Default::default()
        }
    }

    fn look(at: Instant, rows: Vec<(Process, Option<pb::StatusResponse>)>, written: u64) -> Look {
        let name = |index: usize| format!("n{}", index + 1);
        Look {
            at,
            running_for: Duration::from_secs(65),
            chosen: 1,
            endpoints: (0..rows.len()).map(|index| format!("127.0.0.1:{index}")).collect(),
            rows: rows
                .into_iter()
                .enumerate()
                .map(|(index, (process, status))| Row { name: name(index), process, status })
                .collect(),
            written,
            refused: 1,
            unknown: 2,
        }
    }

    fn three(at: Instant) -> Look {
        let rows = vec![
            (Process::Running, Some(status(1, 1, 50))),
            (Process::Paused, None),
            (Process::Running, Some(status(3, 1, 48))),
        ];
        look(at, rows, 10)
    }

    #[test]
    fn who_leads_who_lags_and_who_is_chosen_is_on_the_screen() {
        let at = Instant::now();
        let lines = lines(&three(at), &Journal::new(at));
        let find = |name: &str| lines.iter().find(|(_, text)| text.contains(name)).unwrap();
        assert_eq!(lines[0].0, Tone::Title);
        assert!(lines[0].1.contains("01:05"));
        let (tone, leader) = find("1 n1");
        assert_eq!(*tone, Tone::Leader);
        assert!(leader.contains("leader") && leader.contains("50"), "{leader}");
        assert!(find("2 n2").1.starts_with(" > 2 n2     paused"), "{}", find("2 n2").1);
        let words: Vec<_> = find("3 n3").1.split_whitespace().collect();
        assert_eq!(words[2..], ["running", "follower", "3", "48", "2", "9", "127.0.0.1:2"]);
    }

    #[test]
    fn the_journal_notes_changes_once_and_is_bounded() {
        let start = Instant::now();
        let mut journal = Journal::new(start);
        journal.note(&three(start));
        journal.note(&three(start));
        assert_eq!(journal.notes.len(), 1, "{:?}", journal.notes);
        assert!(journal.notes[0].ends_with("n1 leads in term 3"));
        let killed = vec![(Process::Killed, None), (Process::Running, Some(status(2, 2, 51)))];
        journal.note(&look(start + Duration::from_secs(1), killed, 10));
        assert!(journal.notes[1].ends_with("n1 killed"));
        assert!(journal.notes[2].ends_with("n2 running"));
        assert!(journal.notes[3].ends_with("n2 leads in term 3"));
        for turn in 0..100 {
            let process = if turn % 2 == 0 { Process::Running } else { Process::Killed };
            journal.note(&look(start, vec![(process, None)], 10));
        }
        assert_eq!(journal.notes.len(), NOTES_MAX);
    }

    #[test]
    fn the_rate_is_what_was_written_in_the_time() {
        let start = Instant::now();
        let mut journal = Journal::new(start);
        journal.note(&look(start + Duration::from_secs(2), Vec::new(), 300));
        assert_eq!(journal.rate(), 150);
        journal.note(&look(start + Duration::from_secs(2), Vec::new(), 400));
        assert_eq!(journal.rate(), 150, "too soon for another");
        assert_eq!(sparkline(&[0, 7, 14].into()), "▁▄█");
    }

    #[test]
    fn plain_text_has_a_line_a_member() {
        let at = Instant::now();
        let text = plain(&three(at), &Journal::new(at));
        assert!(
            text.contains("  n1 process=running role=leader term=3 applied=50 lag=0 revision=9\n")
        );
        assert!(text.contains("  n2 process=paused role=silent\n"));
        let ended = look(at, vec![(Process::Ended("exit code 1: no".into()), None)], 0);
        assert!(plain(&ended, &Journal::new(at)).contains("process=ended (exit code 1: no)"));
    }
}
