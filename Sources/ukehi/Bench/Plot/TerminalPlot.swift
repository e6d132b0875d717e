// Throughput over time, drawn with characters.
//
//   operations/s
//    200k │          ▂▄▆██
//    100k │▅▆▇███████████
//       0 ┼─────▲──▲────────
//         0     2       4 s        ▲ l: a split by load

import UkehiNode

/// A picture for a terminal.
enum TerminalPlot {
    private static let eighths = Array(" ▁▂▃▄▅▆▇█")

    /// The lines of the picture, `width` characters wide at most; none without samples.
    static func lines(
        _ samples: [TimelineSample], splits: [SplitEvent], width: Int = 78, rows: Int = 10
    ) -> [String] {
        guard let last = samples.last, last.seconds > 0 else { return [] }
        let scale = PlotScale(
            reaching: samples.map(\.operationsPerSecond).max() ?? 0, marks: rows / 2)
        let margin = max(scale.marks.map { PlotScale.text($0).count }.max() ?? 0, 1) + 2
        let columns = max(width - margin - 1, 10)
        let heights = bars(samples, end: last.seconds, columns: columns).map {
            Int(($0 / scale.end * Double(rows * 8)).rounded())
        }
        var lines = [String(repeating: " ", count: margin) + "operations/s"]
        for row in stride(from: rows - 1, through: 0, by: -1) {
            // A mark stands at the row whose upper edge it is.
            let mark = scale.marks.first {
                Int(($0 / scale.end * Double(rows)).rounded()) == row + 1
            }
            let label = mark.map(PlotScale.text) ?? ""
            let bar = heights.map { eighths[min(max($0 - row * 8, 0), 8)] }
            lines.append(trimmed(BenchFormat.padded(label, margin - 2) + " │" + String(bar)))
        }
        var axis = [Character](repeating: "─", count: columns)
        var letters = [Character](repeating: " ", count: columns)
        for split in splits where split.seconds >= 0 && split.seconds <= last.seconds {
            let column = min(Int(split.seconds / last.seconds * Double(columns)), columns - 1)
            axis[column] = "▲"
            // Of several the first that came.
            if letters[column] == " " { letters[column] = split.reason.letter }
        }
        lines.append(BenchFormat.padded("0", margin - 2) + " ┼" + String(axis))
        if letters.contains(where: { $0 != " " }) {
            lines.append(trimmed(String(repeating: " ", count: margin) + String(letters)))
        }
        lines.append(
            trimmed(
                String(repeating: " ", count: margin) + times(end: last.seconds, columns: columns)))
        let reasons = Set(splits.map(\.reason)).sorted { $0.rawValue < $1.rawValue }
        if !reasons.isEmpty {
            lines.append(
                String(repeating: " ", count: margin) + "▲ splits: "
                    + reasons.map { reason in
                        "\(splits.count { $0.reason == reason }) by \(reason) (\(reason.letter))"
                    }.joined(separator: ", "))
        }
        return lines
    }

    /// The mean rate of the time that each column stands for.
    static func bars(_ samples: [TimelineSample], end: Double, columns: Int) -> [Double] {
        var bars: [Double] = []
        var position = 0
        for column in 0..<columns {
            let from = end * Double(column) / Double(columns)
            let to = end * Double(column + 1) / Double(columns)
            while position < samples.count - 1, samples[position].seconds <= from { position += 1 }
            var area = 0.0
            var at = from
            for sample in samples[position...] where at < to {
                let until = min(sample.seconds, to)
                if until > at {
                    area += sample.operationsPerSecond * (until - at)
                    at = until
                }
            }
            bars.append(area / (to - from))
        }
        return bars
    }

    private static func times(end: Double, columns: Int) -> String {
        var text = [Character](repeating: " ", count: columns + 8)
        let scale = PlotScale(reaching: end, marks: 6)
        for mark in scale.marks where mark <= end {
            let label = PlotScale.text(mark) + (mark == 0 ? "" : " s")
            let column = Int(mark / end * Double(columns))
            let start = min(column, columns - label.count)
            guard start >= 0 else { continue }
            for (offset, character) in label.enumerated() { text[start + offset] = character }
        }
        return String(text)
    }

    private static func trimmed(_ line: String) -> String {
        var line = line
        while line.last == " " { line.removeLast() }
        return line
    }
}
