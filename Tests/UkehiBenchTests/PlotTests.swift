import Testing
import UkehiNode

@testable import UkehiCommand

/// Pictures of a run: what is drawn is what was measured.
@Suite("bench: pictures")
struct PlotTests {
    private static let samples = [
        TimelineSample(seconds: 1, operationsPerSecond: 50_000, p50: 900, p99: 4000),
        TimelineSample(seconds: 2, operationsPerSecond: 100_000, p50: 500, p99: 2000),
        TimelineSample(seconds: 3, operationsPerSecond: 0),
        TimelineSample(seconds: 4, operationsPerSecond: 200_000, p50: 300, p99: 1000),
    ]
    private static func split(_ seconds: Double, _ reason: SplitReason) -> SplitEvent {
        SplitEvent(
            seconds: seconds, region: 2, children: [9], reason: reason, serveMilliseconds: 12.5,
            pauseMilliseconds: 8.25)
    }
    private static let splits = [
        split(-1, .request), split(1.5, .load), split(1.52, .size), split(3, .end),
    ]

    @Test("round marks that reach the largest value")
    func scales() {
        #expect(PlotScale(reaching: 97, marks: 5).marks == [0, 20, 40, 60, 80, 100])
        #expect(PlotScale(reaching: 100, marks: 5).end == 100)
        #expect(PlotScale(reaching: 101, marks: 5).step == 50)
        #expect(PlotScale(reaching: 0, marks: 5).end > 0)
        #expect(PlotScale(reaching: 0.3, marks: 3).end >= 0.3)
        #expect(
            [0, 2.5, 400, 20_000, 150_000, 2_500_000].map(PlotScale.text)
                == ["0", "2.5", "400", "20k", "150k", "2.5M"])
    }

    @Test("the terminal's picture: bars, marks, letters of the reasons")
    func terminal() {
        let lines = TerminalPlot.lines(Self.samples, splits: Self.splits, width: 47, rows: 4)
        #expect(
            lines == [
                "      operations/s",
                "200k │                              ██████████",
                "     │                              ██████████",
                "100k │          ██████████          ██████████",
                "     │████████████████████          ██████████",
                "   0 ┼───────────────▲──────────────▲─────────",
                "                     l              e",
                "      0         1 s       2 s       3 s    4 s",
                "      ▲ splits: 1 by request (r), 1 by size (s), 1 by load (l), 1 by end (e)",
            ])
        #expect(TerminalPlot.lines([], splits: Self.splits).isEmpty)
        for width in [1, 30, 200] {
            let lines = TerminalPlot.lines(Self.samples, splits: [], width: width)
            #expect(lines.allSatisfy { $0.count <= max(width, 24) })
        }
    }

    @Test("the table that runs along: what came since the last row, regions, splits and who leads")
    func liveTable() {
        let (writes, reads) = (LatencyRecorder(), LatencyRecorder())
        for _ in 0..<3000 { writes.record(2_000_000) }
        for _ in 0..<1000 { reads.record(500_000) }
        let stretch = LoadStretch(end: 3_000_000_000, seconds: 2, writes: writes, reads: reads)
        let row = LiveTable.row(
            second: 3, stretch, ClusterGlance(regions: 1234, led: [5, 6, 0], splits: 7))
        let cells = row.split(separator: " ").map(String.init)
        #expect(cells[0...2] == ["3", "s", "2,000"])
        #expect(cells.suffix(7) == ["1,234", "7", "5", "/", "6", "/", "0"], "\(row)")
        #expect(cells[4] == "ms" && cells[6] == "ms")
        // Columns end where their names do.
        let header = LiveTable.header
        func end(of text: Substring, in line: String) -> Int? {
            line.firstRange(of: text).map {
                line.distance(from: line.startIndex, to: $0.upperBound)
            }
        }
        for (name, cell) in [("OPERATIONS/S", "2,000"), ("REGIONS", "1,234"), ("SPLITS", " 7")] {
            #expect(end(of: Substring(name), in: header) == end(of: Substring(cell), in: row))
        }
        // Of nodes elsewhere nobody says how often they divided; of none at all, nothing.
        let far = LiveTable.row(
            second: 1, stretch, ClusterGlance(regions: 2, led: [1, 1], splits: nil))
        #expect(far.split(separator: " ").suffix(5).joined(separator: " ") == "2 - 1 / 1")
        #expect(LiveTable.row(second: 1, stretch, nil).hasSuffix("-       -  -"))
        let sample = stretch.sample(since: 1_000_000_000)
        #expect(sample.seconds == 2 && sample.operationsPerSecond == 2000)
        // The next row has what came since.
        var difference = Difference(since: BenchClock.now())
        func totals(_ count: Int) -> (writes: LatencyRecorder, reads: LatencyRecorder) {
            let writes = LatencyRecorder()
            for _ in 0..<count { writes.record(1000) }
            return (writes, LatencyRecorder())
        }
        #expect(difference.next(totals(30)).all.total == 30)
        #expect(difference.next(totals(37)).all.total == 7)
    }

    @Test("a column is the mean of its time")
    func bars() {
        #expect(TerminalPlot.bars(Self.samples, end: 4, columns: 2) == [75_000, 100_000])
        #expect(TerminalPlot.bars(Self.samples, end: 4, columns: 1) == [87_500])
        let fine = TerminalPlot.bars(Self.samples, end: 4, columns: 8)
        #expect(fine == [50_000, 50_000, 100_000, 100_000, 0, 0, 200_000, 200_000])
    }

    @Test("the file is well-formed, and says what it shows")
    func vector() throws {
        let plot = VectorPlot(
            title: "zipf <0.99> & \"hot\"\u{1}", subtitle: "3 nodes", samples: Self.samples,
            splits: Self.splits)
        let elements = try XMLCheck.elements(plot.text)
        #expect(elements.first?.name == "svg")
        #expect(elements.first?.attributes["xmlns"] == "http://www.w3.org/2000/svg")
        #expect(plot.text.contains("zipf &lt;0.99&gt; &amp; &quot;hot&quot;?"))
        for label in ["operations/s", "p99 latency, ms", "time, s", ">200k<", ">4<"] {
            #expect(plot.text.contains(label), "\(label)")
        }
        #expect(plot.text.contains("prefers-color-scheme: dark"))
        let marks = elements.filter { $0.name == "line" && $0.attributes["class"] == "split load" }
        // One where it was, one that says what the colour means.
        #expect(marks.count == 2)
        #expect(plot.text.contains("1.50 s: region 2 split by load, writes paused 8.3 ms"))
        #expect(!plot.text.contains("split by request"))
        // 1.5 of 4 seconds between the margins.
        #expect(marks.first?.attributes["x1"] == "398.5")
        let line = try #require(elements.first { $0.attributes["class"] == "rate" })
        #expect(line.attributes["points"] == "183.5,264 398.5,204 613.5,324 828.5,84")
    }

    @Test("nothing measured is a picture, too")
    func empty() throws {
        for samples in [[], [TimelineSample(seconds: 0, operationsPerSecond: 0)]] {
            let text = VectorPlot(title: "", subtitle: "", samples: samples, splits: []).text
            #expect(try XMLCheck.elements(text).count > 5)
            #expect(!text.contains("nan") && !text.contains("inf"))
        }
    }

    @Test("percentiles of few times are times that there were")
    func times() {
        let times = SplitTimes([5, 1, 4, 2, 3])
        #expect(times.count == 5 && times.p50 == 3 && times.p99 == 5 && times.most == 5)
        let many = SplitTimes((1...200).map(Double.init))
        #expect(many.p50 == 100 && many.p99 == 198 && many.most == 200)
        #expect(SplitTimes([]).json == .null && SplitTimes([]).text == "not known")
    }
}

