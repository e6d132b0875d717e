// Throughput and latency over time as an SVG file: two panels over one axis of time, a line at each split.
//
//   title
//   ┌ operations/s ──────┐
//   │   ╱‾‾‾╲_╱‾‾        │
//   ├ p99, ms ───────────┤
//   │  _/\_____/\_       │
//   └ seconds ───────────┘   ─ ─ split by load …
//
// Colours follow the reader's preference for light or dark; where the viewer knows none it is light.

import UkehiNode

/// A picture for documents and browsers.
struct VectorPlot {
    var title: String
    var subtitle: String
    var samples: [TimelineSample]
    var splits: [SplitEvent]

    private static let width = 960.0
    private static let left = 76.0
    private static let right = 24.0
    private static let top = 84.0
    private static let upperHeight = 240.0
    private static let gap = 44.0
    private static let lowerHeight = 130.0
    private static let height = top + upperHeight + gap + lowerHeight + 84

    private static let style = """
        <style>
        .paper { fill: #ffffff } .ink { fill: #1f2328 } .faint { fill: #59636e }
        text { font: 13px system-ui, -apple-system, "Segoe UI", sans-serif }
        .title { font-size: 18px; font-weight: 600 }
        .grid { stroke: #d1d9e0; stroke-width: 1 } .axis { stroke: #59636e; stroke-width: 1 }
        .rate { fill: none; stroke: #0969da; stroke-width: 2; stroke-linejoin: round }
        .area { fill: #0969da; fill-opacity: 0.12 }
        .late { fill: none; stroke: #bc4c00; stroke-width: 1.5; stroke-linejoin: round }
        .split { stroke-width: 1.5; stroke-dasharray: 4 3 }
        .request { stroke: #59636e } .size { stroke: #8250df } .load { stroke: #cf222e }
        .end { stroke: #1a7f37 }
        @media (prefers-color-scheme: dark) {
        .paper { fill: #0d1117 } .ink { fill: #f0f6fc } .faint { fill: #9198a1 }
        .grid { stroke: #3d444d } .axis { stroke: #9198a1 }
        .rate { stroke: #4493f8 } .area { fill: #4493f8 } .late { stroke: #f0883e }
        .request { stroke: #9198a1 } .size { stroke: #ab7df8 } .load { stroke: #f85149 }
        .end { stroke: #3fb950 }
        }
        </style>
        """

    private var end: Double { max(samples.last?.seconds ?? 1, 1e-3) }
    private var shown: [SplitEvent] { splits.filter { $0.seconds >= 0 && $0.seconds <= end } }

    private func x(_ seconds: Double) -> Double {
        Self.left + seconds / end * (Self.width - Self.left - Self.right)
    }

    /// The whole file.
    var text: String {
        var out = """
            <svg xmlns="http://www.w3.org/2000/svg" width="\(Self.point(Self.width))" \
            height="\(Self.point(Self.height))" viewBox="0 0 \(Self.point(Self.width)) \
            \(Self.point(Self.height))" role="img">
            <title>\(Self.escaped(title))</title>
            \(Self.style)
            <rect class="paper" width="100%" height="100%"/>
            <text class="ink title" x="\(Self.point(Self.left))" y="34">\(Self.escaped(title))</text>
            <text class="faint" x="\(Self.point(Self.left))" y="56">\(Self.escaped(subtitle))</text>

            """
        let floor = Self.top + Self.upperHeight
        let lowerTop = floor + Self.gap
        let bottom = lowerTop + Self.lowerHeight
        // A stretch's figure stands at its middle.
        let middles = zip([0] + samples.map(\.seconds), samples).map { ($0 + $1.seconds) / 2 }
        let rates = zip(middles, samples.map(\.operationsPerSecond)).map { ($0, $1) }
        let scale = PlotScale(reaching: rates.map(\.1).max() ?? 0, marks: 5)
        panel(scale, top: Self.top, height: Self.upperHeight, label: "operations/s", to: &out)
        let line = points(rates, scale, top: Self.top, height: Self.upperHeight)
        if let first = rates.first, let last = rates.last {
            out += """
                <polygon class="area" points="\(Self.point(x(first.0))),\(Self.point(floor)) \(line) \
                \(Self.point(x(last.0))),\(Self.point(floor))"/>
                <polyline class="rate" points="\(line)"/>

                """
        }
        // What was not answered has no latency.
        let late = zip(middles, samples).filter { $1.p99 > 0 }.map { ($0, $1.p99 / 1000) }
        let times = PlotScale(reaching: late.map(\.1).max() ?? 0, marks: 3)
        panel(times, top: lowerTop, height: Self.lowerHeight, label: "p99 latency, ms", to: &out)
        out += """
            <polyline class="late" points="\
            \(points(late, times, top: lowerTop, height: Self.lowerHeight))"/>

            """
        marks(from: Self.top, to: bottom, &out)
        seconds(at: bottom, &out)
        legend(at: bottom + 62, &out)
        return out + "</svg>\n"
    }

