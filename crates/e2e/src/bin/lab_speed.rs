//! `cargo xtask lab-speed`: how fast the lab's page is; see `e2e::lab_page::speed`.

use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use e2e::lab_page::speed::{FRAMES_MIN, JUMP_MS_MAX, Plan, measure};

const HELP: &str = "\
Usage: cargo xtask lab-speed [--seconds N] [--speed N] [--events N] [--jumps N] [--seed S]
                             [--frames-min N] [--jump-ms-max N] [--format text|json]

The page of `quorate lab` in headless Chromium. Seven processes with more than 500 messages on their way are played,
and frames are watched; then the timeline of a long run is set to random moments. Prints frames, messages and times,
and fails if there are fewer frames, or if jumps take longer, than is asked for.

  --seconds N      how long frames are watched, 25 at most [default: 10]
  --speed N        played 1 : N, one of the page's speeds [default: 10]
  --events N       of the long run, 200000 at most [default: 100000]
  --jumps N        on its timeline [default: 300]
  --seed S         what the moments are drawn from [default: 1]
  --frames-min N   frames in a second, in the median of the seconds [default: 55]
  --jump-ms-max N  99th percentile of the jumps, to after the next painted frame [default: 100]

It takes Debian's chromium and chromium-driver. QUORATE_PROFILE=release in the environment measures what is shipped.
";

struct Options {
    plan: Plan,
    frames_min: f64,
    jump_ms_max: f64,
    json: bool,
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.iter().any(|arg| matches!(arg.as_str(), "--help" | "-h" | "help")) {
        print!("{HELP}");
        return ExitCode::SUCCESS;
    }
    match options(&args).and_then(|options| run(&options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lab-speed: FAILED: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    let before = load();
    let figures = measure(&options.plan)?;
    if options.json {
        println!("{}", figures.json());
    } else {
        print!("{}", figures.table());
        println!("load of the machine: {before} before, {} after", load());
    }
    figures.judge(options.frames_min, options.jump_ms_max)
}

/// Of the last minute, the last five, and the last fifteen.
fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

fn options(args: &[String]) -> Result<Options> {
    let mut options = Options {
        plan: Plan::default(),
        frames_min: FRAMES_MIN,
        jump_ms_max: JUMP_MS_MAX,
        json: false,
    };
    let mut args = args.iter();
    while let Some(name) = args.next() {
        let value = args.next().with_context(|| format!("{name} needs a value\n\n{HELP}"))?;
        let plan = &mut options.plan;
        match name.as_str() {
            "--seconds" => plan.seconds = value.parse().context("--seconds")?,
            "--speed" => plan.slower = value.parse().context("--speed")?,
            "--events" => plan.events = value.parse().context("--events")?,
            "--jumps" => plan.jumps = value.parse().context("--jumps")?,
            "--seed" => plan.seed = value.parse().context("--seed")?,
            "--frames-min" => options.frames_min = value.parse().context("--frames-min")?,
            "--jump-ms-max" => options.jump_ms_max = value.parse().context("--jump-ms-max")?,
            "--format" => {
                options.json = match value.as_str() {
                    "json" => true,
                    "text" => false,
                    other => bail!("--format: {other:?} is neither text nor json"),
                }
            }
            _ => bail!("no option {name:?}\n\n{HELP}"),
        }
    }
    Ok(options)
}
