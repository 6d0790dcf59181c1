//! Hit rates as a picture: SVG that needs nothing but itself.
//!
//! Always true: the same figures give the same bytes; each mark carries its figure as a title, which viewers show.

use std::fmt::Write as _;

use super::eviction::Rows;

const WIDTH: f64 = 1040.0;
const HEIGHT: f64 = 460.0;
/// The field of the marks within the picture.
const LEFT: f64 = 70.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 70.0;
const BOTTOM: f64 = 60.0;
/// Part of a place's width that its bars take together.
const GROUP: f64 = 0.8;
/// Lines across the field: every fifth.
const STEPS: u32 = 5;
/// A color for each policy, told apart by colour-blind people too (Okabe and Ito), and grey for the optimum.
const COLORS: [&str; 6] = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00"];
const OPTIMUM: &str = "#777777";

/// How figures are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Marks {
    /// A group of bars at each place.
    Bars,
    /// A line through all places for each policy.
    Lines,
}

/// Hit rates of policies at places of an axis.
#[derive(Debug)]
pub(super) struct Chart {
    marks: Marks,
    title: String,
    axis: &'static str,
    places: Vec<String>,
    /// A row for each policy, the optimum last: its hit rate at each place.
    series: Vec<(&'static str, Vec<f64>)>,
}

impl Chart {
    /// A chart with nothing on it. `axis` says what its places are.
    pub(super) fn new(marks: Marks, title: String, axis: &'static str) -> Self {
        Self { marks, title, axis, places: Vec::new(), series: Vec::new() }
    }

    /// Adds a place: what each policy does there.
    pub(super) fn add(&mut self, place: String, rows: &Rows) {
        self.places.push(place);
        if self.series.is_empty() {
            self.series = rows.iter().map(|(name, _)| (*name, Vec::new())).collect();
        }
        for ((_, rates), (_, outcome)) in self.series.iter_mut().zip(rows) {
            rates.push(outcome.hit_rate());
        }
    }

    /// The picture.
    pub(super) fn svg(&self) -> String {
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" \
             height=\"{HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
        );
        text(&mut svg, (LEFT, 24.0), "start", "font-size=\"15\" font-weight=\"bold\"", &self.title);
        self.legend(&mut svg);
        self.axes(&mut svg);
        // The first policy, the default, lies above the others where their lines meet.
        for (index, (name, rates)) in self.series.iter().enumerate().rev() {
            match self.marks {
                Marks::Bars => self.bars(&mut svg, index, name, rates),
                Marks::Lines => self.line(&mut svg, index, name, rates),
            }
        }
        svg.push_str("</svg>\n");
        svg
    }

    fn legend(&self, svg: &mut String) {
        for (index, (name, _)) in self.series.iter().enumerate() {
            let x = LEFT + 110.0 * index as f64;
            let color = self.color(index);
            line(svg, format_args!("<rect x=\"{x:.1}\" y=\"38\" width=\"14\" height=\"14\" fill=\"{color}\"/>"));
            text(svg, (x + 20.0, 50.0), "start", "", name);
        }
    }

    fn axes(&self, svg: &mut String) {
        for step in 0..=STEPS {
            let rate = f64::from(step) / f64::from(STEPS);
            let (y, right) = (height_of(rate), WIDTH - RIGHT);
            let color = if step == 0 { "black" } else { "#dddddd" };
            line(
                svg,
                format_args!("<line x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\" stroke=\"{color}\"/>"),
            );
            text(svg, (LEFT - 8.0, y + 4.0), "end", "", &format!("{rate:.1}"));
        }
        let middle = (TOP + HEIGHT - BOTTOM) / 2.0;
        let turned = format!("transform=\"rotate(-90 20 {middle:.1})\"");
        text(svg, (20.0, middle), "middle", &turned, "hit rate (part of reads, 0 to 1)");
        for (place, name) in self.places.iter().enumerate() {
            text(svg, (self.center(place), HEIGHT - BOTTOM + 20.0), "middle", "font-size=\"11\"", name);
        }
        text(svg, ((LEFT + WIDTH - RIGHT) / 2.0, HEIGHT - 14.0), "middle", "", self.axis);
    }

    fn bars(&self, svg: &mut String, index: usize, name: &str, rates: &[f64]) {
        let width = self.place_width() * GROUP / self.series.len() as f64;
        let color = self.color(index);
        for (place, rate) in rates.iter().enumerate() {
            let x = self.center(place) - self.place_width() * GROUP / 2.0 + width * index as f64;
            let (y, height) = (height_of(*rate), height_of(0.0) - height_of(*rate));
            let of = &self.places[place];
            line(
                svg,
                format_args!(
                    "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{color}\">\
                     <title>{name}, {of}: {rate:.4}</title></rect>"
                ),
            );
        }
    }

