// A load while it runs: what came since the last look, and a table of it for who watches.

/// What the clients did in a stretch of time.
struct LoadStretch: Sendable {
    var end: UInt64
    var seconds: Double
    let writes: LatencyRecorder
    let reads: LatencyRecorder

    /// Both together.
    var all: LatencyRecorder {
        let all = LatencyRecorder()
        all.add(writes)
        all.add(reads)
        return all
    }

    func sample(since start: UInt64) -> TimelineSample {
        let all = all
        let summary = all.summary()
        return TimelineSample(
            seconds: Double(end - start) / 1e9,
            operationsPerSecond: Double(all.total) / max(seconds, 1e-9), p50: summary.p50,
            p99: summary.p99)
    }
}

/// What came since the last look.
struct Difference {
    private var last: UInt64
    private let writes = LatencyRecorder()
    private let reads = LatencyRecorder()

    init(since start: UInt64) { last = start }

    /// How long ago the last look was.
    var seconds: Double { Double(BenchClock.now() - last) / 1e9 }

    /// What `totals` has beyond the last ones.
    mutating func next(
        _ totals: (writes: LatencyRecorder, reads: LatencyRecorder)
    ) -> LoadStretch {
        let now = BenchClock.now()
        defer { last = now }
        totals.writes.subtract(writes)
        totals.reads.subtract(reads)
        writes.add(totals.writes)
        reads.add(totals.reads)
        return LoadStretch(
            end: now, seconds: Double(now - last) / 1e9, writes: totals.writes,
            reads: totals.reads)
    }
}

/// A row a second.
enum LiveTable {
    /// So many rows fit on a screen below their header.
    static let rowsPerHeader = 20

    private static let columns = [
        ("TIME", 6), ("OPERATIONS/S", 14), ("P50", 10), ("P99", 10), ("REGIONS", 9), ("SPLITS", 8),
    ]

    static var header: String {
        cells(columns.map(\.0)) + "  LED BY EACH NODE"
    }

    static func row(second: Int, _ stretch: LoadStretch, _ glance: ClusterGlance?) -> String {
        let all = stretch.all
        let summary = all.summary()
        let row = cells([
            "\(second) s", BenchFormat.count(Double(all.total) / max(stretch.seconds, 1e-9)),
            BenchFormat.time(summary.p50), BenchFormat.time(summary.p99),
            glance.map { BenchFormat.count(Double($0.regions)) } ?? "-",
            glance?.splits.map { BenchFormat.count(Double($0)) } ?? "-",
        ])
        return row + "  " + (glance?.led.map { "\($0)" }.joined(separator: " / ") ?? "-")
    }

    private static func cells(_ texts: [String]) -> String {
        zip(texts, columns).map { BenchFormat.padded($0, $1.1) }.joined()
    }
}