    private func panel(
        _ scale: PlotScale, top: Double, height: Double, label: String, to out: inout String
    ) {
        let left = Self.point(Self.left)
        let right = Self.point(Self.width - Self.right)
        out += "<text class=\"faint\" x=\"\(left)\" y=\"\(Self.point(top - 8))\">\(label)</text>\n"
        for mark in scale.marks {
            let y = top + height - mark / scale.end * height
            out += """
                <line class="\(mark == 0 ? "axis" : "grid")" x1="\(left)" x2="\(right)" \
                y1="\(Self.point(y))" y2="\(Self.point(y))"/>
                <text class="faint" text-anchor="end" x="\(Self.point(Self.left - 8))" \
                y="\(Self.point(y + 4))">\(PlotScale.text(mark))</text>

                """
        }
    }

    private func points(
        _ values: [(Double, Double)], _ scale: PlotScale, top: Double, height: Double
    ) -> String {
        values.map { time, value in
            "\(Self.point(x(time))),\(Self.point(top + height - value / scale.end * height))"
        }.joined(separator: " ")
    }

    private func marks(from top: Double, to bottom: Double, _ out: inout String) {
        for split in shown {
            let at = Self.point(x(split.seconds))
            let pause =
                split.pauseMilliseconds.map { ", writes paused \(BenchFormat.fixed($0, 1)) ms" }
                ?? ""
            out += """
                <line class="split \(split.reason)" x1="\(at)" x2="\(at)" \
                y1="\(Self.point(top))" y2="\(Self.point(bottom))"><title>\
                \(BenchFormat.fixed(split.seconds, 2)) s: region \(split.region) split by \
                \(split.reason)\(pause)</title></line>

                """
        }
    }

    private func seconds(at bottom: Double, _ out: inout String) {
        for mark in PlotScale(reaching: end, marks: 10).marks where mark <= end {
            out += """
                <text class="faint" text-anchor="middle" x="\(Self.point(x(mark)))" \
                y="\(Self.point(bottom + 20))">\(PlotScale.text(mark))</text>

                """
        }
        out += """
            <text class="faint" text-anchor="middle" \
            x="\(Self.point((Self.left + Self.width - Self.right) / 2))" \
            y="\(Self.point(bottom + 40))">time, s</text>

            """
    }

    private func legend(at y: Double, _ out: inout String) {
        var at = Self.left
        for reason in SplitReason.allCases {
            let count = shown.count { $0.reason == reason }
            guard count > 0 else { continue }
            out += """
                <line class="split \(reason)" x1="\(Self.point(at))" x2="\(Self.point(at + 24))" \
                y1="\(Self.point(y))" y2="\(Self.point(y))"/>
                <text class="faint" x="\(Self.point(at + 30))" y="\(Self.point(y + 4))">split by \
                \(reason) (\(count))</text>

                """
            at += 180
        }
    }

    /// One decimal is finer than a screen.
    private static func point(_ value: Double) -> String {
        let text = BenchFormat.fixed(value, 1)
        return text.hasSuffix(".0") ? String(text.dropLast(2)) : text
    }

    /// Text that means itself in XML. What XML cannot hold at all becomes a question mark.
    static func escaped(_ text: String) -> String {
        var out = ""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "&": out += "&amp;"
            case "<": out += "&lt;"
            case ">": out += "&gt;"
            case "\"": out += "&quot;"
            case "\t", "\n", "\r": out += " "
            default:
                if scalar.value < 0x20 || scalar.value == 0xFFFE || scalar.value == 0xFFFF {
                    out += "?"
                } else {
                    out.unicodeScalars.append(scalar)
                }
            }
        }
        return out
    }
}
