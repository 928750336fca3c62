//! As much of PDF 1.4 (ISO 32000) as lines of text on A4 need.

use std::fmt::Write as _;

/// A4 in points, and its margins.
const WIDTH: u32 = 595;
const HEIGHT: u32 = 842;
const MARGIN: u32 = 54;

/// Which of the fonts that every reader has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Font {
    /// Helvetica.
    Plain,
    /// The same, bold.
    Bold,
}

/// Widths of Helvetica's printable ASCII, in thousandths of the size.
const WIDTHS: [u32; 95] = [
    278, 278, 355, 556, 556, 889, 667, 191, 333, 333, 389, 584, 278, 333, 278, 278, 556, 556, 556, 556, 556,
    556, 556, 556, 556, 556, 278, 278, 584, 584, 584, 556, 1015, 667, 667, 722, 722, 667, 611, 778, 722, 278,
    500, 667, 556, 833, 722, 778, 667, 778, 722, 667, 611, 722, 667, 944, 667, 667, 611, 278, 278, 278, 469,
    556, 333, 556, 556, 500, 556, 556, 278, 556, 556, 222, 222, 500, 222, 833, 556, 556, 556, 556, 333, 500,
    278, 556, 500, 722, 500, 500, 500, 334, 260, 334, 584,
];

/// A text's width, in thousandths of a point at size 1.
fn width(font: Font, text: &str) -> u32 {
    let one = |c: char| {
        let at = u32::from(c).checked_sub(32).and_then(|at| usize::try_from(at).ok());
        at.and_then(|at| WIDTHS.get(at)).copied().unwrap_or(600)
    };
    let plain: u32 = text.chars().map(one).fold(0, u32::saturating_add);
    // Bold letters are up to a tenth wider.
    if font == Font::Bold { plain.saturating_add(plain / 10) } else { plain }
}

/// A document that grows from top to bottom.
pub(super) struct Document {
    pages: Vec<String>,
    /// From the bottom of the page.
    y: u32,
}

impl Document {
    pub(super) fn new() -> Self {
        Self { pages: vec![String::new()], y: HEIGHT - MARGIN }
    }

    /// Leaves room.
    pub(super) fn gap(&mut self, points: u32) {
        self.y = self.y.saturating_sub(points);
    }

    /// Goes on where so many points are left, on this page or the next.
    pub(super) fn room(&mut self, points: u32) {
        if self.y < MARGIN + points {
            self.turn();
        }
    }

    /// A heading that does not stand alone at the end of a page.
    pub(super) fn heading(&mut self, text: &str) {
        self.gap(14);
        self.room(100);
        self.text(Font::Bold, 13, text);
        self.gap(3);
    }

    /// A paragraph, broken into lines.
    pub(super) fn text(&mut self, font: Font, size: u32, text: &str) {
        let room = (WIDTH - 2 * MARGIN) * 1000 / size;
        for line in lines(font, text, room) {
            let leading = size + size * 2 / 5;
            if self.y < MARGIN + leading {
                self.turn();
            }
            self.y -= leading;
            let name = if font == Font::Bold { "B" } else { "R" };
            let y = self.y;
            if let Some(page) = self.pages.last_mut() {
                let _ = writeln!(page, "BT /{name} {size} Tf {MARGIN} {y} Td ({}) Tj ET", escaped(&line));
            }
        }
    }

    fn turn(&mut self) {
        self.pages.push(String::new());
        self.y = HEIGHT - MARGIN;
    }

