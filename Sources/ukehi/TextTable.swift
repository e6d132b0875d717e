// Aligned columns for people.

/// Rows of cells under a header, each column as wide as its widest cell.
struct TextTable {
    /// Where a column's cells stand.
    enum Alignment { case left, right }

    private let columns: [(title: String, alignment: Alignment)]
    private var rows: [[String]] = []

    init(_ columns: [(title: String, alignment: Alignment)]) { self.columns = columns }

    /// Adds a row; one cell per column.
    mutating func append(_ cells: [String]) { rows.append(cells) }

    /// The table's lines, without trailing spaces.
    var lines: [String] {
        let all = [columns.map(\.title)] + rows
        let widths = columns.indices.map { column in all.map { $0[column].count }.max() ?? 0 }
        return all.map { row in
            var line = ""
            for (column, cell) in row.enumerated() {
                let fill = String(repeating: " ", count: widths[column] - cell.count)
                line += columns[column].alignment == .left ? cell + fill : fill + cell
                line += "  "
            }
            while line.last == " " { line.removeLast() }
            return line
        }
    }
}
