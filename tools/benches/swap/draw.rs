//! The picture: each request's latency over time, with the parts of each swap behind it.

use std::fmt::Write as _;
use std::time::Duration;

use super::{Answered, Marks};

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 76.0;
const TOP: f64 = 44.0;
const BOTTOM: f64 = 36.0;
/// Latencies are drawn on a logarithmic scale between these, in milliseconds.
const LOW_MS: f64 = 1.0;
const HIGH_MS: f64 = 100_000.0;

pub(crate) fn svg(title: &str, answered: &[Answered], marks: &[Marks]) -> String {
    let end = answered.iter().map(|(asked, _)| *asked).max();
    let end = end.unwrap_or(Duration::from_secs(1)).as_secs_f64();
    let x = |at: Duration| LEFT + (WIDTH - LEFT - 12.0) * at.as_secs_f64() / end;
    let y = |ms: f64| {
        let share = (ms.clamp(LOW_MS, HIGH_MS) / LOW_MS).log10() / (HIGH_MS / LOW_MS).log10();
        HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * share
    };
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"12\" fill=\"#333\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>\n\
         <text x=\"{LEFT}\" y=\"18\" font-size=\"15\" font-weight=\"bold\">{title}</text>\n\
         <text x=\"{LEFT}\" y=\"36\">latency of each request; grey: the gate, orange: the trial, \
         line: the switch</text>\n"
    );
    for it in marks {
        for (from, to, colour) in [
            (it.gate, it.trial, "#e4e4e4"),
            (it.trial, it.committed, "#fbe3c6"),
        ] {
            let (left, width) = (x(from), x(to) - x(from));
            let height = HEIGHT - BOTTOM - TOP;
            let _ = writeln!(
                out,
                "<rect x=\"{left:.1}\" y=\"{TOP}\" width=\"{width:.1}\" height=\"{height}\" \
                 fill=\"{colour}\"/>"
            );
        }
        let at = x(it.switched);
        let _ = writeln!(
            out,
            "<line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{}\" stroke=\"#c0392b\"/>",
            HEIGHT - BOTTOM
        );
    }
    for ms in [1.0, 10.0, 100.0, 1000.0, 10_000.0, 100_000.0] {
        let (at, right) = (y(ms), WIDTH - 12.0);
        let _ = writeln!(
            out,
            "<line x1=\"{LEFT}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#ccc\"/>\n\
             <text x=\"4\" y=\"{:.1}\">{ms} ms</text>",
            at + 4.0
        );
    }
    for (asked, took) in answered {
        let _ = writeln!(
            out,
            "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"1.2\" fill=\"#1f5fd0\"/>",
            x(*asked),
            y(took.as_secs_f64() * 1000.0)
        );
    }
    let _ = writeln!(
        out,
        "<text x=\"{LEFT}\" y=\"{}\">0 s</text><text x=\"{}\" y=\"{}\" \
         text-anchor=\"end\">{end:.0} s</text>\n</svg>",
        HEIGHT - 12.0,
        WIDTH - 12.0,
        HEIGHT - 12.0
    );
    out
}