    fn line(&self, svg: &mut String, index: usize, name: &str, rates: &[f64]) {
        let color = self.color(index);
        let points: Vec<(f64, f64)> =
            rates.iter().enumerate().map(|(place, rate)| (self.center(place), height_of(*rate))).collect();
        let joined: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let joined = joined.join(" ");
        let dashes = if self.is_optimum(index) { " stroke-dasharray=\"6 4\"" } else { "" };
        line(
            svg,
            format_args!("<polyline points=\"{joined}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2\"{dashes}/>"),
        );
        for (((x, y), rate), of) in points.iter().zip(rates).zip(&self.places) {
            line(
                svg,
                format_args!(
                    "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"{color}\">\
                     <title>{name}, {of}: {rate:.4}</title></circle>"
                ),
            );
        }
    }

    fn place_width(&self) -> f64 {
        (WIDTH - LEFT - RIGHT) / self.places.len().max(1) as f64
    }

    fn center(&self, place: usize) -> f64 {
        LEFT + self.place_width() * (place as f64 + 0.5)
    }

    fn is_optimum(&self, index: usize) -> bool {
        index + 1 == self.series.len()
    }

    fn color(&self, index: usize) -> &'static str {
        if self.is_optimum(index) { OPTIMUM } else { COLORS[index % COLORS.len()] }
    }
}

/// How far down a hit rate is drawn.
fn height_of(rate: f64) -> f64 {
    HEIGHT - BOTTOM - rate * (HEIGHT - BOTTOM - TOP)
}

fn text(svg: &mut String, (x, y): (f64, f64), anchor: &str, more: &str, words: &str) {
    let gap = if more.is_empty() { "" } else { " " };
    line(svg, format_args!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\"{gap}{more}>{words}</text>"));
}

fn line(svg: &mut String, line: std::fmt::Arguments<'_>) {
    // A string takes everything.
    let _ = writeln!(svg, "{line}");
}

#[cfg(test)]
mod tests {
    use forebay_store::Outcome;

    use super::*;

    fn chart(marks: Marks) -> Chart {
        let mut chart = Chart::new(marks, "A title".to_owned(), "an axis");
        let outcome = |hits| Outcome { accesses: 4, hits, ..Outcome::default() };
        chart.add("first".to_owned(), &vec![("lru", outcome(1)), ("optimum", outcome(2))]);
        chart.add("second".to_owned(), &vec![("lru", outcome(0)), ("optimum", outcome(4))]);
        chart
    }

    #[test]
    fn bars_stand_on_the_axis_and_are_as_high_as_their_rates() {
        let svg = chart(Marks::Bars).svg();
        // The field is 330 high, from 70 to 400; a place is 475 wide.
        for bar in [
            r##"<rect x="117.5" y="317.5" width="190.0" height="82.5" fill="#0072b2"><title>lru, first: 0.2500</title>"##,
            r##"<rect x="307.5" y="235.0" width="190.0" height="165.0" fill="#777777"><title>optimum, first: 0.5000</title>"##,
            r##"<rect x="782.5" y="70.0" width="190.0" height="330.0" fill="#777777"><title>optimum, second: 1.0000</title>"##,
            r##"height="0.0" fill="#0072b2"><title>lru, second: 0.0000</title>"##,
        ] {
            assert!(svg.contains(bar), "{bar} is missing in:\n{svg}");
        }
    }

    #[test]
    fn lines_go_through_their_rates() {
        let svg = chart(Marks::Lines).svg();
        assert!(svg.contains(r##"points="307.5,317.5 782.5,400.0" fill="none" stroke="#0072b2" stroke-width="2"/>"##));
        assert!(svg.contains(r##"points="307.5,235.0 782.5,70.0" fill="none" stroke="#777777""##), "{svg}");
        assert_eq!(svg.matches("<circle").count(), 4);
    }

    #[test]
    fn a_chart_says_what_it_shows() {
        for marks in [Marks::Bars, Marks::Lines] {
            let svg = chart(marks).svg();
            for words in [
                ">A title<",
                ">an axis<",
                ">first<",
                ">second<",
                ">lru<",
                ">optimum<",
                ">hit rate (part of reads",
                ">0.8<",
            ] {
                assert!(svg.contains(words), "{words} is missing in:\n{svg}");
            }
            assert_eq!(svg, chart(marks).svg());
        }
    }
}
