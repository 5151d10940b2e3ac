//! The files of the page, in the binary.

/// A file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asset {
    path: &'static str,
    /// Its media type.
    pub(crate) kind: &'static str,
    /// What is in it.
    pub(crate) bytes: &'static [u8],
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

macro_rules! assets {
    ($($path:literal: $kind:ident = $file:literal),* $(,)?) => {
        &[$(Asset { path: $path, kind: $kind, bytes: include_bytes!(concat!("../page/", $file)) }),*]
    };
}

static ASSETS: &[Asset] = assets![
    "/": HTML = "index.html",
    "/style.css": CSS = "style.css",
    "/favicon.svg": SVG = "favicon.svg",
    "/app.js": SCRIPT = "app.js",
    "/api.js": SCRIPT = "api.js",
    "/recording.js": SCRIPT = "recording.js",
    "/stage.js": SCRIPT = "stage.js",
    "/labels.js": SCRIPT = "labels.js",
    "/panels.js": SCRIPT = "panels.js",
    "/story.js": SCRIPT = "story.js",
    "/timeline.js": SCRIPT = "timeline.js",
    "/tour.js": SCRIPT = "tour.js",
    "/compare.js": SCRIPT = "compare.js",
    "/trace.js": SCRIPT = "trace.js",
    "/traces.js": SCRIPT = "traces.js",
    "/words.js": SCRIPT = "words.js",
];

/// The file of this path.
pub(crate) fn find(path: &str) -> Option<Asset> {
    ASSETS.iter().find(|asset| asset.path == path).copied()
}