/// Enough of XML to see whether a text is well-formed.
enum XMLCheck {
    struct Element: Equatable {
        var name: String
        var attributes: [String: String]
    }
    struct Malformed: Error, CustomStringConvertible {
        var description: String
    }

    /// The elements in the order of their tags.
    ///
    /// - Throws: ``Malformed`` where a tag, an attribute or a reference is not as XML 1.0 has it.
    static func elements(_ text: String) throws -> [Element] {
        var rest = Substring(text)
        var open: [String] = []
        var found: [Element] = []
        while let start = rest.firstIndex(of: "<") {
            try check(rest[..<start])
            if open.isEmpty, rest[..<start].contains(where: { !$0.isWhitespace }) {
                throw Malformed(description: "text outside the root")
            }
            rest = rest[rest.index(after: start)...]
            guard let end = rest.firstIndex(of: ">") else {
                throw Malformed(description: "a tag does not end")
            }
            var tag = rest[..<end]
            rest = rest[rest.index(after: end)...]
            if tag.first == "/" {
                guard open.popLast() == String(tag.dropFirst()) else {
                    throw Malformed(description: "</\(tag.dropFirst())> closes something else")
                }
                continue
            }
            let isEmpty = tag.last == "/"
            if isEmpty { tag = tag.dropLast() }
            if open.isEmpty, !found.isEmpty { throw Malformed(description: "two roots") }
            let element = try element(tag)
            found.append(element)
            if !isEmpty { open.append(element.name) }
        }
        guard open.isEmpty, !rest.contains(where: { !$0.isWhitespace }) else {
            throw Malformed(description: "not closed: \(open)")
        }
        return found
    }

    private static func element(_ tag: Substring) throws -> Element {
        let name = tag.prefix { !$0.isWhitespace }
        guard let first = name.first, first.isLetter else {
            throw Malformed(description: "no name: \(tag)")
        }
        var attributes: [String: String] = [:]
        var rest = tag[name.endIndex...]
        while true {
            rest = rest.drop { $0.isWhitespace }
            if rest.isEmpty { break }
            guard let equals = rest.firstIndex(of: "=") else {
                throw Malformed(description: "no value: \(rest)")
            }
            let key = String(rest[..<equals])
            rest = rest[rest.index(after: equals)...]
            guard rest.first == "\"", let end = rest.dropFirst().firstIndex(of: "\"") else {
                throw Malformed(description: "\(key) is not quoted")
            }
            let value = rest.dropFirst()[..<end]
            try check(value)
            guard attributes.updateValue(String(value), forKey: key) == nil else {
                throw Malformed(description: "\(key) is there twice")
            }
            rest = rest[rest.index(after: end)...]
            guard rest.isEmpty || rest.first?.isWhitespace == true else {
                throw Malformed(description: "attributes without a space")
            }
        }
        return Element(name: String(name), attributes: attributes)
    }

    /// Text between tags, or a value.
    private static func check(_ text: Substring) throws {
        var rest = text
        while let start = rest.firstIndex(of: "&") {
            let reference = rest[start...].prefix { $0 != ";" }
            guard ["&amp", "&lt", "&gt", "&quot"].contains(reference) else {
                throw Malformed(description: "\(reference) is no reference")
            }
            rest = rest[rest.index(after: start)...]
        }
        guard text.unicodeScalars.allSatisfy({ $0.value >= 0x20 || $0 == "\n" }) else {
            throw Malformed(description: "a control character")
        }
    }
}
