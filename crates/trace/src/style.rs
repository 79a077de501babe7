//! Colours, as far as they tell how bad a line is.

/// Foreground colours that tools use to say something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Colour {
    #[default]
    Plain,
    Red,
    Green,
    Yellow,
    /// Warnings of gcc and clang.
    Magenta,
    Other,
}

/// The pen: what an SGR sequence leaves behind for the text after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Style {
    pub(crate) colour: Colour,
    pub(crate) bold: bool,
}

impl Style {
    /// Applies the parameters of one SGR sequence (`31;1`).
    pub(crate) fn apply(&mut self, parameters: &[u8]) {
        let mut codes = parameters.split(|&byte| byte == b';').map(code);
        while let Some(code) = codes.next() {
            match code {
                0 => *self = Self::default(),
                1 => self.bold = true,
                21 | 22 => self.bold = false,
                31 | 91 => self.colour = Colour::Red,
                32 | 92 => self.colour = Colour::Green,
                33 | 93 => self.colour = Colour::Yellow,
                35 | 95 => self.colour = Colour::Magenta,
                30..=37 | 90..=97 => self.colour = Colour::Other,
                39 => self.colour = Colour::Plain,
                38 | 48 | 58 => {
                    let palette = codes.next() == Some(5);
                    let index = codes.next();
                    if !palette {
                        codes.nth(1);
                    }
                    if code == 38 {
                        self.colour = if palette {
                            indexed(index)
                        } else {
                            Colour::Other
                        };
                    }
                }
                _ => {}
            }
        }
    }
}

/// The first 16 colours of the palette are those of the plain codes.
fn indexed(index: Option<u32>) -> Colour {
    match index {
        Some(1 | 9) => Colour::Red,
        Some(2 | 10) => Colour::Green,
        Some(3 | 11) => Colour::Yellow,
        Some(5 | 13) => Colour::Magenta,
        _ => Colour::Other,
    }
}

/// An empty parameter is 0; one with colons or other marks is none that counts here.
fn code(parameter: &[u8]) -> u32 {
    parameter.iter().fold(0, |sum: u32, &byte| match byte {
        b'0'..=b'9' => sum
            .saturating_mul(10)
            .saturating_add(u32::from(byte - b'0')),
        _ => u32::MAX,
    })
}

/// Coloured spans remembered per line. A rule looks at the first few; a rainbow says nothing.
const SPANS: usize = 4;

/// Where in a line's text the pen changed.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Spans {
    starts: [(usize, Style); SPANS],
    len: usize,
}

impl Spans {
    pub(crate) fn clear(&mut self) {
        self.len = 0;
    }

    /// Text in `style` begins at byte `start`.
    pub(crate) fn note(&mut self, start: usize, style: Style) {
        if self.len > 0 && self.starts[self.len - 1].0 == start {
            self.len -= 1;
        }
        if self.len < SPANS {
            self.starts[self.len] = (start, style);
            self.len += 1;
        }
    }

    /// The spans, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, Style)> + '_ {
        self.starts[..self.len].iter().copied()
    }

    /// The pen at the first character.
    pub(crate) fn first(&self) -> Style {
        if self.len > 0 {
            self.starts[0].1
        } else {
            Style::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn style(sequences: &[&str]) -> (Colour, bool) {
        let mut style = Style::default();
        for parameters in sequences {
            style.apply(parameters.as_bytes());
        }
        (style.colour, style.bold)
    }

    #[test]
    fn codes_as_tools_write_them() {
        for (sequences, expected) in [
            (&["31;1"][..], (Colour::Red, true)),
            (&["0;33"], (Colour::Yellow, false)),
            (&["01;35"], (Colour::Magenta, true)),
            (&["31;1", "0;"], (Colour::Plain, false)),
            (&["31;1", ""], (Colour::Plain, false)),
            (&["1", "38;5;9"], (Colour::Red, true)),
            (&["38;2;31;31;31"], (Colour::Other, false)),
            (&["38;5;12"], (Colour::Other, false)),
            (&["48;5;31"], (Colour::Plain, false)),
            (&["31", "39"], (Colour::Plain, false)),
            (&["4:3"], (Colour::Plain, false)),
            (&["99999999999999999999"], (Colour::Plain, false)),
        ] {
            assert_eq!(style(sequences), expected, "{sequences:?}");
        }
    }
}