    /// The file.
    pub(super) fn finish(self) -> Vec<u8> {
        let count = self.pages.len();
        let mut objects = vec![
            "<< /Type /Catalog /Pages 2 0 R >>".to_owned(),
            String::new(),
            font("Helvetica"),
            font("Helvetica-Bold"),
        ];
        let mut kids = String::new();
        for (page, number) in self.pages.iter().zip(1..) {
            let foot = format!("BT /R 8 Tf {MARGIN} 30 Td (Page {number} of {count}) Tj ET\n");
            let content = format!("{page}{foot}");
            let at = objects.len() + 1;
            let _ = write!(kids, "{at} 0 R ");
            objects.push(format!(
                "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {WIDTH} {HEIGHT}] /Contents {} 0 R \
                /Resources << /Font << /R 3 0 R /B 4 0 R >> >> >>",
                at + 1
            ));
            // Escaped to ASCII, so that characters are bytes.
            objects.push(format!("<< /Length {} >>\nstream\n{content}endstream", content.len()));
        }
        if let Some(pages) = objects.get_mut(1) {
            *pages = format!("<< /Type /Pages /Kids [{}] /Count {count} >>", kids.trim_end());
        }
        file(&objects)
    }
}

fn font(name: &str) -> String {
    format!("<< /Type /Font /Subtype /Type1 /BaseFont /{name} /Encoding /WinAnsiEncoding >>")
}

/// Objects, their places, and the end.
fn file(objects: &[String]) -> Vec<u8> {
    let mut out = "%PDF-1.4\n".to_owned();
    let mut places = Vec::new();
    for (object, number) in objects.iter().zip(1..) {
        places.push(out.len());
        let _ = write!(out, "{number} 0 obj\n{object}\nendobj\n");
    }
    let (start, count) = (out.len(), objects.len() + 1);
    let _ = write!(out, "xref\n0 {count}\n0000000000 65535 f \n");
    for place in places {
        let _ = writeln!(out, "{place:010} 00000 n ");
    }
    let _ = write!(out, "trailer\n<< /Size {count} /Root 1 0 R >>\nstartxref\n{start}\n%%EOF\n");
    out.into_bytes()
}

/// A text for a string of PDF: Latin-1 as octal digits, nothing beyond it.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '(' | ')' | '\\' => out.extend(['\\', c]),
            ' '..='~' => out.push(c),
            '\u{a0}'..='\u{ff}' => {
                let _ = write!(out, "\\{:03o}", u32::from(c));
            }
            _ => out.push('?'),
        }
    }
    out
}

/// Breaks a text at blanks, and words that are too long anywhere.
fn lines(font: Font, text: &str, room: u32) -> Vec<String> {
    let mut all = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        let longer = if line.is_empty() { word.to_owned() } else { format!("{line} {word}") };
        if width(font, &longer) <= room {
            line = longer;
            continue;
        }
        if !line.is_empty() {
            all.push(std::mem::take(&mut line));
        }
        for c in word.chars() {
            line.push(c);
            if width(font, &line) > room {
                line.pop();
                all.push(std::mem::replace(&mut line, c.to_string()));
            }
        }
    }
    all.push(line);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_is_wider_than_its_room_and_no_letter_is_lost() {
        let text = format!("a short word and {} and more", "x".repeat(500));
        let broken = lines(Font::Plain, &text, 20_000);
        assert!(broken.iter().all(|line| width(Font::Plain, line) <= 20_000));
        let letters = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
        assert_eq!(letters(&broken.concat()), letters(&text));
    }

    #[test]
    fn a_string_ends_only_where_it_should() {
        assert_eq!(escaped("a) Tj ET (b\\"), "a\\) Tj ET \\(b\\\\");
        assert_eq!(escaped("é\u{1f600}\u{0}\n"), "\\351???");
    }

    #[test]
    fn every_object_lies_where_the_table_says() {
        let mut paper = Document::new();
        (0..300).for_each(|n| paper.text(Font::Plain, 10, &format!("line {n}")));
        let file = String::from_utf8(paper.finish()).unwrap();
        let table = file.split("xref\n").nth(1).unwrap();
        let places: Vec<usize> = table
            .lines()
            .filter(|line| line.ends_with(" n "))
            .map(|line| line[..10].parse().unwrap())
            .collect();
        assert!(places.len() > 10);
        for (place, number) in places.iter().zip(1..) {
            assert!(file[*place..].starts_with(&format!("{number} 0 obj\n")), "{number}");
        }
    }
}
