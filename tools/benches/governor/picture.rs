//! Temperature and throughput over an hour, as a picture that needs no library.

use std::fmt::Write as _;

use super::boards::LIMIT_C;
use super::race::Outcome;

const WIDTH: f64 = 860.0;
const LEFT: f64 = 52.0;
const RIGHT: f64 = 828.0;
/// Top and bottom of the two panels.
const WARMTH: (f64, f64) = (74.0, 270.0);
const WORK: (f64, f64) = (306.0, 450.0);
const HEIGHT: f64 = 486.0;
/// Seconds that a point stands for.
const BIN: usize = 20;
const COLOURS: [(&str, &str, f64); 6] = [
    ("oracle", "#222222", 1.2),
    ("trip", "#d62728", 0.8),
    ("hysteresis", "#9467bd", 0.9),
    ("PI", "#2ca02c", 1.1),
    ("step-wise", "#e08214", 1.1),
    ("lineside", "#1f5fd0", 2.0),
];

pub(crate) fn svg(title: &str, curves: &[(&str, Outcome)]) -> String {
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"12\" fill=\"#333\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>\n\
         <text x=\"{LEFT}\" y=\"20\" font-size=\"15\" font-weight=\"bold\">{title}</text>\n"
    );
    legend(&mut out, curves);
    let hottest = curves
        .iter()
        .map(|(_, outcome)| outcome.hottest_c)
        .fold(LIMIT_C, f64::max);
    let (low, high) = (50.0, (hottest / 5.0).ceil() * 5.0);
    let panel = Panel {
        top: WARMTH.0,
        bottom: WARMTH.1,
        low,
        high,
    };
    panel.frame(&mut out, 10.0, "junction, °C", 0);
    let y = panel.y(LIMIT_C);
    let _ = writeln!(
        out,
        "<path d=\"M{LEFT} {y:.1}H{RIGHT}\" stroke=\"#b00020\" stroke-dasharray=\"5 3\"/>\
         <text x=\"{LEFT}\" dx=\"6\" y=\"{y:.1}\" dy=\"-4\" fill=\"#b00020\">limit</text>"
    );
    for (name, outcome) in curves {
        let points = binned(&outcome.celsius, |bin| {
            bin.iter().copied().fold(0.0, f64::max)
        });
        panel.curve(&mut out, name, &points);
    }
    let panel = Panel {
        top: WORK.0,
        bottom: WORK.1,
        low: 0.0,
        high: 1.0,
    };
    panel.frame(
        &mut out,
        0.25,
        "work done, share of the engine at its best",
        2,
    );
    for (name, outcome) in curves {
        let points = binned(&outcome.done, |bin| {
            bin.iter().sum::<f64>() / bin.len() as f64
        });
        panel.curve(&mut out, name, &points);
    }
    for minute in (0..=60).step_by(10) {
        let x = LEFT + (RIGHT - LEFT) * f64::from(minute) / 60.0;
        let _ = writeln!(
            out,
            "<text x=\"{x:.0}\" y=\"468\" text-anchor=\"middle\">{minute} min</text>"
        );
    }
    out + "</svg>\n"
}

fn legend(out: &mut String, curves: &[(&str, Outcome)]) {
    let most = curves.first().map_or(1.0, |(_, oracle)| oracle.work);
    let mut x = LEFT;
    for (name, outcome) in curves {
        let (colour, width) = style(name);
        let share = outcome.work / most * 100.0;
        let words = format!("{name} {share:.0} %");
        let _ = writeln!(
            out,
            "<path d=\"M{x:.0} 38h18\" stroke=\"{colour}\" stroke-width=\"{}\"/>\
             <text x=\"{:.0}\" y=\"42\">{words}</text>",
            width + 1.0,
            x + 23.0
        );
        x += 50.0 + 6.6 * words.chars().count() as f64;
    }
}

fn style(name: &str) -> (&'static str, f64) {
    let known = COLOURS.iter().find(|(known, ..)| *known == name);
    known.map_or(("#777777", 1.0), |(_, colour, width)| (colour, *width))
}

fn binned(values: &[f64], of: impl Fn(&[f64]) -> f64) -> Vec<f64> {
    values.chunks(BIN).map(of).collect()
}

struct Panel {
    top: f64,
    bottom: f64,
    low: f64,
    high: f64,
}

impl Panel {
    fn y(&self, value: f64) -> f64 {
        let share = ((value - self.low) / (self.high - self.low)).clamp(0.0, 1.0);
        self.bottom - share * (self.bottom - self.top)
    }

    fn frame(&self, out: &mut String, step: f64, words: &str, digits: usize) {
        let _ = writeln!(
            out,
            "<text x=\"{LEFT}\" y=\"{:.0}\" fill=\"#666\">{words}</text>",
            self.top - 4.0
        );
        let mut value = self.low;
        while value <= self.high + 1e-9 {
            let y = self.y(value);
            let _ = writeln!(
                out,
                "<path d=\"M{LEFT} {y:.1}H{RIGHT}\" stroke=\"#e4e4e4\"/>\
                 <text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{value:.digits$}</text>",
                LEFT - 6.0,
                y + 4.0
            );
            value += step;
        }
    }

    fn curve(&self, out: &mut String, name: &str, points: &[f64]) {
        let (colour, width) = style(name);
        let mut path = String::new();
        for (i, value) in points.iter().enumerate() {
            let x = LEFT + (RIGHT - LEFT) * (i as f64 + 0.5) / points.len() as f64;
            let command = if i == 0 { 'M' } else { 'L' };
            let _ = write!(path, "{command}{x:.0} {:.1}", self.y(*value));
        }
        let _ = writeln!(
            out,
            "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{width}\"/>"
        );
    }
}
