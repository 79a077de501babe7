//! A plot of memory over time, as an SVG that a browser shows beside the text of a document.

use std::fmt::Write as _;
use std::time::Duration;

use crate::memory::{LIMIT, MIB, Sample};

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 480.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 92.0;
const BOTTOM: f64 = 60.0;
/// The top of the vertical axis at least, and how many lines it has at most.
const MOST: u64 = 80 * MIB;
const LINES: u64 = 6;
/// Of a long course, the highest of each so many points is drawn.
const POINTS: usize = 400;
/// Lines of the horizontal axis, at most.
const TICKS: u64 = 10;

/// One program's memory.
pub(crate) struct Curve<'a> {
    pub(crate) name: String,
    pub(crate) colour: &'static str,
    pub(crate) samples: &'a [Sample],
}

/// A time in which something was otherwise.
pub(crate) struct Band {
    pub(crate) name: String,
    pub(crate) from: Duration,
    pub(crate) to: Duration,
}

/// All that is drawn.
pub(crate) struct Plot<'a> {
    pub(crate) title: &'a str,
    pub(crate) curves: Vec<Curve<'a>>,
    pub(crate) band: Band,
}

impl Plot<'_> {
    pub(crate) fn svg(&self) -> String {
        let title = self.title;
        let [x, y] = [WIDTH / 2.0, HEIGHT - 14.0];
        [
            format!(
                "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" \
                 height=\"{HEIGHT}\" font-family=\"system-ui, 'DejaVu Sans', sans-serif\" font-size=\"14\" \
                 fill=\"#24292f\" role=\"img\">\n<title>{title}</title>\n\
                 <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>\n"
            ),
            text(LEFT, 30.0, "start", "font-size=\"18\" font-weight=\"600\"", title),
            self.legend(),
            self.shade(),
            self.axes(),
            text(x, y, "middle", "", "seconds"),
            self.limit(),
            self.curves.iter().map(|curve| self.line(curve)).collect(),
            "</svg>\n".to_owned(),
        ]
        .concat()
    }

    /// The top of the vertical axis, and what its lines are apart.
    fn bytes(&self) -> (u64, u64) {
        let samples = self.curves.iter().flat_map(|curve| curve.samples);
        let highest = samples.map(|sample| sample.resident).max().unwrap_or(0);
        let top = highest.max(MOST);
        let steps = (4..).map(|power| MIB << power);
        let step = steps.into_iter().find(|step| top.div_ceil(*step) < LINES);
        let step = step.unwrap_or(MOST);
        (top.div_ceil(step) * step, step)
    }

    #[allow(clippy::cast_precision_loss, reason = "a picture is not that fine")]
    fn y(&self, bytes: u64) -> f64 {
        let (top, _) = self.bytes();
        HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * (bytes as f64 / top as f64)
    }

    /// The end of the horizontal axis, in seconds, and what its lines are apart.
    fn seconds(&self) -> (u64, u64) {
        let ends = self.curves.iter().filter_map(|curve| curve.samples.last());
        let end = ends
            .map(|sample| sample.at.as_secs() + 1)
            .max()
            .unwrap_or(1);
        let steps = [1, 2, 5, 10, 20, 30, 60, 120, 300, 600];
        let step = steps.into_iter().find(|step| end.div_ceil(*step) <= TICKS);
        let step = step.unwrap_or(1_800);
        (end.div_ceil(step) * step, step)
    }

    fn x(&self, at: Duration) -> f64 {
        let (end, _) = self.seconds();
        let end = Duration::from_secs(end).as_secs_f64();
        LEFT + (WIDTH - LEFT - RIGHT) * at.as_secs_f64() / end
    }

    fn axes(&self) -> String {
        let mut out = String::new();
        let right = WIDTH - RIGHT;
        let (top, step) = self.bytes();
        for bytes in (0..=top).step_by(usize::try_from(step).unwrap_or(usize::MAX)) {
            let y = self.y(bytes);
            out += &rule(LEFT, y, right, y, "stroke=\"#d8dee4\"");
            out += &text(LEFT - 8.0, y + 5.0, "end", "", &(bytes / MIB).to_string());
        }
        let (end, step) = self.seconds();
        for second in (0..=end).step_by(usize::try_from(step).unwrap_or(1)) {
            let x = self.x(Duration::from_secs(second));
            let foot = HEIGHT - BOTTOM;
            out += &rule(x, foot, x, foot + 5.0, "stroke=\"#57606a\"");
            out += &text(x, foot + 22.0, "middle", "", &second.to_string());
        }
        let middle = (TOP + HEIGHT - BOTTOM) / 2.0;
        let turned = format!("transform=\"rotate(-90 20 {middle:.1})\"");
        out + &text(20.0, middle, "middle", &turned, "resident memory, MiB")
    }

    fn legend(&self) -> String {
        let mut out = String::new();
        for (number, curve) in (0_u32..).zip(&self.curves) {
            let y = 52.0 + 20.0 * f64::from(number);
            let stroke = format!("stroke=\"{}\" stroke-width=\"3\"", curve.colour);
            out += &rule(LEFT, y, LEFT + 26.0, y, &stroke);
            out += &text(LEFT + 34.0, y + 5.0, "start", "", &curve.name);
        }
        out
    }

    fn shade(&self) -> String {
        let [from, to] = [self.band.from, self.band.to].map(|at| self.x(at));
        let height = HEIGHT - BOTTOM - TOP;
        let width = to - from;
        let middle = f64::midpoint(from, to);
        let name = text(
            middle,
            TOP + 16.0,
            "middle",
            "fill=\"#7d4e00\" font-size=\"12\"",
            &self.band.name,
        );
        format!(
            "<rect x=\"{from:.1}\" y=\"{TOP:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"#fff1d6\"/>\n{name}"
        )
    }

    fn limit(&self) -> String {
        let y = self.y(LIMIT);
        let stroke = "stroke=\"#cf222e\" stroke-width=\"1.5\" stroke-dasharray=\"7 5\"";
        let name = format!("limit: {} MiB", LIMIT / MIB);
        let right = WIDTH - RIGHT;
        let red = "fill=\"#cf222e\"";
        rule(LEFT, y, right, y, stroke) + &text(right - 4.0, y - 6.0, "end", red, &name)
    }

    fn line(&self, curve: &Curve<'_>) -> String {
        let mut points = String::new();
        for some in curve.samples.chunks(curve.samples.len() / POINTS + 1) {
            let highest = some.iter().max_by_key(|sample| sample.resident);
            if let Some(Sample { at, resident }) = highest {
                write!(points, "{:.1},{:.1} ", self.x(*at), self.y(*resident))
                    .expect("writing to a string cannot fail");
            }
        }
        format!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"1.8\" stroke-linejoin=\"round\"/>\n",
            points.trim_end(),
            curve.colour
        )
    }
}

fn rule(x1: f64, y1: f64, x2: f64, y2: f64, stroke: &str) -> String {
    format!("<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" {stroke}/>\n")
}

/// Text that stands at a place; none of ours has a character that XML would mind.
fn text(x: f64, y: f64, anchor: &str, more: &str, text: &str) -> String {
    format!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" {more}>{text}</text>\n")
}
