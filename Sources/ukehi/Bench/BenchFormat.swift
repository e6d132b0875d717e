// Numbers as the reports print them.

/// Numbers for people.
enum BenchFormat {
    /// `1,234,567`; below ten with one decimal.
    static func count(_ value: Double) -> String {
        guard value.isFinite, value.magnitude < 1e15 else { return "-" }
        if value > 0 && value < 10 && value != value.rounded() { return fixed(value, 1) }
        let digits = String(Int(value.rounded()))
        var out = ""
        for (position, digit) in digits.enumerated() {
            if position > 0 && (digits.count - position) % 3 == 0 && digits.first != "-" {
                out.append(",")
            }
            out.append(digit)
        }
        return out
    }

    /// Three significant digits or so.
    static func ratio(_ value: Double) -> String {
        guard value.isFinite else { return "-" }
        if value < 10 { return fixed(value, 2) }
        if value < 100 { return fixed(value, 1) }
        return count(value)
    }

    /// Microseconds as `850 µs`, `1.23 ms` or `2.1 s`.
    static func time(_ microseconds: Double) -> String {
        if microseconds <= 0 { return "-" }
        if microseconds < 1000 { return "\(fixed(microseconds, microseconds < 10 ? 1 : 0)) µs" }
        let milliseconds = microseconds / 1000
        if milliseconds < 1000 {
            return "\(fixed(milliseconds, milliseconds < 10 ? 2 : milliseconds < 100 ? 1 : 0)) ms"
        }
        return "\(fixed(milliseconds / 1000, 2)) s"
    }

    /// Right-aligned.
    static func padded(_ text: String, _ width: Int) -> String {
        String(repeating: " ", count: max(0, width - text.count)) + text
    }

    /// With exactly `places` decimals.
    static func fixed(_ value: Double, _ places: Int) -> String {
        var scale = 1
        for _ in 0..<places { scale *= 10 }
        let scaled = Int((value * Double(scale)).rounded())
        let whole = String(scaled.magnitude / UInt(scale))
        let sign = scaled < 0 ? "-" : ""
        guard places > 0 else { return sign + whole }
        let fraction = String(scaled.magnitude % UInt(scale))
        return sign + whole + "." + String(repeating: "0", count: places - fraction.count)
            + fraction
    }
}
