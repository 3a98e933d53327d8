//! Aligned columns, as Go's tabwriter lays them out for docker.

const MIN_WIDTH: usize = 10;
const PADDING: usize = 3;

/// Aligns the cells of `text`, which tabs separate. The last cell of a line is not padded. What an
/// image says of itself must not steer the terminal: control characters are replaced.
pub(crate) fn align(text: &str) -> String {
    align_with(text, MIN_WIDTH, PADDING)
}

/// As [`align`], with columns that are at least `least` wide and `padding` apart.
pub(crate) fn align_with(text: &str, least: usize, padding: usize) -> String {
    let steers = |sign: char| sign.is_control() && !matches!(sign, '\n' | '\t');
    let text = text.replace(steers, "\u{fffd}");
    let lines: Vec<Vec<&str>> = text
        .lines()
        .map(|line| line.split('\t').collect())
        .collect();
    let mut widths: Vec<Vec<usize>> = lines.iter().map(|cells| vec![0; cells.len() - 1]).collect();
    let columns = widths.iter().map(Vec::len).max().unwrap_or(0);
    for column in 0..columns {
        let mut start = 0;
        // A column is a run of lines that have a cell after this one.
        while start < lines.len() {
            let length = widths[start..]
                .iter()
                .take_while(|widths| widths.len() > column)
                .count();
            let cells = lines[start..start + length].iter();
            let width = cells.map(|cells| cells[column].chars().count()).max();
            let width = (width.unwrap_or(0) + padding).max(least);
            for widths in &mut widths[start..start + length] {
                widths[column] = width;
            }
            start += length.max(1);
        }
    }
    let mut aligned = String::with_capacity(text.len() * 2);
    for (cells, widths) in lines.iter().zip(&widths) {
        for (column, cell) in cells.iter().enumerate() {
            aligned.push_str(cell);
            if let Some(width) = widths.get(column) {
                let padding = width - cell.chars().count();
                aligned.extend(std::iter::repeat_n(' ', padding));
            }
        }
        aligned.push('\n');
    }
    aligned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_replaced() {
        assert_eq!(
            align("a\tb\u{1b}[2Jc\u{9b}\n"),
            "a         b\u{fffd}[2Jc\u{fffd}\n"
        );
    }

    #[test]
    fn columns_are_ten_wide_at_least_and_three_apart() {
        assert_eq!(
            align("REPOSITORY\tTAG\tIMAGE ID\tSIZE\n"),
            "REPOSITORY   TAG       IMAGE ID   SIZE\n"
        );
        assert_eq!(
            align("ID\tSIZE\tCOMMENT\n0123456789abcdef\t0B\t\n"),
            "ID                 SIZE      COMMENT\n0123456789abcdef   0B        \n"
        );
    }

    #[test]
    fn width_is_counted_in_characters() {
        assert_eq!(
            align("A\tB\n…23456789\tx\n"),
            "A           B\n…23456789   x\n"
        );
    }
}
